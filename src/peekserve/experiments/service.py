"""How live runs differed from their profiles: read from their journals, for simulations of the same machine."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from peekserve.domain.messages import Arrived, BatchDone, Load, Peek, Peeked, RunBatch, WakeAt, Woke, WorkerUp
from peekserve.sim.world import Series, Service
from peekserve.state.journal import JournalReader

# A run that saw this many of something is believed for itself; of what it saw less often, all runs are believed.
ENOUGH = 30

_Key = tuple[str, str]
_Timed = tuple[float, float]  # an instant and what was measured then
_K = TypeVar("_K")


@dataclass(slots=True)
class Seen:
    """What one run's journal tells. `paces`: what each batch took over its profile's median, loads apart, and from the
    end of the one before it if it was waiting for that. `loads_s`: from the moment that a worker could begin until it
    took up the batch that the load was for. `peeks_s`: from asking to knowing. `ways_s`: from a command to an idle
    worker, and from the end of a batch to the front's knowing it. `wakes_s`: how late alarms rang. The first three with
    their instants, seconds from the first arrival."""

    paces: dict[_Key, list[_Timed]] = field(default_factory=lambda: defaultdict(list))
    loads_s: dict[_Key, list[_Timed]] = field(default_factory=lambda: defaultdict(list))
    peeks_s: dict[str, list[_Timed]] = field(default_factory=lambda: defaultdict(list))
    ways_s: list[float] = field(default_factory=list)
    wakes_s: list[float] = field(default_factory=list)


def seen_in(journal: Path) -> Seen:
    """Read a whole run."""
    seen = Seen()
    run: dict[int, tuple[float, RunBatch, bool]] = {}
    asked: dict[str, tuple[float, str]] = {}
    there: list[float] = []
    from_idle: list[tuple[_Key, _Timed]] = []
    first_at: float | None = None
    ended_at: dict[str, float] = defaultdict(lambda: -1.0)
    reader = JournalReader(journal)
    applications = {app.name: app for app in reader.header.applications}
    devices: dict[str, str] = {}
    alarm_at: float | None = None
    for step in reader:
        if first_at is None and isinstance(step.event, Arrived):
            first_at = step.now
        if isinstance(step.event, WorkerUp):
            devices[step.event.worker] = step.event.device
        if isinstance(step.event, Woke) and alarm_at is not None:
            seen.wakes_s.append(max(step.now - alarm_at, 0.0))
            alarm_at = None
        loading: set[str] = set()  # workers whose next batch is the one that they load for
        for command in step.commands:
            if isinstance(command, Load):
                loading.add(command.worker)
            elif isinstance(command, RunBatch):
                run[command.batch_id] = (step.now, command, command.worker in loading)
                loading.discard(command.worker)
            elif isinstance(command, WakeAt):
                alarm_at = command.at if command.at > step.now else None
            elif isinstance(command, Peek) and isinstance(step.event, Arrived):
                asked[command.request_id] = (step.now, step.event.request.application)
        if isinstance(step.event, Peeked) and step.event.request_id in asked:
            asked_at, application = asked.pop(step.event.request_id)
            seen.peeks_s[application].append((asked_at, step.now - asked_at))
        if isinstance(step.event, BatchDone) and step.event.batch_id in run:
            done = step.event
            sent_at, command, loaded = run.pop(done.batch_id)
            key = (command.application, command.variant)
            idle = sent_at > ended_at[command.worker]
            variant = applications[command.application].variant(command.variant)
            curve = variant.timing[devices[command.worker]].curve(command.bucket)
            began_at = done.started_at if idle or loaded else ended_at[command.worker]
            pace = (done.finished_at - began_at) / curve.seconds(len(command.rows))
            seen.paces[key].append((began_at, pace))
            if idle and not loaded:
                there.append(done.started_at - sent_at)
            elif idle:
                from_idle.append((key, (sent_at, done.started_at - sent_at)))
            elif loaded:
                before_at = ended_at[command.worker]
                seen.loads_s[key].append((before_at, done.started_at - before_at))
            seen.ways_s.append(step.now - done.finished_at)
            ended_at[command.worker] = done.finished_at
    # The way to an idle worker is no part of the load that began there.
    way_s = float(np.median(there)) if there else 0.0
    for key, (at, seconds) in from_idle:
        seen.loads_s[key].append((at, max(seconds - way_s, 0.0)))
    _from(first_at or 0.0, seen.paces)
    _from(first_at or 0.0, seen.loads_s)
    _from(first_at or 0.0, seen.peeks_s)
    seen.ways_s += there
    return seen


def _from(origin: float, timed: dict[_K, list[_Timed]]) -> None:
    for key, values in timed.items():
        timed[key] = sorted((at - origin, value) for at, value in values)


def service_of(own: Seen, everyone: Sequence[Seen], began_at: float = 0.0) -> Service:
    """The machine as it was in the run `own`, moment by moment; what was rare there is as it was in all of `everyone`,
    so that one slow first load does not stand for every load of a run. `began_at`: the simulation's first arrival."""
    return Service(
        _each(own.paces, [s.paces for s in everyone]),
        _each(own.loads_s, [s.loads_s for s in everyone]),
        _each(own.peeks_s, [s.peeks_s for s in everyone]),
        float(np.mean(own.ways_s)) if own.ways_s else 0.0,
        float(np.mean(own.wakes_s)) if own.wakes_s else 0.0,
        began_at,
    )


def _each(own: dict[_K, list[_Timed]], everyone: Iterable[dict[_K, list[_Timed]]]) -> dict[_K, Series]:
    pooled: dict[_K, list[_Timed]] = defaultdict(list)
    for one in everyone:
        for key, values in one.items():
            pooled[key] += values
    return {key: _series(own.get(key, []), among) for key, among in pooled.items()}


def _series(own: list[_Timed], pooled: list[_Timed]) -> Series:
    if len(own) < ENOUGH:
        return Series(tuple(value for _, value in pooled))
    return Series(tuple(value for _, value in own), tuple(at for at, _ in own))
