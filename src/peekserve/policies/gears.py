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
- With `guard` a row goes on only if that can be in time, and the answer that it has is given otherwise; rows that a
  batch could not improve in time do not go into it. Without it rows are late, as in the paper.
- `margin` above 1 plans for more than the measured rate, for short periods.

The switches change nothing: thresholds were chosen for the models alone, and the scheduler gives up what is doomed.

Keeps counts and gears between plans: one policy object for one scheduler. Time that runs backwards makes it begin anew.

Options: `period_s` (0.1), `margin` (1), `alpha` (8), `guard` (1; 0 for off).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from peekserve.domain.gears import Gear, GearPlan, Stop
from peekserve.domain.messages import Batch, Plan
from peekserve.errors import InvalidConfiguration
from peekserve.policies.base import Floats, LaneView, Switches, View, WorkerView
from peekserve.policies.gearbox import Gearbox
from peekserve.policies.options import checked

# An alarm is later than now.
_SOON_S = 1e-6


@dataclass(frozen=True, slots=True)
class Queue:
    """Rows of a lane that wait for one variant, in order of arrival. `stage`: its number in the gear, -1 if the gear
    does not have it. `ahead`: the stages that follow. `need`: how many rows it waits for. `hosts`: devices and their
    shares."""

    lane: int
    variant: int
    stage: int
    rows: Sequence[int]
    ahead: tuple[int, ...]
    need: int
    hosts: Mapping[str, float]
    stop: Stop | None

    def latest_at(self, view: View) -> float:
        """When its first row must start, to pass this stage and those ahead in time on some device that is free."""
        many = min(len(self.rows), int(view.lanes[self.lane].max_batch[self.variant]))
        tables = [worker.latency_s[self.lane] for worker in view.workers]
        needs = min(float(t[self.variant, many] + sum(t[v, 1] for v in self.ahead)) for t in tables)
        return float(view.due_at[list(self.rows)].min()) - needs


class Gears:
    """A gear for the load of this moment; each stage a queue; what is certain leaves."""

    OPTIONS: ClassVar[Mapping[str, float]] = {"period_s": 0.1, "margin": 1.0, "alpha": 8.0, "guard": 1.0}

    def __init__(
        self, switches: Switches, plans: Mapping[str, GearPlan] | None = None, **options: float
    ) -> None:
        """`plans`: by application. Raises InvalidConfiguration where there is none."""
        if not plans:
            raise InvalidConfiguration("the policy 'gears' runs a gear plan: make one with peekserve plan")
        self.switches = switches
        self.options = checked(self.OPTIONS, options, {"period_s": 1e-4, "margin": 1e-3})
        self._plans = plans
        self._reset()

    def _reset(self) -> None:
        self.boxes = {name: Gearbox(plan) for name, plan in sorted(self._plans.items())}
        self._now = -inf

    def plan(self, view: View) -> Plan:
        if view.now < self._now:
            self._reset()
        self._now = view.now
        if not view.size or not view.workers:
            return Plan()
        batches: list[Batch] = []
        again_at, free = inf, list(range(len(view.workers)))
        queues = [queue for name, lanes in _lanes(view).items() for queue in self._queues(view, name, lanes)]
        # The most urgent first; of equals the later stage, whose rows have come further.
        queues.sort(key=lambda q: (float(view.due_at[list(q.rows)].min()), -q.stage, q.lane, q.variant))
        for queue in queues:
            latest_at = queue.latest_at(view)
            urgent = latest_at <= view.now
            if len(queue.rows) >= queue.need or urgent:
                made = self._run(view, queue, free, urgent)
                batches += made
                # What no batch can answer in time here is late at its deadline, and may run then.
                dues = (
                    [at for at in view.due_at[list(queue.rows)].tolist() if at > view.now] if not made else []
                )
                again_at = min(again_at, *dues, inf)
            else:
                again_at = min(again_at, max(latest_at, view.now + _SOON_S))
        return Plan(tuple(batches), again_at=again_at)

    def _queues(self, view: View, name: str, lanes: Sequence[int]) -> list[Queue]:
        """The queues of one application, its gear brought up to date."""
        box = self.boxes.get(name)
        if box is None:
            known = ", ".join(self.boxes)
            raise InvalidConfiguration(f"the policy 'gears' has no plan for {name!r}, only for {known}")
        own = np.isin(view.lane, lanes)
        box.see(view.arrived_at[own].tolist())
        first = view.lanes[lanes[0]].variants.index(box.gear.stages[0])
        queued, o = int(view.allowed[own, first].sum()), self.options
        box.shift(view.now, queued, o["period_s"], o["margin"], o["alpha"])
        return [queue for lane in lanes for queue in self._by_variant(view, box, lane)]

    def _by_variant(self, view: View, box: Gearbox, number: int) -> list[Queue]:
        lane, gear = view.lanes[number], box.gear
        stages = [lane.variants.index(stage) for stage in gear.stages]
        rest = [v for v in range(len(lane.variants)) if v not in stages]
        rows = np.flatnonzero(view.lane == number)
        order = np.array(stages + rest)
        may = view.allowed[rows][:, order]
        # A row that went on may run nothing but what it was sent to, and one that is pinned nothing but that.
        asks = np.where(may.any(axis=1), order[may.argmax(axis=1)], -1)
        queues = []
        for variant in sorted(set(asks.tolist()) - {-1}):
            waiting = rows[asks == variant].tolist()
            stage = stages.index(variant) if variant in stages else -1
            if stage < 0:
                hosts = _holders(box.plan, lane.variants[variant])
                queues.append(Queue(number, variant, stage, waiting, (), 1, hosts, None))
                continue
            hosts = {share.device: share.share for share in gear.shares[stage]}
            stop = self._stop(box.plan, gear, lane, stage)
            ahead, need = tuple(stages[stage + 1 :]), gear.queues[stage]
            queues.append(Queue(number, variant, stage, waiting, ahead, need, hosts, stop))
        return queues

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

        def may(worker: WorkerView) -> bool:
            known = worker.name in planned
            rescues = urgent and weights in worker.resident
            able = np.isfinite(worker.latency_s[queue.lane][queue.variant, 1])
            # What no device holds was asked for by name.
            return bool(able) and (worker.name in queue.hosts or rescues or not known or not queue.hosts)

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
            if not rows:
                continue
            full = len(rows) == int(lane.max_batch[queue.variant])
            batches.append(
                Batch(i, queue.lane, queue.variant, tuple(rows), "full" if full else "policy", queue.stop)
            )
            left = [row for row in left if row not in set(rows)]
            free.remove(i)
            key = (name, worker.name)
            box.taken[key] = box.taken.get(key, 0) + len(rows)
        return batches

    def _worth_running(
        self, view: View, queue: Queue, worker: WorkerView, rows: Sequence[int]
    ) -> Sequence[int]:
        """With the guard, of rows that have an answer those that a batch would still answer in time: the largest batch
        that there is; it is never worth running for rows that would be late. A row that not even a batch of its own on
        a worker at rest could answer in time has no answer that counts: one in hand would have been given by now."""
        if self.options["guard"] == 0.0 or not queue.stage or np.isnan(view.instant[list(rows)]).any():
            return rows
        latency_s: Floats = worker.latency_s[queue.lane][queue.variant]
        soonest_at = view.now + min(float(w.latency_s[queue.lane][queue.variant, 1]) for w in view.workers)
        kept = list(rows)
        while kept:
            end_at = worker.free_at + float(latency_s[len(kept)])
            fits = [row for row in kept if view.due_at[row] >= end_at or view.due_at[row] < soonest_at]
            if len(fits) == len(kept):
                break
            # Without the most urgent row the batch is shorter, and may do for the others.
            kept.remove(min(set(kept) - set(fits), key=lambda row: (view.due_at[row], row)))
        return kept


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
