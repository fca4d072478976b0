"""The scheduler as a state machine: what happened goes in, what to do comes out.

Theory. A request holds rows; each row has a belief, a variant and a batch of its own, and the request has one
deadline and one outcome. A row is PENDING (its peek is still expected), WAITING (may be planned), RUNNING (in
a batch) or settled. These are all the ways through:

    Arrived ──> PENDING ──Peeked / patience over──> WAITING ──plan──> RUNNING ──BatchDone──> settled
                   │                                  │  ^               │
                   └────────── doomed ────────────────┤  └── worker lost, or an answer in hand that could gain,
                   │                                  │                  or is not certain enough (core/forwarding.py)
                                                      └──> the peek's answer, or none (on_miss)

`handle` only notes what an event changed; planning itself happens on Woke. A change asks for Woke at once (or
at the window's end), and a driver delivers it after the other events of the same instant, so that ten
arrivals in one turn of the event loop are planned once. One timer serves everything: the next plan, the next
row that nothing can save any more, the next peek that is too late to wait for, the next worker that should be
almost free, and the next batch that is so long overdue that its worker must hang.

A row is *doomed* from `doom_at` on: the last instant at which even the quickest allowed variant, started at
once on an idle worker, could still be in time. What happens then is the application's `on_miss`; with `late`
it never happens. A request whose rows still run when it is due is settled at its deadline all the same
(`late` excepted), and what its batch brings later is thrown away: the client is told in time, one way or the
other.
"""

from collections.abc import Sequence
from typing import assert_never

import numpy as np

from peekserve.awareness.drift import Memory
from peekserve.core.arrivals import Arrivals
from peekserve.core.backlog import Backlog, Slots
from peekserve.core.beliefs import Belief, make
from peekserve.core.catalogue import Catalogue
from peekserve.core.columns import RUNNING, WAITING
from peekserve.core.ending import Endings
from peekserve.core.escalation import Escalation
from peekserve.core.explaining import Explaining
from peekserve.core.feedback import Feedback
from peekserve.core.fleet import Committed, Fleet
from peekserve.core.forwarding import Forwarding
from peekserve.core.held import Held
from peekserve.core.ledger import Ledger
from peekserve.core.offer import Offer
from peekserve.core.options import Options
from peekserve.core.returns import Returns
from peekserve.domain.messages import (
    Arrived,
    Batch,
    BatchDone,
    BatchFailed,
    Cancelled,
    Command,
    Confirmed,
    Event,
    Loaded,
    LoadFailed,
    Peeked,
    Plan,
    Recalled,
    Restart,
    WakeAt,
    Woke,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.request import Outcome, Reason, RowRef
from peekserve.errors import InvariantBroken
from peekserve.policies.base import Floats, Policy

INF = float("inf")


class Scheduler:
    """Decides everything: which variant, which order, which batch, what to refuse. No IO, no clock, no
    tensors."""

    def __init__(
        self,
        policy: Policy,
        catalogue: Catalogue,
        options: Options | None = None,
        beliefs: Sequence[Belief] | None = None,
    ) -> None:
        """`beliefs`: one for each application, in place of what the options name."""
        self._policy = policy
        self._catalogue = catalogue
        self._options = options or Options()
        beliefs = beliefs or make(self._options.beliefs, catalogue)
        self._backlog = Backlog(catalogue, beliefs)
        self._fleet = Fleet(catalogue, self._options.hang_s)
        drifting = Memory(self._options.half_life)
        self.feedback = Feedback(catalogue, beliefs, self._options.remember_rows, drifting)
        self._ledger = Ledger(catalogue, self._backlog, self.feedback)
        self._held = Held(self._backlog, self._ledger)
        self._rebalance_at = INF
        self._endings = Endings(self._backlog, self._ledger, self._options.margin_s)
        self._offer = Offer(catalogue, self._fleet)
        self._escalation = self._made_escalation()
        self._forwarding = Forwarding(catalogue, self._backlog, self._fleet, self._ledger, self._offer)
        self._returns = Returns(
            catalogue, self._backlog, self._fleet, self._ledger, self._endings, self._options.attempts,
            self._forwarding, self._escalation,
        )  # fmt: skip
        self._arrivals = Arrivals(catalogue, self._backlog, self._ledger, self._offer, self._options)
        self._explaining = Explaining(self._backlog, policy)
        self._batches = 0
        self._plan_at = INF
        self._woken_for: list[str] = []
        self._wake_at = INF
        self._handled_at = 0.0
        self._out: list[Command] = []

    def belief(self, application: str) -> Belief:
        """How its rows are believed now; whoever asks must not make it learn. Raises UnknownApplication."""
        return self._backlog.belief(self._catalogue.application(application))

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event at the instant `now` (seconds, never less than before); the commands that follow
        from it.

        Events about requests and batches that are settled already are ignored: they lost a race. Raises
        UnknownApplication, UnknownVariant or InvalidRequest for a request that the doors should not have let
        in, and InvariantBroken for a bug.
        """
        # One list: outcomes stand among the other commands in the order in which they were decided.
        self._out = self._ledger.out = []
        match event:
            case Woke():
                self._wake_at = INF
                self._woke(now)
            case Arrived(request):
                if self._arrivals.take(request, now):
                    self._changed(now)
                self._explaining.heard(request)
            case Peeked(request_id, counts):
                self._peeked(request_id, counts, now)
            case BatchDone():
                if self._returns.done(event, self._offer.able, now):
                    self._changed(now)
            case BatchFailed():
                if self._returns.failed(event, self._offer.able, now):
                    self._changed(now)
            case Cancelled(request_id):
                if request_id in self._ledger.open:
                    self._ledger.close(
                        self._ledger.open[request_id],
                        Outcome.CANCELLED,
                        Reason.CANCELLED,
                        "the client went away",
                    )
            case WorkerUp(worker, device, budget):
                self._fleet.up(worker, device, budget, now)
                self._offer.worker_came()
                self._rebalance_at = now  # what was meant for others may be better off here
                # With work waiting, what is loaded first is for the policy to say.
                if self._options.preload and not self._ledger.open:
                    self._out += self._fleet.preload(worker, now, self._options.placement.get(worker))
                self._changed(now)
            case WorkerDown(worker, error):
                self._returns.lost(worker, self._offer.able, error, now)
                self._changed(now)
                self._rebalance_at = now
            case LoadFailed(worker, weights, error):
                self._load_failed(worker, weights, error, now)
            case Loaded(worker, weights):
                self._fleet.loaded(worker, weights, now)
            case Confirmed(request_id, labels):
                under_way = request_id in self._ledger.open
                self._out.append(self.feedback.confirm(request_id, labels, under_way))
            case Recalled(lessons):
                self.feedback.recall(lessons)
            case _:
                assert_never(event)
        self._set_timer(now)
        self._handled_at = now
        return self._explaining.told(self._out, now)

    @property
    def open_requests(self) -> int:
        return len(self._ledger.open)

    @property
    def open_rows(self) -> int:
        return self._backlog.rows

    def check(self) -> None:
        """Every invariant. Raises InvariantBroken. For tests and simulations: it looks at everything."""
        self._backlog.check()
        self._fleet.check()
        (self._escalation or self._forwarding).check()
        self.feedback.check()
        self._ledger.check()
        soonest_at = max(self._must_act_at(), self._handled_at)
        if self._wake_at > soonest_at:
            raise InvariantBroken(
                f"the alarm is set for {self._wake_at}, and something is due at {soonest_at}"
            )
        running = {
            s
            for b in self._fleet.batches()
            for s, ref in zip(b.slots, b.refs, strict=True)
            if self._ledger.owns(s, ref)
        }
        claimed = set(np.flatnonzero(self._backlog.state == RUNNING).tolist())
        if running != claimed:
            raise InvariantBroken(
                f"rows {sorted(claimed ^ running)} run in no batch, or in one that is not theirs"
            )

    def _made_escalation(self) -> Escalation | None:
        # A whole plan is carried out before the next is made: there is no turn in which to think again.
        if not self._options.escalate or self._options.planning.whole:
            return None
        return Escalation(
            self._catalogue,
            self._backlog,
            self._fleet,
            self._ledger,
            self._offer,
            self._options.escalate_gain,
            self._options.escalate_anyway,
        )

    # ---- events ----

    def _peeked(self, request_id: str, counts: Floats | None, now: float) -> None:
        entry = self._ledger.open.get(request_id)
        if entry is None:
            return
        # What a model has answered is believed by more than the peek already, which lost the race.
        open_rows = [row for row, answer in enumerate(entry.answers) if answer is None]
        kept = [(row, entry.slots[row]) for row in open_rows if row not in entry.in_hand]
        slots = [s for _, s in kept]
        if counts is not None:
            self._ledger.looked(entry, counts)
        if counts is not None and slots:
            self._backlog.observe(slots, counts[[row for row, _ in kept]])
        self._backlog.release(slots)
        self._changed(now)

    def _load_failed(self, worker: str, weights: str, error: str, now: float) -> None:
        self._fleet.load_failed(worker, weights)
        self._offer.disable(weights)
        self._rebalance_at = now
        self._changed(now)
        self._endings.settle_stranded(self._offer.able, error, now)

    # ---- waking ----

    def _woke(self, now: float) -> None:
        if self._backlog.release_overdue(now):
            self._changed(now)
        self._endings.settle_doomed(now)
        self._endings.settle_due(now)
        for worker in self._fleet.overdue(now):
            self._fleet.suspect(worker)
            self._out.append(Restart(worker, "its batch is long overdue"))
        if self._options.planning.rebalance_s:
            self._plan_and_hold(now)
            return
        workers = self._fleet.available(now, self._options.planning.lead_s)
        fresh = not self._options.planning.whole and workers != self._woken_for
        if workers and (self._plan_at <= now or fresh):
            self._plan_now(workers, now)
        elif self._escalation is not None and self._escalation.undecided:
            self._weigh(self._escalation, now)

    def _weigh(self, escalation: Escalation, now: float) -> None:
        """Rows with an answer in hand, and no worker can take them yet: those that a plan has no place for even on the
        workers that are busy would wait for nothing."""
        escalation.undecided = False
        slots, workers = self._backlog.waiting(), self._fleet.available(now, INF)
        if not workers:
            return  # one that comes up again in time may still do
        view = self._backlog.view(slots, now, self._fleet.view(workers, now), self._offer.enabled)
        plan = self._policy.plan(view)
        self._explaining.decided(view, plan, slots, whole=False)
        escalation.left_out(plan, slots, now)

    def _plan_now(self, workers: list[str], now: float) -> None:
        self._plan_at = INF
        self._woken_for = workers
        slots = self._backlog.waiting()
        if not len(slots):
            return
        view = self._backlog.view(slots, now, self._fleet.view(workers, now), self._offer.enabled)
        plan = self._policy.plan(view)
        self._plan_at = min(self._plan_at, plan.again_at)
        planning = self._options.planning
        self._explaining.decided(view, plan, slots, planning.whole)
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
            self._changed(now)
        # An idle worker after planning means that the policy has no use for it: waiting would change nothing.
        self._answer_instantly(plan, slots, hold=planning.hold and not self._fleet.idle(), now=now)
        (self._escalation or self._forwarding).left_out(plan, slots, now)

    def _plan_and_hold(self, now: float) -> None:
        """Plan the window that ended, or again what is held of the last plan; give away what is due."""
        planning = self._options.planning
        workers = self._fleet.available(now, INF)
        if workers and min(self._plan_at, self._rebalance_at) <= now:
            slots = self._backlog.waiting() if self._plan_at <= now else self._held.slots()
            self._plan_at = INF if self._plan_at <= now else self._plan_at
            if len(slots):
                view = self._backlog.view(slots, now, self._fleet.view(workers, now), self._offer.enabled)
                plan = self._policy.plan(view)
                self._plan_at = min(self._plan_at, plan.again_at)
                self._explaining.decided(view, plan, slots, whole=True)
                self._held.hold(plan, slots, workers)
                if self._backlog.any_time_will_do(slots[np.asarray(plan.refuse, dtype=np.int64)]):
                    self._changed(now)
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
        self._out += self._fleet.commit(worker, committed, closed, now)
        for ref in refs:
            entry = self._ledger.open[ref.request_id]
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

    def _changed(self, now: float) -> None:
        self._plan_at = min(self._plan_at, self._options.planning.next_at(now))

    def _must_act_at(self) -> float:
        """When something must be done about a row or a worker, whatever is planned."""
        backlog = self._backlog
        rows_at = min(backlog.next_doom_at(), backlog.next_ready_at(), backlog.next_running_due_at())
        return min(rows_at, self._fleet.next_overdue_at())

    def _set_timer(self, now: float) -> None:
        backlog, fleet, lead = self._backlog, self._fleet, self._options.planning.lead_s
        at = self._must_act_at()
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
            elif self._escalation is not None and self._escalation.undecided and fleet.available(now, INF):
                at = now
            at = min(at, fleet.next_available_at(now, lead))
        at = max(at, now)
        if at < INF and at != self._wake_at:
            self._wake_at = at
            self._out.append(WakeAt(at))
