"""Proteus (ASPLOS'24): accuracy scaling. An integer program says which variant each device runs; each device gathers
its own batches and waits for them on purpose.

Every `interval_s` the program (policies/allocation.py) is solved for the moving average of the demand. A variant's
throughput on a device is b / latency(b) with b the largest batch whose latency is below half the deadline: a row may
wait for one batch and be in the next. A row goes to a device that was given a variant of its application. With q rows
queued on an idle device it waits until t_w(q) = deadline(head) - latency(q) for more; a row that comes after t_w(q + 1)
is not waited for; a full batch runs at once; heads that the device could not answer even now are dropped.

Otherwise than the paper, and why:

- The program is the linear form of the paper's, with counts of like devices: exact, for an open solver.
- Rows are dealt out there in shares of the solution. Given the counts, that solution fills the most accurate variant's
  devices first, then the next. So here each row, the most urgent first, goes to the most accurate device that would
  answer it in time behind what it was given already; of equals to the one that is done first.
- It begins with no demand known (see policies/demand.py), and solves at once for an application that nobody asked for
  before, and when devices come or go.
- Throughput is not rounded down to whole requests per second: on the devices here that would often be 0.
- A device waits until a microsecond before t_w, because instants are sums of floating-point numbers.
- With `aware`, both the accuracies in the program (their mean over the rows that came) and those by which rows are
  dealt out are what is believed of the rows themselves.
- An application that no device was given is dropped, whatever the rest have to do: so it is with one variant on each
  device. There should be as many workers as applications.

Keeps the demand, the allocation and the workers between plans: one policy object for one scheduler. Time that runs
backwards, or other lanes, make it begin anew. Raises DataUnavailable where scipy is not installed.

Options: `interval_s` (10): between two solutions. `beta` (1.05): the share of the demand to be served, above 1 with
head-room; lowered where it cannot be had.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from peekserve.domain.messages import Plan
from peekserve.policies.allocation import allocate
from peekserve.policies.base import Floats, Switches, View, WorkerView
from peekserve.policies.demand import Demand, Known
from peekserve.policies.options import checked
from peekserve.policies.peers import Draft, Seat
from peekserve.policies.placing import Grounds

_EARLY_S = 1e-6


@dataclass(frozen=True, slots=True)
class Hosted:
    """What a device was given: a lane's variant, and the largest batch of it."""

    lane: int
    variant: int
    batch: int


@dataclass(slots=True)
class Queue:
    """What a device would run: batches one after another, the last one still open for more. `latency_s`: by batch size.
    `free_s`: when it could begin, `begins_s`: when its last batch could."""

    hosted: Hosted
    latency_s: list[float]
    free_s: float
    begins_s: float
    batches: list[list[int]]

    def with_one_more(self, due_s: list[float]) -> tuple[bool, float]:
        """(does the next row join the last batch, when that would end). It does while the batch has room and its head
        can wait so long."""
        if not self.batches:
            return True, self.begins_s + self.latency_s[1]
        last = self.batches[-1]
        if len(last) < self.hosted.batch:
            joined_s = self.begins_s + self.latency_s[len(last) + 1]
            if joined_s <= due_s[last[0]]:
                return True, joined_s
        return False, self.begins_s + self.latency_s[len(last)] + self.latency_s[1]

    def add(self, row: int, joins: bool) -> None:
        if joins and self.batches:
            self.batches[-1].append(row)
            return
        if self.batches:
            self.begins_s += self.latency_s[len(self.batches[-1])]
        self.batches.append([row])


class Proteus:
    """One variant on each device, by an integer program; devices wait for fuller batches."""

    OPTIONS: ClassVar[Mapping[str, float]] = {"interval_s": 10.0, "beta": 1.05}

    def __init__(self, switches: Switches, **options: float) -> None:
        self.switches = switches
        self.options = checked(self.OPTIONS, options, {"interval_s": 1e-3})
        self.grounds = Grounds()
        self._reset()

    def _reset(self) -> None:
        self._demand = Demand(self.options["interval_s"])
        self._known = Known(self.options["interval_s"])
        self._hosted: dict[str, Hosted] = {}
        self._asked: set[int] = set()

    def plan(self, view: View) -> Plan:
        if not view.workers or not view.size:
            return Plan()
        draft = Draft.of(view, self.switches, self.grounds.of(view))
        if not self._demand.follows(view):
            self._reset()
            self._demand.begin(view)
        changed = self._known.see(view)
        draft.short_circuit(self._most(draft))
        lanes = view.lane.tolist()
        self._demand.see(view, draft.left.tolist(), lanes, draft.accuracy)
        unknown = {lanes[row] for row in draft.left.tolist()} - self._asked
        if changed or unknown or self._demand.is_due(view.now):
            self._demand.renew(view.now)
            self._allocate(draft)
        queues = self._deal(draft)
        again_s = inf
        idle = list(draft.seats)
        for seat in draft.seats:
            wait_s = self._run(draft, seat, queues.get(seat.worker.name))
            if wait_s < inf:
                again_s = min(again_s, wait_s)
                idle.remove(seat)
        draft.run_last(idle)
        self._known.gave(view, draft.batches)
        return draft.plan(view.now + again_s)

    def _most(self, draft: Draft) -> Floats:
        """f8[n]: the best accuracy that a row may find on a device; on any variant where its lane has none yet."""
        width = draft.ground.own.shape[1]
        given = np.zeros(draft.ground.own.shape, np.bool_)
        for hosted in self._hosted.values():
            if hosted.variant < width and hosted.lane < len(given):
                given[hosted.lane, hosted.variant] = True
        given[~given.any(axis=1)] = True
        most: Floats = np.where(draft.view.allowed & given[draft.view.lane], draft.accuracy, 0.0).max(axis=1)
        return most

    # ---- which device runs what ----

    def _allocate(self, draft: Draft) -> None:
        """Solve, and tell each device its variant; those keep theirs, or get what they hold, who can."""
        rates = {lane: rate for lane, rate in sorted(self._demand.rates.items()) if rate > 0.0}
        self._asked = set(rates)
        cells = [
            (k, lane, v) for k, lane in enumerate(rates) for v in range(len(draft.view.lanes[lane].variants))
        ]
        if not cells:
            return
        types = _alike(list(self._known.workers.values()))
        batch = np.array(
            [[self._batch(draft, d[0], lane, v) for _, lane, v in cells] for d in types], np.int64
        )
        throughput = np.array(
            [
                [
                    b / d[0].latency_s[lane][v, b] if b else 0.0
                    for b, (_, lane, v) in zip(row, cells, strict=True)
                ]
                for d, row in zip(types, batch.tolist(), strict=True)
            ]
        )
        found = allocate(
            [len(d) for d in types],
            throughput,
            self._accuracies(draft, cells),
            np.array([k for k, _, _ in cells], np.int64),
            np.array(list(rates.values())),
            self.options["beta"],
        )
        before, self._hosted = self._hosted, {}
        for devices, counts, sizes in zip(types, found.counts.tolist(), batch.tolist(), strict=True):
            wanted = [
                Hosted(lane, v, size)
                for (_, lane, v), many, size in zip(cells, counts, sizes, strict=True)
                for _ in range(many)
            ]
            self._hosted |= _told(draft, devices, wanted, before)

    def _accuracies(self, draft: Draft, cells: list[tuple[int, int, int]]) -> Floats:
        """f8[J]: of each variant, in units of its family's best."""
        found = []
        for _, lane, v in cells:
            many = len(draft.view.lanes[lane].variants)
            own = self._demand.accuracy(lane) if self.switches.aware else draft.ground.profiled[lane]
            best = float(own[:many].max())
            found.append(float(own[v]) / best if best > 0.0 else 0.0)
        return np.array(found)

    def _batch(self, draft: Draft, worker: WorkerView, lane: int, variant: int) -> int:
        """The largest batch with a latency below half the deadline; 0 where there is none, or no room."""
        weights = draft.weights(lane, variant)
        if worker.bytes[weights] > worker.budget:
            return 0
        latency_s = worker.latency_s[lane][variant, 1 : draft.most(lane, variant) + 1]
        return int(np.count_nonzero(latency_s < self._demand.deadline_s(lane) / 2.0))

    # ---- which device gets which row ----

    def _deal(self, draft: Draft) -> dict[str, Queue]:
        view = draft.view
        seats = {seat.worker.name: seat for seat in draft.seats}
        queues: dict[str, Queue] = {}
        of_lane: dict[int, list[Queue]] = {}
        for name, worker in self._known.there(view).items():
            hosted = self._hosted.get(name)
            if hosted is not None:
                weights = draft.weights(hosted.lane, hosted.variant)
                seat = seats.get(name) or Seat(0, worker, worker.free_at - view.now, list(worker.resident))
                free_s = seat.ready_s(weights)
                latency_s = worker.latency_s[hosted.lane][hosted.variant].tolist()
                queues[name] = Queue(hosted, latency_s, free_s, free_s, [])
                of_lane.setdefault(hosted.lane, []).append(queues[name])
        lanes, dues = view.lane.tolist(), draft.due_s.tolist()
        allowed, accuracy = view.allowed.tolist(), draft.accuracy.tolist()
        gone = []
        for row in draft.left.tolist():
            due_s, found, alone = dues[row], [], False
            for place, queue in enumerate(of_lane.get(lanes[row], ())):
                if allowed[row][queue.hosted.variant]:
                    # With nothing else queued: who is only crowded out now may have another turn.
                    alone = alone or queue.free_s + queue.latency_s[1] <= due_s
                    joins, end_s = queue.with_one_more(dues)
                    if end_s <= due_s:
                        found.append((-accuracy[row][queue.hosted.variant], end_s, place, queue, joins))
            if found:
                *_, queue, joins = min(found, key=lambda f: f[:3])
                queue.add(row, joins)
            elif not alone or not self.switches.drop:
                gone.append(row)
        draft.drop(gone)
        return queues

    def _run(self, draft: Draft, seat: Seat, queue: Queue | None) -> float:
        """Run what is full or can wait no longer; when to look again at the batch that waits, seconds from now."""
        if queue is None:
            return inf
        for number, batch in enumerate(queue.batches):
            open_ = number == len(queue.batches) - 1 and len(batch) < queue.hosted.batch
            weights = draft.weights(queue.hosted.lane, queue.hosted.variant)
            load_s = seat.ready_s(weights) - seat.free_s
            wait_s = float(draft.due_s[batch[0]]) - queue.latency_s[len(batch)] - load_s - _EARLY_S
            if open_ and wait_s > max(seat.free_s, 0.0) + _EARLY_S:
                return wait_s
            draft.run(seat, queue.hosted.lane, queue.hosted.variant, batch)
        return inf


def _alike(workers: list[WorkerView]) -> list[list[WorkerView]]:
    """The workers by type: the same latencies, loads and budget."""
    types: list[list[WorkerView]] = []
    for worker in workers:
        for own in types:
            if _same(own[0], worker):
                own.append(worker)
                break
        else:
            types.append([worker])
    return types


def _same(one: WorkerView, two: WorkerView) -> bool:
    if one.latency_s is two.latency_s and one.budget == two.budget:
        return True
    return (
        one.budget == two.budget
        and np.array_equal(one.load_s, two.load_s)
        and np.array_equal(one.bytes, two.bytes)
        and all(np.array_equal(a, b) for a, b in zip(one.latency_s, two.latency_s, strict=True))
    )


def _told(
    draft: Draft, devices: list[WorkerView], wanted: list[Hosted], before: Mapping[str, Hosted]
) -> dict[str, Hosted]:
    """What each of these devices is to run, by name. A device that keeps its variant, or holds it, loads nothing."""

    def keeps(device: WorkerView, hosted: Hosted) -> bool:
        old = before.get(device.name)
        return old is not None and (old.lane, old.variant) == (hosted.lane, hosted.variant)

    def holds(device: WorkerView, hosted: Hosted) -> bool:
        return draft.weights(hosted.lane, hosted.variant) in device.resident

    told: dict[str, Hosted] = {}
    for fits in (keeps, holds, lambda device, hosted: True):
        for device in devices:
            mine = next((hosted for hosted in wanted if fits(device, hosted)), None)
            if device.name not in told and mine is not None:
                wanted.remove(mine)
                told[device.name] = mine
    return told
