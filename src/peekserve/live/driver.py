"""Carries out a scheduler's commands in real time: events in, handle, commands out, one alarm.

Everything here runs on the event loop's own thread. Workers and the peeker report from elsewhere through
functions that hand their events to the loop.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.awareness.drift import Drift
from peekserve.clock import Clock
from peekserve.core.beliefs import Belief
from peekserve.core.feedback import Remembered
from peekserve.core.scheduler import Scheduler
from peekserve.domain.application import Application
from peekserve.domain.feedback import Lesson
from peekserve.domain.messages import (
    Acknowledge,
    Answer,
    Arrived,
    BatchFailed,
    Cancelled,
    Command,
    Confirmed,
    Event,
    Load,
    Loaded,
    LoadFailed,
    Peek,
    Peeked,
    Recalled,
    Restart,
    RunBatch,
    Unload,
    WakeAt,
    Woke,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.request import Outcome, Reason, Request
from peekserve.errors import InvariantBroken
from peekserve.peeking.base import Lengths, Peeks
from peekserve.workers.base import Workers

LOG = logging.getLogger(__name__)

Array = npt.NDArray[np.generic]
Inputs = Mapping[str, Array]


class Observer(Protocol):
    """Is shown all that passes between the scheduler and its driver, after the fact."""

    def event(self, event: Event, now: float) -> None: ...

    def commands(self, commands: Sequence[Command], now: float) -> None: ...


@dataclass(slots=True)
class _UnderWay:
    request: Request
    inputs: Inputs
    lengths: Lengths | None
    answer: asyncio.Future[Answer]
    size: int


class LiveDriver:
    """One scheduler, its workers, its peeks. `start` brings the workers up; `submit` is for the doors."""

    def __init__(
        self,
        scheduler: Scheduler,
        applications: Sequence[Application],
        workers: Workers,
        peeks: Peeks | None,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        max_bytes: int = 256 << 20,
    ) -> None:
        self.applications: Mapping[str, Application] = {app.name: app for app in applications}
        self._scheduler = scheduler
        self._workers = workers
        self._peeks = peeks
        self._clock = clock
        self._loop = loop
        self._under_way: dict[str, _UnderWay] = {}
        self._observers: list[Observer] = []
        self._alarm: asyncio.Handle | None = None
        self._loading: set[tuple[str, str]] = set()
        self._up: set[str] = set()
        self._broken: dict[str, str] = {}
        self._acknowledged: Acknowledge | None = None
        self._draining = False
        self._bytes = 0
        self._max_bytes = max_bytes
        self._idle = asyncio.Event()
        self._idle.set()
        self._started = asyncio.Event()

    # ---- life ----

    def start(self) -> None:
        self._workers.start(self.post)

    async def until_ready(self) -> None:
        """Returns when a worker is up and has loaded what the scheduler asked it to load first."""
        await self._started.wait()

    async def drain(self, at_most_s: float) -> None:
        """Take nothing new; wait for what was accepted, but no longer than this."""
        self._draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), at_most_s)
        except TimeoutError:
            detail = f"the server is going down and waited {at_most_s:.0f} s for it"
            for request_id, waiting in list(self._under_way.items()):
                if not waiting.answer.done():
                    waiting.answer.set_result(
                        Answer(request_id, Outcome.REFUSED, Reason.DRAINING, detail=detail)
                    )
                self.cancel(request_id)

    def stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._workers.stop()

    # ---- what the doors use ----

    def now(self) -> float:
        return self._clock.now()

    def submit(
        self, request: Request, inputs: Inputs, lengths: Lengths | None = None
    ) -> asyncio.Future[Answer]:
        """Hand a valid request in; the future resolves to its one outcome."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        if self._draining:
            future.set_result(
                Answer(request.id, Outcome.REFUSED, Reason.DRAINING, detail="the server is going down")
            )
            return future
        size = sum(array.nbytes for array in inputs.values())
        if self._bytes + size > self._max_bytes:
            detail = (
                f"{self._bytes} bytes of inputs wait or run and {size} came; the limit is {self._max_bytes}"
            )
            future.set_result(Answer(request.id, Outcome.REFUSED, Reason.OVERLOADED, detail=detail))
            return future
        self._bytes += size
        self._under_way[request.id] = _UnderWay(request, inputs, lengths, future, size)
        self._idle.clear()
        try:
            self.post(Arrived(request))
        except Exception:
            # Nothing was accepted: the door tells its client, and nobody waits for an outcome.
            self._under_way.pop(request.id, None)
            self._bytes -= size
            if not self._under_way:
                self._idle.set()
            raise
        return future

    def belief(self, application: str) -> Belief:
        """How the scheduler believes its rows now. Raises UnknownApplication."""
        return self._scheduler.belief(application)

    def cancel(self, request_id: str) -> None:
        if request_id in self._under_way:
            self.post(Cancelled(request_id))

    # ---- feedback ----

    def remembered(self, request_id: str) -> Remembered | None:
        """An answered request whose true classes may be confirmed."""
        return self._scheduler.feedback.find(request_id)

    def confirm(self, request_id: str, labels: tuple[int | None, ...]) -> Acknowledge:
        """The true classes of its rows came: what became of them."""
        self._acknowledged = None
        self.post(Confirmed(request_id, labels))
        if self._acknowledged is None:
            raise InvariantBroken(f"nothing became of the confirmation of {request_id!r}")
        return self._acknowledged

    def recall(self, lessons: Sequence[Lesson]) -> None:
        """What an earlier server learnt, before anything else happens."""
        for first in range(0, len(lessons), 256):
            self.post(Recalled(tuple(lessons[first : first + 256])))

    def drift(self, application: str) -> Drift:
        return self._scheduler.feedback.drift(list(self.applications).index(application))

    def observe(self, observer: Observer) -> None:
        self._observers.append(observer)

    @property
    def open_requests(self) -> int:
        return len(self._under_way)

    def live(self) -> bool:
        return True

    def ready(self, application: str | None = None, variant: str | None = None) -> bool:
        """Can new requests be served (of this application, by this variant)?"""
        if self._draining or not self._up or not self._started.is_set():
            return False
        if application is None:
            return True
        names = [variant] if variant else [v.name for v in self.applications[application].variants]
        return any(self.state(application, name)[0] == "READY" for name in names)

    def state(self, application: str, variant: str) -> tuple[str, str]:
        """(READY or UNAVAILABLE, why)."""
        weights = self.applications[application].variant(variant).weights
        if weights in self._broken:
            return "UNAVAILABLE", self._broken[weights]
        if not self._up:
            return "UNAVAILABLE", "no worker is up"
        return "READY", ""

    # ---- events in, commands out ----

    def post(self, event: Event) -> None:
        """Report what happened. On the loop's thread only."""
        now = self._clock.now()
        self._note(event)
        commands = self._scheduler.handle(event, now)
        self._show(event, commands, now)
        # Answers last: waking thirty clients takes milliseconds in which an idle worker would wait for its batch.
        for command in sorted(commands, key=_is_answer):
            try:
                self._do(command, now)
            except Exception as error:
                LOG.exception("a command could not be carried out: %s", type(command).__name__)
                if isinstance(command, RunBatch):  # its rows must not wait for what was never started
                    self._loop.call_soon(self.post, BatchFailed(command.batch_id, f"not started: {error}"))
        if not self._started.is_set() and self._up and not self._loading:
            self._started.set()

    def _show(self, event: Event, commands: Sequence[Command], now: float) -> None:
        """An observer that fails (a full disk) is told nothing more; what was decided is done all the same."""
        for observer in list(self._observers):
            try:
                observer.event(event, now)
                observer.commands(commands, now)
            except Exception:
                self._observers.remove(observer)
                LOG.exception("an observer failed and is dropped: %s", type(observer).__name__)

    def post_peeks(self, results: Sequence[tuple[str, npt.NDArray[np.float64] | None]]) -> None:
        """What a turn of the peeker brought."""
        for request_id, counts in results:
            self.post(Peeked(request_id, counts))

    def _do(self, command: Command, now: float) -> None:
        match command:
            case WakeAt(at):
                self._set_alarm(at, now)
            case Answer(request_id):
                self._answer(request_id, command)
            case Acknowledge():
                self._acknowledged = command
            case RunBatch():
                self._workers.run(command, [self._row(ref.request_id, ref.row) for ref in command.rows])
            case Peek(request_id):
                asked = self._under_way[request_id]
                if self._peeks is None:
                    self._loop.call_soon(self.post, Peeked(request_id, None))
                else:
                    self._peeks.submit(request_id, asked.request.application, asked.inputs, asked.lengths)
            case Load(worker, weights):
                self._loading.add((worker, weights))
                self._workers.load(command)
            case Unload():
                self._workers.unload(command)
            case Restart():
                self._workers.restart(command)

    def _set_alarm(self, at: float, now: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        # An alarm for now rings after the other events of this turn of the loop: they are planned together.
        wake: Callable[[], None] = self._wake
        # Event loops count in milliseconds and may ring early: rounded up, or the scheduler would be woken in vain.
        self._alarm = (
            self._loop.call_soon(wake)
            if at <= now
            else self._loop.call_later(ceil((at - now) * 1e3) / 1e3, wake)
        )

    def _wake(self) -> None:
        self._alarm = None
        self.post(Woke())

    def _answer(self, request_id: str, answer: Answer) -> None:
        settled = self._under_way.pop(request_id, None)
        if settled is None:
            raise InvariantBroken(f"request {request_id!r} got two outcomes")
        self._bytes -= settled.size
        if not settled.answer.done():
            settled.answer.set_result(answer)
        if not self._under_way:
            self._idle.set()

    def _row(self, request_id: str, row: int) -> dict[str, Array]:
        return {name: array[row] for name, array in self._under_way[request_id].inputs.items()}

    def _note(self, event: Event) -> None:
        match event:
            case WorkerUp(worker):
                self._up.add(worker)
            case WorkerDown(worker):
                self._up.discard(worker)
                self._loading = {pair for pair in self._loading if pair[0] != worker}
            case Loaded(worker, weights):
                self._loading.discard((worker, weights))
            case LoadFailed(worker, weights, error):
                self._loading.discard((worker, weights))
                self._broken[weights] = error
            case _:
                pass


def _is_answer(command: Command) -> bool:
    return isinstance(command, Answer)
