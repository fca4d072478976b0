"""Rows that wait or run, as columns: deadlines, beliefs and what the beliefs are worth.

A row keeps its place (its *slot*) from arrival until it is settled; places are used again through a free
list. Only the backlog changes its columns, and everyone else sees read-only copies of slices.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from peekserve.awareness.fusion import UNASKED
from peekserve.core.alarms import Alarms
from peekserve.core.beliefs import Belief
from peekserve.core.catalogue import Catalogue, frozen
from peekserve.core.columns import FREE, PENDING, REALS, RUNNING, WAITING, WHOLES, Columns
from peekserve.core.floors import good_enough, reaching
from peekserve.domain.request import Request
from peekserve.domain.utility import Penalty, PenaltyKind
from peekserve.errors import InvariantBroken, UnknownVariant
from peekserve.policies.base import View, WorkerView

Slots = npt.NDArray[np.int64]

NONE: Slots = np.zeros(0, np.int64)

# Where the columns of a view stand.
_ARRIVED_AT, _DUE_AT, _DEADLINE_S, _WIDTH_S, _INSTANT = (
    REALS.index(name) for name in ("arrived_at", "due_at", "deadline_s", "width_s", "instant")
)
_LANE, _PENALTY, _LIKELY = (WHOLES.index(name) for name in ("lane", "penalty", "likely"))


class Backlog(Columns):
    """Columns over slots. `state`: FREE, PENDING (its peek is still expected), WAITING or RUNNING.

    `due_at` has the whole margin taken off: plans keep it. `told_at` has half of it: when a row that still runs
    is given up, because its client must hear something in time. What ends in between was planned a little too
    tightly and is not lost; for a better answer than the one in hand that half is not risked. `granted`: the policy
    chose the peek's answer for this row, which is given when nothing better came in time. `looked`: there are votes for
    it. `said`: the class that each variant named that it was asked, UNASKED for the others; `first`: which was asked
    first. `in_hand`: a model has answered it, and it waits or runs for another of those that `gains` names
    (core/escalation.py). `level`: Request.level. `head`: the slot of the first row of its request, which has `size`
    rows and, counted at that slot, `bytes`; `begun`: something of it was run or answered. `floor`: the least accuracy
    of its answers. `gain`, `work_s`: what core/shedding.py found out about it, nan where it has yet to. `degrades`: 1
    where the peek's answer is given when nothing better can be.
    """

    def __init__(self, catalogue: Catalogue, beliefs: Sequence[Belief], capacity: int = 64) -> None:
        """`beliefs`: one for each application."""
        super().__init__(catalogue.variants, catalogue.classes, capacity)
        self._catalogue = catalogue
        self._beliefs = beliefs
        self._sequence = 0
        self._dooms, self._tells, self._readies = Alarms(), Alarms(), Alarms()
        self._may: dict[tuple[object, ...], tuple[npt.NDArray[np.bool_], list[int]]] = {}
        self.waits = 0

    def widen(self) -> None:
        """The catalogue may have applications with more variants or classes."""
        self._widen(self._catalogue.variants, self._catalogue.classes)
        self._may.clear()

    # ---- what happens to rows ----

    def add(
        self,
        request: Request,
        margin_s: float,
        fastest_s: npt.NDArray[np.float64],
        offered: npt.NDArray[np.bool_],
        late_ok: bool,
        degrades: bool = False,
    ) -> list[int]:
        """Take in all rows of a request; their slots, in row order.

        `fastest_s`: float64 [V], the least time in which each variant answers one row on any worker. `offered`: bool
        [V], those that new requests may use.
        `doom_at` is the last instant at which starting the quickest of them at once would still be in time;
        never, if `late_ok`.
        """
        a = self._catalogue.application(request.application)
        app = self._catalogue.applications[a]
        allowed, variants = self._may_use(a, request)
        quickest = float(min(fastest_s[v] for v in variants))
        # Where no answer is ever given late, lateness costs everything, whatever the owner's penalty says of late
        # answers: plans must be valued by what will be done.
        penalty = app.query(request.query).penalty if late_ok else Penalty.step()
        kind, width = self._catalogue.penalty(penalty, request.deadline_s)
        due_at = request.due_at - margin_s
        doom_at = np.inf if late_ok else due_at - quickest
        while len(self._free) < request.rows:
            self._grow(2 * self._capacity)
        slots = [self._free.pop() for _ in range(request.rows)]
        for row, s in enumerate(slots):
            self.request[s], self.row[s] = request.id, row
            self.sequence[s] = self._sequence + row
            if not late_ok:
                self._dooms.set(doom_at, s)
        at = _index(slots)
        self.state[at] = WAITING
        self._sequence += request.rows
        self.waits += request.rows
        self._reals[at] = (
            request.arrived_at, due_at, request.due_at - margin_s / 2, request.deadline_s, quickest, doom_at,
            request.arrived_at, width, np.nan, request.min_accuracy, request.bytes,
        )  # fmt: skip
        self._wholes[at] = (
            a, self._catalogue.lane(a, request.bucket), kind, -1, 0, UNASKED, slots[0], degrades,
        )  # fmt: skip
        self.level[at], self.size[at], self.gain[at] = request.level, request.rows, np.nan
        unseen = self._beliefs[a].unseen()
        self.theta[at], self.accuracy[at] = 0.0, 0.0
        self.theta[at, : len(app.classes)] = unseen.theta
        self.accuracy[at, : len(app.variants)] = unseen.accuracy
        self.allowed[at] = allowed & offered
        self.granted[at] = self.in_hand[at] = self.looked[at] = self.begun[at] = False
        self.said[at], self.gains[at] = UNASKED, True
        return slots

    def _may_use(self, a: int, request: Request) -> tuple[npt.NDArray[np.bool_], list[int]]:
        """The variants of application `a` that this request allows: bool [V] and indices. Raises UnknownVariant, and
        ConstraintInfeasible where none is as accurate as it asks for."""
        key = (a, request.pinned, request.inputs, request.min_accuracy)
        known = self._may.get(key)
        if known is not None:
            return known
        app = self._catalogue.applications[a]
        allowed = np.zeros(self._catalogue.variants, dtype=np.bool_)
        for v, variant in enumerate(app.variants):
            has = request.inputs is None or all(name in request.inputs for name in variant.needs)
            allowed[v] = has and request.pinned in (None, variant.name)
        if request.pinned is not None:
            app.variant(request.pinned)
        if not allowed.any():
            raise UnknownVariant(
                f"no variant of {app.name!r} can do with the inputs {list(request.inputs or ())}"
            )
        allowed = reaching(app, request.min_accuracy, allowed)
        if len(self._may) >= 256:  # clients choose the order of their inputs: this may not grow for ever
            self._may.clear()
        self._may[key] = allowed, np.flatnonzero(allowed).tolist()
        return self._may[key]

    def observe(self, slots: list[int], counts: npt.NDArray[np.float64]) -> None:
        """Evidence came: counts float64 [len(slots), C]. Rows that were kept only for it are doomed again."""
        at = np.array(slots)
        a = int(self.application[slots[0]])
        seen = self._beliefs[a].seen(counts)
        self.theta[at, : seen.theta.shape[1]] = seen.theta
        self.accuracy[at, : seen.accuracy.shape[1]] = seen.accuracy
        self.instant[at] = good_enough(
            self._catalogue, a, self._beliefs[a], seen.instant, float(self.floor[slots[0]])
        )
        self.gain[at] = np.nan
        self.likely[at] = seen.likely
        self.looked[at] = np.add.reduce(counts, axis=1) > 0.0
        for s in slots:
            doom_at = self.due_at[s] - self.quickest_s[s]
            if self.doom_at[s] < np.inf and self.doom_at[s] != doom_at:
                self.doom(s, doom_at)

    def doom(self, slot: int, at: float) -> None:
        """From this instant on nothing can save the row."""
        self.doom_at[slot] = at
        self._dooms.set(float(at), slot)

    def expect(self, slots: list[int], ready_at: float) -> None:
        """These rows wait for their evidence, at the longest until `ready_at`."""
        at = _index(slots)
        self.state[at] = PENDING
        self.waits -= len(slots)
        self.ready_at[at] = ready_at
        for s in slots:
            self._readies.set(ready_at, s)

    def release(self, slots: list[int]) -> None:
        """Their peek is in, or has failed: what is known is all there will be."""
        for s in slots:
            if self.state[s] == PENDING:
                self.state[s] = WAITING
                self.waits += 1

    def release_overdue(self, now: float) -> Slots:
        """A late peek means the prior: rows that waited long enough for theirs, which wait to be planned now."""
        if self.next_ready_at() > now:
            return NONE
        overdue = np.flatnonzero((self.state == PENDING) & (self.ready_at <= now))
        self.state[overdue] = WAITING
        self.waits += len(overdue)
        return overdue

    def take(self, slots: Slots) -> None:
        if not (self.state[slots] == WAITING).all():
            raise InvariantBroken(f"a plan runs rows that do not wait: states {self.state[slots].tolist()}")
        self.state[slots] = RUNNING
        self.waits -= len(slots)
        for s in slots.tolist():
            if self.doom_at[s] < np.inf:
                self._tells.set(float(self.told_at[s]), s)

    def any_time_will_do(self, slots: Slots) -> bool:
        """Rows that may be late and are: nothing is left to lose by waiting, only by never running. True if some were
        not known to be so. Without this a policy that drops doomed work would leave them for ever."""
        if not len(slots):
            return False
        late = slots[(self.doom_at[slots] == np.inf) & (self.penalty[slots] != PenaltyKind.CONSTANT)]
        self.penalty[late], self.width_s[late] = PenaltyKind.CONSTANT, 0.0
        self.gain[late], self.work_s[late] = 0.0, 1.0
        return bool(len(late))

    def keep(
        self,
        slot: int,
        accuracy: npt.NDArray[np.float64],
        gains: npt.NDArray[np.bool_],
        value: float,
        likely: int,
        quickest_s: float,
    ) -> None:
        """A row that ran waits again, its answer in hand: this is what that answer is worth, and what each variant,
        float64 and bool [V], would make of it. The answer is given in time, whatever the application does of rows that
        have none."""
        self.state[slot] = WAITING
        self.waits += 1
        self.in_hand[slot] = True
        self.accuracy[slot, : len(accuracy)] = accuracy
        self.gains[slot, : len(gains)] = gains
        self.instant[slot], self.likely[slot], self.quickest_s[slot] = value, likely, quickest_s
        self.penalty[slot], self.width_s[slot] = PenaltyKind.STEP, 0.0
        # If it still runs then, no half of the margin is risked for a better answer: there is one.
        self.told_at[slot] = self.due_at[slot]
        self.doom(slot, float(self.due_at[slot]) - quickest_s)

    def give_back(self, slot: int) -> int:
        """A row whose batch was lost waits again; how often that has happened to it."""
        self.state[slot] = WAITING
        self.waits += 1
        self.attempts[slot] += 1
        if self.doom_at[slot] < np.inf:
            self._dooms.set(float(self.doom_at[slot]), slot)
        return int(self.attempts[slot])

    def forbid(self, slot: int, variant: int) -> None:
        """This variant failed on this row and is not asked again for it."""
        self.allowed[slot, variant] = False

    def stranded(self, able: npt.NDArray[np.bool_]) -> Slots:
        """Rows, not running, that no variant is left for. `able`: bool [lanes, V]."""
        held = (self.state == WAITING) | (self.state == PENDING)
        return np.flatnonzero(held & ~(self.allowed & self.gains & able[self.lane]).any(axis=1))

    def settle(self, slot: int) -> None:
        """The row has its answer, or will never have one."""
        state = self.state[slot]
        if state == FREE:
            raise InvariantBroken(f"slot {slot} is settled twice")
        self.waits -= int(state == WAITING)
        self.state[slot] = FREE
        self.in_hand[slot] = False
        self.request[slot] = ""
        self._free.append(slot)

    # ---- what can be seen ----

    def belief(self, application: int) -> Belief:
        """How rows of this application are believed."""
        return self._beliefs[application]

    @property
    def rows(self) -> int:
        """Rows that are not settled, the running ones included."""
        return self._capacity - len(self._free)

    def waiting(self) -> Slots:
        """Slots that may be planned, in order of arrival."""
        slots = np.flatnonzero(self.state == WAITING)
        return slots[np.argsort(self.sequence[slots], kind="stable")]

    def doomed(self, now: float) -> Slots:
        """Rows, not running, that nothing can answer in time any more."""
        if self.next_doom_at() > now:
            return NONE
        slots = np.flatnonzero(((self.state == WAITING) | (self.state == PENDING)) & (self.doom_at <= now))
        return slots[np.argsort(self.sequence[slots], kind="stable")]

    def running_due(self, now: float) -> Slots:
        """Rows that still run although their request is due (those that may be late excepted)."""
        if self.next_running_due_at() > now:
            return NONE
        slots = np.flatnonzero((self.state == RUNNING) & (self.doom_at < np.inf) & (self.told_at <= now))
        return slots[np.argsort(self.sequence[slots], kind="stable")]

    def next_running_due_at(self) -> float:
        return self._tells.next(self._runs_until)

    def next_doom_at(self) -> float:
        return self._dooms.next(self._is_doomed)

    def next_ready_at(self) -> float:
        return self._readies.next(self._is_expected)

    def _runs_until(self, at: float, slot: int) -> bool:
        return bool(self.state[slot] == RUNNING and self.told_at[slot] == at and self.doom_at[slot] < np.inf)

    def _is_doomed(self, at: float, slot: int) -> bool:
        return bool(self.doom_at[slot] == at and PENDING <= self.state[slot] <= WAITING)

    def _is_expected(self, at: float, slot: int) -> bool:
        return bool(self.state[slot] == PENDING and self.ready_at[slot] == at)

    def view(
        self, slots: Slots, now: float, workers: tuple[WorkerView, ...], enabled: npt.NDArray[np.bool_]
    ) -> View:
        """What a policy may see of these rows. `enabled`: bool [lanes, V], variants that can be run at
        all."""
        # All columns of a kind at once, each then in a piece. `take` is three times as fast as brackets on whole rows.
        reals = frozen(self._reals.take(slots, axis=0).T.copy())
        wholes = frozen(self._wholes.take(slots, axis=0).T.copy())
        lane = wholes[_LANE]
        return View(
            now=now,
            lanes=self._catalogue.lanes,
            workers=workers,
            lane=lane,
            arrived_at=reals[_ARRIVED_AT],
            due_at=reals[_DUE_AT],
            deadline_s=reals[_DEADLINE_S],
            penalty=wholes[_PENALTY],
            width_s=reals[_WIDTH_S],
            tables=self._catalogue.tables,
            accuracy=frozen(self.accuracy.take(slots, axis=0)),
            allowed=frozen(
                self.allowed.take(slots, axis=0) & self.gains.take(slots, axis=0) & enabled.take(lane, axis=0)
            ),
            instant=reals[_INSTANT],
            likely=wholes[_LIKELY],
        )

    def check(self) -> None:
        """Every invariant of the columns. Raises InvariantBroken."""
        free = int((self.state == FREE).sum())
        if free != len(self._free) or len(set(self._free)) != len(self._free):
            raise InvariantBroken(f"{free} slots are free, the free list holds {len(self._free)}")
        busy = self.state != FREE
        if busy.any() and not np.allclose(self.theta[busy].sum(axis=1), 1.0):
            raise InvariantBroken("a belief does not sum to 1")
        if len(set(self.sequence[busy].tolist())) != int(busy.sum()):
            raise InvariantBroken("two rows share a place in the order of arrival")
        if self.waits != int((self.state == WAITING).sum()):
            raise InvariantBroken(f"{self.waits} rows are said to wait, {(self.state == WAITING).sum()} do")
        held = (self.state == WAITING) | (self.state == PENDING)
        runs = (self.state == RUNNING) & (self.doom_at < np.inf)
        for what, said, true in (
            ("doomed", self.next_doom_at(), np.min(self.doom_at, where=held, initial=np.inf)),
            ("due", self.next_running_due_at(), np.min(self.told_at, where=runs, initial=np.inf)),
            (
                "ready",
                self.next_ready_at(),
                np.min(self.ready_at, where=self.state == PENDING, initial=np.inf),
            ),
        ):
            if said != true:
                raise InvariantBroken(
                    f"the next row to be {what} is said to be so at {said}, and is at {true}"
                )


def _index(slots: Sequence[int]) -> int | Slots:
    """How numpy finds these slots soonest."""
    return slots[0] if len(slots) == 1 else np.array(slots)
