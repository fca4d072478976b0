"""What each worker holds, what it was given, and when it should be free."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from peekserve.core.catalogue import Catalogue, DeviceTable
from peekserve.core.paces import Paces
from peekserve.domain.gears import Stop
from peekserve.domain.messages import Command, Load, RunBatch, Unload
from peekserve.domain.request import RowRef
from peekserve.errors import InvariantBroken
from peekserve.policies.base import LaneView, WorkerView


@dataclass(slots=True)
class Committed:
    """A batch that a worker was given. `slots` are the backlog's; `refs` say whose they were; `expected` is what was
    believed of each answer. The times are set when it is committed, and move with the batches before it; `load_s` is
    what is still to be loaded for it, part of `duration_s`. `profile_s`: the median and p95 of its run by the profile,
    whatever the worker's pace. `stop`: as of the plan."""

    id: int
    worker: str
    lane: int
    variant: int
    slots: tuple[int, ...]
    refs: tuple[RowRef, ...]
    expected: tuple[float | None, ...]
    load_s: float = 0.0
    duration_s: float = 0.0
    predicted_at: float = 0.0
    overdue_at: float = 0.0
    profile_s: tuple[float, float] = (0.0, 0.0)
    stop: Stop | None = None


@dataclass(slots=True)
class _Worker:
    """`failed`: weights that it could not load since it came up; `table` says that it cannot run what needs them.
    `owed_s`: what loads should still take that no batch asked for; they stand behind batch `owed_after`."""

    name: str
    device: str
    budget: float
    table: DeviceTable
    up: bool = True
    loading: list[str] = field(default_factory=list)
    free_at: float = 0.0
    resident: list[int] = field(default_factory=list)
    queue: deque[Committed] = field(default_factory=deque)
    failed: set[int] = field(default_factory=set)
    owed_s: float = 0.0
    owed_after: int = 0


class Fleet:
    """Workers by name, in the order in which they first came up. `follow_pace`: learn how long batches really take, and
    plan with that (core/pace.py)."""

    def __init__(self, catalogue: Catalogue, hang_s: float, follow_pace: bool = False) -> None:
        self._catalogue = catalogue
        self._hang_s = hang_s
        self.paces = Paces(follow_pace)
        self._workers: dict[str, _Worker] = {}
        self._batches: dict[int, Committed] = {}

    # ---- what happens to workers ----

    def up(self, name: str, device: str, budget_bytes: float, now: float) -> None:
        """A worker came up, new or again; it holds nothing."""
        known = self._workers.get(name)
        if known is not None and known.queue:
            raise InvariantBroken(f"worker {name!r} came up while it still holds {len(known.queue)} batches")
        self._workers[name] = _Worker(name, device, budget_bytes, self._catalogue.device(device), free_at=now)
        self.paces.came(name, device, now)

    def down(self, name: str) -> list[Committed]:
        """A worker is gone; the batches that went with it."""
        worker = self._workers.get(name)
        if worker is None:
            return []
        lost = list(worker.queue)
        for batch in lost:
            del self._batches[batch.id]
        worker.queue.clear()
        worker.resident.clear()
        worker.loading.clear()
        worker.up = False
        return lost

    def grow(self) -> None:
        """The catalogue has more applications: what they cost is looked up."""
        for worker in self._workers.values():
            self._look_up(worker)

    def preload(
        self, name: str, now: float, offered: npt.NDArray[np.bool_], placed: Sequence[str] | None = None
    ) -> list[Command]:
        """Fill a new worker's budget: with the weights that are `placed` there, or with the best variant of each
        application, then the second best, while they fit. `offered`: bool [lanes, V], those that there is a use for."""
        worker = self._workers[name]
        lanes = self._first_lanes()
        wanted = [
            (rank, a, int(v))
            for a, (i, lane) in lanes.items()
            for rank, v in enumerate(np.argsort(-lane.profiled, kind="stable"))
            if offered[i, v] and np.isfinite(worker.table.latency_s[i][v, 1])
        ]
        if placed is not None:
            named = [(self._catalogue.weights[int(lanes[a][1].weights[v])], a, v) for _, a, v in wanted]
            wanted = [(placed.index(weights), a, v) for weights, a, v in named if weights in placed]
        commands = [c for _, a, v in sorted(wanted) for c in self._fill(worker, a, lanes[a][1], v, True, now)]
        worker.free_at = max(worker.free_at, now)
        return commands

    def load(self, application: int, variants: Sequence[int], warm: bool, now: float) -> list[Command]:
        """Load these variants of an application wherever they fit beside what is there, the best first. `warm`: as of
        Load."""
        i, lane = self._first_lanes()[application]
        best = sorted(variants, key=lambda v: (-float(lane.profiled[v]), v))
        return [
            command
            for worker in self._workers.values()
            for v in best
            if worker.up and np.isfinite(worker.table.latency_s[i][v, 1])
            for command in self._fill(worker, application, lane, v, warm, now)
        ]

    def drop(self, needed: set[int]) -> list[Command]:
        """Unload all weights that are not `needed`, but for those that a worker was given a batch for."""
        commands: list[Command] = []
        for worker in self._workers.values():
            for w in [w for w in worker.resident if w not in needed]:
                if worker.up and all(self._needs(batch) != w for batch in worker.queue):
                    worker.resident.remove(w)
                    commands.append(Unload(worker.name, self._catalogue.weights[w]))
        return commands

    def holds_other_than(self, needed: set[int]) -> bool:
        """Does a worker that is up hold weights that are not `needed`?"""
        return any(w not in needed for one in self._workers.values() if one.up for w in one.resident)

    def _first_lanes(self) -> dict[int, tuple[int, LaneView]]:
        """By application, its first lane and that lane's index."""
        numbered = reversed(list(enumerate(self._catalogue.lanes)))
        return {lane.application: (i, lane) for i, lane in numbered}

    def _fill(
        self, worker: _Worker, application: int, lane: LaneView, variant: int, warm: bool, now: float
    ) -> list[Command]:
        """Load a variant if it fits into what is left of the budget."""
        app, w = self._catalogue.applications[application], int(lane.weights[variant])
        if w in worker.resident or self._held(worker) + worker.table.bytes[w] > worker.budget:
            return []
        worker.resident.append(w)
        worker.free_at = max(worker.free_at, now) + float(worker.table.load_s[w])
        worker.owed_s += float(worker.table.load_s[w])
        worker.owed_after = worker.queue[-1].id if worker.queue else 0
        worker.loading.append(self._catalogue.weights[w])
        return [Load(worker.name, self._catalogue.weights[w], app.key, app.variants[variant].name, warm=warm)]

    def commit(self, name: str, batch: Committed, closed: str, now: float) -> list[Command]:
        """Give a worker a batch, its weights first. Least recently used weights make room (findings, section
        0)."""
        worker = self._workers[name]
        lane = self._catalogue.lanes[batch.lane]
        app = self._catalogue.applications[lane.application]
        variant = app.variants[batch.variant]
        w = int(lane.weights[batch.variant])
        commands: list[Command] = []
        load_s = 0.0
        if w in worker.resident:
            worker.resident.remove(w)
        else:
            load_s = float(worker.table.load_s[w])
            need = float(worker.table.bytes[w])
            while worker.resident and self._held(worker) + need > worker.budget:
                commands.append(Unload(name, self._catalogue.weights[worker.resident.pop(0)]))
            worker.loading.append(variant.weights)
            commands.append(Load(name, variant.weights, app.key, variant.name))
        worker.resident.append(w)
        size = len(batch.slots)
        run_s = float(self._costs(worker).latency_s[batch.lane][batch.variant, size])
        batch.profile_s = (
            float(worker.table.latency_s[batch.lane][batch.variant, size]),
            float(worker.table.cautious_s[batch.lane][batch.variant, size]),
        )
        batch.load_s, batch.duration_s = load_s, load_s + run_s
        batch.predicted_at = max(now, worker.free_at) + batch.duration_s
        batch.overdue_at = batch.predicted_at + max(self._hang_s, 20.0 * batch.duration_s)
        worker.free_at = batch.predicted_at
        worker.queue.append(batch)
        self._batches[batch.id] = batch
        commands.append(
            RunBatch(batch.id, name, app.key, variant.name, lane.bucket, batch.refs, batch.duration_s, closed)
        )
        return commands

    def done(self, batch_id: int, finished_at: float) -> Committed | None:
        """A batch ended, well or badly. None when it is not ours any more: lost with its worker, or told
        twice."""
        batch = self._batches.pop(batch_id, None)
        if batch is None:
            return None
        worker = self._workers[batch.worker]
        worker.queue.remove(batch)
        if batch.id > worker.owed_after:
            worker.owed_s = 0.0
        self._retime(worker, finished_at)
        return batch

    def took(self, batch: Committed, started_at: float, finished_at: float, now: float) -> None:
        """How long a batch really ran, by the instants that its worker told."""
        self.paces.took(
            batch.worker, batch.lane, batch.variant, finished_at - started_at, *batch.profile_s, now
        )

    def _retime(self, worker: _Worker, start_at: float) -> None:
        """What is queued starts now: predicted ends move by as much as what was before them was early or late."""
        at, owed_s = start_at, worker.owed_s
        for following in worker.queue:
            if following.id > worker.owed_after:
                at, owed_s = at + owed_s, 0.0
            at += following.duration_s
            following.predicted_at = at
            following.overdue_at = at + max(self._hang_s, 20.0 * following.duration_s)
        worker.free_at = at + owed_s

    def loaded(self, name: str, weights: str, now: float) -> None:
        """A load ended. The batch that it was for starts now, and so does what waited for the last load under way:
        warm-ups are in no profile. A worker at rest that was not asked held them already when it came up."""
        worker = self._workers[name]
        if weights in worker.loading:
            worker.loading.remove(weights)
        elif not worker.loading and not worker.queue:
            self._holds(worker, weights)
        first = worker.queue[0] if worker.queue else None
        its = first is not None and first.load_s > 0.0 and self._weights_of(first) == weights
        if first is not None and its:
            first.duration_s -= first.load_s
            first.load_s = 0.0
        if not worker.loading:
            worker.owed_s = 0.0
        if its or not worker.loading:
            self._retime(worker, now)

    def _holds(self, worker: _Worker, weights: str) -> None:
        w = self._catalogue.weights.index(weights)
        if w not in worker.resident and self._held(worker) + worker.table.bytes[w] <= worker.budget:
            worker.resident.append(w)

    def _weights_of(self, batch: Committed) -> str:
        return self._catalogue.weights[self._needs(batch)]

    def _needs(self, batch: Committed) -> int:
        return int(self._catalogue.lanes[batch.lane].weights[batch.variant])

    def load_failed(self, name: str, weights: str, now: float) -> None:
        """This worker is asked for these weights no more, until it comes up again or somebody loads them by hand."""
        worker = self._workers[name]
        if weights in worker.loading:
            worker.loading.remove(weights)
        w = self._catalogue.weights.index(weights)
        if w in worker.resident:
            worker.resident.remove(w)
        worker.failed.add(w)
        self._look_up(worker)
        if not worker.loading:
            worker.owed_s = 0.0
            if not worker.queue:
                worker.free_at = now

    def forgive(self, weights: set[int]) -> None:
        """These may be tried again."""
        for worker in self._workers.values():
            if worker.failed & weights:
                worker.failed -= weights
                self._look_up(worker)

    def _look_up(self, worker: _Worker) -> None:
        table = self._catalogue.device(worker.device)
        worker.table = table.without(self._catalogue.lanes, worker.failed)

    # ---- what can be seen ----

    def failed(self) -> set[int]:
        """Weights that some worker could not load."""
        return set[int]().union(*(worker.failed for worker in self._workers.values()))

    def lacks(self, batch: Committed) -> bool:
        """Could its worker not load the weights of this batch?"""
        return self._needs(batch) in self._workers[batch.worker].failed

    def up_for(self, lane: int) -> npt.NDArray[np.bool_]:
        """bool [V]: which variants a worker can run that is up."""
        rows = [np.isfinite(w.table.fastest_s[lane]) for w in self._workers.values() if w.up]
        return np.any(rows, axis=0) if rows else np.zeros(len(self._catalogue.lanes[lane].variants), np.bool_)

    def available(self, now: float, lead_s: float) -> list[str]:
        """Workers that can take work: idle, or with no more to do than should end within `lead_s`."""
        return [
            w.name
            for w in self._workers.values()
            if w.up and (not w.queue or lead_s == np.inf or (lead_s > 0.0 and _nearly_done(w, now, lead_s)))
        ]

    def next_available_at(self, now: float, lead_s: float) -> float:
        """When the next busy worker should be within `lead_s` of having done all it has; infinite without a lead, since
        an idle worker announces itself."""
        if lead_s <= 0.0:
            return float("inf")
        soon = (w.free_at - lead_s for w in self._workers.values() if w.up and w.queue)
        return min((at for at in soon if at > now), default=float("inf"))

    def soonest_at(self, now: float) -> float:
        """When a worker should be free for something new; infinite if none is up."""
        return min((max(now, w.free_at) for w in self._workers.values() if w.up), default=float("inf"))

    def idle(self) -> bool:
        """Is some worker up with nothing to do?"""
        return any(w.up and not w.queue for w in self._workers.values())

    def batches(self) -> Iterator[Committed]:
        return iter(self._batches.values())

    def next_overdue_at(self) -> float:
        return min((_overdue_at(w) for w in self._workers.values() if w.up and w.queue), default=float("inf"))

    def overdue(self, now: float) -> list[str]:
        """Workers whose running batch should have ended long ago."""
        return [w.name for w in self._workers.values() if w.up and w.queue and _overdue_at(w) <= now]

    def suspect(self, name: str) -> None:
        """Asked to restart: no work for it until it comes up again."""
        self._workers[name].up = False

    def fastest_s(self, lane: int) -> npt.NDArray[np.float64]:
        """float64 [V]: the least time for one row of this lane, by variant, over the workers that are
        known."""
        rows = [self._costs(w).fastest_s[lane] for w in self._workers.values()]
        variants = len(self._catalogue.lanes[lane].variants)
        # With no worker yet there is nothing to know: every variant may turn out quick enough.
        return np.min(rows, axis=0) if rows else np.zeros(variants)

    def view(self, names: list[str], now: float) -> tuple[WorkerView, ...]:
        return tuple(
            WorkerView(
                w.name,
                max(now, w.free_at),
                tuple(w.resident),
                w.budget,
                self._costs(w).cautious_s,
                w.table.cautious_load_s,
                w.table.bytes,
            )
            for w in (self._workers[name] for name in names)
        )

    def check(self) -> None:
        """Raises InvariantBroken when residency passes a budget or a batch is in no queue."""
        queued = [b.id for w in self._workers.values() for b in w.queue]
        if sorted(queued) != sorted(self._batches):
            raise InvariantBroken(f"batches {sorted(self._batches)} are known, {sorted(queued)} are queued")
        for worker in self._workers.values():
            self.paces.check(worker.name, worker.table)
            if len(set(worker.resident)) != len(worker.resident):
                raise InvariantBroken(f"worker {worker.name!r} holds weights twice: {worker.resident}")
            if len(worker.resident) > 1 and self._held(worker) > worker.budget:
                raise InvariantBroken(
                    f"worker {worker.name!r} holds {self._held(worker):.0f} of {worker.budget:.0f} bytes"
                )

    def _costs(self, worker: _Worker) -> DeviceTable:
        return self.paces.table(worker.name, worker.table)

    def _held(self, worker: _Worker) -> float:
        return float(sum(worker.table.bytes[w] for w in worker.resident))


# How much longer than its batch a worker may take that is also loading: models warm up when they are first loaded.
_LOADING_S = 60.0


def _overdue_at(worker: _Worker) -> float:
    return worker.queue[0].overdue_at + (_LOADING_S if worker.loading else 0.0)


def _nearly_done(worker: _Worker, now: float, lead_s: float) -> bool:
    """Should all that it has be done within `lead_s`? Not if its running batch is late already: who is slow or hangs
    would attract all the work."""
    return worker.free_at - lead_s <= now and now - worker.queue[0].predicted_at <= lead_s
