"""Turns: when the core thinks, what it shows the policy, and how much of the plan it carries out.

`Turns` owns the one timer of the core. A change only marks that a plan is wanted; a turn begins with Woke, lets go of
rows and workers that nothing can be hoped of any more, and then plans, if there is a worker that can take work.
"""

import numpy as np

from peekserve.core.admission import Admission
from peekserve.core.backlog import Backlog, Slots
from peekserve.core.catalogue import Catalogue
from peekserve.core.columns import WAITING
from peekserve.core.ending import Endings
from peekserve.core.escalation import Escalation
from peekserve.core.explaining import Explaining
from peekserve.core.fleet import Committed, Fleet
from peekserve.core.forwarding import Forwarding
from peekserve.core.held import Held
from peekserve.core.ledger import Ledger
from peekserve.core.levels import Levels
from peekserve.core.offer import Offer
from peekserve.core.options import Options
from peekserve.domain.messages import Batch, Plan, Restart, WakeAt
from peekserve.domain.request import RowRef
from peekserve.errors import InvariantBroken
from peekserve.policies.base import Policy

INF = float("inf")


class Turns:
    """`again`: who says which rows with an answer in hand wait on, and which have waited for nothing. `admission`: who
    refuses rows that no plan has a place for; None where they wait until it is certain."""

    def __init__(
        self,
        policy: Policy,
        catalogue: Catalogue,
        options: Options,
        backlog: Backlog,
        fleet: Fleet,
        ledger: Ledger,
        endings: Endings,
        offer: Offer,
        again: Escalation | Forwarding,
        explaining: Explaining,
        admission: Admission | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._options = options
        self._backlog = backlog
        self._fleet = fleet
        self._ledger = ledger
        self._endings = endings
        self._again = again
        self._escalation = again if isinstance(again, Escalation) else None
        self._admission = admission
        self._levels = Levels(policy, backlog, fleet, offer, explaining)
        self._held = Held(backlog, ledger)
        self._batches = 0
        self._plan_at = INF
        self._rebalance_at = INF
        self._woken_for: list[str] = []
        self._wake_at = INF

    # ---- what happens ----

    def changed(self, now: float) -> None:
        """Something changed that a plan should know of."""
        self._plan_at = min(self._plan_at, self._options.planning.next_at(now))

    def uneven(self, now: float) -> None:
        """Workers came or went, or what they can do: what is held of a plan is planned anew."""
        self._rebalance_at = now

    def woke(self, now: float) -> None:
        self._wake_at = INF
        released = self._backlog.release_overdue(now)
        if len(released):
            self.changed(now)
            if self._admission is not None:
                for name in dict.fromkeys(self._backlog.request[slot] for slot in released.tolist()):
                    self._admission.came(self._ledger.open[name])
        self._endings.settle_doomed(now)
        self._endings.settle_due(now)
        for worker in self._fleet.overdue(now):
            self._fleet.suspect(worker)
            self._ledger.out.append(Restart(worker, "its batch is long overdue"))
        if self._options.planning.rebalance_s:
            self._plan_and_hold(now)
            return
        workers = self._fleet.available(now, self._options.planning.lead_s)
        fresh = not self._options.planning.whole and workers != self._woken_for
        if workers and (self._plan_at <= now or fresh):
            self._plan_now(workers, now)
        elif self._undecided:
            self._weigh(now)

    @property
    def _undecided(self) -> bool:
        """Is there somebody who wants to know what a plan over all workers has no place for?"""
        return any(one is not None and one.undecided for one in (self._escalation, self._admission))

    def _weigh(self, now: float) -> None:
        """Rows that no worker can take yet: those that a plan has no place for even on the workers that are busy would
        wait for nothing."""
        asking = [one for one in (self._escalation, self._admission) if one is not None and one.undecided]
        for one in asking:
            one.undecided = False
        slots, workers = self._backlog.waiting(), self._fleet.available(now, INF)
        if not workers or not len(slots):
            return  # one that comes up again in time may still do
        plan, slots = self._levels.plan(slots, workers, now, whole=False, beyond=True)
        for one in asking:
            one.left_out(plan, slots, now)

    def _plan_now(self, workers: list[str], now: float) -> None:
        self._plan_at = INF
        self._woken_for = workers
        slots = self._backlog.waiting()
        if not len(slots):
            return
        planning = self._options.planning
        waiting, levels = slots, self._backlog.level[slots]
        plan, slots = self._levels.plan(slots, workers, now, planning.whole, beyond=planning.whole)
        self._plan_at = min(self._plan_at, plan.again_at)
        started: set[int] = set()
        for batch in plan.batches:
            if planning.whole or batch.worker not in started:
                started.add(batch.worker)
                self._run(batch, slots, workers[batch.worker], now)
        self._woken_for = self._fleet.available(now, planning.lead_s)
        more = (
            started and not planning.whole and self._woken_for
        )  # given so little that it can take more at once
        if self._backlog.any_time_will_do(slots[np.asarray(plan.refuse, dtype=np.int64)]) or more:
            self.changed(now)
        # An idle worker after planning means that the policy has no use for it: waiting would change nothing.
        self._answer_instantly(plan, slots, hold=planning.hold and not self._fleet.idle(), now=now)
        self._again.left_out(plan, slots, now)
        if self._escalation is not None and len(slots) < len(waiting):
            left = self._backlog.in_hand[waiting] & (self._backlog.state[waiting] == WAITING)
            self._escalation.undecided = bool(left.any())  # of lower levels, which no worker was left for
        if self._admission is not None and not planning.whole:
            alone = int(levels.min()) == int(levels.max())
            if alone and len(workers) == len(self._fleet.available(now, INF)):
                self._admission.left_out(plan, slots, now)
            elif self._admission.undecided:
                # This plan was for the workers that are free, or gave them to a higher priority: another one may have a
                # place for whom it left out.
                self._weigh(now)

    def _plan_and_hold(self, now: float) -> None:
        """Plan the window that ended, or again what is held of the last plan; give away what is due."""
        planning = self._options.planning
        workers = self._fleet.available(now, INF)
        if workers and min(self._plan_at, self._rebalance_at) <= now:
            slots = self._backlog.waiting() if self._plan_at <= now else self._held.slots()
            self._plan_at = INF if self._plan_at <= now else self._plan_at
            if len(slots):
                plan, slots = self._levels.plan(slots, workers, now, whole=True, beyond=True)
                self._plan_at = min(self._plan_at, plan.again_at)
                self._held.hold(plan, slots, workers)
                if self._backlog.any_time_will_do(slots[np.asarray(plan.refuse, dtype=np.int64)]):
                    self.changed(now)
                self._answer_instantly(plan, slots, hold=planning.hold and not self._fleet.idle(), now=now)
            self._rebalance_at = now + planning.rebalance_s
        for worker in self._fleet.available(now, planning.lead_s):
            due = self._held.next_for(worker)
            if due is not None:
                self._run(due[0], due[1], worker, now)

    def _run(self, batch: Batch, slots: Slots, worker: str, now: float) -> None:
        taken = slots[np.asarray(batch.rows, dtype=np.int64)]
        self._backlog.take(taken)
        backlog = self._backlog
        lane = self._catalogue.lanes[batch.lane]
        if not (backlog.lane[taken] == batch.lane).all():
            raise InvariantBroken(f"a batch of lane {lane.name!r} holds rows of another")
        quality = self._catalogue.applications[lane.application].variants[batch.variant].quality
        expected = backlog.accuracy[taken, batch.variant].tolist() if quality else [None] * len(taken)
        self._batches += 1
        refs = tuple(RowRef(backlog.request[s], backlog.row[s]) for s in taken.tolist())
        slots_taken, believed = tuple(taken.tolist()), tuple(expected)
        committed = Committed(
            self._batches, worker, batch.lane, batch.variant, slots_taken, refs, believed, stop=batch.stop
        )
        closed = "idle" if batch.closed == "policy" and not backlog.waits else batch.closed
        self._ledger.out += self._fleet.commit(worker, committed, closed, now)
        for ref in refs:
            entry = self._ledger.open[ref.request_id]
            self._ledger.begin(entry)
            entry.predicted_at = max(entry.predicted_at or 0.0, committed.predicted_at)

    def _answer_instantly(self, plan: Plan, slots: Slots, hold: bool, now: float) -> None:
        self._backlog.granted[slots] = False
        for i in plan.instant:
            slot = int(slots[i])
            if self._backlog.state[slot] != WAITING:
                raise InvariantBroken("a plan answers a row at once that it also runs, or answers it twice")
            if self._backlog.in_hand[slot]:
                continue  # what a model has said is not held back: see Escalation.left_out
            self._backlog.granted[slot] = True
            if not hold or self._backlog.doom_at[slot] == INF:
                self._ledger.answer_by_peek(slot, now)

    # ---- the one timer ----

    def must_act_at(self) -> float:
        """When something must be done about a row or a worker, whatever is planned."""
        backlog = self._backlog
        rows_at = min(backlog.next_doom_at(), backlog.next_ready_at(), backlog.next_running_due_at())
        return min(rows_at, self._fleet.next_overdue_at())

    def set_timer(self, now: float) -> None:
        backlog, fleet, lead = self._backlog, self._fleet, self._options.planning.lead_s
        at = self.must_act_at()
        if not backlog.waits:
            self._plan_at = INF  # whatever comes to wait says so itself
        else:
            free = fleet.available(now, lead)
            if self._options.planning.rebalance_s:
                if any(self._held.has(worker) for worker in free):
                    at = now
                if fleet.available(now, INF):
                    at = min(at, self._plan_at, self._rebalance_at if self._held else INF)
            elif free:
                # Who became free since the last plan, and whose alarm for that is late or was for another instant.
                fresh = not self._options.planning.whole and any(one not in self._woken_for for one in free)
                at = now if fresh else min(at, self._plan_at)
            elif self._undecided and fleet.available(now, INF):
                at = now
            at = min(at, fleet.next_available_at(now, lead))
        at = max(at, now)
        if at < INF and at != self._wake_at:
            self._wake_at = at
            self._ledger.out.append(WakeAt(at))

    def check(self, handled_at: float) -> None:
        """Raises InvariantBroken when the alarm comes too late for what is due."""
        soonest_at = max(self.must_act_at(), handled_at)
        if self._wake_at > soonest_at:
            raise InvariantBroken(
                f"the alarm is set for {self._wake_at}, and something is due at {soonest_at}"
            )
