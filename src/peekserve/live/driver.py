"""Carries out a scheduler's commands in real time: events in, handle, commands out, one alarm.

Everything here runs on the event loop's own thread. Workers and the peeker report from elsewhere through
functions that hand their events to the loop.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    Offered,
    Peek,
    Peeked,
    Recalled,
    Registered,
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
from peekserve.live.alarm import Alarm
from peekserve.live.editions import Editions, everything
from peekserve.live.health import Health
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
    ) -> None:
        self._editions = Editions(applications)
        self._scheduler = scheduler
        self._workers = workers
        self._peeks = peeks
        self._clock = clock
        self._loop = loop
        self._under_way: dict[str, _UnderWay] = {}
        self._observers: list[Observer] = []
        self._alarm = Alarm(loop, clock, lambda: self.post(Woke()), lambda: self._scheduler.must_act_at)
        self._up: set[str] = set()
        self._health = Health()
        self._acknowledged: Acknowledge | None = None
        self._leaving = False
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._started = asyncio.Event()

    # ---- life ----

    def start(self) -> None:
        self._workers.start(self.post)

    async def until_ready(self) -> None:
        """Returns when a worker is up and has loaded what the scheduler asked it to load first."""
        await self._started.wait()

    def leave(self) -> None:
        """From now on not ready, so that nobody sends anybody here; who comes all the same is served."""
        self._leaving = True

    async def drain(self, at_most_s: float) -> None:
        """Take nothing new; wait for what was accepted, but no longer than this."""
        self._leaving = self._draining = True
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
        self._alarm.came()
        self._under_way[request.id] = _UnderWay(request, inputs, lengths, future)
        self._idle.clear()
        try:
            self.post(Arrived(request))
        except Exception:
            # Nothing was accepted: the door tells its client, and nobody waits for an outcome.
            self._under_way.pop(request.id, None)
            if not self._under_way:
                self._idle.set()
            raise
        return future

    def belief(self, application: str) -> Belief:
        """How the scheduler believes its rows now. Raises UnknownApplication."""
        found = self.applications.get(application)
        return self._scheduler.belief(found.key if found else application)

    def paces(self) -> Mapping[tuple[str, str, str], float]:
        """As of the scheduler: what batches take over their profile, by worker, key and variant."""
        return self._scheduler.paces()

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
        """Of what clients get under this name."""
        return self._scheduler.drift(self.applications[application].key)

    def observe(self, observer: Observer) -> None:
        self._observers.append(observer)

    @property
    def open_requests(self) -> int:
        return len(self._under_way)

    def live(self) -> bool:
        """Is it worth keeping this process? (live/health.py)"""
        return self._health.live(self._clock.now())

    def ready(self, application: str | None = None, variant: str | None = None) -> bool:
        """Can new requests be served (of this application, by this variant)?"""
        if self._leaving or not self._up or not self._started.is_set():
            return False
        if application is None:
            return True
        names = [variant] if variant else [v.name for v in self.applications[application].variants]
        return any(self.state(application, name)[0] == "READY" for name in names)

    def state(self, application: str, variant: str) -> tuple[str, str]:
        """(READY, LOADING or UNAVAILABLE, why)."""
        return self._editions.state(application, variant, bool(self._up))

    # ---- what is served ----

    @property
    def applications(self) -> Mapping[str, Application]:
        """By public name: what clients get."""
        return self._editions.active

    @property
    def editions(self) -> Mapping[str, Application]:
        """By key: all that requests under way may name."""
        return self._editions.known

    def label(self, key: str) -> str:
        """What metrics and logs call an application, by its key."""
        return self._editions.label(key)

    def register(self, application: Application) -> None:
        """An application, or another revision of one, may be named by requests from now on; no client gets it before it
        is activated. Raises InvalidConfiguration where its key is taken."""
        self._editions.check_new(application)
        self._workers.join(application)
        self.post(Registered(application))
        self._editions.joined(application)

    def activate(self, key: str) -> None:
        """Clients get this one under its name from now on. What they got before takes nothing new, and is gone when its
        last row is. Raises UnknownApplication."""
        before = self._editions.activate(key)
        variants = everything(self.editions[key])
        if self._editions.offered(key) != variants:
            self.offer(key, variants)
        if before is not None:
            self.offer(before.key, ())

    def withdraw(self, name: str) -> None:
        """Clients get nothing under this name any more. Raises UnknownApplication."""
        self.offer(self._editions.withdraw(name).key, ())

    def offer(self, key: str, variants: tuple[str, ...]) -> asyncio.Future[dict[str, str]]:
        """Load and unload by hand: new requests may use these variants and no others. Resolves when they are loaded, or
        when the others are gone, with what went wrong by weights. Raises UnknownApplication, UnknownVariant."""
        application = self._editions.find(key)
        for name in variants:
            application.variant(name)
        done = self._editions.offer(key, variants, self._loop)
        self.post(Offered(key, variants))
        return done

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
        self._editions.settle(self._scheduler.draining)
        if not self._started.is_set() and self._up and not self._editions.loading:
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
                self._alarm.set(at, now)
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
            case Load():
                self._editions.asked(command)
                self._workers.load(command)
            case Unload():
                self._editions.asked(command)
                self._workers.unload(command)
            case Restart():
                self._workers.restart(command)

    def _answer(self, request_id: str, answer: Answer) -> None:
        settled = self._under_way.pop(request_id, None)
        if settled is None:
            raise InvariantBroken(f"request {request_id!r} got two outcomes")
        if not settled.answer.done():
            settled.answer.set_result(answer)
        if not self._under_way:
            self._idle.set()

    def _row(self, request_id: str, row: int) -> dict[str, Array]:
        return {name: array[row] for name, array in self._under_way[request_id].inputs.items()}

    def _note(self, event: Event) -> None:
        self._editions.note(event)
        match event:
            case WorkerUp(worker):
                self._up.add(worker)
                self._health.up(worker, self._clock.now())
            case WorkerDown(worker):
                self._up.discard(worker)
                self._health.down(worker, self._clock.now())
            case _:
                pass


def _is_answer(command: Command) -> bool:
    return isinstance(command, Answer)
