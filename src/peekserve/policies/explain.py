"""Why a row is answered as it is: what else could have been done with it, and by how much that loses.

A plan is taken as it stands, and one row is moved: to each other variant, to the peek's answer, to no answer at all.
Everything else of the plan stays where it was, so what a move does to others counts too: they run with one row more or
less beside them, later or sooner. The *loss* is what all rows together lose by the move, the utility of the plan minus
that of the changed plan (policies/worth.py values both). A variant is tried at every place that it could have: in each
batch that runs it already and has room, and in a batch of its own at each position of each worker's queue. Its best
place is what is told.

A move may gain: heuristics do not find every plan, and then the loss is negative and the word is `better`. A plan in
which several rows would have to move together is not looked at.

Every place is one plan that is valued anew, over the queues of the workers that it touches alone. For each row these
are at most V (2 B + W), with V variants, B batches and W workers, each of them over at most all n rows. `Work`
bounds how many are valued in all; what is left then is told as `not looked at`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isnan

import numpy as np

from peekserve.domain.messages import Plan
from peekserve.errors import InvariantBroken
from peekserve.kernel import loops
from peekserve.policies.base import Switches, View
from peekserve.policies.moves import Moves, Place, Queues, Work
from peekserve.policies.worth import believed

# Below this a loss is the rounding of sums.
EPSILON = 1e-9
MOST_PLANS = 20_000


class Kind(StrEnum):
    """Who answers."""

    MODEL = "model"
    PEEK = "peek"
    NOTHING = "nothing"


class Why(StrEnum):
    """What speaks most against an alternative, or for it."""

    CHOSEN = "chosen"
    BETTER = "better"  # the plan is beaten
    AS_GOOD = "as good"
    TOO_LATE = "too late"
    LESS_ACCURATE = "less accurate"
    DELAYS_OTHERS = "delays others"
    LOADS_WEIGHTS = "loads weights"  # if its weights were there, it would lose nothing
    NO_ANSWER = "no answer"
    NOT_ALLOWED = "not allowed"  # another is pinned, an input is missing, the peek may not answer
    DOES_NOT_FIT = "does not fit"  # more bytes than any worker has, or nothing there can run it
    NO_EVIDENCE = "no evidence"  # nothing was peeked at
    NOT_LOOKED_AT = "not looked at"  # too much was asked at once
    ALL_THERE_WAS = "all there was"  # no plan chose it: nothing else was left in time


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to treat a row. `loss`: utility, a sum over all rows, that the plan has more than with this choice;
    None where it cannot be, or was not looked at, and then the rest is None too. `own`, `others`: what it changes for
    the row itself and for all others together; loss = -(own + others).

    `value`: what the answer is worth in time, its believed accuracy weighed by class; `penalty`: share of it that
    lateness takes; `utility`: what is left.
    `finish_s`: seconds from now. `worker`, `position`: where its batch stands, 0 runs next; `load_s`: what its weights
    take before it; `beside`: the other rows in it.
    """

    kind: Kind
    why: Why
    variant: str | None = None
    loss: float | None = None
    own: float | None = None
    others: float | None = None
    value: float | None = None
    penalty: float | None = None
    utility: float | None = None
    finish_s: float | None = None
    load_s: float | None = None
    worker: str | None = None
    position: int | None = None
    beside: tuple[int, ...] = ()

    def as_json(self) -> dict[str, str | float]:
        """What is known of it, numbers to nine decimals; of the other rows only how many they are."""
        told: dict[str, str | float] = {"kind": self.kind.value, "why": self.why.value}
        for name in ("variant", "worker", "position"):
            if getattr(self, name) is not None:
                told[name] = getattr(self, name)
        for name in ("loss", "own", "others", "value", "penalty", "utility", "finish_s", "load_s"):
            value = getattr(self, name)
            if value is not None:
                told[name] = round(value, 9) + 0.0  # no -0.0
        if self.worker is not None:
            told["rows_beside"] = len(self.beside)
        return told


@dataclass(frozen=True, slots=True)
class Explained:
    """One row of a view. `lane`: its name. `alternatives`: the nearest loser first, those that cannot be last."""

    row: int
    lane: str
    chosen: Choice
    alternatives: tuple[Choice, ...]

    def as_json(self) -> dict[str, object]:
        return {
            "row": self.row,
            "application": self.lane,
            "chosen": self.chosen.as_json(),
            "alternatives": [choice.as_json() for choice in self.alternatives],
        }


def explain(
    view: View, plan: Plan, switches: Switches, rows: Sequence[int], work: Work | None = None
) -> tuple[Explained, ...]:
    """What was done with each of these rows, and what else could have been. `switches`: by whose belief. `work`: drawn
    on, MOST_PLANS if not given.

    Raises InvariantBroken for a plan that cannot be carried out, and for a row that the view does not have.
    """
    strange = [row for row in rows if not 0 <= row < view.size]
    if strange:
        raise InvariantBroken(f"a view of {view.size} rows has no rows {strange} to explain")
    told = _Teller(view, plan, switches, work or Work(MOST_PLANS))
    return tuple(told.explained(row) for row in rows)


class _Teller:
    """The words for one plan of one view."""

    def __init__(self, view: View, plan: Plan, switches: Switches, work: Work) -> None:
        self._view = view
        self._switches = switches
        self._believed = believed(view, switches)
        self._moves = Moves(view, plan, switches, work)
        self._instant = {int(row) for row in plan.instant}
        self._tables = (view.tables.x, view.tables.p, view.tables.start.astype(np.int64))

    def explained(self, row: int) -> Explained:
        lane = self._view.lanes[int(self._view.lane[row])]
        others = [self._with(row, v) for v in range(len(lane.variants))]
        if row not in self._instant:
            others.append(self._by_peek(row))
        if row in self._instant or row in self._moves.stands:
            others.append(self._moved(row, Kind.NOTHING, self._moves.without(row)))
        nowhere = float("inf")
        ranked = sorted(  # stable: of equals, the order of the variants
            (choice for choice in others if choice is not None),
            key=lambda choice: nowhere if choice.loss is None else round(choice.loss, 12),
        )
        return Explained(row, lane.name, self._chosen(row), tuple(ranked))

    # ---- what was done ----

    def _chosen(self, row: int) -> Choice:
        utility = self._moves.utility[row]
        plain = Choice(Kind.NOTHING, Why.CHOSEN, loss=0.0, own=0.0, others=0.0, utility=utility)
        if row in self._instant:
            return self._peeked(row, plain)
        if row not in self._moves.stands:
            return plain
        w, position = self._moves.stands[row]
        return self._batched(row, plain, Place(self._moves.queues, w, position), self._moves.finish[row])

    def _peeked(self, row: int, plain: Choice) -> Choice:
        value, penalty = float(self._view.instant[row]), self._penalty(row, 0.0)
        return replace(plain, kind=Kind.PEEK, value=value, penalty=penalty, finish_s=0.0)

    def _batched(self, row: int, plain: Choice, place: Place, finish: float) -> Choice:
        batch = place.batch
        return replace(
            plain,
            kind=Kind.MODEL,
            variant=self._view.lanes[batch.lane].variants[batch.variant],
            value=float(self._believed[row, batch.variant]),
            penalty=self._penalty(row, finish),
            finish_s=finish,
            load_s=self._moves.load_s(place.queues, place.worker, place.position),
            worker=self._view.workers[place.worker].name,
            position=place.position,
            beside=tuple(int(r) for r in batch.rows if r != row),
        )

    # ---- what else could be done ----

    def _with(self, row: int, variant: int) -> Choice | None:
        """This variant at its best place other than where the row stands; None where it has no other."""
        name = self._view.lanes[int(self._view.lane[row])].variants[variant]
        if not self._view.allowed[row, variant]:
            return Choice(Kind.MODEL, Why.NOT_ALLOWED, name)
        workers = self._moves.fitting(row, variant)
        if not workers:
            return Choice(Kind.MODEL, Why.DOES_NOT_FIT, name)
        best: tuple[float, Place] | None = None
        for place in self._moves.places(row, variant, workers):
            if self._moves.work.left <= 0:
                return Choice(Kind.MODEL, Why.NOT_LOOKED_AT, name)  # half a search would mislead
            own, others, _ = self._moves.change(row, place.queues)
            loss = round(-(own + others), 12)
            if best is None or loss < best[0]:  # of equals the first
                best = loss, place
        return None if best is None else self._moved(row, Kind.MODEL, best[1].queues, best[1])

    def _by_peek(self, row: int) -> Choice:
        if isnan(self._view.instant[row]):
            return Choice(Kind.PEEK, Why.NO_EVIDENCE)
        if not self._switches.short_circuit:
            return Choice(Kind.PEEK, Why.NOT_ALLOWED)
        return self._moved(row, Kind.PEEK, self._moves.without(row))

    def _moved(self, row: int, kind: Kind, queues: Queues, place: Place | None = None) -> Choice:
        own, others, finish = self._moves.change(row, queues, by_peek=kind is Kind.PEEK)
        utility = self._moves.utility[row] + own
        found = Choice(kind, Why.CHOSEN, loss=-(own + others), own=own, others=others, utility=utility)
        if place is not None:
            found = self._batched(row, found, place, finish)
        elif kind is Kind.PEEK:
            found = self._peeked(row, found)
        return replace(found, why=self._why(row, found, place))

    def _why(self, row: int, found: Choice, place: Place | None) -> Why:
        loss, utility = found.loss or 0.0, found.utility or 0.0
        if loss < -EPSILON:
            return Why.BETTER
        if found.kind is Kind.NOTHING:
            return Why.NO_ANSWER
        value, penalty = found.value or 0.0, found.penalty or 0.0
        if loss <= EPSILON:
            return Why.TOO_LATE if utility <= EPSILON and penalty > 0.0 else Why.AS_GOOD
        if place is not None and found.load_s and self._moves.loses_by_loading_alone(row, place, EPSILON):
            return Why.LOADS_WEIGHTS
        chosen = self._chosen(row)
        before = chosen.penalty or 0.0
        causes = {
            # value x (1 - penalty), once with the other penalty and once with the other value
            Why.TOO_LATE: value * (penalty - before),
            Why.LESS_ACCURATE: ((chosen.value or 0.0) - value) * (1.0 - before),
            Why.DELAYS_OTHERS: -(found.others or 0.0),
        }
        return max(causes, key=causes.__getitem__)

    def _penalty(self, row: int, finish: float) -> float:
        view = self._view
        late = finish - float(view.due_at[row] - view.now)
        return loops.penalty(int(view.penalty[row]), float(view.width_s[row]), late, *self._tables)
