"""The best of all plans for one window, and not only of those that some rule can think of.

The question. Rows wait, a machine runs batches one after another, and a plan is any sequence of batches: any
lane, any variant, any of the lane's rows up to the variant's largest batch, in any order. What a batch costs
and what it leaves behind is what `loops.py` says: a load where the weights are not resident, least recently
used ones evicted for it, and all rows of a batch end together. The value of a plan is the sum over its rows of
accuracy * (1 - penalty(finish - due)) (SneakPeek, eq. 2), and for a row without a place what it has without
one: the peek's answer, or nothing. A machine never waits on purpose: to start later was never worth more.

Labels. Two plans so far that have run the same rows and left the same weights in the same order of use differ
only in when they ended and in what they gained. Of two such *labels* (time, gain) the one that ended no
earlier and gained no more is dropped: whatever can follow it can follow the other as soon and be worth as
much. What remains is a Pareto front for each state (rows done, residency). States are taken in rising order of
the rows done as a binary number, so every label of a state is there when the first of them is extended.

What need not be tried. (1) A row in a batch that would be worth more, or as much, without a place: the batch
without it ends no later. (2) So a batch of such rows alone: it could only move its weights to the recent end.
That can save weights from eviction, so it is tried with one row, if weights can be evicted at all and these are
resident and not the last used. Were they absent, the plan without this batch would load them later for no more,
and until then hold all else that it would have held.

Bound. A label is cut when its gain, plus what each row still to come could gain at most, does not beat the best
plan known by more than `NEARLY`. A row gains most if it runs alone, next, with its load where the weights are
absent: time only grows, weights that become resident later were loaded in between, and latency never falls
with rows. Times are rounded down to a grid, on which these sums are kept; that only lifts the bound. Within a
batch of a given size the finish is known before its rows are, so the choice among rows is cut by the same sum.

Several machines share nothing but the rows: each has its own labels for every set of rows, with the bound taken
over all machines, and the best disjoint sets are put together at the end.

The work is counted in candidate labels, not in time, so that the same window gives the same plan on any
machine. When it runs out the answer says that it is not proven.
"""

from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Any

from peekserve.kernel import loops
from peekserve.kernel.window import Held, Machine, Window, used

NEARLY = 1e-9
# As many steps of the bound's grid between now and the last deadline.
STEPS = 200
# As many labels are kept at each step of the first, rough look.
GLANCE = 40

# A batch (lane, variant, rows as a binary number), and what led to it: (ended, gain, label before, batch).
Batch = tuple[int, int, int]
Label = tuple[float, float, Any, Batch | None]


@dataclass(frozen=True, slots=True)
class Solution:
    """`utility`: sum over rows. `batches`: for each machine (lane, variant, rows), in order; None where no plan was
    found that beats the one given. `proven`: no plan is better by more than NEARLY. `labels`: how many were looked
    at."""

    utility: float
    batches: tuple[tuple[tuple[int, int, tuple[int, ...]], ...], ...] | None
    proven: bool
    labels: int


class OutOfLabels(Exception):
    """As many labels were looked at as were allowed."""


def solve(window: Window, best: float, max_labels: int) -> Solution:
    """The best plan if it is worth more than `best`, a plan that the caller has.

    `max_labels`: how many labels may be looked at, all machines together.
    """
    search = Search(window, best, max_labels)
    proven = True
    try:
        for m in range(len(window.machines)):
            search.run(m)
        search.join()
    except OutOfLabels:
        proven = False
    rows = range(len(window.lane))
    batches = None
    if search.winner is not None:
        batches = tuple(
            tuple((lane, v, tuple(r for r in rows if taken >> r & 1)) for lane, v, taken in _unrolled(label))
            for label in search.winner
        )
    return Solution(search.best, batches, proven, search.labels)


def _unrolled(label: Label | None) -> list[Batch]:
    batches: list[Batch] = []
    while label is not None and label[3] is not None:
        batches.append(label[3])
        label = label[2]
    return batches[::-1]


class Search:
    """`best`: utility of the best plan so far, `winner` its last label on each machine, None while it is the caller's
    plan. `fronts`: for each machine the best label by set of rows."""

    def __init__(self, window: Window, best: float, max_labels: int) -> None:
        self.window = window
        self.best = best
        self.winner: list[Label | None] | None = None
        self.labels = 0
        self.max_labels = max_labels
        self.fronts: list[dict[int, Label]] = []
        self.sum_without = float(window.without.sum())
        self.rows = len(window.lane)
        self.due: list[float] = window.due_s.tolist()
        self.kind: list[int] = window.kind.tolist()
        self.width: list[float] = window.width_s.tolist()
        self.without: list[float] = window.without.tolist()
        self.accuracy: list[list[float]] = window.accuracy.tolist()
        # A constant penalty (kind 3) is paid in time, too.
        self.limit = [-inf if kind == 3 else due for kind, due in zip(self.kind, self.due, strict=True)]
        self.in_time: list[list[float]] = (window.accuracy - window.without[:, None]).tolist()
        self._after: dict[tuple[int, Held, int], tuple[Held, frozenset[int]]] = {}
        self.options = [self._options(machine) for machine in window.machines]
        last = max((d for d in self.due if d < 1e9), default=0.0)
        self.step = max(last, 1e-3) / STEPS
        self._ceilings: list[dict[tuple[frozenset[int], int], list[float]]] = [{} for _ in window.machines]
        self._elsewhere = self._at_best()

    def _options(self, machine: Machine) -> list[tuple[int, int, int, list[float], int, list[int]]]:
        """(lane, variant, weights, seconds by rows, largest batch, rows that may use it) that can run there."""
        found = []
        for i, lane in enumerate(self.window.lanes):
            for v, w in enumerate(lane.weights):
                seconds = machine.latency_s[i][v].tolist()
                rows = [r for r in range(self.rows) if self.window.lane[r] == i and self.window.allowed[r, v]]
                usable = machine.bytes[w] <= machine.budget and machine.load_s[w] < 1e300
                if rows and usable and seconds[1] < 1e300:
                    most = min(int(lane.max_batch[v]), len(seconds) - 1)
                    found.append((i, v, int(w), seconds, most, rows))
        return found

    # ---- what a row is worth -------------------------------------------------------------------------------

    def gain(self, row: int, v: int, finish: float) -> float:
        """Beyond what it has without a place; minus infinity where it may not have one."""
        if finish <= self.limit[row]:
            return self.in_time[row][v]
        late = finish - self.due[row]
        lost: float = loops.penalty(self.kind[row], self.width[row], late, *self.window.tables)
        if self.window.drop and lost >= 1.0 and late > 0.0:
            return -inf
        return self.accuracy[row][v] * (1.0 - lost) - self.without[row]

    def _ceiling(self, m: int, held: frozenset[int], at: float) -> list[float]:
        """For each row the most that it can gain, on this machine from `at` on or on another."""
        key = (held, int(at / self.step))
        known = self._ceilings[m].get(key)
        if known is None:
            known = list(self._elsewhere[m])
            # A little before the step begins, because of rounding: a bound may be too high, never too low.
            machine, begin = self.window.machines[m], key[1] * self.step - NEARLY
            for _, v, w, seconds, _, rows in self.options[m]:
                finish = begin + (0.0 if w in held else float(machine.load_s[w])) + seconds[1]
                for r in rows:
                    known[r] = max(known[r], self.gain(r, v, finish))
            self._ceilings[m][key] = known
        return known

    def _at_best(self) -> list[list[float]]:
        """For each machine, the most that each row can gain on one of the others."""
        own = []
        self._elsewhere = [[0.0] * self.rows for _ in self.window.machines]
        for m, machine in enumerate(self.window.machines):
            own.append(self._ceiling(m, frozenset(machine.resident), machine.free_s))
            self._ceilings[m].clear()
        return [
            [max((own[o][r] for o in range(len(own)) if o != m), default=0.0) for r in range(self.rows)]
            for m in range(len(own))
        ]

    # ---- one machine ---------------------------------------------------------------------------------------

    def run(self, m: int) -> None:
        """Every label of this machine that could be part of a plan that beats the best."""
        machine = self.window.machines[m]
        weights = {w for _, _, w, _, _, _ in self.options[m]} | set(machine.resident)
        # Where all that may be used fits beside one another, nothing is ever evicted and the order says nothing.
        evicts = sum(float(machine.bytes[w]) for w in weights) > machine.budget
        held: Held = machine.resident if evicts else tuple(sorted(machine.resident))
        start: Label = (machine.free_s, 0.0, None, None)
        self._glance(m, held, start, evicts)
        fronts: dict[int, dict[Held, list[Label]]] = {0: {held: [start]}}
        front: dict[int, Label] = {}
        queue = [0]
        while queue:
            done = heappop(queue)
            for held, labels in fronts.pop(done).items():
                for label in labels:
                    if done not in front or label[1] > front[done][1]:
                        front[done] = label
                    if self._ahead(m, done, frozenset(held), label) <= self.best + NEARLY:
                        continue  # the best has risen since it was made
                    for to, left, made in self._extended(m, done, held, label, evicts):
                        if to not in fronts:
                            fronts[to] = {}
                            heappush(queue, to)
                        if _insert(fronts[to].setdefault(left, []), made):
                            self._offer(m, made)
        self.fronts.append(front)

    def _glance(self, m: int, held: Held, start: Label, evicts: bool) -> None:
        """A good plan soon, which lets the bound cut more: only the `GLANCE` labels with the highest bound are
        extended, batch after batch."""
        beam = [(0, held, start)]
        while beam:
            fronts: dict[tuple[int, Held], list[Label]] = {}
            for done, held, label in beam:
                for to, left, made in self._extended(m, done, held, label, evicts):
                    if _insert(fronts.setdefault((to, left), []), made):
                        self._offer(m, made)
            ranked = [
                (self._ahead(m, done, frozenset(held), label), done, held, label)
                for (done, held), labels in fronts.items()
                for label in labels
            ]
            ranked.sort(key=lambda known: -known[0])
            beam = [(done, held, label) for _, done, held, label in ranked[:GLANCE]]

    def _ahead(self, m: int, done: int, held: frozenset[int], label: Label) -> float:
        """The bound of a label: a sum over all rows."""
        ceiling = self._ceiling(m, held, label[0])
        rest = sum([most for r, most in enumerate(ceiling) if not done >> r & 1])
        return self.sum_without + label[1] + rest

    def _offer(self, m: int, label: Label) -> None:
        if self.sum_without + label[1] > self.best + NEARLY:
            self.best = self.sum_without + label[1]
            self.winner = [label if o == m else None for o in range(len(self.window.machines))]

    def _extended(
        self, m: int, done: int, held: Held, label: Label, evicts: bool
    ) -> list[tuple[int, Held, Label]]:
        """(rows done, residency, label) after each batch that could come next."""
        machine = self.window.machines[m]
        found: list[tuple[int, Held, Label]] = []
        pending = [r for r in range(self.rows) if not done >> r & 1]
        for lane, v, w, seconds, most, able in self.options[m]:
            rows = [r for r in able if not done >> r & 1]
            if not rows:
                continue
            begin = label[0] + (0.0 if w in held else float(machine.load_s[w]))
            left, residents = self._left(m, held, w, evicts)
            touches = evicts and w in held and held[-1] != w
            # As long as none of them is late, the size changes nothing in what they gain.
            soonest = min([self.limit[r] for r in rows])
            gains = [(self.in_time[r][v], r) for r in rows]
            for size in range(1, min(most, len(rows)) + 1):
                finish = begin + seconds[size]
                if finish > soonest:
                    gains = [(self.gain(r, v, finish), r) for r in rows]
                useful = [known for known in gains if known[0] > 0.0]
                if touches and size == 1:
                    useful = [known for known in gains if known[0] > -inf]
                if len(useful) < size:
                    break
                ceiling = self._ceiling(m, residents, finish)
                spare = label[1] + sum([ceiling[r] for r in pending]) + self.sum_without - self.best - NEARLY
                # What choosing a row costs against the bound, below 0 where it gains more now than it could later;
                # the cheapest first, so that the rest can be cut.
                chosen = sorted([(ceiling[r] - g, r, g) for g, r in useful])
                if sum([cost for cost, _, _ in chosen if cost < 0.0]) >= spare:
                    break  # nor will more rows do: all that is summed here falls with the finish
                for taken, gained in self._chosen(chosen, size, spare):
                    after: Label = (finish, label[1] + gained, label, (lane, v, taken))
                    found.append((done | taken, left, after))
        return found

    def _left(self, m: int, held: Held, weights: int, evicts: bool) -> tuple[Held, frozenset[int]]:
        """The residency after a batch that needs these weights, in order and as a set."""
        known = self._after.get((m, held, weights))
        if known is None:
            left = used(self.window.machines[m], held, weights) if evicts else tuple(sorted({*held, weights}))
            known = self._after[m, held, weights] = left, frozenset(left)
        return known

    def _chosen(
        self, rows: list[tuple[float, int, float]], size: int, spare: float
    ) -> list[tuple[int, float]]:
        """Every choice of `size` of these rows, (cost, row, gain), that costs less than `spare`: (rows as a binary
        number, their gain)."""
        found: list[tuple[int, float]] = []
        # The cost of the first so many: those that follow a row cost no less, so the next ones are the cheapest.
        sums = [0.0]
        for cost, _, _ in rows:
            sums.append(sums[-1] + cost)
        stack = [(0, 0, 0, 0.0, 0.0)]
        while stack:
            at, many, taken, cost, gained = stack.pop()
            left = size - many
            for i in range(at, len(rows) - left + 1):
                if cost + sums[i + left] - sums[i] >= spare:
                    break
                self.labels += 1
                if self.labels > self.max_labels:
                    raise OutOfLabels
                now = (i + 1, many + 1, taken | 1 << rows[i][1], cost + rows[i][0], gained + rows[i][2])
                if many + 1 == size:
                    found.append((now[2], now[4]))
                else:
                    stack.append(now)
        return found

    # ---- several machines ----------------------------------------------------------------------------------

    def join(self) -> None:
        """The best disjoint sets of rows, one for each machine."""
        if len(self.fronts) < 2:
            return
        joined: dict[int, tuple[float, tuple[Label, ...]]] = {0: (0.0, ())}
        ceiling = [max(self._elsewhere[m][r] for m in range(len(self.fronts))) for r in range(self.rows)]
        for front in self.fronts:
            grown: dict[int, tuple[float, tuple[Label, ...]]] = {}
            for mine, (gain, labels) in joined.items():
                for theirs, label in front.items():
                    self.labels += 1
                    if self.labels > self.max_labels:
                        raise OutOfLabels
                    both = mine | theirs
                    if mine & theirs or (both in grown and grown[both][0] >= gain + label[1]):
                        continue
                    rest = sum(ceiling[r] for r in range(self.rows) if not both >> r & 1)
                    if self.sum_without + gain + label[1] + rest > self.best + NEARLY or not both:
                        grown[both] = (gain + label[1], (*labels, label))
            joined = grown
        for gain, labels in joined.values():
            if self.sum_without + gain > self.best + NEARLY:
                self.best, self.winner = self.sum_without + gain, list(labels)


def _insert(labels: list[Label], new: Label) -> bool:
    """Put a label into a front unless one there is as early and as good; drop those that it makes useless."""
    for ended, gain, _, _ in labels:
        if ended <= new[0] and gain >= new[1]:
            return False
    labels[:] = [label for label in labels if label[0] < new[0] or label[1] > new[1]]
    labels.append(new)
    return True
