"""Batches that come back: done, failed, or lost with their worker; and what becomes of their rows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from peekserve.core.backlog import Backlog
from peekserve.core.catalogue import Catalogue
from peekserve.core.ending import Endings
from peekserve.core.escalation import Escalation
from peekserve.core.fleet import Committed, Fleet
from peekserve.core.forwarding import Forwarding
from peekserve.core.ledger import Ledger
from peekserve.domain.messages import BatchDone, BatchFailed
from peekserve.domain.request import Outcome, Reason, RowAnswer, Source

Able = npt.NDArray[np.bool_]


class Returns:
    """`attempts`: how often a row may lose its worker. `able`, everywhere: bool [lanes, V], what a worker that is known
    can run."""

    def __init__(
        self,
        catalogue: Catalogue,
        backlog: Backlog,
        fleet: Fleet,
        ledger: Ledger,
        endings: Endings,
        attempts: int,
        forwarding: Forwarding,
        escalation: Escalation | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._backlog = backlog
        self._fleet = fleet
        self._ledger = ledger
        self._endings = endings
        self._attempts = attempts
        self._forwarding = forwarding
        self._escalation = escalation

    def done(self, event: BatchDone, able: Able, now: float) -> bool:
        """Its rows have their answers, or wait for better ones. False if the batch is not ours any more."""
        batch = self._fleet.done(event.batch_id, event.finished_at)
        if batch is None:
            return False
        self._fleet.took(batch, event.started_at, event.finished_at, now)
        lane = self._catalogue.lanes[batch.lane]
        shape = (len(batch.slots), len(self._catalogue.applications[lane.application].classes))
        if event.scores.shape != shape:
            error = f"the runtime returned scores {event.scores.shape} instead of {shape}"
            self._give_back(batch, able, error, now)
            return True
        name = lane.variants[batch.variant]
        labels, scores = event.scores.argmax(axis=1).tolist(), event.scores.tolist()
        own = enumerate(zip(batch.slots, batch.refs, strict=True))
        places: Sequence[int] = [i for i, (slot, ref) in own if self._ledger.owns(slot, ref)]
        if batch.stop is not None and places:
            places = self._forwarding.done(batch, batch.stop, event, places, now)
        elif self._escalation is not None and places:
            places = self._escalation.done(batch, event, places, now)
        for i in places:
            ref = batch.refs[i]
            self._ledger.open[ref.request_id].in_hand.pop(ref.row, None)
            answer = RowAnswer(
                labels[i], tuple(scores[i]), Source.MODEL, name, batch.expected[i],
                batch.id, event.started_at, event.finished_at,
            )  # fmt: skip
            self._ledger.settle_row(self._ledger.open[ref.request_id], ref.row, answer, now)
        return True

    def failed(self, event: BatchFailed, able: Able, now: float) -> bool:
        """Its rows wait again, for another variant. False if the batch is not ours any more."""
        batch = self._fleet.done(event.batch_id, now)
        if batch is not None:
            self._give_back(batch, able, event.error, now)
        return batch is not None

    def lost(self, worker: str, able: Able, error: str, now: float) -> None:
        """A worker is gone: what it ran waits again, unless that happened to it too often."""
        for batch in self._fleet.down(worker):
            for slot, ref in zip(batch.slots, batch.refs, strict=True):
                if not self._ledger.owns(slot, ref):
                    continue
                if self._backlog.in_hand[slot]:
                    self._ledger.answer_in_hand(slot, now)
                elif self._backlog.give_back(slot) >= self._attempts:
                    entry = self._ledger.open[ref.request_id]
                    detail = f"lost its worker {self._attempts} times, the last one was {worker}: {error}"
                    self._ledger.close(entry, Outcome.FAILED, Reason.BACKEND_ERROR, detail)
        # While they ran, the last variant that they may have can have failed to load elsewhere.
        self._endings.settle_stranded(able, error, now)

    def _give_back(self, batch: Committed, able: Able, error: str, now: float) -> None:
        for slot, ref in zip(batch.slots, batch.refs, strict=True):
            if not self._ledger.owns(slot, ref):
                continue
            if self._backlog.in_hand[slot]:
                self._ledger.answer_in_hand(slot, now)
            else:
                # Another variant may do: this one is not asked again for this row, unless it was not asked at all.
                self._backlog.give_back(slot)
                if not self._fleet.lacks(batch):
                    self._backlog.forbid(slot, batch.variant)
        self._endings.settle_stranded(able, error, now)
