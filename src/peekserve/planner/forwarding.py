"""The stop rule of a gear on a committed batch: rows that are not certain enough wait for the next stage.

A row that goes on keeps the answer that it has in hand, and may run nothing but the next stage. With the guard it goes
on only if the next stage could answer it in time on the worker that is free first, and its answer in hand is given at
the last instant at which that stage could still be started. Without, it has no answer until the last stage has spoken,
however late that is.

This has the form of core.escalation.Escalation, whose place it takes in the scheduler: the same question ("answered, or
asked again?") under another rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
import numpy.typing as npt

from peekserve.cascades.certainty import certainty
from peekserve.core.backlog import Backlog, Slots
from peekserve.core.catalogue import Catalogue
from peekserve.core.columns import WAITING
from peekserve.core.fleet import Committed, Fleet
from peekserve.core.ledger import Ledger
from peekserve.core.offer import Offer
from peekserve.core.scheduler import Scheduler
from peekserve.domain.gears import Stop
from peekserve.domain.messages import Batch, BatchDone, Plan
from peekserve.domain.request import RowAnswer, Source


@dataclass(slots=True)
class Forwarding:
    """`stops`: of the batches under way, by their id."""

    catalogue: Catalogue
    backlog: Backlog
    fleet: Fleet
    ledger: Ledger
    offer: Offer
    stops: dict[int, Stop] = field(default_factory=dict)
    undecided: bool = False

    def done(self, batch: Committed, event: BatchDone, places: Sequence[int], now: float) -> Sequence[int]:
        """Keep the rows at these places that go on; those to be answered come back."""
        stop = self.stops.pop(batch.id, None)
        going: set[int] = set()
        if stop is not None:
            sure = certainty(stop.certainty)(event.scores)
            soonest_at = self.fleet.soonest_at(now) + float(self.offer.fastest_s(batch.lane)[stop.onto])
            for i in places:
                if sure[i] < stop.threshold and self._may_go_on(batch, i, stop, soonest_at):
                    self._keep(batch, event, i, stop)
                    going.add(i)
        answered = [i for i in places if i not in going]
        for i in answered:  # what an earlier stage said of it is not its answer any more
            self.ledger.open[batch.refs[i].request_id].in_hand.pop(batch.refs[i].row, None)
        return answered

    def _may_go_on(self, batch: Committed, i: int, stop: Stop, soonest_at: float) -> bool:
        slot = batch.slots[i]
        if not (self.backlog.allowed[slot, stop.onto] and self.offer.enabled[batch.lane, stop.onto]):
            return False
        return not stop.guard or bool(soonest_at <= self.backlog.due_at[slot])

    def _keep(self, batch: Committed, event: BatchDone, i: int, stop: Stop) -> None:
        backlog, slot, ref = self.backlog, batch.slots[i], batch.refs[i]
        label, scores = int(event.scores[i].argmax()), tuple(event.scores[i].tolist())
        name = self.catalogue.lanes[batch.lane].variants[batch.variant]
        if not backlog.in_hand[slot]:
            backlog.first[slot] = batch.variant
        backlog.said[slot, batch.variant] = label
        answer = RowAnswer(
            label,
            scores,
            Source.MODEL,
            name,
            batch.expected[i],
            batch.id,
            event.started_at,
            event.finished_at,
        )
        self.ledger.open[ref.request_id].in_hand[ref.row] = answer
        gains: npt.NDArray[np.bool_] = np.zeros(backlog.allowed.shape[1], np.bool_)
        gains[stop.onto] = True
        accuracy = backlog.accuracy[slot].copy()
        quickest_s = float(self.offer.fastest_s(batch.lane)[stop.onto])
        worth = float(accuracy[batch.variant])
        backlog.keep(slot, accuracy, gains, worth, -1, quickest_s)
        if not stop.guard:
            backlog.doom(slot, inf)

    def left_out(self, plan: Plan, slots: Slots, now: float) -> None:
        """Rows that go on may wait for their queue to grow; only those that the plan lets go are answered."""
        self.undecided = False
        for row in plan.instant:
            slot = int(slots[row])
            if self.backlog.in_hand[slot] and self.backlog.state[slot] == WAITING:
                self.ledger.answer_in_hand(slot, now)

    def check(self) -> None:
        """Nothing of its own that is not a column's or the ledger's."""


class CascadingScheduler(Scheduler):
    """A scheduler whose batches have stop rules. What it overrides is how the rule would come to the batch, were it a
    field of domain.messages.Batch and of core.fleet.Committed."""

    def _made_escalation(self) -> Forwarding:  # type: ignore[override]
        self._forwarding = Forwarding(self._catalogue, self._backlog, self._fleet, self._ledger, self._offer)
        return self._forwarding

    def _run(self, batch: Batch, slots: Slots, worker: str, now: float) -> None:
        super()._run(batch, slots, worker, now)
        stop = getattr(batch, "stop", None)
        if stop is not None:
            self._forwarding.stops[self._batches] = stop
