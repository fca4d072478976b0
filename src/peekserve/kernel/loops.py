"""The innermost loops of the five SneakPeek policies, as plain array code.

The question. A view of the backlog has been cut into *items*: rows of one lane (an application and a shape
bucket) that one variant shall serve. A policy that looks at requests one by one hands in an item for each
row, a policy that groups hands in an item for each group. An answer gives each item a variant on a worker, or
the peek's own answer, and an order. Its value is the sum over rows of

    utility = accuracy[row, variant] * (1 - penalty(finish - due))        (SneakPeek, eq. 2)

where accuracy is whatever the policy believes, and all times are seconds from now.

Finish. An item placed on a worker is run in consecutive chunks of at most `max_batch` rows. All rows of a
chunk start and finish together: finish = start + load + latency(variant, rows), where start is when the
worker has done all before it. Latency by rows never falls. If the last batch of the worker has the same lane
and variant and room left, and `merge` is on, the first chunk extends that batch instead, which then finishes
at its own start + latency(rows of both); that is accepted only if no row that was in it before loses utility.

Residency. A worker holds weights under a budget of bytes, least recently used first. Using weights moves them
to the recent end. Absent ones cost `load_s`, and before that the least recently used are evicted until they
fit. Weights larger than the whole budget cannot be used. The list is carried along the plan, so what one item
evicts the next one has to load again.

Rows left out. With `drop`, a batch is of no use to a row that would be late in it and lose all to the
penalty; with `rescue`, neither to a row that the peek's answer, given now, serves better. The chunk is then
the largest number c of rows such that c of them can use a batch of c, the first such in order; the rows
passed over stay, or are rescued, and the rest go on to the next chunk. A chunk of nothing costs nothing: no
load, no time.

The peek's answer is a candidate for an item when each of its rows has one: latency 0, finish = now, no
worker. `worth[row]` is what it is worth (profiled accuracy, less the penalty of a row already overdue), -1
for none.

Greedy (Algorithm 1, second half): the items in the order given, each at the worker and variant that adds
most; ties go to the earlier finish, then to the lower worker, then to the lower variant.

Exact (Algorithm 1, first half), for one worker: depth first over all orders and choices. The peek's answer
touches no worker, so it need be tried only ahead of all models and in rising order of items. A branch is cut
when what it has gained plus an upper bound of the rest cannot beat the best plan so far, which at first is
the greedy one. The bound of an item still to come: the best over variants of the sum over its rows of the
utility each would have if its chunk held nothing else and started as soon as the worker is free (or if it
alone joined the last batch), and the peek's worth where that is more. It is never too low, because (1) time
on the worker only grows, also where other items load what this one needs, (2) weights that are resident later
without being so now were loaded in between, and that took at least load_s, (3) latency never falls with rows
and a penalty never falls with lateness. Work is counted in rows looked at, not in time, so the same view has
the same plan on any machine; when it runs out, the best plan so far is returned and said not to be proven.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import cython
except ImportError:
    from peekserve.kernel import _shim as cython  # type: ignore[no-redef]

if cython.compiled:
    from cython.cimports.libc.math import log
else:
    from math import log

if not cython.compiled:  # in the extension these are part of the same module
    from peekserve.kernel.penalty import (
        CONSTANT,
        LINEAR,
        REACH,
        SIGMOID,
        STEP,
        STEPS,
        TANH,
        _flags,
        _floats,
        _held,
        _ints,
        _lost,
        _penalty,
    )
    from peekserve.kernel.penalty import instant_worth as instant_worth
    from peekserve.kernel.penalty import penalty as penalty

# What a choice may be besides a variant's index.
INSTANT = cython.declare(cython.longlong, -1)
STAYS = cython.declare(cython.longlong, -2)

# Why a batch was not made larger.
POLICY = cython.declare(cython.longlong, 0)
FULL = cython.declare(cython.longlong, 1)
DEADLINE = cython.declare(cython.longlong, 2)

# A prime near 2 to the power of 46.
MANY = cython.declare(cython.longlong, 70368744177643)

# Sums of the same numbers in another order differ by less than this.
NEARLY = cython.declare(cython.double, 1e-9)


@cython.cclass
class Problem:
    """Items to place on workers: read-only data, and the state of a plan in the making.

    A *slot* is the state of a worker at one point of a plan. Greedy has a slot for each worker; the search
    has one worker and a slot for each depth, so that going back costs nothing.
    """

    # Lanes: number of variants i8[L]; weights, max batch i8[L, V].
    variants: cython.const[cython.longlong][::1]
    weights: cython.const[cython.longlong][:, ::1]
    max_batch: cython.const[cython.longlong][:, ::1]
    # Workers: all latency tables end to end, where each [W, L] begins and how long a variant's line is.
    latency: cython.const[cython.double][::1]
    latency_at: cython.const[cython.longlong][:, ::1]
    latency_line: cython.const[cython.longlong][:, ::1]
    load_s: cython.const[cython.double][:, ::1]
    size: cython.const[cython.double][:, ::1]
    budget: cython.const[cython.double][::1]
    free_s: cython.const[cython.double][::1]
    resident: cython.const[cython.longlong][:, ::1]
    residents: cython.const[cython.longlong][::1]
    # Rows.
    due: cython.const[cython.double][::1]
    kind: cython.const[cython.longlong][::1]
    width: cython.const[cython.double][::1]
    accuracy: cython.const[cython.double][:, ::1]
    allowed: cython.const[cython.uchar][:, ::1]
    worth: cython.const[cython.double][::1]
    until: cython.double[::1]
    x: cython.const[cython.double][::1]
    p: cython.const[cython.double][::1]
    start: cython.const[cython.longlong][::1]
    # Items: rows[item_start[k] : item_start[k + 1]], the most urgent first.
    item_lane: cython.const[cython.longlong][::1]
    item_start: cython.const[cython.longlong][::1]
    rows: cython.const[cython.longlong][::1]
    # Switches.
    merge: cython.bint
    drop: cython.bint
    short_circuit: cython.bint
    rescue: cython.bint
    by_accuracy: cython.bint
    # Slots: when free, weights least recently used first, and the last batch.
    free: cython.double[::1]
    lru: cython.longlong[:, ::1]
    lru_n: cython.longlong[::1]
    last_lane: cython.longlong[::1]
    last_variant: cython.longlong[::1]
    last_start: cython.double[::1]
    last_rows: cython.longlong[::1]
    last_tight: cython.double[::1]
    last_batch: cython.longlong[::1]
    last_head: cython.longlong[::1]
    link: cython.longlong[::1]
    keep: cython.uchar[::1]
    # What came of the last call of `_timed` and `_place`.
    sum: cython.double
    taken: cython.Py_ssize_t
    when: cython.double
    kept: cython.Py_ssize_t
    squeezed: cython.bint
    # The plan.
    row_batch: cython.longlong[::1]
    row_rank: cython.longlong[::1]
    row_instant: cython.uchar[::1]
    batch_worker: cython.longlong[::1]
    batch_lane: cython.longlong[::1]
    batch_variant: cython.longlong[::1]
    batch_closed: cython.longlong[::1]
    batches: cython.Py_ssize_t
    ranks: cython.Py_ssize_t
    utility: cython.double
    floor: cython.double
    # What `rebalance` knows of an item on a worker, by what that has been given before.
    known: cython.bint
    given: cython.longlong[::1]
    known_given: cython.longlong[::1]
    known_work: cython.longlong[::1]
    known_value: cython.double[:, ::1]
    known_finish: cython.double[:, ::1]
    # A plan set aside.
    aside: cython.longlong[::1]
    aside_instant: cython.uchar[::1]
    aside_batches: cython.Py_ssize_t
    # The search.
    slots: cython.Py_ssize_t
    best_item: cython.longlong[::1]
    best_variant: cython.longlong[::1]
    best_worker: cython.longlong[::1]
    kept_worker: cython.longlong[::1]
    kept_variant: cython.longlong[::1]
    best: cython.double
    path_item: cython.longlong[::1]
    path_variant: cython.longlong[::1]
    used: cython.uchar[::1]
    child_item: cython.longlong[:, ::1]
    child_variant: cython.longlong[:, ::1]
    child_value: cython.double[:, ::1]
    child_key: cython.double[:, ::1]
    children: cython.longlong[::1]
    child_at: cython.longlong[::1]
    gained: cython.double[::1]
    instants_to: cython.longlong[::1]
    ceiling: cython.double[::1]
    on_time: cython.double[:, ::1]
    soonest_due: cython.double[::1]
    brothers: cython.uchar[::1]
    work: cython.longlong

    def __init__(
        self,
        lanes: Any,
        workers: Any,
        rows: Any,
        tables: Any,
        items: Any,
        switches: Any,
        search_items: int = 0,
    ) -> None:
        """Take the arrays in.

        `lanes`: (variants i8[L], weights i8[L, V], max_batch i8[L, V]). `workers`: (latency f8[:], latency_at
        i8[W, L], latency_line i8[W, L], load_s f8[W, M], size f8[W, M], budget f8[W], free_s f8[W], resident
        i8[W, M], residents i8[W]). `rows`: (due f8[n], kind i8[n], width f8[n], accuracy f8[n, V], allowed
        u1[n, V], worth f8[n]). `tables`: (x f8[:], p f8[:], start i8[tables + 1]). `items`: (item_lane i8[K],
        item_start i8[K + 1], rows i8[:]). `switches`: (merge, drop, short_circuit, rescue, by_accuracy).
        `search_items`: the most items that `search` will have to order; more are left to `greedy`.
        """
        count: cython.Py_ssize_t = len(rows[0])
        at: cython.Py_ssize_t
        depth: cython.Py_ssize_t
        wide: cython.Py_ssize_t
        row: cython.Py_ssize_t
        self.variants = _held(lanes[0], np.int64)
        self.weights = _held(lanes[1], np.int64)
        self.max_batch = _held(lanes[2], np.int64)
        self.latency = _held(workers[0], np.float64)
        self.latency_at = _held(workers[1], np.int64)
        self.latency_line = _held(workers[2], np.int64)
        self.load_s = _held(workers[3], np.float64)
        self.size = _held(workers[4], np.float64)
        self.budget = _held(workers[5], np.float64)
        self.free_s = _held(workers[6], np.float64)
        self.resident = _held(workers[7], np.int64)
        self.residents = _held(workers[8], np.int64)
        self.due = _held(rows[0], np.float64)
        self.kind = _held(rows[1], np.int64)
        self.width = _held(rows[2], np.float64)
        self.accuracy = _held(rows[3], np.float64)
        self.allowed = _held(rows[4], np.uint8)
        self.x = _held(tables[0], np.float64)
        self.p = _held(tables[1], np.float64)
        self.start = _held(tables[2], np.int64)
        self.take(items)
        self.merge = switches[0]
        self.drop = switches[1]
        self.by_accuracy = switches[4]
        self.short_circuit = bool(switches[2]) and not switches[4]
        self.rescue = bool(switches[3]) and self.short_circuit
        self.worth = _held(rows[5] if self.short_circuit else np.full(count, -1.0), np.float64)

        depth = search_items + 1
        self.slots = max(self.free_s.shape[0], depth)
        # One piece of memory for each type, cut up: forty small ones take longer to get than a small plan to make.
        ints: cython.longlong[::1] = _ints(6 * self.slots + 18 * count + 5 * depth)
        self.lru_n = ints[: self.slots]
        self.last_lane = ints[self.slots : 2 * self.slots]
        self.last_variant = ints[2 * self.slots : 3 * self.slots]
        self.last_rows = ints[3 * self.slots : 4 * self.slots]
        self.last_batch = ints[4 * self.slots : 5 * self.slots]
        self.last_head = ints[5 * self.slots : 6 * self.slots]
        at = 6 * self.slots
        self.link = ints[at : at + count]
        self.row_batch = ints[at + count : at + 2 * count]
        self.row_rank = ints[at + 2 * count : at + 3 * count]
        self.batch_worker = ints[at + 3 * count : at + 4 * count]
        self.batch_lane = ints[at + 4 * count : at + 5 * count]
        self.batch_variant = ints[at + 5 * count : at + 6 * count]
        self.batch_closed = ints[at + 6 * count : at + 7 * count]
        self.best_item = ints[at + 7 * count : at + 8 * count]
        self.best_variant = ints[at + 8 * count : at + 9 * count]
        self.best_worker = ints[at + 9 * count : at + 10 * count]
        self.kept_worker = ints[at + 10 * count : at + 11 * count]
        self.kept_variant = ints[at + 11 * count : at + 12 * count]
        self.aside = ints[at + 12 * count : at + 18 * count]
        at += 18 * count
        self.path_item = ints[at : at + depth]
        self.path_variant = ints[at + depth : at + 2 * depth]
        self.children = ints[at + 2 * depth : at + 3 * depth]
        self.child_at = ints[at + 3 * depth : at + 4 * depth]
        self.instants_to = ints[at + 4 * depth : at + 5 * depth]
        reals: cython.double[::1] = _floats(3 * self.slots + 3 * depth)
        self.free = reals[: self.slots]
        self.last_start = reals[self.slots : 2 * self.slots]
        self.last_tight = reals[2 * self.slots : 3 * self.slots]
        at = 3 * self.slots
        self.gained = reals[at : at + depth]
        self.ceiling = reals[at + depth : at + 2 * depth]
        self.soonest_due = reals[at + 2 * depth : at + 3 * depth]
        flags: cython.uchar[::1] = _flags(3 * count + 2 * depth)
        self.keep = flags[:count]
        self.row_instant = flags[count : 2 * count]
        self.used = flags[2 * count : 2 * count + depth]
        self.brothers = flags[2 * count + depth : 2 * count + 2 * depth]
        self.aside_instant = flags[2 * count + 2 * depth :]
        self.aside_batches = 0
        self.known = False
        self.floor = -1e300
        self.given = _ints(self.slots)
        wide = (depth - 1) * (self.weights.shape[1] + 1)
        self.lru = _ints(self.slots, max(self.resident.shape[1], 1))
        self.child_item = _ints(depth, wide)
        self.child_variant = _ints(depth, wide)
        self.child_value = _floats(depth, wide)
        self.child_key = _floats(depth, wide)
        self.on_time = _floats(depth, self.weights.shape[1])
        self.work = 0
        self.until = _floats(count)
        for row in range(count):
            self.until[row] = self._of_use_until(row)
        self._reset()

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _of_use_until(self, row: cython.Py_ssize_t) -> cython.double:
        """No batch that finishes later is the place for this row, whatever its variant: `_useful` says so, too, but
        takes longer. There may be an earlier such instant."""
        v: cython.Py_ssize_t
        most: cython.double = 0.0
        least: cython.double = 0.0
        kept: cython.double
        if self.rescue and self.worth[row] > 0.0:
            least = self.worth[row]
        if self.kind[row] >= CONSTANT or (not self.drop and least == 0.0):
            return 1e300
        if self.kind[row] == STEP:
            return self.due[row]
        for v in range(self.accuracy.shape[1]):
            if self.accuracy[row, v] > most:
                most = self.accuracy[row, v]
        # The share of the accuracy that has to be left, a little less because of rounding.
        kept = (least - NEARLY) / most if most > 0.0 else 1.0
        if kept >= 1.0:
            return -1e300
        if self.kind[row] == LINEAR:
            return self.due[row] + self.width[row] * (1.0 - kept if kept > 0.0 else 1.0) + NEARLY
        if kept <= 1e-15:
            return self.due[row] + 40.0 * self.width[row] + NEARLY
        # Of the sigmoid the hyperbolic tangent of late / (2 * width) is lost.
        return self.due[row] + self.width[row] * (log((2.0 - kept) / kept) + NEARLY) + NEARLY

    def items(self) -> tuple[Any, ...]:
        """The items that it holds, for `take`."""
        return np.array(self.item_lane), np.array(self.item_start), np.array(self.rows)

    def take(self, items: Any) -> None:
        """Other items of the same rows on the same workers; as at the constructor, which takes the first."""
        self.item_lane = _held(items[0], np.int64)
        self.item_start = _held(items[1], np.int64)
        self.rows = _held(items[2], np.int64)

    # ---- what a plan's state is made of --------------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _reset(self) -> cython.void:
        s: cython.Py_ssize_t
        i: cython.Py_ssize_t
        w: cython.Py_ssize_t
        for s in range(self.slots):
            w = s if s < self.free_s.shape[0] else 0
            if w >= self.free_s.shape[0]:
                break
            self.free[s] = self.free_s[w]
            self.lru_n[s] = self.residents[w]
            for i in range(self.residents[w]):
                self.lru[s, i] = self.resident[w, i]
            self.last_lane[s] = -1
            self.last_variant[s] = -1
            self.last_start[s] = 0.0
            self.last_rows[s] = 0
            self.last_tight[s] = 0.0
            self.last_batch[s] = -1
            self.last_head[s] = -1
            self.given[s] = 1
        for i in range(self.due.shape[0]):
            self.row_batch[i] = -1
            self.row_rank[i] = -1
            self.row_instant[i] = 0
        self.batches = 0
        self.ranks = 0
        self.utility = 0.0

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _copy(self, s: cython.Py_ssize_t, to: cython.Py_ssize_t) -> cython.void:
        i: cython.Py_ssize_t
        self.free[to] = self.free[s]
        self.lru_n[to] = self.lru_n[s]
        for i in range(self.lru_n[s]):
            self.lru[to, i] = self.lru[s, i]
        self.last_lane[to] = self.last_lane[s]
        self.last_variant[to] = self.last_variant[s]
        self.last_start[to] = self.last_start[s]
        self.last_rows[to] = self.last_rows[s]
        self.last_tight[to] = self.last_tight[s]
        self.last_batch[to] = self.last_batch[s]
        self.last_head[to] = self.last_head[s]

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _seconds(
        self, w: cython.Py_ssize_t, lane: cython.Py_ssize_t, v: cython.Py_ssize_t, n: cython.Py_ssize_t
    ) -> cython.double:
        return self.latency[self.latency_at[w, lane] + v * self.latency_line[w, lane] + n]

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _load(self, w: cython.Py_ssize_t, s: cython.Py_ssize_t, weights: cython.longlong) -> cython.double:
        """Seconds until the weights are resident in this slot: 0 when they are."""
        i: cython.Py_ssize_t
        for i in range(self.lru_n[s]):
            if self.lru[s, i] == weights:
                return 0.0
        return self.load_s[w, weights]

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _use(self, w: cython.Py_ssize_t, s: cython.Py_ssize_t, weights: cython.longlong) -> cython.void:
        """Move the weights to the recent end; if absent, first evict from the other end until they fit."""
        i: cython.Py_ssize_t
        n: cython.Py_ssize_t = self.lru_n[s]
        at: cython.Py_ssize_t = n
        gone: cython.Py_ssize_t = 0
        held: cython.double = 0.0
        for i in range(n - 1, -1, -1):
            if self.lru[s, i] == weights:
                at = i
                break
        if at < n:
            for i in range(at, n - 1):
                self.lru[s, i] = self.lru[s, i + 1]
            self.lru[s, n - 1] = weights
            return
        for i in range(n):
            held += self.size[w, self.lru[s, i]]
        while gone < n and held + self.size[w, weights] > self.budget[w]:
            held -= self.size[w, self.lru[s, gone]]
            gone += 1
        for i in range(gone, n):
            self.lru[s, i - gone] = self.lru[s, i]
        self.lru[s, n - gone] = weights
        self.lru_n[s] = n - gone + 1

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _can(self, k: cython.Py_ssize_t, w: cython.Py_ssize_t, v: cython.Py_ssize_t) -> cython.bint:
        """Whether this variant may serve the item on this worker at all, whatever the state."""
        lane: cython.Py_ssize_t = self.item_lane[k]
        weights: cython.Py_ssize_t = self.weights[lane, v]
        if not self.allowed[self.rows[self.item_start[k]], v]:
            return False
        if self.size[w, weights] > self.budget[w] or not self.load_s[w, weights] < 1e300:
            return False
        return self._seconds(w, lane, v, 1) < 1e300

    # ---- one item, one worker, one variant -----------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _gamma(self, row: cython.Py_ssize_t, finish: cython.double) -> cython.double:
        # Apart, because handing over tables takes longer than all other kinds do.
        if self.kind[row] <= CONSTANT:
            return _lost(self.kind[row], self.width[row], finish - self.due[row])
        return _penalty(self.kind[row], self.width[row], finish - self.due[row], self.x, self.p, self.start)

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _gamma_at_least(self, row: cython.Py_ssize_t, finish: cython.double) -> cython.double:
        """The penalty, or where there is a floor, and so no need to count work as without, a little less."""
        late: cython.double = finish - self.due[row]
        if self.floor > -1e299 and self.kind[row] == SIGMOID and 0.0 < late < 2.0 * REACH * self.width[row]:
            return TANH[cython.cast(cython.Py_ssize_t, late / (2.0 * self.width[row]) * STEPS)]
        return self._gamma(row, finish)

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _useful(self, row: cython.Py_ssize_t, v: cython.Py_ssize_t, finish: cython.double) -> cython.bint:
        """Whether a batch that finishes then is the place for this row."""
        late: cython.double = finish - self.due[row]
        share: cython.double = self.accuracy[row, v]
        lost: cython.double
        at: cython.Py_ssize_t
        # All that is decided before the penalty is known to the last bit.
        if finish > self.until[row]:
            return False
        if self.rescue and share < self.worth[row]:
            return False
        if self.kind[row] != CONSTANT:
            if late <= 0.0:
                return True
            if self.kind[row] == SIGMOID and late < 2.0 * REACH * self.width[row]:
                if not self.rescue:
                    return True
                at = cython.cast(cython.Py_ssize_t, late / (2.0 * self.width[row]) * STEPS)
                if share * (1.0 - TANH[at]) < self.worth[row] - NEARLY:
                    return False
                if share * (1.0 - TANH[at + 1]) > self.worth[row] + NEARLY:
                    return True
        lost = self._gamma(row, finish)
        if self.drop and lost >= 1.0 and finish > self.due[row]:
            return False
        return not (self.rescue and self.accuracy[row, v] * (1.0 - lost) < self.worth[row])

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _fill(
        self, i: cython.Py_ssize_t, n: cython.Py_ssize_t, v: cython.Py_ssize_t, finish: cython.double
    ) -> cython.Py_ssize_t:
        """Number of useful rows among rows[i : i + n] in a batch that finishes then."""
        j: cython.Py_ssize_t
        count: cython.Py_ssize_t = 0
        for j in range(i, i + n):
            if self._useful(self.rows[j], v, finish):
                count += 1
        self.work += n
        return count

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _timed(
        self,
        i: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
        w: cython.Py_ssize_t,
        lane: cython.Py_ssize_t,
        v: cython.Py_ssize_t,
        begin: cython.double,
        aboard: cython.Py_ssize_t,
    ) -> cython.Py_ssize_t:
        """Fill a batch that begins then, beside `aboard` others, from rows[i : i + n]: the number of rows on
        board.

        They are marked in `keep`. Leaves the finish in `when`, the end of the rows that were dealt with in
        `taken`, and what those are worth, the rescued included, in `sum`.
        """
        j: cython.Py_ssize_t = i
        row: cython.Py_ssize_t
        middle: cython.Py_ssize_t
        beyond: cython.Py_ssize_t
        fit: cython.Py_ssize_t
        size: cython.Py_ssize_t = n
        kept: cython.Py_ssize_t = 0
        total: cython.double = 0.0
        finish: cython.double = begin + self._seconds(w, lane, v, aboard + n)
        if self.drop or self.rescue:
            if self._nobody(i, n, w, lane, v, begin, aboard):
                return 0
            size = self._fill(i, n, v, finish)
        if size < n:
            for j in range(i, i + n):
                self.squeezed = self.squeezed or finish > self.due[self.rows[j]]
            # The larger a batch, the later it ends and the fewer rows it is of use to: halve between what is
            # known to fit and what is not.
            beyond = min(n, self._fill(i, n, v, begin + self._seconds(w, lane, v, aboard + 1)) + 1)
            while beyond - size > 1:
                middle = (size + beyond) // 2
                fit = self._fill(i, n, v, begin + self._seconds(w, lane, v, aboard + middle))
                if fit >= middle:
                    size = middle
                    beyond = min(beyond, fit + 1)
                else:
                    beyond = middle
            finish = begin + self._seconds(w, lane, v, aboard + (size if size > 0 else 1))
        j = i
        while j < i + n and (kept < size or size == 0):
            row = self.rows[j]
            if size == n or self._useful(row, v, finish):
                self.keep[row] = 1
                kept += 1
                total += self.accuracy[row, v] * (1.0 - self._gamma(row, finish))
            else:
                self.keep[row] = 0
                if self.rescue and self.worth[row] > 0.0:
                    total += self.worth[row]
            j += 1
        self.work += j - i
        self.when = finish
        self.sum = total
        self.taken = j
        return kept

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _nobody(
        self,
        i: cython.Py_ssize_t,
        n: cython.Py_ssize_t,
        w: cython.Py_ssize_t,
        lane: cython.Py_ssize_t,
        v: cython.Py_ssize_t,
        begin: cython.double,
        aboard: cython.Py_ssize_t,
    ) -> cython.bint:
        """Whether even a batch of one comes too late for all of these rows; then all is as `_timed` would leave it."""
        j: cython.Py_ssize_t
        row: cython.Py_ssize_t
        total: cython.double = 0.0
        soonest: cython.double = 1e300
        finish: cython.double = begin + self._seconds(w, lane, v, aboard + 1)
        for j in range(i, i + n):
            row = self.rows[j]
            if finish <= self.until[row]:
                return False
            soonest = min(soonest, self.due[row])
            self.keep[row] = 0
            if self.rescue and self.worth[row] > 0.0:
                total += self.worth[row]
        self.squeezed = self.squeezed or begin + self._seconds(w, lane, v, aboard + n) > soonest
        self.work += 3 * n
        self.when = finish
        self.sum = total
        self.taken = i + n
        return True

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _harmless(self, s: cython.Py_ssize_t, v: cython.Py_ssize_t, finish: cython.double) -> cython.bint:
        """Whether no row of the slot's last batch loses utility when that batch finishes at `finish`."""
        row: cython.Py_ssize_t
        if finish <= self.last_tight[s]:
            return True
        row = self.last_head[s]
        while row >= 0:
            self.work += 1
            if self.accuracy[row, v] > 0.0 and self._gamma(row, finish) > self._gamma(row, self.free[s]):
                return False
            row = self.link[row]
        return True

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _board(
        self,
        i: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        s: cython.Py_ssize_t,
        kept: cython.Py_ssize_t,
        record: cython.bint,
    ) -> cython.void:
        """Put the kept ones of rows[i : end] into the slot's last batch; the others take the peek's answer
        or stay."""
        j: cython.Py_ssize_t
        row: cython.Py_ssize_t
        for j in range(i, end):
            row = self.rows[j]
            if self.keep[row]:
                self.link[row] = self.last_head[s]
                self.last_head[s] = row
                if self.due[row] < self.last_tight[s]:
                    self.last_tight[s] = self.due[row]
                if record:
                    self.row_batch[row] = self.last_batch[s]
                    self.row_rank[row] = self.ranks
                    self.ranks += 1
            elif record and self.rescue and self.worth[row] > 0.0:
                self.row_instant[row] = 1
        self.last_rows[s] += kept

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _close(self, s: cython.Py_ssize_t, lane: cython.Py_ssize_t, v: cython.Py_ssize_t) -> cython.void:
        if self.last_rows[s] >= self.max_batch[lane, v]:
            self.batch_closed[self.last_batch[s]] = FULL
        elif self.squeezed:
            self.batch_closed[self.last_batch[s]] = DEADLINE

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _place(
        self,
        k: cython.Py_ssize_t,
        w: cython.Py_ssize_t,
        s: cython.Py_ssize_t,
        v: cython.Py_ssize_t,
        commit: cython.bint,
        record: cython.bint,
    ) -> cython.double:
        """Utility of the item on this worker, from this slot on; its finish is in `when`, its rows on board
        in `kept`.

        `commit` moves the slot to the end of the item; `record` also writes the batches down.
        """
        lane: cython.Py_ssize_t = self.item_lane[k]
        cap: cython.Py_ssize_t = self.max_batch[lane, v]
        i: cython.Py_ssize_t = self.item_start[k]
        end: cython.Py_ssize_t = self.item_start[k + 1]
        n: cython.Py_ssize_t
        kept: cython.Py_ssize_t
        boarded: cython.Py_ssize_t = 0
        total: cython.double = 0.0
        begin: cython.double = self.free[s]
        load: cython.double
        joins: cython.bint = (
            self.merge and self.last_lane[s] == lane and self.last_variant[s] == v and self.last_rows[s] < cap
        )
        self.squeezed = False
        if joins:
            n = min(cap - self.last_rows[s], end - i)
            kept = self._timed(i, n, w, lane, v, self.last_start[s], self.last_rows[s])
            if kept > 0 and self._harmless(s, v, self.when):
                begin = self.when
                total += self.sum
                boarded += kept
                if commit:
                    self.free[s] = begin
                    self._board(i, self.taken, s, kept, record)
                    if record:
                        self._close(s, lane, v)
                i = self.taken
            elif record:
                self.batch_closed[self.last_batch[s]] = DEADLINE
        load = self._load(w, s, self.weights[lane, v])
        while i < end:
            self.squeezed = False
            n = min(cap, end - i)
            kept = self._timed(i, n, w, lane, v, begin + load, 0)
            total += self.sum
            if kept > 0:
                if commit:
                    self._use(w, s, self.weights[lane, v])
                    self.free[s] = self.when
                    self.last_lane[s] = lane
                    self.last_variant[s] = v
                    self.last_start[s] = begin + load
                    self.last_rows[s] = 0
                    self.last_tight[s] = 1e300
                    self.last_head[s] = -1
                    if record:
                        self.last_batch[s] = self.batches
                        self.batch_worker[self.batches] = w
                        self.batch_lane[self.batches] = lane
                        self.batch_variant[self.batches] = v
                        self.batch_closed[self.batches] = POLICY
                        self.batches += 1
                begin = self.when
                boarded += kept
                load = 0.0
            if commit:
                self._board(i, self.taken, s, kept, record)
                if record and kept > 0:
                    self._close(s, lane, v)
            i = self.taken
        self.when = begin
        self.kept = boarded
        return total

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _instant(self, k: cython.Py_ssize_t) -> cython.double:
        """Utility of the peek's answer for all rows of an item; -1 when it is no candidate."""
        i: cython.Py_ssize_t
        total: cython.double = 0.0
        if not self.short_circuit:
            return -1.0
        for i in range(self.item_start[k], self.item_start[k + 1]):
            if self.worth[self.rows[i]] < 0.0:
                return -1.0
            total += self.worth[self.rows[i]]
        self.work += self.item_start[k + 1] - self.item_start[k]
        # Rows that are overdue and worth nothing are left to the core, as `drop` does with those that models
        # cannot serve.
        return -1.0 if self.drop and total <= 0.0 else total

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _answer(self, k: cython.Py_ssize_t) -> cython.void:
        i: cython.Py_ssize_t
        for i in range(self.item_start[k], self.item_start[k + 1]):
            self.row_instant[self.rows[i]] = 1

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _accuracy(self, k: cython.Py_ssize_t, v: cython.Py_ssize_t) -> cython.double:
        i: cython.Py_ssize_t
        total: cython.double = 0.0
        for i in range(self.item_start[k], self.item_start[k + 1]):
            total += self.accuracy[self.rows[i], v]
        return total

    # ---- Algorithm 1, second half --------------------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _greedy(self, first: cython.Py_ssize_t) -> cython.void:
        k: cython.Py_ssize_t
        w: cython.Py_ssize_t
        v: cython.Py_ssize_t
        best_w: cython.Py_ssize_t
        best_v: cython.longlong
        best: cython.double
        best_finish: cython.double
        value: cython.double
        finish: cython.double
        at: cython.Py_ssize_t
        seen: cython.bint
        before: cython.longlong
        for k in range(first, self.item_lane.shape[0]):
            best_w = 0
            best_v = STAYS
            best_finish = -1e300
            best = self._instant(k)
            if best >= 0.0:
                best_v = INSTANT
            for w in range(self.free_s.shape[0]):
                seen = False
                at = k * self.free_s.shape[0] + w
                if self.known:
                    seen = self.known_given[at] == self.given[w]
                    self.known_given[at] = self.given[w]
                    if seen:
                        self.work += self.known_work[at]
                before = self.work
                for v in range(self.variants[self.item_lane[k]]):
                    if not self._can(k, w, v):
                        continue
                    if seen:
                        value = self.known_value[at, v]
                        finish = self.known_finish[at, v]
                    else:
                        value = self._place(k, w, w, v, False, False)
                        finish = self.when
                        if self.known:
                            self.known_value[at, v] = value
                            self.known_finish[at, v] = finish
                    if self.by_accuracy:
                        value = self._accuracy(k, v)
                        # Where none of its rows find a place, a worker is done at once, which is no reason to
                        # choose it.
                        finish = finish if self.kept > 0 else 1e300
                    if value > best or (value == best and finish < best_finish):
                        best = value
                        best_finish = finish
                        best_w = w
                        best_v = v
                if self.known and not seen:
                    self.known_work[at] = self.work - before
            self.best_item[k] = k
            self.best_variant[k] = best_v
            self.best_worker[k] = best_w
            self._carry_out(k, best_w, best_w, best_v)

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _carry_out(
        self, k: cython.Py_ssize_t, w: cython.Py_ssize_t, s: cython.Py_ssize_t, v: cython.longlong
    ) -> cython.void:
        if v == INSTANT:
            self.utility += self._instant(k)
            self._answer(k)
        elif v >= 0:
            self.utility += self._place(k, w, s, v, True, True)
            # Tells apart what workers were given, in what order, as a number of 46 bits does.
            self.given[s] = (self.given[s] * 65537 + k * self.weights.shape[1] + v + 1) % MANY

    def greedy(self) -> float:
        """Place the items in the order given; the plan's utility, a sum over rows."""
        self._reset()
        self._greedy(0)
        return float(self.utility)

    # ---- several workers: the second pass ------------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _until(self, many: cython.Py_ssize_t) -> cython.void:
        """Carry out the kept choices of the first so many items, from the start."""
        k: cython.Py_ssize_t
        self._reset()
        for k in range(many):
            self.best_item[k] = k
            self.best_worker[k] = self.kept_worker[k]
            self.best_variant[k] = self.kept_variant[k]
            self._carry_out(k, self.kept_worker[k], self.kept_worker[k], self.kept_variant[k])

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _keep(self) -> cython.void:
        """Keep the choices of the plan as it is."""
        k: cython.Py_ssize_t
        for k in range(self.item_lane.shape[0]):
            self.kept_worker[k] = self.best_worker[k]
            self.kept_variant[k] = self.best_variant[k]

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _move(self, work: cython.longlong) -> cython.bint:
        """Take an item off the most loaded worker, the last one first, where the plan gains by it. False, and the plan
        as it was, if it never does, or if the work runs out."""
        k: cython.Py_ssize_t
        w: cython.Py_ssize_t
        v: cython.Py_ssize_t
        many: cython.Py_ssize_t = self.item_lane.shape[0]
        loaded: cython.Py_ssize_t = -1
        worth: cython.double = max(self.utility, self.floor) + NEARLY
        for w in range(self.free_s.shape[0]):
            if self.free[w] > self.free_s[w] and (loaded < 0 or self.free[w] > self.free[loaded]):
                loaded = w
        for k in range(many - 1, -1, -1):
            if self.kept_variant[k] < 0 or self.kept_worker[k] != loaded:
                continue
            for w in range(self.free_s.shape[0]):
                for v in range(self.variants[self.item_lane[k]]):
                    if w == loaded or self.work > work or not self._can(k, w, v):
                        continue
                    self._until(k)
                    self.best_item[k] = k
                    self.best_worker[k] = w
                    self.best_variant[k] = v
                    self._carry_out(k, w, w, v)
                    self._greedy(k + 1)
                    if self.utility > worth:
                        self._keep()
                        return True
        self._until(many)
        return False

    def rebalance(self, rounds: int, work: int, floor: float = -1e300) -> float:
        """Better the plan of the last `greedy` on several workers (SneakPeek, section 7.2: "periodic load balancing");
        its utility, never less than before.

        In a round, one item leaves the most loaded worker, keeps its place in the order, and the items after it are
        placed anew. Moving it alone could never gain: greedy chose its place when all others were as free or freer.
        `work`: rows to look at before the plan so far has to do. `floor`: as for `search`.
        """
        self.floor = floor
        left: cython.longlong = rounds
        limit: cython.longlong = work
        if self.free_s.shape[0] > 1 and not self.by_accuracy and self.item_lane.shape[0] > 0:
            self.work = 0
            self._keep()
            self.known = True
            self.known_given = _ints(self.item_lane.shape[0] * self.free_s.shape[0])
            self.known_work = _ints(self.item_lane.shape[0] * self.free_s.shape[0])
            self.known_value = _floats(self.item_lane.shape[0] * self.free_s.shape[0], self.weights.shape[1])
            self.known_finish = _floats(self.item_lane.shape[0] * self.free_s.shape[0], self.weights.shape[1])
            while left > 0 and self._move(limit):
                left -= 1
            self.known = False
        return float(self.utility)

    # ---- Algorithm 1, first half ---------------------------------------------------------------------------

    def candidates(self) -> float:
        """Orders of the items times the choices that each has: what a search without a bound would try."""
        total: cython.double = 1.0
        own: cython.double
        k: cython.Py_ssize_t
        v: cython.Py_ssize_t
        for k in range(self.item_lane.shape[0]):
            own = 1.0 if self._instant(k) >= 0.0 else 0.0
            for v in range(self.variants[self.item_lane[k]]):
                if self._can(k, 0, v):
                    own += 1.0
            total *= (cython.cast(cython.double, k) + 1.0) * (own if own > 1.0 else 1.0)
        return float(total)

    def search(
        self, limit: float, work: int, floor: float = -1e300, again: bool = False
    ) -> tuple[float, bool]:
        """The best plan on one worker: its utility, and whether it is proven best.

        Greedy's plan, unproven, for several workers, more items than `search_items` of the constructor, more
        than `limit` candidates, or accuracy first. `work`: rows to look at before the best plan so far has to
        do. `floor`: plans worth no more need not be found. What can only be worth less is then cut sooner, and the
        plan that comes out is worth as much as without, or one of the two is worth no more than `floor`.
        `again`: it was the same items that `greedy` last placed.
        """
        d: cython.Py_ssize_t
        k: cython.Py_ssize_t
        proven: cython.bint
        many: cython.Py_ssize_t = self.item_lane.shape[0]
        self.floor = floor
        if again:
            self._keep()
            self._until(many)
        else:
            self._reset()
            self._greedy(0)
        if many == 0:
            return float(self.utility), True
        if self.by_accuracy or self.free_s.shape[0] != 1 or self.slots <= many or self.candidates() > limit:
            return float(self.utility), False
        self.best = max(self.utility, floor)
        self.work = 0
        self._reset()
        self._prepare()
        proven = self._descend(work)
        self._reset()
        for d in range(many):
            k = self.best_item[d]
            self.best_worker[d] = 0
            self._carry_out(k, 0, 0, self.best_variant[d])
        return float(self.utility), bool(proven)

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _prepare(self) -> cython.void:
        """For each item: its earliest deadline, its utility in time by variant, the most that it can ever
        give."""
        k: cython.Py_ssize_t
        other: cython.Py_ssize_t
        v: cython.Py_ssize_t
        i: cython.Py_ssize_t
        value: cython.double
        for k in range(self.item_lane.shape[0]):
            self.used[k] = 0
            self.brothers[k] = 0
            for other in range(self.item_lane.shape[0]):
                if other != k and self.item_lane[other] == self.item_lane[k]:
                    self.brothers[k] = 1
            self.soonest_due[k] = 1e300
            for i in range(self.item_start[k], self.item_start[k + 1]):
                self.soonest_due[k] = min(self.soonest_due[k], self.due[self.rows[i]])
            value = self._instant(k)
            self.ceiling[k] = value if value > 0.0 else 0.0
            for v in range(self.variants[self.item_lane[k]]):
                self.on_time[k, v] = -1.0
                if self._can(k, 0, v):
                    self.on_time[k, v] = self._at_most(k, v, -1e300)
                    self.ceiling[k] = max(self.ceiling[k], self.on_time[k, v])

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _at_most(self, k: cython.Py_ssize_t, v: cython.Py_ssize_t, finish: cython.double) -> cython.double:
        """The most that the item's rows can give under this variant if none of them finishes before
        `finish`."""
        i: cython.Py_ssize_t
        row: cython.Py_ssize_t
        value: cython.double
        total: cython.double = 0.0
        for i in range(self.item_start[k], self.item_start[k + 1]):
            row = self.rows[i]
            value = self.accuracy[row, v] * (1.0 - self._gamma_at_least(row, finish))
            if self.rescue and self.worth[row] > value:
                value = self.worth[row]
            total += value
        self.work += self.item_start[k + 1] - self.item_start[k]
        return total

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _bound(self, d: cython.Py_ssize_t, enough: cython.double) -> cython.bint:
        """Whether the items still to place could give more than `enough` from this slot on."""
        k: cython.Py_ssize_t
        v: cython.Py_ssize_t
        lane: cython.Py_ssize_t
        rest: cython.double = 0.0
        total: cython.double = 0.0
        most: cython.double
        value: cython.double
        soonest: cython.double
        joined: cython.double
        for k in range(self.item_lane.shape[0]):
            if not self.used[k]:
                rest += self.ceiling[k]
        for k in range(self.item_lane.shape[0]):
            if self.used[k]:
                continue
            if total + rest <= enough:
                return False
            lane = self.item_lane[k]
            most = 0.0
            if k >= self.instants_to[d]:
                value = self._instant(k)
                most = value if value > 0.0 else 0.0
            for v in range(self.variants[lane]):
                if self.on_time[k, v] <= most:
                    continue
                if not self.drop and not self.rescue and not (self.merge and self.brothers[k]):
                    # Nothing is ever taken out of a chunk, so an item placed right now is never worth less
                    # than later.
                    value = self._place(k, 0, d, v, False, False)
                else:
                    soonest = (
                        self.free[d] + self._load(0, d, self.weights[lane, v]) + self._seconds(0, lane, v, 1)
                    )
                    if self.merge and self.last_lane[d] == lane and self.last_variant[d] == v:
                        if self.last_rows[d] < self.max_batch[lane, v]:
                            joined = self.last_start[d] + self._seconds(0, lane, v, self.last_rows[d] + 1)
                            soonest = min(soonest, joined)
                    if soonest <= self.soonest_due[k]:
                        value = self.on_time[k, v]
                    else:
                        value = self._at_most(k, v, soonest)
                most = max(most, value)
            total += most
            rest -= self.ceiling[k]
            self.work += 1
        return total > enough

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _expand(self, d: cython.Py_ssize_t) -> cython.void:
        """List the choices open in this slot, those that lose least against their item's ceiling first."""
        k: cython.Py_ssize_t
        v: cython.Py_ssize_t
        idle: cython.bint
        able: cython.bint
        value: cython.double
        self.children[d] = 0
        self.child_at[d] = 0
        for k in range(self.item_lane.shape[0]):
            if self.used[k]:
                continue
            idle = False
            able = False
            for v in range(self.variants[self.item_lane[k]]):
                if self.on_time[k, v] < 0.0:
                    continue
                able = True
                value = self._place(k, 0, d, v, False, False)
                # Variants that find no row worth a place leave the same state behind: one of them is enough.
                if self.kept > 0 or not idle:
                    self._list(d, k, v, value)
                idle = idle or self.kept == 0
            if k >= self.instants_to[d]:
                value = self._instant(k)
                if value >= 0.0:
                    self._list(d, k, INSTANT, value)
                elif not able:
                    self._list(d, k, STAYS, 0.0)

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _list(
        self, d: cython.Py_ssize_t, k: cython.Py_ssize_t, v: cython.longlong, value: cython.double
    ) -> cython.void:
        key: cython.double = value - self.ceiling[k]
        j: cython.Py_ssize_t = self.children[d]
        while j > 0 and self.child_key[d, j - 1] < key:
            self.child_item[d, j] = self.child_item[d, j - 1]
            self.child_variant[d, j] = self.child_variant[d, j - 1]
            self.child_value[d, j] = self.child_value[d, j - 1]
            self.child_key[d, j] = self.child_key[d, j - 1]
            j -= 1
        self.child_item[d, j] = k
        self.child_variant[d, j] = v
        self.child_value[d, j] = value
        self.child_key[d, j] = key
        self.children[d] += 1

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _descend(self, work: cython.longlong) -> cython.bint:
        """Search; the best choices are in `best_item` and `best_variant`. False when the work ran out."""
        many: cython.Py_ssize_t = self.item_lane.shape[0]
        d: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t
        j: cython.Py_ssize_t
        k: cython.Py_ssize_t
        v: cython.longlong
        gained: cython.double
        self.gained[0] = 0.0
        self.instants_to[0] = 0
        self._expand(0)
        while d >= 0:
            if self.work > work:
                return False
            if self.child_at[d] >= self.children[d]:
                d -= 1
                if d >= 0:
                    self.used[self.path_item[d]] = 0
                continue
            j = self.child_at[d]
            self.child_at[d] += 1
            k = self.child_item[d, j]
            v = self.child_variant[d, j]
            gained = self.gained[d] + self.child_value[d, j]
            self.path_item[d] = k
            self.path_variant[d] = v
            if d + 1 == many:
                if gained > self.best + NEARLY:
                    self.best = gained
                    for i in range(many):
                        self.best_item[i] = self.path_item[i]
                        self.best_variant[i] = self.path_variant[i]
                continue
            self.used[k] = 1
            self._copy(d, d + 1)
            if v >= 0:
                self._place(k, 0, d + 1, v, True, False)
            self.gained[d + 1] = gained
            self.instants_to[d + 1] = k + 1 if v < 0 else many
            if self._bound(d + 1, self.best + NEARLY - gained):
                d += 1
                self._expand(d)
            else:
                self.used[k] = 0
        return True

    # ---- two plans -----------------------------------------------------------------------------------------

    def swap(self) -> None:
        """The plan goes aside, and the one that was aside takes its place; there is none at first."""
        i: cython.Py_ssize_t
        many: cython.Py_ssize_t = self.due.shape[0]
        at: cython.Py_ssize_t
        batches: cython.Py_ssize_t = self.batches
        whole: cython.longlong
        answered: cython.uchar
        for i in range(many):
            whole = self.row_batch[i]
            self.row_batch[i] = self.aside[i]
            self.aside[i] = whole
            whole = self.row_rank[i]
            self.row_rank[i] = self.aside[many + i]
            self.aside[many + i] = whole
            answered = self.row_instant[i]
            self.row_instant[i] = self.aside_instant[i]
            self.aside_instant[i] = answered
        for i in range(max(batches, self.aside_batches)):
            at = 2 * many + 4 * i
            whole = self.batch_worker[i]
            self.batch_worker[i] = self.aside[at]
            self.aside[at] = whole
            whole = self.batch_lane[i]
            self.batch_lane[i] = self.aside[at + 1]
            self.aside[at + 1] = whole
            whole = self.batch_variant[i]
            self.batch_variant[i] = self.aside[at + 2]
            self.aside[at + 2] = whole
            whole = self.batch_closed[i]
            self.batch_closed[i] = self.aside[at + 3]
            self.aside[at + 3] = whole
        self.batches = self.aside_batches
        self.aside_batches = batches

    # ---- what came of it -----------------------------------------------------------------------------------

    def alone(self) -> npt.NDArray[np.float64]:
        """f8[K, V + 1]: utility of each item if it came first, by variant on its best worker; the last column
        is the peek's answer. -1 where that cannot be."""
        k: cython.Py_ssize_t
        w: cython.Py_ssize_t
        v: cython.Py_ssize_t
        last: cython.Py_ssize_t = self.weights.shape[1]
        values = np.full((self.item_lane.shape[0], last + 1), -1.0)
        out: cython.double[:, ::1] = values
        self._reset()
        for k in range(self.item_lane.shape[0]):
            out[k, last] = self._instant(k)
            for w in range(self.free_s.shape[0]):
                for v in range(self.variants[self.item_lane[k]]):
                    if self._can(k, w, v):
                        out[k, v] = max(out[k, v], self._place(k, w, w, v, False, False))
        return values

    def value(self) -> float:
        """Utility of the plan of the last `greedy` or `search`, a sum over rows."""
        return float(self.utility)

    def choices(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The items in the order in which they were placed, and the variant of each: -1 the peek, -2 none."""
        many: cython.Py_ssize_t = self.item_lane.shape[0]
        return np.array(self.best_item)[:many], np.array(self.best_variant)[:many]

    def plan(self) -> tuple[Any, ...]:
        """The plan of the last `greedy` or `search`: of each row (batch or -1 i8[n], rank in the plan i8[n],
        answered by the peek u1[n]), of each batch (worker, lane, variant, why it closed: 0 policy, 1 full, 2
        deadline; i8[B])."""
        b: cython.Py_ssize_t = self.batches
        return (
            np.array(self.row_batch),
            np.array(self.row_rank),
            np.array(self.row_instant),
            np.array(self.batch_worker)[:b],
            np.array(self.batch_lane)[:b],
            np.array(self.batch_variant)[:b],
            np.array(self.batch_closed)[:b],
        )


def listed(plan: Any) -> tuple[list[tuple[int, int, int, int, tuple[int, ...]]], list[int]]:
    """A plan as `Problem.plan` hands it out, as Python's own: (worker, lane, variant, why it closed, rows) of each
    batch, and the rows that the peek answers."""
    batch: cython.const[cython.longlong][::1] = plan[0]
    rank: cython.const[cython.longlong][::1] = plan[1]
    instant: cython.const[cython.uchar][::1] = plan[2]
    worker: cython.const[cython.longlong][::1] = plan[3]
    lane: cython.const[cython.longlong][::1] = plan[4]
    variant: cython.const[cython.longlong][::1] = plan[5]
    closed: cython.const[cython.longlong][::1] = plan[6]
    by_rank: cython.longlong[::1] = _ints(batch.shape[0])
    i: cython.Py_ssize_t
    for i in range(batch.shape[0]):
        by_rank[i] = -1
    at_once = []
    for i in range(batch.shape[0]):
        if batch[i] >= 0:
            by_rank[rank[i]] = i
        elif instant[i]:
            at_once.append(i)
    rows: list[list[int]] = [[] for b in range(worker.shape[0])]
    for i in range(batch.shape[0]):
        if by_rank[i] >= 0:
            rows[batch[by_rank[i]]].append(by_rank[i])
    batches = [(worker[b], lane[b], variant[b], closed[b], tuple(rows[b])) for b in range(worker.shape[0])]
    return batches, at_once
