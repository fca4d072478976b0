"""Carries out a scheduler's commands in pretended time."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from peekserve.core.scheduler import Scheduler
from peekserve.domain.messages import (
    Answer,
    Arrived,
    BatchDone,
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
    Restart,
    RunBatch,
    Unload,
    WakeAt,
    Woke,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.request import Request
from peekserve.errors import InvariantBroken
from peekserve.sim.confirming import Confirming
from peekserve.sim.faults import Faults, Kill, Mishap, Thing
from peekserve.sim.kernel import Agenda
from peekserve.sim.world import World

Observer = Callable[[Event, float, Sequence[Command]], None]


@dataclass(frozen=True, slots=True)
class SimWorker:
    """A worker to pretend: its name, its kind of device, its byte budget, and the weights that it holds when it first
    comes up, the least recently used first."""

    name: str
    device: str = "cpu"
    budget_bytes: int = 1 << 40
    resident: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """A request's outcome and when it was known."""

    request: Request
    answer: Answer
    at: float


@dataclass(slots=True)
class _State:
    worker: SimWorker
    epoch: int = 0
    free_at: float = 0.0
    up: bool = False
    resident: set[str] = field(default_factory=set)
    # Applications and variants whose weights could not be loaded.
    broken: set[tuple[str, str]] = field(default_factory=set)
    # Earlier lives of which batches are still told.
    haunted: set[int] = field(default_factory=set)


class Simulation:
    """One run: scheduler, workers, world, seed. `run(trace)` returns one Settled for each request.

    `check`: verify every invariant of the scheduler after every event. `observe` sees each event, its instant
    and the commands that followed. `confirm`: whether and when the true classes of answered requests come back.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        workers: Sequence[SimWorker],
        world: World,
        seed: int = 0,
        faults: Faults | None = None,
        check: bool = False,
        observe: Observer | None = None,
        confirm: Confirming | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._workers = {w.name: _State(w) for w in workers}
        self._world = world
        self._rng = np.random.default_rng(seed)
        self._faults = faults or Faults()
        self._mishaps: dict[tuple[Thing, int], dict[str, Mishap]] = {}
        for mishap in self._faults.mishaps:
            self._mishaps.setdefault((mishap.of, mishap.nth), {})[mishap.what] = mishap
        self._seen: Counter[Thing] = Counter()
        self._check = check
        self._observe = observe
        self._confirm = confirm
        # Of its own: with and without labels that come back, everything else happens alike.
        self._confirm_rng = np.random.default_rng([seed, 1])
        self._agenda = Agenda()
        self._requests: dict[str, Request] = {}
        self._settled: dict[str, Settled] = {}
        self._timer = 0

    def run(
        self,
        trace: Iterable[Request],
        cancels: Sequence[tuple[float, str]] = (),
        strays: Sequence[tuple[float, Event]] = (),
    ) -> list[Settled]:
        """Live through a trace (in order of arrival). `strays`: events that come by themselves, at their instants.
        Raises InvariantBroken when a request gets no outcome, or two."""
        for state in self._workers.values():
            self._come_up(state, 0.0)
            for weights in state.worker.resident:
                state.resident.add(weights)
                self._tell(state, 0.0, Loaded(state.worker.name, weights, 0.0, 0))
        for kill in self._faults.kills:
            self._agenda.at(kill.at, lambda now, k=kill: self._die(k, now))  # type: ignore[misc]
        order: list[str] = []
        last = 0.0
        for request in trace:
            if request.arrived_at < last:
                raise InvariantBroken(
                    f"time runs backwards in the trace: {request.id!r} at {request.arrived_at}"
                )
            last = request.arrived_at
            order.append(request.id)
            self._requests[request.id] = request
            self._post_at(request.arrived_at, Arrived(request))
        for at, request_id in cancels:
            self._post_at(at, Cancelled(request_id))
        for at, event in strays:
            self._post_at(at, event)
        self._agenda.run()
        missing = [i for i in order if i not in self._settled]
        if missing:
            raise InvariantBroken(f"{len(missing)} requests have no outcome, the first is {missing[0]!r}")
        return [self._settled[i] for i in order]

    # ---- events in, commands out ----

    def _post_at(self, at: float, event: Event, last: bool = False) -> None:
        self._agenda.at(self._faults.heard_at(at), lambda now: self._post(event, now), last)

    def _post(self, event: Event, now: float) -> None:
        commands = self._scheduler.handle(event, now)
        if self._check:
            self._scheduler.check()
        if self._observe:
            self._observe(event, now, commands)
        for command in commands:
            self._do(command, now)

    def _do(self, command: Command, now: float) -> None:
        match command:
            case WakeAt(at):
                self._timer += 1
                armed = self._timer
                rings_at = at + self._world.wake_s if at > now else at
                late = self._strikes("alarm").get("late")
                rings_at = self._faults.heard_at(rings_at + (late.seconds if late else 0.0))
                self._agenda.at(rings_at, lambda t: self._wake(armed, t), last=True)
            case Peek(request_id):
                seconds, counts = self._world.peek(self._requests[request_id], self._rng)
                if self._chance(self._faults.chances.peek_fails):
                    counts = None
                self._peek(Peeked(request_id, counts), now + seconds)
            case Answer(request_id):
                if request_id in self._settled:
                    raise InvariantBroken(f"request {request_id!r} got two outcomes")
                self._settled[request_id] = Settled(self._requests[request_id], command, now)
                if command.rows:
                    self._confirm_later(self._requests[request_id], now)
            case Load():
                self._load(command, now)
            case Unload(worker, weights):
                self._workers[worker].resident.discard(weights)
            case RunBatch():
                self._run(command, now)
            case Restart(worker):
                self._kill(self._workers[worker], 0.2, now, self._faults.restart_s)

    def _confirm_later(self, request: Request, now: float) -> None:
        confirm, rng = self._confirm, self._confirm_rng
        if confirm is not None and rng.random() < confirm.chance:
            self._post_at(now + confirm.delay_s, Confirmed(request.id, confirm.truth(request)))

    def _peek(self, peeked: Peeked, at: float) -> None:
        struck = self._strikes("peek")
        if "fails" in struck:
            peeked = Peeked(peeked.request_id, None)
        at += sum(struck[what].seconds for what in ("slow", "late") if what in struck)
        if "lost" not in struck:
            self._post_at(at, peeked)
            if "twice" in struck:
                self._post_at(at + struck["twice"].seconds, peeked)

    def _strikes(self, thing: Thing) -> dict[str, Mishap]:
        """What goes wrong with the next one of these."""
        self._seen[thing] += 1
        return self._mishaps.get((thing, self._seen[thing]), {})

    def _wake(self, armed: int, now: float) -> None:
        if armed == self._timer:  # a newer WakeAt replaces this one
            self._post(Woke(), now)

    # ---- workers ----

    def _come_up(self, state: _State, now: float) -> None:
        state.up, state.free_at = True, now
        w = state.worker
        self._post_at(now, WorkerUp(w.name, w.device, w.budget_bytes))

    def _die(self, kill: Kill, now: float) -> None:
        state = self._workers[kill.worker]
        if kill.haunts and state.up:
            state.haunted.add(state.epoch)
        self._kill(state, kill.back_s, now, kill.unnoticed_s)

    def _kill(self, state: _State, back_s: float, now: float, unnoticed_s: float = 0.0) -> None:
        if not state.up:
            return
        state.up = False
        state.epoch += 1
        state.resident.clear()
        state.broken.clear()
        known_at = self._faults.heard_at(now + unnoticed_s)
        self._post_at(known_at, WorkerDown(state.worker.name, "killed"))
        self._agenda.at(max(now + back_s, known_at), lambda t: self._come_up(state, t))

    def _load(self, command: Load, now: float) -> None:
        state = self._workers[command.worker]
        struck = self._strikes("load")
        if not state.up:
            return
        began_at = max(now + self._world.wire_s, state.free_at)
        device = state.worker.device
        seconds = self._world.load_s(command.application, command.variant, device, began_at, self._rng)
        if "slow" in struck:
            seconds += struck["slow"].seconds
        state.free_at = began_at + (inf if "lost" in struck else seconds)
        if "fails" in struck:
            state.broken.add((command.application, command.variant))
            failed = LoadFailed(command.worker, command.weights, "a fault of the simulation")
            self._tell(state, state.free_at, failed)
            return
        state.resident.add(command.weights)
        self._tell(state, state.free_at, Loaded(command.worker, command.weights, seconds, 0))

    def _run(self, command: RunBatch, now: float) -> None:
        state, chances = self._workers[command.worker], self._faults.chances
        struck = self._strikes("batch")
        if not state.up:
            return
        started_at = max(now + self._world.wire_s, state.free_at)
        seconds = self._world.run_s(command, state.worker.device, started_at, self._rng)
        seconds *= self._faults.slower(command.worker, started_at)
        if self._chance(chances.slow):
            seconds *= chances.factor
        if "slow" in struck:
            seconds += struck["slow"].seconds
        state.free_at = finished_at = started_at + seconds
        told_at = finished_at + (struck["late"].seconds if "late" in struck else 0.0)
        broken = (command.application, command.variant) in state.broken
        if self._chance(chances.fails) or "fails" in struck or broken:
            self._tell(state, told_at, BatchFailed(command.batch_id, "a fault of the simulation"))
            return
        scores = self._world.scores(command, self._requests)
        if "misshapen" in struck:
            scores = scores[:, 1:]
        done = BatchDone(command.batch_id, scores, started_at, finished_at)
        if not (self._chance(chances.lost) or "lost" in struck):
            self._tell(state, told_at, done)
            if self._chance(chances.twice):
                self._tell(state, told_at, done)
            if "twice" in struck:
                self._tell(state, told_at + struck["twice"].seconds, done)

    def _tell(self, state: _State, at: float, event: Event) -> None:
        """Report an event of this worker, unless the worker is dead by then."""
        epoch, batch = state.epoch, isinstance(event, BatchDone | BatchFailed)

        def told(now: float) -> None:
            if state.epoch == epoch or (batch and epoch in state.haunted):
                self._post(event, now)

        at = self._faults.heard_at(at + self._world.wire_s)
        if at < inf:
            self._agenda.at(at, told)

    def _chance(self, probability: float) -> bool:
        return probability > 0.0 and bool(self._rng.random() < probability)
