"""A fault story: everything that one seeded run needs, as plain data that can be written down, shrunk and lived again.

What goes wrong is bound to numbers (the third batch, the second load) and instants, never drawn while the run goes on:
a story with a request less still has the same mishaps, and that is what makes it possible to shrink one.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import Literal

import numpy as np

from peekserve.core.catalogue import Catalogue
from peekserve.core.scheduler import Scheduler
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, OnMiss, public
from peekserve.domain.messages import (
    BatchDone,
    Cancelled,
    Command,
    Confirmed,
    Event,
    Offered,
    Peeked,
    Registered,
    RunBatch,
    Woke,
)
from peekserve.domain.request import Request
from peekserve.policies import PLANNED, REMEMBERING
from peekserve.sim.audit import Audit
from peekserve.sim.confirming import Confirming, truth_of
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.faults import Faults, Kill, Mishap, Pause, Slow
from peekserve.sim.setting import applications, catalogue, gear_plans, joining, recorded
from peekserve.sim.world import Floats, RecordedWorld

DRIFTS_S = 3.0  # after so long nothing drifts any further

Whim = Literal["cancel", "confirm", "peek", "batch", "alarm"]
Plant = Callable[[Scheduler], None]
Look = Callable[[Event, float, Sequence[Command]], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """A wrong profile: batches of this variant really take `factor` times what is believed, and every second `drift`
    times that again."""

    application: str
    variant: str
    factor: float
    drift: float = 1.0


@dataclass(frozen=True, slots=True)
class Stray:
    """An event that comes by itself: a client that cancels or confirms, when it likes and perhaps twice; a peek, a
    completion or an alarm that nobody waits for."""

    at: float
    what: Whim
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What is served changes: this application joins, by its key, or from now on offers `variants` and no others."""

    at: float
    key: str
    variants: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """`x`, `y`: what the two applications do of rows that cannot be in time. `uneven`: batches take up to this share
    more or less than their profile. `confirm`: the chance that an answer's true classes come back, 30 ms later."""

    seed: int
    spec: SchedulerSpec
    x: OnMiss
    y: OnMiss
    workers: tuple[SimWorker, ...]
    requests: tuple[Request, ...]
    strays: tuple[Stray, ...] = ()
    kills: tuple[Kill, ...] = ()
    mishaps: tuple[Mishap, ...] = ()
    pauses: tuple[Pause, ...] = ()
    paces: tuple[Pace, ...] = ()
    slows: tuple[Slow, ...] = ()
    changes: tuple[Change, ...] = ()
    uneven: float = 0.0
    confirm: float = 0.0
    wire_s: float = 0.0
    wake_s: float = 0.0
    restart_s: float = 0.0

    @property
    def sound(self) -> bool:
        """Does every application join that a request names?"""
        joined = {one.key for one in self.changes if one.variants is None}
        return all(
            one.application == public(one.application) or one.application in joined for one in self.requests
        )

    @property
    def size(self) -> int:
        """How much there is to read."""
        faults = (self.strays, self.kills, self.mishaps, self.pauses, self.paces, self.slows, self.changes)
        return sum(map(len, (self.requests, self.workers, *faults)))


@dataclass(frozen=True, slots=True)
class Failure:
    """What was found: `kind` names the rule that was broken, whatever the numbers; `told` has them. `at`: when, in
    pretended seconds; the trace of code for what nobody planned for."""

    kind: str
    told: str
    at: float
    trace: str = ""


def live(story: Story, plant: Plant | None = None, look: Look | None = None) -> Failure | None:
    """Live through a story with every invariant looked at after every event. `plant`: changes the scheduler before it
    begins. `look` sees every event and what followed. None if nothing is wrong."""
    scheduler = _scheduler(story)
    if plant is not None:
        plant(scheduler)
    apps = {app.key: app for app in (*applications(story.x, story.y), joining(story.x))}
    audit = Audit(scheduler, story.spec, tuple(apps.values()), story.workers, _slip(story))
    now_at = 0.0

    def observe(event: Event, now: float, commands: Sequence[Command]) -> None:
        nonlocal now_at
        now_at = now
        if look is not None:
            look(event, now, commands)
        audit.look(event, now, commands)

    truth = truth_of(recorded())
    simulation = Simulation(
        scheduler, story.workers, _World(story, RecordedWorld(apps, recorded())), story.seed,
        Faults(
            story.kills, mishaps=story.mishaps, pauses=story.pauses, restart_s=story.restart_s, slows=story.slows
        ),
        check=True, observe=observe, confirm=Confirming(truth, story.confirm, 0.03) if story.confirm else None,
    )  # fmt: skip
    by_id = {request.id: request for request in story.requests}
    strays = [(stray.at, _event(stray, by_id, truth)) for stray in story.strays]
    strays += [(change.at, _changed(change, apps)) for change in story.changes]
    strays.sort(key=lambda one: one[0])
    try:
        simulation.run(story.requests, strays=strays)
        audit.end()
    except Exception as error:  # whatever it is: nothing that a story does may make a scheduler raise
        return Failure(
            _kind(error),
            f"{type(error).__name__}: {error}",
            now_at,
            "".join(traceback.format_exception(error)[-4:]),
        )
    return None


def _kind(error: Exception) -> str:
    """The words of an error without its numbers and names: what stays the same while a story shrinks."""
    words = str(error).split("'")[::2]
    said = "".join(c for c in " ".join(words) if c.isalpha() or c == " ")
    return f"{type(error).__name__}: {' '.join(said.split())}"[:160]


def _scheduler(story: Story) -> Scheduler:
    spec = story.spec
    if spec.policy in PLANNED:
        workers = [(one.name, one.device) for one in story.workers]
        spec = replace(spec, plans=gear_plans(workers, single=spec.policy == "model-switching"))
    shared = catalogue(story.x, story.y, spec.normalise)
    # One that grows belongs to one scheduler.
    over = Catalogue(shared.applications, spec.normalise) if story.changes else shared
    return spec.over(over, spec.made() if spec.policy in REMEMBERING else None)


def _slip(story: Story) -> Callable[[float], float]:
    """By when the scheduler's alarm for an instant has rung: it is told late by as much as alarms are late, and after
    any pause."""
    faults = Faults(pauses=story.pauses)
    late_s = story.wake_s + sum(one.seconds for one in story.mishaps if one.of == "alarm")
    if not late_s and not story.pauses:
        return lambda at: at
    # Two pauses may follow each other, with a late alarm between them.
    return lambda at: faults.heard_at(faults.heard_at(at) + late_s)


def _changed(change: Change, apps: Mapping[str, Application]) -> Event:
    return Registered(apps[change.key]) if change.variants is None else Offered(change.key, change.variants)


def _event(
    stray: Stray, by_id: Mapping[str, Request], truth: Callable[[Request], tuple[int | None, ...]]
) -> Event:
    request = by_id.get(stray.request_id)
    match stray.what:
        case "cancel":
            return Cancelled(stray.request_id)
        case "confirm":
            return Confirmed(stray.request_id, truth(request) if request else (0,))
        case "peek":
            return Peeked(stray.request_id, None)
        case "batch":
            return BatchDone(10**6, np.zeros((1, 4)), stray.at, stray.at)
        case "alarm":
            return Woke()


class _World:
    """What batches really take: the profile, times what is wrong about it, more or less."""

    def __init__(self, story: Story, inner: RecordedWorld) -> None:
        self._story, self._inner = story, inner
        self._paces = {(pace.application, pace.variant): pace for pace in story.paces}

    @property
    def wire_s(self) -> float:
        return self._story.wire_s

    @property
    def wake_s(self) -> float:
        return self._story.wake_s

    def peek(self, request: Request, rng: np.random.Generator) -> tuple[float, Floats | None]:
        return self._inner.peek(request, rng)

    def scores(self, command: RunBatch, requests: Mapping[str, Request]) -> Floats:
        return self._inner.scores(command, requests)

    def run_s(self, command: RunBatch, device: str, at: float, rng: np.random.Generator) -> float:
        seconds = self._inner.run_s(command, device, at, rng)
        pace = self._paces.get((command.application, command.variant))
        if pace is not None:
            seconds *= pace.factor * pace.drift ** min(at, DRIFTS_S)
        # Of the batch's number alone: a story with a request less keeps the times of the others.
        share = command.batch_id * 0.6180339887498949 % 1.0
        return seconds * exp(self._story.uneven * (2.0 * share - 1.0))

    def load_s(
        self, application: str, variant: str, device: str, at: float, rng: np.random.Generator
    ) -> float:
        return self._inner.load_s(application, variant, device, at, rng)
