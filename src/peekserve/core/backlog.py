"""Rows that wait or run, as columns: deadlines, beliefs and what the beliefs are worth.

A row keeps its place (its *slot*) from arrival until it is settled; places are used again through a free
list. Only the backlog changes its columns, and everyone else sees read-only copies of slices.
"""

import numpy as np
import numpy.typing as npt

from peekserve.awareness.estimate import expected_accuracy, likely
from peekserve.awareness.posterior import posterior_mean
from peekserve.core.catalogue import Catalogue, frozen
from peekserve.domain.request import Request
from peekserve.domain.utility import Penalty, PenaltyKind
from peekserve.errors import InvariantBroken, UnknownVariant
from peekserve.policies.base import View, WorkerView

Slots = npt.NDArray[np.int64]

FREE, PENDING, WAITING, RUNNING = 0, 1, 2, 3


class Backlog:
    """Columns over slots. `state`: FREE, PENDING (its peek is still expected), WAITING or RUNNING.

    `due_at` has the whole margin taken off: plans keep it. `told_at` has half of it: when a row that still runs
    is given up, because its client must hear something in time. What ends in between was planned a little too
    tightly and is not lost. `granted`: the policy chose the peek's answer for this row, which is given when
    nothing better came in time.
    """

    state: npt.NDArray[np.int8]
    sequence: npt.NDArray[np.int64]
    application: npt.NDArray[np.int32]
    lane: npt.NDArray[np.int32]
    arrived_at: npt.NDArray[np.float64]
    due_at: npt.NDArray[np.float64]
    told_at: npt.NDArray[np.float64]
    deadline_s: npt.NDArray[np.float64]
    quickest_s: npt.NDArray[np.float64]
    doom_at: npt.NDArray[np.float64]
    ready_at: npt.NDArray[np.float64]
    penalty: npt.NDArray[np.int32]
    width_s: npt.NDArray[np.float64]
    allowed: npt.NDArray[np.bool_]
    theta: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    instant: npt.NDArray[np.float64]
    likely: npt.NDArray[np.int32]
    attempts: npt.NDArray[np.int32]
    granted: npt.NDArray[np.bool_]

    def __init__(self, catalogue: Catalogue, capacity: int = 64) -> None:
        self._catalogue = catalogue
        self._capacity = 0
        self._free: list[int] = []
        self._sequence = 0
        self.request: list[str] = []
        self.row: list[int] = []
        self._grow(capacity)

    # ---- what happens to rows ----

    def add(
        self, request: Request, margin_s: float, fastest_s: npt.NDArray[np.float64], late_ok: bool
    ) -> list[int]:
        """Take in all rows of a request; their slots, in row order.

        `fastest_s`: float64 [V], the least time in which each variant answers one row on any worker.
        `doom_at` is the last instant at which starting the quickest of them at once would still be in time;
        never, if `late_ok`.
        """
        a = self._catalogue.application(request.application)
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
        quickest = float(np.min(np.where(allowed[: len(fastest_s)], fastest_s, np.inf), initial=np.inf))
        # Where no answer is ever given late, lateness costs everything, whatever the owner's penalty says of late
        # answers: plans must be valued by what will be done.
        penalty = app.query(request.query).penalty if late_ok else Penalty.step()
        kind, width = self._catalogue.penalty(penalty, request.deadline_s)
        slots = []
        for row in range(request.rows):
            if not self._free:
                self._grow(2 * self._capacity)
            s = self._free.pop()
            slots.append(s)
            self.request[s], self.row[s] = request.id, row
            self.state[s] = WAITING
            self.sequence[s] = self._sequence
            self._sequence += 1
            self.application[s] = a
            self.lane[s] = self._catalogue.lane(a, request.bucket)
            self.arrived_at[s] = request.arrived_at
            self.due_at[s] = request.due_at - margin_s
            self.told_at[s] = request.due_at - margin_s / 2
            self.deadline_s[s] = request.deadline_s
            self.quickest_s[s] = quickest
            self.doom_at[s] = np.inf if late_ok else self.due_at[s] - quickest
            self.ready_at[s] = request.arrived_at
            self.penalty[s], self.width_s[s] = kind, width
            self.allowed[s] = allowed
            self.attempts[s] = 0
            self.granted[s] = False
        self._believe(a, np.array(slots), np.zeros((len(slots), len(app.classes))), evidence=False)
        return slots

    def observe(self, slots: list[int], counts: npt.NDArray[np.float64]) -> None:
        """Evidence came: counts float64 [len(slots), C]. Rows that were kept only for it are doomed again."""
        self._believe(int(self.application[slots[0]]), np.array(slots), counts, evidence=True)
        ends = np.array(slots)[self.doom_at[slots] < np.inf]
        self.doom_at[ends] = self.due_at[ends] - self.quickest_s[ends]

    def expect(self, slots: list[int], ready_at: float) -> None:
        """These rows wait for their evidence, at the longest until `ready_at`."""
        self.state[slots] = PENDING
        self.ready_at[slots] = ready_at

    def release(self, slots: list[int]) -> None:
        """Their peek is in, or has failed: what is known is all there will be."""
        self.state[[s for s in slots if self.state[s] == PENDING]] = WAITING

    def release_overdue(self, now: float) -> bool:
        """A late peek means the prior: rows that waited long enough for theirs. True if there were any."""
        overdue = (self.state == PENDING) & (self.ready_at <= now)
        self.state[overdue] = WAITING
        return bool(overdue.any())

    def take(self, slots: Slots) -> None:
        if not (self.state[slots] == WAITING).all():
            raise InvariantBroken(f"a plan runs rows that do not wait: states {self.state[slots].tolist()}")
        self.state[slots] = RUNNING

    def any_time_will_do(self, slots: Slots) -> bool:
        """Rows that may be late and are: nothing is left to lose by waiting, only by never running. True if some were
        not         known to be so. Without this a policy that drops doomed work would leave them for ever."""
        late = slots[(self.doom_at[slots] == np.inf) & (self.penalty[slots] != PenaltyKind.CONSTANT)]
        self.penalty[late], self.width_s[late] = PenaltyKind.CONSTANT, 0.0
        return bool(len(late))

    def give_back(self, slot: int) -> int:
        """A row whose batch was lost waits again; how often that has happened to it."""
        self.state[slot] = WAITING
        self.attempts[slot] += 1
        return int(self.attempts[slot])

    def forbid(self, slot: int, variant: int) -> None:
        """This variant failed on this row and is not asked again for it."""
        self.allowed[slot, variant] = False

    def stranded(self, enabled: npt.NDArray[np.bool_]) -> Slots:
        """Rows, not running, that no variant is left for. `enabled`: bool [lanes, V]."""
        held = (self.state == WAITING) | (self.state == PENDING)
        return np.flatnonzero(held & ~(self.allowed & enabled[self.lane]).any(axis=1))

    def settle(self, slot: int) -> None:
        """The row has its answer, or will never have one."""
        if self.state[slot] == FREE:
            raise InvariantBroken(f"slot {slot} is settled twice")
        self.state[slot] = FREE
        self.request[slot] = ""
        self._free.append(slot)

    # ---- what can be seen ----

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
        slots = np.flatnonzero(((self.state == WAITING) | (self.state == PENDING)) & (self.doom_at <= now))
        return slots[np.argsort(self.sequence[slots], kind="stable")]

    def running_due(self, now: float) -> Slots:
        """Rows that still run although their request is due (those that may be late excepted)."""
        slots = np.flatnonzero((self.state == RUNNING) & (self.doom_at < np.inf) & (self.told_at <= now))
        return slots[np.argsort(self.sequence[slots], kind="stable")]

    def next_running_due_at(self) -> float:
        runs = (self.state == RUNNING) & (self.doom_at < np.inf)
        return float(np.min(self.told_at, where=runs, initial=np.inf))

    def next_doom_at(self) -> float:
        held = (self.state == WAITING) | (self.state == PENDING)
        return float(np.min(self.doom_at, where=held, initial=np.inf))

    def next_ready_at(self) -> float:
        return float(np.min(self.ready_at, where=self.state == PENDING, initial=np.inf))

    def view(
        self, slots: Slots, now: float, workers: tuple[WorkerView, ...], enabled: npt.NDArray[np.bool_]
    ) -> View:
        """What a policy may see of these rows. `enabled`: bool [lanes, V], variants that can be run at
        all."""
        lane = self.lane[slots]
        return View(
            now=now,
            lanes=self._catalogue.lanes,
            workers=workers,
            lane=frozen(lane),
            arrived_at=frozen(self.arrived_at[slots]),
            due_at=frozen(self.due_at[slots]),
            deadline_s=frozen(self.deadline_s[slots]),
            penalty=frozen(self.penalty[slots]),
            width_s=frozen(self.width_s[slots]),
            tables=self._catalogue.tables,
            accuracy=frozen(self.accuracy[slots]),
            allowed=frozen(self.allowed[slots] & enabled[lane]),
            instant=frozen(self.instant[slots]),
            likely=frozen(self.likely[slots]),
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

    # ---- inside ----

    def _believe(self, a: int, slots: Slots, counts: npt.NDArray[np.float64], evidence: bool) -> None:
        app = self._catalogue.applications[a]
        theta = posterior_mean(np.array(app.prior), counts)
        classes, variants = len(app.classes), len(app.variants)
        self.theta[slots] = 0.0
        self.theta[slots, :classes] = theta
        self.accuracy[slots] = 0.0
        self.accuracy[slots, :variants] = expected_accuracy(
            theta, self._catalogue.recall[a], np.array(app.weights)
        )
        self.instant[slots] = self._catalogue.instant[a] if evidence else np.nan
        self.likely[slots] = likely(theta) if evidence else -1

    def _grow(self, capacity: int) -> None:
        old, n = self._capacity, capacity
        classes, variants = self._catalogue.classes, self._catalogue.variants
        blank: dict[str, npt.NDArray[np.generic]] = {
            "state": np.zeros(n, np.int8),
            "sequence": np.zeros(n, np.int64),
            "application": np.zeros(n, np.int32),
            "lane": np.zeros(n, np.int32),
            "arrived_at": np.zeros(n),
            "due_at": np.zeros(n),
            "told_at": np.zeros(n),
            "deadline_s": np.zeros(n),
            "quickest_s": np.zeros(n),
            "doom_at": np.zeros(n),
            "ready_at": np.zeros(n),
            "penalty": np.zeros(n, np.int32),
            "width_s": np.zeros(n),
            "allowed": np.zeros((n, variants), np.bool_),
            "theta": np.zeros((n, classes)),
            "accuracy": np.zeros((n, variants)),
            "instant": np.zeros(n),
            "likely": np.zeros(n, np.int32),
            "attempts": np.zeros(n, np.int32),
            "granted": np.zeros(n, np.bool_),
        }
        for name, column in blank.items():
            if old:
                column[:old] = getattr(self, name)
            setattr(self, name, column)
        self.request += [""] * (n - old)
        self.row += [0] * (n - old)
        self._free += list(range(n - 1, old - 1, -1))
        self._capacity = n
