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

from peekserve.awareness.drift import Drift, Memory
from peekserve.core.admission import Admission
from peekserve.core.arrivals import Arrivals
from peekserve.core.backlog import Backlog
from peekserve.core.beliefs import Belief, make
from peekserve.core.catalogue import Catalogue
from peekserve.core.columns import RUNNING
from peekserve.core.editions import Editions
from peekserve.core.ending import Endings
from peekserve.core.escalation import Escalation
from peekserve.core.explaining import Explaining
from peekserve.core.feedback import Feedback
from peekserve.core.fleet import Fleet
from peekserve.core.forwarding import Forwarding
from peekserve.core.ledger import Ledger
from peekserve.core.offer import Offer
from peekserve.core.options import Options
from peekserve.core.returns import Returns
from peekserve.core.turns import Turns
from peekserve.domain.messages import (
    Arrived,
    BatchDone,
    BatchFailed,
    Cancelled,
    Command,
    Confirmed,
    Event,
    Loaded,
    LoadFailed,
    Offered,
    Peeked,
    Recalled,
    Registered,
    Unloaded,
    Woke,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.request import Outcome, Reason
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
        self._catalogue = catalogue
        self._options = options or Options()
        beliefs = list(beliefs or make(self._options.beliefs, catalogue))
        self._backlog = Backlog(catalogue, beliefs)
        self._fleet = Fleet(catalogue, self._options.hang_s, self._options.follow_pace)
        drifting = Memory(self._options.half_life)
        self.feedback = Feedback(catalogue, beliefs, self._options.remember_rows, drifting)
        self._ledger = Ledger(catalogue, self._backlog, self.feedback)
        self._admission = (
            Admission(self._backlog, self._fleet, self._ledger, self._options.margin_s)
            if self._options.admit
            else None
        )
        unseen = self._admission.unseen if self._admission is not None else ()
        self._endings = Endings(self._backlog, self._ledger, self._options.margin_s, unseen)
        self._offer = Offer(catalogue, self._fleet)
        self._escalation = self._made_escalation()
        self._forwarding = Forwarding(catalogue, self._backlog, self._fleet, self._ledger, self._offer)
        self._returns = Returns(
            catalogue, self._backlog, self._fleet, self._ledger, self._endings, self._options.attempts,
            self._forwarding, self._escalation,
        )  # fmt: skip
        self._arrivals = Arrivals(catalogue, self._backlog, self._ledger, self._offer, self._options)
        self._editions = Editions(
            catalogue, self._backlog, self._fleet, self._offer, self.feedback, beliefs, self._options.beliefs,
            self._escalation,
        )  # fmt: skip
        self._explaining = Explaining(self._backlog, policy)
        self._turns = Turns(
            policy, catalogue, self._options, self._backlog, self._fleet, self._ledger, self._endings, self._offer,
            self._escalation or self._forwarding, self._explaining, self._admission,
        )  # fmt: skip
        self._handled_at = 0.0
        self._out: list[Command] = []

    def belief(self, application: str) -> Belief:
        """How its rows are believed now; whoever asks must not make it learn. Raises UnknownApplication."""
        return self._backlog.belief(self._catalogue.application(application))

    def paces(self) -> dict[tuple[str, str, str], float]:
        """How far off their profiles batches are, by worker, application's key and variant (core/paces.py)."""
        return self._fleet.paces.told(self._catalogue)

    def drift(self, application: str) -> Drift:
        """How its stream stands against what is believed of it. Raises UnknownApplication."""
        return self.feedback.drift(self._catalogue.application(application))

    @property
    def draining(self) -> bool:
        """Do rows still use variants that new requests may not?"""
        return self._editions.draining

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event at the instant `now` (seconds, never less than before); the commands that follow
        from it.

        Events about requests and batches that are settled already are ignored: they lost a race. Raises
        UnknownApplication, UnknownVariant or InvalidRequest for a request that the doors should not have let
        in, and InvariantBroken for a bug.
        """
        # One list: outcomes stand among the other commands in the order in which they were decided.
        self._out = self._ledger.out = []
        self._fleet.paces.doubt(now)
        match event:
            case Woke():
                self._turns.woke(now)
            case Arrived(request):
                if self._arrivals.take(request, now):
                    self._changed(now)
                    self._came(request.id)
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
                self._offer.workers_changed()
                self._turns.uneven(now)  # what was meant for others may be better off here
                # With work waiting, what is loaded first is for the policy to say.
                if self._options.preload and not self._ledger.open:
                    placed = self._options.placement.get(worker)
                    self._out += self._fleet.preload(worker, now, self._offer.offered, placed)
                self._changed(now)
            case WorkerDown(worker, error):
                self._returns.lost(worker, self._offer.able, error, now)
                self._changed(now)
                self._turns.uneven(now)
            case LoadFailed(worker, weights, error):
                self._load_failed(worker, weights, error, now)
            case Loaded(worker, weights):
                self._fleet.loaded(worker, weights, now)
            case Unloaded():
                pass  # it was counted as gone when it was asked for
            case Confirmed(request_id, labels):
                under_way = request_id in self._ledger.open
                self._out.append(self.feedback.confirm(request_id, labels, under_way))
            case Recalled(lessons):
                self.feedback.recall(lessons)
            case Registered(joining):
                self._editions.register(joining)
            case Offered(key, variants):
                self._out += self._editions.offer(key, variants, now, warm=not self._ledger.open)
                self._changed(now)
            case _:
                assert_never(event)
        self._out += self._editions.close()
        self._turns.set_timer(now)
        self._handled_at = now
        return self._explaining.told(self._out, now)

    @property
    def open_requests(self) -> int:
        return len(self._ledger.open)

    @property
    def must_act_at(self) -> float:
        """When something must be done about a row or a worker, whatever is planned; infinite if never."""
        return self._turns.must_act_at()

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
        self._editions.check()
        self._turns.check(self._handled_at)
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
        self._came(request_id)

    def _came(self, request_id: str) -> None:
        entry = self._ledger.open.get(request_id)
        if self._admission is not None and entry is not None:
            self._admission.came(entry)

    def _load_failed(self, worker: str, weights: str, error: str, now: float) -> None:
        self._fleet.load_failed(worker, weights, now)
        self._offer.workers_changed()
        self._turns.uneven(now)
        self._changed(now)
        self._endings.settle_stranded(self._offer.able, error, now)

    def _changed(self, now: float) -> None:
        self._turns.changed(now)
