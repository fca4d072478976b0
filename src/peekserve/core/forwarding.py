"""The stop rule of a gear on a committed batch: rows that are not certain enough wait for the next stage.

A row that goes on keeps the answer that it has in hand, and may run nothing but the next stage. With the guard it goes
on only if the next stage could answer it in time on the worker that is free first, and its answer in hand is given at
the last instant at which that stage could still be started. Without, it has no answer until the last stage has spoken,
however late that is.

The question is that of core.escalation.Escalation, answered or asked again, under another rule: the plan gives it with
each batch (domain.gears.Stop). A batch without one ends as any other does, and a scheduler that escalates never has one
with. The rule is no part of what a journal holds: a replay makes the same plans, and they say it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from peekserve.cascades.certainty import certainty
from peekserve.core.backlog import Backlog, Slots
from peekserve.core.catalogue import Catalogue
from peekserve.core.columns import RUNNING, WAITING
from peekserve.core.fleet import Committed, Fleet
from peekserve.core.ledger import Ledger
from peekserve.core.offer import Offer
from peekserve.domain.gears import Stop
from peekserve.domain.messages import BatchDone, Plan
from peekserve.domain.request import RowAnswer, Source
from peekserve.errors import InvariantBroken


@dataclass(slots=True)
class Forwarding:
    """Stateless: what it knows lies in the backlog and the ledger."""

    catalogue: Catalogue
    backlog: Backlog
    fleet: Fleet
    ledger: Ledger
    offer: Offer

    def done(
        self, batch: Committed, stop: Stop, event: BatchDone, places: Sequence[int], now: float
    ) -> Sequence[int]:
        """Keep the rows at these places that go on; those to be answered come back."""
        sure = certainty(stop.certainty)(event.scores)
        soonest_at = self.fleet.soonest_at(now) + float(self.offer.fastest_s(batch.lane)[stop.onto])
        answered = []
        for i in places:
            if sure[i] < stop.threshold and self._may_go_on(batch, i, stop, soonest_at):
                self._keep(batch, event, i, stop)
            else:
                answered.append(i)
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
        for row in plan.instant:
            slot = int(slots[row])
            if self.backlog.in_hand[slot] and self.backlog.state[slot] == WAITING:
                self.ledger.answer_in_hand(slot, now)

    def check(self) -> None:
        """Raises InvariantBroken when the ledger and the columns disagree about who has an answer in hand."""
        held = {entry.slots[row] for entry in self.ledger.open.values() for row in entry.in_hand}
        said = set(np.flatnonzero(self.backlog.in_hand).tolist())
        if held != said:
            raise InvariantBroken(f"rows {sorted(held ^ said)} have an answer in hand, or are only said to")
        for slot in sorted(held):
            if self.backlog.state[slot] not in (WAITING, RUNNING):
                raise InvariantBroken(f"row {slot} has an answer in hand and neither waits nor runs")
