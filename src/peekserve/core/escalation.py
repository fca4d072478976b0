"""What a model said is kept as evidence, and a row that could still gain waits for another model, its answer in hand.

A row whose batch ended is believed anew: its prior, its peek and every model that was asked are taken together
(awareness/fusion.py), and that belief is its answer. Then one question: is there a variant that was not asked yet, that
some worker could still run in time, and from which so much better an answer can be expected that it is worth a model
run (`gain`)? If not, the row is answered. If so, it goes back to the rows that wait, and its columns say what is true
of it now: what each such variant would bring, no other variant is a candidate, and the answer in hand can be given at
any time, as an answer of the peek could. The policy weighs that against all other work like everything it plans, and
whatever it leaves out is answered in the same turn. Nothing is ever forced.

An answer in hand is never lost: it is given when the row's batch fails or its worker dies, when nothing can be run any
more, and at the latest when the row would otherwise be given up, which is before its deadline.

Who names a variant gets that one's own answer. An application takes part if its peek was calibrated, the confusions of
all its variants are known, fused answers were not found to be no better than a model's own (a share of 0), and plain
accuracy is what it wants: other scores do not value a belief by its best class.

Every belief promises itself something of one more voice. So a row is asked again only where validation data show, over
groups that were left out, that this makes answers right more often (`Calibration.escalates`); where they do not, or
nobody measured it, the fused answer is the answer. Who writes `escalate: on` has it everywhere all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.awareness.estimate import likely, normalised
from peekserve.awareness.fusion import SHARE, UNASKED, Fusion
from peekserve.core.backlog import Backlog
from peekserve.core.beliefs import calibration_of
from peekserve.core.catalogue import Catalogue
from peekserve.core.columns import RUNNING, WAITING
from peekserve.core.fleet import Committed, Fleet
from peekserve.core.ledger import Ledger
from peekserve.core.offer import Offer
from peekserve.domain.application import Application, Score
from peekserve.domain.messages import BatchDone, Plan
from peekserve.domain.request import RowAnswer, Source
from peekserve.errors import InvariantBroken

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one batch that are believed anew: their slots, int64 [n], and their places in the batch."""

    slots: npt.NDArray[np.int64]
    places: Sequence[int]


class Escalation:
    """`gain`: an answer must be expected to become better by this much, in the unit of accuracies, to be worth another
    run. `anyway`: also where nothing shows that it does."""

    def __init__(
        self,
        catalogue: Catalogue,
        backlog: Backlog,
        fleet: Fleet,
        ledger: Ledger,
        offer: Offer,
        gain: float,
        anyway: bool = True,
    ) -> None:
        self._catalogue = catalogue
        self._backlog = backlog
        self._fleet = fleet
        self._ledger = ledger
        self._offer = offer
        self._gain = gain
        self._anyway = anyway
        self._again: list[bool] = []
        self._fusions: list[Fusion | None] = []
        # Rows with an answer in hand may wait for what no plan has a place for.
        self.undecided = False
        self.grow()

    def grow(self) -> None:
        """The catalogue may have more applications."""
        more = slice(len(self._fusions), None)
        for app, scale in zip(self._catalogue.applications[more], self._catalogue.scale[more], strict=True):
            known = calibration_of(app)
            self._again.append(self._anyway or (known is not None and known.escalates is True))
            self._fusions.append(fusion_of(app, scale))

    def done(self, batch: Committed, event: BatchDone, places: Sequence[int], now: float) -> Sequence[int]:
        """Answer the rows at these places of a batch that ended, or keep them for another model. Those that take no
        part come back, for the model's own answer."""
        lane = self._catalogue.lanes[batch.lane]
        fusion = self._fusions[lane.application]
        if fusion is None:
            return places
        ledger, refs = self._ledger, batch.refs
        pinned = [i for i in places if ledger.open[refs[i].request_id].request.pinned is not None]
        own = [i for i in places if i not in pinned]
        if own:
            rows = _Rows(np.array([batch.slots[i] for i in own], dtype=np.int64), own)
            self._believe(fusion, batch, event, rows, now)
        return pinned

    def _believe(self, fusion: Fusion, batch: Committed, event: BatchDone, rows: _Rows, now: float) -> None:
        backlog, ledger, slots = self._backlog, self._ledger, rows.slots
        lane = self._catalogue.lanes[batch.lane]
        classes, variants = len(fusion.weights), len(lane.variants)
        prior = backlog.belief(lane.application).unseen().theta[0]
        theta, looked = backlog.theta[slots, :classes], backlog.looked[slots]
        backlog.first[slots[~backlog.in_hand[slots]]] = batch.variant
        backlog.said[slots, batch.variant] = event.scores[rows.places].argmax(axis=1)
        said = backlog.said[slots, :variants]
        belief = fusion.belief(theta, prior, looked, said)
        value, labels = fusion.value(belief), fusion.labels(belief)
        expected = fusion.expected(theta, prior, looked, said)
        gains = self._candidates(batch.lane, slots, said, expected - value[:, None], now)
        gains &= self._again[lane.application]
        probable, scores = likely(belief), belief.tolist()
        name = lane.variants[batch.variant]
        for n, i in enumerate(rows.places):
            ref = batch.refs[i]
            answer = RowAnswer(
                int(labels[n]), tuple(scores[n]), Source.FUSED, name, float(value[n]),
                batch.id, event.started_at, event.finished_at,
            )  # fmt: skip
            entry = ledger.open[ref.request_id]
            if gains[n].any():
                entry.in_hand[ref.row] = answer
                self.undecided = True
                quickest_s = float(self._offer.fastest_s(batch.lane)[gains[n]].min())
                backlog.keep(
                    int(slots[n]), expected[n], gains[n], float(value[n]), int(probable[n]), quickest_s
                )
            else:
                entry.in_hand.pop(ref.row, None)
                ledger.settle_row(entry, ref.row, answer, now)

    def _candidates(
        self, lane: int, slots: npt.NDArray[np.int64], said: npt.NDArray[np.int16], gain: Floats, now: float
    ) -> Bools:
        """bool [n, V]: variants that were not asked, are worth asking, and could answer in time on the worker that is
        free first."""
        variants = said.shape[1]
        soonest_at = self._fleet.soonest_at(now) + self._offer.fastest_s(lane)
        may = self._backlog.allowed[slots, :variants] & self._offer.enabled[lane, :variants]
        in_time = soonest_at <= self._backlog.due_at[slots][:, None]
        return np.asarray(may & in_time & (said == UNASKED) & (gain > self._gain))

    def left_out(self, plan: Plan, slots: npt.NDArray[np.int64], now: float) -> None:
        """This plan was made for these rows: those that stand in none of its batches are answered with what is in
        hand."""
        self.undecided = False
        backlog = self._backlog
        left = backlog.in_hand[slots] & (backlog.state[slots] == WAITING)
        if not left.any():
            return
        left[[row for batch in plan.batches for row in batch.rows]] = False
        for slot in slots[left].tolist():
            self._ledger.answer_in_hand(slot, now)

    def check(self) -> None:
        """Raises InvariantBroken."""
        held = {entry.slots[row] for entry in self._ledger.open.values() for row in entry.in_hand}
        said = set(np.flatnonzero(self._backlog.in_hand).tolist())
        if held != said:
            raise InvariantBroken(f"rows {sorted(held ^ said)} have an answer in hand, or are only said to")
        for slot in sorted(held):
            if self._backlog.state[slot] not in (WAITING, RUNNING) or self._backlog.doom_at[slot] == np.inf:
                raise InvariantBroken(
                    f"row {slot} has an answer in hand and nothing says when it must be given"
                )


def fusion_of(app: Application, scale: float = 1.0) -> Fusion | None:
    """How what is known of a row of this application is taken together; None if it takes no part. `scale`: what
    accuracies are multiplied by (core.catalogue)."""
    calibration = calibration_of(app)
    qualities = [v.quality for v in app.variants]
    if (
        calibration is None
        or app.peek is None
        or app.score is not Score.ACCURACY
        or calibration.fusion == 0.0
    ):
        return None
    known = [q for q in qualities if q is not None and q.confusion]
    if len(known) < len(qualities):
        return None
    peek = app.peek.quality.accuracy if app.peek.quality is not None else 0.0
    share = SHARE if calibration.fusion is None else calibration.fusion
    confusions = np.array([q.confusion for q in known], dtype=np.float64)
    return Fusion.of(confusions, [*(q.accuracy for q in known), peek], scale * normalised(app.weights), share)
