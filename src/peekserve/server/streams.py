"""What the server knows of its streams: their newest windows, the recurring queries and their outcomes.

A stage (peeking/staging.py) finds windows and looks at them; its news come in here, on the event loop's thread.
A recurring query is a request like any other, made by the server itself: it has one deadline, which begins when
the query is made, and exactly one outcome, which stands in the stream's results and in the metrics.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from peekserve.domain.application import Application
from peekserve.domain.streams import StreamSpec
from peekserve.errors import (
    InvalidRequest,
    NoWindow,
    PeekserveError,
    StaleStream,
    TooFast,
    TooLarge,
    UnknownStream,
)
from peekserve.peeking.stage import (
    Block,
    Chunk,
    Forget,
    Gone,
    Ready,
    Refusal,
    Stage,
    StageNews,
    Taken,
    Tick,
    Turned,
)
from peekserve.server.accounting import Accounts
from peekserve.server.calls import InferCall, InferReply, StreamWindow, value_names
from peekserve.server.frontdesk import FrontDesk, refusal
from peekserve.server.telemetry import outcome_label
from peekserve.server.wire import status_of_answer, status_of_error

KEPT_RESULTS = 256
TICK_S = 5.0

_REFUSED = {
    Refusal.UNKNOWN: UnknownStream,
    Refusal.INVALID: InvalidRequest,
    Refusal.TOO_LARGE: TooLarge,
    Refusal.TOO_FAST: TooFast,
}
Json = dict[str, Any]


@dataclass(slots=True)
class _Known:
    """One open stream."""

    application: Application
    spec: StreamSpec
    name: str
    taken: Taken
    newest: StreamWindow | None = None
    tally: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    results: deque[Json] = field(default_factory=lambda: deque(maxlen=KEPT_RESULTS))
    timer: asyncio.TimerHandle | None = None


class StreamDesk:
    """Everything about streams that doors and recurring queries share. On the event loop's thread only."""

    def __init__(self, desk: FrontDesk, stage: Stage, accounts: Accounts) -> None:
        self._desk = desk
        self._stage = stage
        self._accounts = accounts
        self._telemetry = accounts.telemetry
        self._known: dict[tuple[str, str], _Known] = {}
        self._tickets: dict[int, tuple[str, asyncio.Future[Taken]]] = {}
        self._numbers = count(1)
        self._asking: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.TimerHandle | None = None
        stage.listen(self.hear)
        desk.windows = self

    def stop(self) -> None:
        """No more recurring queries by time, and no more forgetting of idle streams."""
        for timer in (self._ticking, *(known.timer for known in self._known.values())):
            if timer is not None:
                timer.cancel()

    async def settled(self) -> None:
        """Returns when no recurring query is under way."""
        while self._asking:
            await asyncio.wait(set(self._asking))

    # ---- what the doors use ----

    async def push(self, application: str, stream: str, first: int, samples: dict[str, Block]) -> Taken:
        """Hand in a chunk; its receipt. Raises UnknownApplication, UnknownStream, InvalidRequest, TooLarge or
        TooFast, and nothing of it is stored then."""
        self._desk.find(application)
        self._tick()
        ticket = next(self._numbers)
        future: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._tickets[ticket] = (application, future)
        self._stage.submit(Chunk(ticket, application, stream, first, samples, self._desk.now()))
        return await future

    async def forget(self, application: str, stream: str) -> None:
        """Close a stream. Queries under way end as any other. Raises UnknownApplication, UnknownStream."""
        self._find(application, stream)
        self._stage.submit(Forget(application, stream))

    def tracks_of(self, application: str) -> StreamSpec:
        """Raises UnknownApplication, or UnknownStream for an application that takes none."""
        spec = self._desk.find(application).stream
        if spec is None:
            raise UnknownStream(
                f"application {application!r} takes no streams: its application.yaml has no section 'stream'"
            )
        return spec

    def newest(self, application: Application, stream: str, now: float) -> StreamWindow:
        """The newest window whose belief is ready. Raises UnknownStream, StaleStream or NoWindow."""
        known = self._find(application.name, stream)
        age_s, longest_s = now - known.taken.at, known.spec.max_age_s
        if age_s > longest_s:
            raise StaleStream(
                f"stream {stream!r} is stale: its newest sample came {age_s:.3f} s ago, "
                f"and max_age is {longest_s:g} s"
            )
        if known.newest is None:
            raise NoWindow(f"no window was found in stream {stream!r} yet; it has {known.taken.next} samples")
        return known.newest

    def status(self, application: str, stream: str) -> Json:
        """Everything about one stream. Raises UnknownApplication, UnknownStream."""
        known, now = self._find(application, stream), self._desk.now()
        age_s = now - known.taken.at
        return {
            "application": application,
            "stream": stream,
            "next": known.taken.next,
            "age_ms": _ms(age_s),
            "stale": age_s > known.spec.max_age_s,
            **known.taken.tally,
            "newest": None if known.newest is None else self._window(known.newest, known.application, now),
            "queries": {
                "asked": known.asked,
                "open": known.asked - sum(known.outcomes.values()),
                "outcomes": dict(known.outcomes),
                "last": known.results[-1] if known.results else None,
            },
        }

    def results(self, application: str, stream: str, since: int) -> Json:
        """Outcomes of recurring queries after number `since`, in the order in which they came; `forgotten`: how
        many of these are not kept any more. Raises UnknownApplication, UnknownStream."""
        known = self._find(application, stream)
        kept = [result for result in known.results if result["result"] > since]
        last = sum(known.outcomes.values())
        return {"last": last, "forgotten": max(last - since, 0) - len(kept), "results": kept}

    def _find(self, application: str, stream: str) -> _Known:
        known = self._known.get((application, stream))
        if known is None:
            self.tracks_of(application)
            raise UnknownStream(
                f"no stream {stream[:80]!r} of {application!r} is open; its first chunk opens it"
            )
        return known

    # ---- what the stage tells ----

    def hear(self, news: Sequence[StageNews]) -> None:
        for one in news:
            match one:
                case Taken():
                    self._taken(one)
                case Turned(ticket, why, sentence):
                    application, future = self._tickets.pop(ticket)
                    self._telemetry.chunk(application, why.value)
                    if not future.done():
                        future.set_exception(_REFUSED[why](sentence))
                case Ready():
                    self._ready(one)
                case Gone(application, stream):
                    self._gone((application, stream))

    def _taken(self, taken: Taken) -> None:
        model, key = taken.application, (taken.application, taken.stream)
        known = self._known.get(key)
        if known is None:
            application = self._desk.find(model)
            assert application.stream is not None
            known = self._known[key] = _Known(application, application.stream, taken.stream, taken)
            self._telemetry.streams(model, +1)
            self._again(known)
        known.taken = taken
        more = Counter(taken.tally) - known.tally
        known.tally = Counter(taken.tally)
        self._telemetry.chunk(model, "taken")
        for name in ("samples", "late", "duplicates"):
            self._telemetry.samples(model, "placed" if name == "samples" else name, more[name])
        for name in ("filled", "resets"):
            self._telemetry.gaps(model, name, more[name])
        for name in ("windows", "partial", "cut"):
            self._telemetry.windows(model, "found" if name == "windows" else name, more[name])
        _, future = self._tickets.pop(taken.ticket)
        if not future.done():
            future.set_result(taken)

    def _ready(self, ready: Ready) -> None:
        found = ready.window
        known = self._known.get((found.application, found.stream))
        if known is None or known.taken.opened != found.opened:
            return  # closed since
        window = StreamWindow(
            found.stream,
            found.number,
            found.first,
            found.ended_at,
            found.arrays(),
            found.true_lengths() or None,
            found.bucket,
            None if ready.counts is None else tuple(ready.counts),
        )
        if known.newest is None or window.number > known.newest.number:
            known.newest = window
        if ready.counts is not None:
            self._telemetry.windows(found.application, "believed")
            self._telemetry.belief(found.application, self._desk.now() - found.found_at)
        recurring = known.spec.recurring
        if recurring is not None and recurring.every_s is None:
            self._ask(known, window)

    def _gone(self, key: tuple[str, str]) -> None:
        known = self._known.pop(key, None)
        if known is not None:
            self._telemetry.streams(key[0], -1)
            if known.timer is not None:
                known.timer.cancel()

    def _tick(self) -> None:
        """While there are streams, look every few seconds which of them are idle."""
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._look_for_idle)

    def _look_for_idle(self) -> None:
        self._ticking = None
        self._stage.submit(Tick(self._desk.now()))
        if self._known:
            self._tick()

    # ---- recurring queries ----

    def _again(self, known: _Known) -> None:
        """Set the alarm of a query that recurs by time."""
        recurring = known.spec.recurring
        if recurring is not None and recurring.every_s is not None:
            loop = asyncio.get_running_loop()
            known.timer = loop.call_later(recurring.every_s, self._rings, known)

    def _rings(self, known: _Known) -> None:
        self._again(known)
        self._ask(known, None)

    def _ask(self, known: _Known, window: StreamWindow | None) -> None:
        known.asked += 1
        task = asyncio.ensure_future(self._outcome(known, window, self._desk.now()))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _outcome(self, known: _Known, window: StreamWindow | None, asked_at: float) -> None:
        """One query, one outcome, whatever happens."""
        assert known.spec.recurring is not None
        parameters = {"query": known.spec.recurring.query}
        if window is None:
            parameters["stream"] = known.name
        call = InferCall(known.application.name, None, (), asked_at, parameters)
        told: Json = {}
        try:
            reply = await self._desk.submit(call, window=window)
        except PeekserveError as error:
            status = status_of_error(error)
            self._accounts.refused(
                call.application, status, str(error), "stream", self._desk.now() - asked_at
            )
            outcome, told["error"] = status.word, str(error)
        except Exception:
            # A bug of ours, and still an outcome: whoever counts must not miss one.
            self._accounts.log.exception("unexpected", stream=known.name)
            outcome, told["error"] = "error", "the server failed to handle this query; its log says why"
        else:
            status = status_of_answer(reply.answer)
            outcome = outcome_label(status.word, reply)
            self._accounts.served(reply, status, "stream")
            told |= _answer(reply)
        self._telemetry.stream_query(call.application, outcome)
        known.outcomes[outcome] += 1
        number = sum(known.outcomes.values())
        known.results.append({"result": number, "outcome": outcome, **told})

    def _window(self, window: StreamWindow, application: Application, now: float) -> Json:
        told: Json = {
            "window": window.number,
            "first": window.first,
            "age_ms": _ms(now - window.ended_at),
            "belief": None,
        }
        if window.counts is not None:
            belief = self._desk.backend.belief(application.name)
            theta = belief.believe(np.array([window.counts])).theta
            told["belief"] = [float(share) for share in theta[0]]
            told["class"] = application.classes[int(belief.answer(theta)[0])]
        return told


def _answer(reply: InferReply) -> Json:
    told: Json = {"duration_ms": _ms(reply.finished_at - reply.request.arrived_at)}
    if reply.window is not None:
        told["window"] = reply.window.number
        told["first"] = reply.window.first
        told["window_age_ms"] = _ms(reply.request.arrived_at - reply.window.ended_at)
    if not reply.served:
        return {**told, "error": refusal(reply)}
    return {
        **told,
        "request_id": reply.request.id,
        "label": int(reply.labels[0]),
        "class": reply.class_names()[0],
        "scores": [float(score) for score in reply.scores[0]],
        "variant": reply.version,
        value_names(reply.application)[0]: reply.answer.rows[0].expected_accuracy,
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
