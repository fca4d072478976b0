"""CascadeServe's online part: runs a gear plan (papers/notes.md 2.5; domain/gears.py).

Every `period_s` the arrivals are counted, and the gear for that rate is taken. A gear for more load is taken at once;
one for less only if the first queue is short: not while `alpha` times its length is above the new rate (the authors'
code; their text has it for all changes). A new row asks for the first stage of the gear. Each stage is a queue; once
it is as long as the gear says, all of it runs on a device that the gear names for it, the one most behind its share.
What becomes of the batch's rows is said with it, as a stop rule: those not certain enough go on to the next stage.

Otherwise than the paper, and why:

- Requests are dealt to replicas there as they come. Here they wait in one backlog and a free device takes them, so no
  request waits behind a busy device while another that may run it rests. Several free devices divide a queue.
- A row that went on and finds another gear finishes where it was sent: the model is resident in every gear, and the
  threshold that sent it there was the old gear's. The authors' code strands such rows if the new cascade is shorter.
- A queue that is too short does not wait for ever: it runs when its first row could only just pass all stages that are
  left. Then any device that holds the weights may take it, so that a device that died leaves nothing behind.
- A view shows what waits, so arrivals are counted when they are first seen waiting (as in policies/demand.py).
- With `guard` a row goes on only if that can be in time, and the answer that it has is given otherwise. Rows that a
  batch would answer too late stay out of it, of a first stage those whose late answer would be worth nothing. Without
  it rows are late, as in the paper. It is on unless it is switched off: a plan holds for steady loads, the rate is
  known only when its period is over, and in a burst what is behind by then is sent on to the slowest model. The guard
  changes nothing where all is in time. Planners judge plans without it, since it would hide what does not hold.
- `margin` above 1 plans for more than the measured rate, for short periods.

The switches change nothing: thresholds were chosen for the models alone, and the scheduler gives up what is doomed.

Keeps counts and gears between plans: one policy object for one scheduler. Time that runs backwards makes it begin anew.

Options: `period_s` (0.1), `margin` (1), `alpha` (8), `guard` (1; 0 for off). What it is compared with stands in
policies/cascadeserve.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from peekserve.domain.gears import Gear, GearPlan, Stop
from peekserve.domain.messages import Batch, Plan
from peekserve.domain.utility import PenaltyKind
from peekserve.errors import InvalidConfiguration
from peekserve.policies.base import Bools, LaneView, Switches, View, WorkerView
from peekserve.policies.gearbox import Gearbox
from peekserve.policies.options import checked

Indices = npt.NDArray[np.int64]

# An alarm is later than now.
_SOON_S = 1e-6


@dataclass(frozen=True, slots=True)
class Queue:
    """Rows of a lane that wait for one variant, in order of arrival. `stage`: its number in the gear, -1 if the gear
    does not have it. `ahead`: the stages that follow. `need`: how many rows it waits for, and `wait_s`: for how long
    at most. `hosts`: devices and their shares."""

    lane: int
    variant: int
    stage: int
    rows: Sequence[int]
    ahead: tuple[int, ...]
    need: int
    hosts: Mapping[str, float]
    stop: Stop | None
    wait_s: float = inf

    def latest_at(self, view: View) -> float:
        """When it runs however short it is: its first row must start then, to pass this stage and those ahead in time
        on some device that is free, or has waited long enough."""
        rows = list(self.rows)
        many = min(len(rows), int(view.lanes[self.lane].max_batch[self.variant]))
        tables = [worker.latency_s[self.lane] for worker in view.workers]
        needs = min(float(t[self.variant, many] + sum(t[v, 1] for v in self.ahead)) for t in tables)
        must_at = float(view.due_at[rows].min()) - needs
        return min(must_at, float(view.arrived_at[rows].min()) + self.wait_s)


class Gears:
    """A gear for the load of this moment; each stage a queue; what is certain leaves."""

    NAME: ClassVar[str] = "gears"
    OPTIONS: ClassVar[Mapping[str, float]] = {"period_s": 0.1, "margin": 1.0, "alpha": 8.0, "guard": 1.0}
    LOWEST: ClassVar[Mapping[str, float]] = {"period_s": 1e-4, "margin": 1e-3}

    def __init__(
        self, switches: Switches, plans: Mapping[str, GearPlan] | None = None, **options: float
    ) -> None:
        """`plans`: by application. Raises InvalidConfiguration where there is none, and for an unknown option."""
        self.switches = switches
        # Those of `gears` that this policy does not have stand at their defaults.
        self.options = {**Gears.OPTIONS, **checked(self.OPTIONS, options, self.LOWEST)}
        if not plans:
            raise InvalidConfiguration(
                f"the policy {self.NAME!r} carries out a gear plan: peekserve plan makes one, in a repository, and "
                "peekserve serve and peekserve simulate run it"
            )
        self._plans: Mapping[str, GearPlan] = {
            name: self.adapted(plan) for name, plan in sorted(plans.items())
        }
        self._reset()

    def _reset(self) -> None:
        self.boxes = {name: Gearbox(plan) for name, plan in self._plans.items()}
        # By lane, the variants that some device which was free once can run, bool [V].
        self.able: dict[str, Bools] = {}
        # The same by lane and device, as it was when last seen.
        self.runs: dict[tuple[str, str], Bools] = {}
        self._now = -inf

    def adapted(self, plan: GearPlan) -> GearPlan:
        """A plan as this policy carries it out. Raises InvalidConfiguration for one that it cannot."""
        return plan

    def plan(self, view: View) -> Plan:
        if view.now < self._now:
            self._reset()
        self._now = view.now
        if not view.size or not view.workers:
            return Plan()
        free = list(range(len(view.workers)))
        self._look_at(view)
        queues = [queue for name, lanes in _lanes(view).items() for queue in self._queues(view, name, lanes)]
        # The most urgent first; of equals the later stage, whose rows have come further.
        queues.sort(key=lambda q: (float(view.due_at[list(q.rows)].min()), -q.stage, q.lane, q.variant))
        batches: list[Batch] = []
        for queue in queues:
            urgent = queue.latest_at(view) <= view.now
            if len(queue.rows) >= queue.need or urgent:
                batches += self._run(view, queue, free, urgent)
        return Plan(tuple(batches), again_at=_again_at(view, queues, batches))

    def _look_at(self, view: View) -> None:
        for number, lane in enumerate(view.lanes):
            able = self.able.setdefault(lane.name, np.zeros(len(lane.variants), np.bool_))
            for worker in view.workers:
                runs = self.runs[lane.name, worker.name] = _runs(worker, number, lane)
                able |= runs

    def _queues(self, view: View, name: str, lanes: Sequence[int]) -> list[Queue]:
        """The queues of one application, its gear brought up to date."""
        box = self.box_of(name, view.lanes[lanes[0]])
        own = np.isin(view.lane, lanes)
        box.see(view.arrived_at[own].tolist())
        first = view.lanes[lanes[0]].variants.index(box.gear.stages[0])
        queued, o = int(view.allowed[own, first].sum()), self.options
        box.shift(view.now, queued, o["period_s"], o["margin"], o["alpha"])
        return [queue for lane in lanes for queue in self.queues_of(view, box, lane)]

    def box_of(self, name: str, lane: LaneView) -> Gearbox:
        """The gears of an application, of which this is a lane. Raises InvalidConfiguration where it has none."""
        if name not in self.boxes:
            known = ", ".join(self.boxes)
            raise InvalidConfiguration(f"the policy {self.NAME!r} has no plan for {name!r}, only for {known}")
        return self.boxes[name]

    def queues_of(self, view: View, box: Gearbox, number: int) -> Sequence[Queue]:
        """The queues of one lane, by variant."""
        lane, gear = view.lanes[number], box.gear
        stages = [lane.variants.index(stage) for stage in gear.stages]
        rest = [v for v in range(len(lane.variants)) if v not in stages and self.able[lane.name][v]]
        rows = np.flatnonzero(view.lane == number)
        order = np.array(stages + rest)
        may = view.allowed[rows][:, order]
        # A row that went on may run nothing but what it was sent to, and one that is pinned nothing but that. What no
        # gear uses runs where there is a device for it.
        asks = np.where(may.any(axis=1), order[may.argmax(axis=1)], -1)
        queues = []
        for variant in sorted(set(asks.tolist()) - {-1}):
            stage = stages.index(variant) if variant in stages else -1
            waiting = self._not_too_late(view, number, variant, stage, rows[asks == variant])
            if not waiting:
                continue
            if stage < 0:
                hosts = _holders(box.plan, lane.variants[variant])
                queues.append(Queue(number, variant, stage, waiting, (), 1, hosts, None))
                continue
            hosts = {share.device: share.share for share in gear.shares[stage]}
            stop = self._stop(box.plan, gear, lane, stage)
            ahead, need = tuple(stages[stage + 1 :]), gear.queues[stage]
            queues.append(Queue(number, variant, stage, waiting, ahead, need, hosts, stop))
        return queues

    def _not_too_late(
        self, view: View, number: int, variant: int, stage: int, rows: Indices
    ) -> Sequence[int]:
        """With the guard, those without the rows that this variant cannot answer in time any more, not even alone, and
        that gain nothing by a late answer: they would only keep others waiting. They stay while another variant could
        have answered them; whoever is still here when none could is to be answered late."""
        if self.options["guard"] == 0.0:
            return [int(row) for row in rows]
        alone_at = np.array([w.free_at + w.latency_s[number][:, 1] for w in view.workers]).min(axis=0)
        may = view.allowed[rows][:, : len(alone_at)]
        soonest_at = np.where(may, alone_at, inf).min(axis=1)
        due_at = view.due_at[rows]
        out = (due_at < alone_at[variant]) & (due_at >= soonest_at) & _no_use_late(view, stage, rows)
        return [int(row) for row in rows[~out]]

    def _stop(self, plan: GearPlan, gear: Gear, lane: LaneView, stage: int) -> Stop | None:
        if stage + 1 == len(gear.stages):
            return None
        onto = lane.variants.index(gear.stages[stage + 1])
        return Stop(plan.certainty, gear.thresholds[stage], onto, self.options["guard"] > 0.0)

    def _run(self, view: View, queue: Queue, free: list[int], urgent: bool) -> list[Batch]:
        """Batches of this queue on free devices, which are free no more."""
        lane = view.lanes[queue.lane]
        name, weights = lane.variants[queue.variant], int(lane.weights[queue.variant])
        box = self.boxes[lane.name.partition("/")[0]]
        planned = {held.device for held in box.plan.placement}
        # Where a load failed on every device that has a share of it, the others are better than nobody.
        unable = (device for device in queue.hosts if not self._may_run(lane, device, queue.variant))
        hosts = queue.hosts.keys() - set(unable)

        def may(worker: WorkerView) -> bool:
            known = worker.name in planned
            rescues = urgent and weights in worker.resident
            able = bool(_runs(worker, queue.lane, lane)[queue.variant])
            # What no device holds was asked for by name.
            return able and (worker.name in hosts or rescues or not known or not hosts)

        able = [i for i in free if may(view.workers[i])]
        behind = {
            i: box.behind(name, view.workers[i].name, queue.hosts.get(view.workers[i].name, 0.0))
            for i in able
        }
        able.sort(key=lambda i: (-behind[i], view.workers[i].free_at, i))
        left, parts = list(queue.rows), max(1, min(len(able), len(queue.rows) // queue.need))
        batches: list[Batch] = []
        for n, i in enumerate(able[:parts]):
            worker = view.workers[i]
            most = min(-(-len(left) // (parts - n)), int(lane.max_batch[queue.variant]))
            rows = self._worth_running(view, queue, worker, left[:most])
            if not rows or self._in_the_way(view, queue, worker, rows):
                continue
            full = len(rows) == int(lane.max_batch[queue.variant])
            batches.append(
                Batch(i, queue.lane, queue.variant, tuple(rows), "full" if full else "policy", queue.stop)
            )
            gone = set(rows)
            left = [row for row in left if row not in gone]
            free.remove(i)
            key = (name, worker.name)
            box.taken[key] = box.taken.get(key, 0) + len(rows)
        return batches

    def _may_run(self, lane: LaneView, device: str, variant: int) -> bool:
        """As far as this device was seen."""
        runs = self.runs.get((lane.name, device))
        return runs is None or bool(runs[variant])

    def _worth_running(
        self, view: View, queue: Queue, worker: WorkerView, rows: Sequence[int]
    ) -> Sequence[int]:
        """With the guard, those that a batch would answer in time or that gain by a late answer: the largest batch that
        there is. A row that not even a batch of its own on a worker at rest could answer in time goes with them: one
        that has an answer in hand, or something to hope for elsewhere, would not be here."""
        if self.options["guard"] == 0.0:
            return rows
        latency_s = worker.latency_s[queue.lane][queue.variant]
        soonest_at = view.now + min(float(w.latency_s[queue.lane][queue.variant, 1]) for w in view.workers)
        kept = np.array(rows)
        while len(kept):
            end_at, due_at = worker.free_at + float(latency_s[len(kept)]), view.due_at[kept]
            out = (due_at < end_at) & (due_at >= soonest_at) & _no_use_late(view, queue.stage, kept)
            if not out.any():
                break
            # Without the most urgent row the batch is shorter, and may do for the others.
            kept = np.delete(kept, int(np.where(out, due_at, inf).argmin()))
        return [int(row) for row in kept]

    def _in_the_way(self, view: View, queue: Queue, worker: WorkerView, rows: Sequence[int]) -> bool:
        """With the guard: would this batch of rows that have an answer make more rows late that have none? Those that
        went on are the oldest, so without this they would run first, and in a burst what came after them is late.

        Those without one are taken in the order of their deadlines, in rounds of full batches on all devices that may
        run them; this device begins its rounds when the batch ends.
        """
        if self.options["guard"] == 0.0 or queue.stage <= 0 or np.isnan(view.instant[list(rows)]).any():
            return False
        lane = view.lanes[queue.lane]
        gear = self.boxes[lane.name.partition("/")[0]].gear
        first = lane.variants.index(gear.stages[0])
        # The peek may have an answer for a row that no model ran; one that went on may run one variant alone.
        new = np.isnan(view.instant) | (view.allowed.sum(axis=1) > 1)
        fresh = (view.lane == queue.lane) & view.allowed[:, first] & new
        due_at = np.sort(view.due_at[fresh])
        if not len(due_at):
            return False
        hosts, most = len(gear.shares[0]), int(lane.max_batch[first])
        each = min(-(-len(due_at) // hosts), most)
        round_s = float(worker.latency_s[queue.lane][first, each])
        ends_s = (np.arange(len(due_at)) // (most * hosts) + 1) * round_s
        takes_s = float(worker.latency_s[queue.lane][queue.variant, len(rows)])
        late, later = (int((worker.free_at + by + ends_s > due_at).sum()) for by in (0.0, takes_s))
        return later > late


def _runs(worker: WorkerView, number: int, lane: LaneView) -> Bools:
    """Which variants of a lane are timed on a device and fit into its memory: bool [V]."""
    fits = worker.bytes[lane.weights] <= worker.budget
    timed: Bools = np.isfinite(worker.latency_s[number][: len(lane.variants), 1])
    return timed & fits


def _no_use_late(view: View, stage: int, rows: Indices) -> Bools:
    """Which of these rows a late answer is worth nothing to: it is penalised so, or there is an earlier one in hand."""
    penalised: Bools = view.penalty[rows] == PenaltyKind.STEP
    return penalised | ~np.isnan(view.instant[rows]) if stage else penalised


def _again_at(view: View, queues: Sequence[Queue], batches: Sequence[Batch]) -> float:
    """When to ask again about what waits beside these batches."""
    running = {row for batch in batches for row in batch.rows}
    # What no batch can answer in time is late at its deadline, and may run then.
    found = [at for row, at in enumerate(view.due_at.tolist()) if row not in running and at > view.now]
    ends_at = [
        view.workers[b.worker].free_at + view.workers[b.worker].latency_s[b.lane][b.variant, len(b.rows)]
        for b in batches
    ]
    for queue in queues:
        left = [row for row in queue.rows if row not in running]
        if not left:
            continue
        latest_at = replace(queue, rows=left).latest_at(view)
        if latest_at > view.now:
            found.append(max(latest_at, view.now + _SOON_S))
        if latest_at <= view.now or len(left) >= queue.need:
            # It waits for a device. One that is left over is asked about by whoever carries this out.
            found += ends_at
    return float(min(found, default=inf))


def _lanes(view: View) -> dict[str, list[int]]:
    """The lanes of each application that something waits in, or that another of its lanes does."""
    here = {view.lanes[lane].application for lane in view.lane.tolist()}
    found: dict[str, list[int]] = {}
    for number, lane in enumerate(view.lanes):
        if lane.application in here:
            found.setdefault(lane.name.partition("/")[0], []).append(number)
    return found


def _holders(plan: GearPlan, variant: str) -> dict[str, float]:
    """Devices that hold a variant in every gear, all alike."""
    weights = {model.weights for model in plan.models if model.name == variant}
    found = [held.device for held in plan.placement if weights & set(held.weights)]
    return {device: 1.0 / len(found) for device in found}
