"""A plan as slots, and what it is worth: what `search.py`, whose docstring says all, moves about."""

from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import cython
except ImportError:
    from peekserve.kernel import _shim as cython  # type: ignore[no-redef]

if not cython.compiled:  # in the extension these are part of the same module
    from peekserve.kernel.loops import FULL, POLICY, Problem
    from peekserve.kernel.penalty import _flags, _floats, _ints

# No unit may use a variant whose value is below this.
NEVER = cython.declare(cython.double, -1e299)
# Nothing from this place on has changed: there are no so many.
FAR = cython.declare(cython.longlong, 1 << 40)


@cython.cclass
class Slots(Problem):
    """Rows in slots on workers.

    A *unit* is one row, or several that go everywhere together. A *slot* is a batch to be: a worker, a place in its
    queue, a lane, a variant, and units. `full` is what a unit gains, beyond what it has without a place, where no row
    of it is late, `tight` the instant until which none is; a slot keeps the sum and the smallest of those of its
    units, so that only a slot that ends after that has to look at them one by one.
    """

    units: cython.Py_ssize_t
    unit_lane: cython.longlong[::1]
    unit_first: cython.longlong[::1]
    unit_rows: cython.longlong[::1]
    many: cython.longlong[::1]
    full: cython.double[:, ::1]
    tight: cython.double[::1]
    cur: cython.double[::1]
    at: cython.longlong[::1]
    after: cython.longlong[::1]
    ahead: cython.longlong[::1]
    lane_first: cython.longlong[::1]
    since: cython.longlong[::1]
    usable: cython.uchar[:, ::1]
    # Slots. `stands`: at which place in its worker's queue.
    most_slots: cython.Py_ssize_t
    slot_worker: cython.longlong[::1]
    slot_lane: cython.longlong[::1]
    slot_variant: cython.longlong[::1]
    slot_rows: cython.longlong[::1]
    slot_head: cython.longlong[::1]
    stands: cython.longlong[::1]
    slot_full: cython.double[::1]
    slot_tight: cython.double[::1]
    slot_value: cython.double[::1]
    slot_finish: cython.double[::1]
    spare: cython.longlong[::1]
    spare_n: cython.Py_ssize_t
    # Queues, and the state of a worker ahead of each place: free, value and loss so far, weights held.
    queue: cython.longlong[:, ::1]
    queue_n: cython.longlong[::1]
    began: cython.double[:, ::1]
    before: cython.double[:, ::1]
    lost: cython.double[:, ::1]
    seen: cython.longlong[:, :, ::1]
    seen_n: cython.longlong[:, ::1]
    total: cython.double
    price: cython.double
    # What a trial has moved, to be undone.
    log_unit: cython.longlong[::1]
    log_from: cython.longlong[::1]
    log_n: cython.Py_ssize_t
    of_batch: cython.longlong[::1]
    # The best plan so far.
    kept_total: cython.double
    kept_at: cython.longlong[::1]
    kept_queue: cython.longlong[:, ::1]
    kept_queue_n: cython.longlong[::1]
    kept_lane: cython.longlong[::1]
    kept_which: cython.longlong[::1]

    def units_of(self, lane: Any, first: Any, rows: Any, price: float, slots: int) -> None:
        """Take the units, those of a lane beside one another: `lane` i8[U], rising, `first` i8[U + 1], `rows` i8[:].

        Unit u is rows[first[u] : first[u + 1]], which may all use the same variants. `price`: utility for each second
        of a worker. `slots`: how many there can ever be.
        """
        u: cython.Py_ssize_t
        j: cython.Py_ssize_t
        v: cython.Py_ssize_t
        i: cython.Py_ssize_t
        lanes: cython.Py_ssize_t = self.variants.shape[0]
        many: cython.Py_ssize_t = len(lane)
        most: cython.Py_ssize_t = slots
        workers: cython.Py_ssize_t = self.free_s.shape[0]
        wide: cython.Py_ssize_t = self.weights.shape[1]
        self.units = many
        self.most_slots = most
        self.price = price
        self.unit_lane = np.ascontiguousarray(lane, np.int64)
        self.unit_first = np.ascontiguousarray(first, np.int64)
        self.unit_rows = np.ascontiguousarray(rows, np.int64)
        ints: cython.longlong[::1] = _ints(7 * many + 9 * most + lanes + 1 + 3 * workers)
        self.many = ints[:many]
        self.at = ints[many : 2 * many]
        self.after = ints[2 * many : 3 * many]
        self.ahead = ints[3 * many : 4 * many]
        self.log_unit = ints[4 * many : 5 * many]
        self.log_from = ints[5 * many : 6 * many]
        self.kept_at = ints[6 * many : 7 * many]
        i = 7 * many
        self.slot_worker = ints[i : i + most]
        self.slot_lane = ints[i + most : i + 2 * most]
        self.slot_variant = ints[i + 2 * most : i + 3 * most]
        self.slot_rows = ints[i + 3 * most : i + 4 * most]
        self.slot_head = ints[i + 4 * most : i + 5 * most]
        self.stands = ints[i + 5 * most : i + 6 * most]
        self.spare = ints[i + 6 * most : i + 7 * most]
        self.kept_lane = ints[i + 7 * most : i + 8 * most]
        self.kept_which = ints[i + 8 * most : i + 9 * most]
        i += 9 * most
        self.lane_first = ints[i : i + lanes + 1]
        self.queue_n = ints[i + lanes + 1 : i + lanes + 1 + workers]
        self.kept_queue_n = ints[i + lanes + 1 + workers : i + lanes + 1 + 2 * workers]
        self.since = ints[i + lanes + 1 + 2 * workers : i + lanes + 1 + 3 * workers]
        reals: cython.double[::1] = _floats(2 * many + 4 * most)
        self.tight = reals[:many]
        self.cur = reals[many : 2 * many]
        i = 2 * many
        self.slot_full = reals[i : i + most]
        self.slot_tight = reals[i + most : i + 2 * most]
        self.slot_value = reals[i + 2 * most : i + 3 * most]
        self.slot_finish = reals[i + 3 * most : i + 4 * most]
        self.full = _floats(many, wide)
        self.of_batch = _ints(self.due.shape[0])
        self.queue = _ints(workers, most)
        self.kept_queue = _ints(workers, most)
        self.began = _floats(workers, most + 1)
        self.before = _floats(workers, most + 1)
        self.lost = _floats(workers, most + 1)
        self.seen = _ints(workers, most + 1, max(self.resident.shape[1], 1))
        self.seen_n = _ints(workers, most + 1)
        self.usable = _flags(workers, lanes * wide)
        for i in range(workers):
            for j in range(lanes):
                for v in range(self.variants[j]):
                    self.usable[i, j * wide + v] = self._fits(i, j, v)
        for u in range(many):
            self.lane_first[self.unit_lane[u] + 1] += 1
        for i in range(lanes):
            self.lane_first[i + 1] += self.lane_first[i]
        for u in range(many):
            self._weigh(u)
        self._clear()

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _fits(self, w: cython.Py_ssize_t, lane: cython.Py_ssize_t, v: cython.Py_ssize_t) -> cython.bint:
        weights: cython.Py_ssize_t = self.weights[lane, v]
        if self.size[w, weights] > self.budget[w] or not self.load_s[w, weights] < 1e300:
            return False
        return self._seconds(w, lane, v, 1) < 1e300

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _weigh(self, u: cython.Py_ssize_t) -> cython.void:
        """What a unit gains in time, by variant, and until when that is."""
        j: cython.Py_ssize_t
        v: cython.Py_ssize_t
        row: cython.Py_ssize_t
        without: cython.double
        share: cython.double
        self.many[u] = self.unit_first[u + 1] - self.unit_first[u]
        self.tight[u] = 1e300
        for j in range(self.unit_first[u], self.unit_first[u + 1]):
            row = self.unit_rows[j]
            without = self.worth[row] if self.worth[row] > 0.0 else 0.0
            share = 1.0
            if self.kind[row] == 3:
                share = 1.0 - self.width[row]
            elif self.due[row] < self.tight[u]:
                self.tight[u] = self.due[row]
            for v in range(self.variants[self.unit_lane[u]]):
                self.full[u, v] += self.accuracy[row, v] * share - without
        row = self.unit_rows[self.unit_first[u]]
        for v in range(self.variants[self.unit_lane[u]]):
            if not self.allowed[row, v]:
                self.full[u, v] = -1e300
        self.work += self.many[u]

    # ---- the state -----------------------------------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _clear(self) -> cython.void:
        """A plan of nothing."""
        u: cython.Py_ssize_t
        w: cython.Py_ssize_t
        i: cython.Py_ssize_t
        for u in range(self.units):
            self.at[u] = -1
            self.cur[u] = 0.0
        for w in range(self.free_s.shape[0]):
            self.queue_n[w] = 0
            self.since[w] = FAR
            self.began[w, 0] = self.free_s[w]
            self.before[w, 0] = 0.0
            self.lost[w, 0] = 0.0
            self.seen_n[w, 0] = self.residents[w]
            for i in range(self.residents[w]):
                self.seen[w, 0, i] = self.resident[w, i]
        for i in range(self.most_slots):
            self.spare[i] = self.most_slots - 1 - i
        self.spare_n = self.most_slots
        self.total = 0.0
        self.log_n = 0

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _gain(self, u: cython.Py_ssize_t, v: cython.Py_ssize_t, finish: cython.double) -> cython.double:
        """What a unit gains in a batch that ends then."""
        j: cython.Py_ssize_t
        row: cython.Py_ssize_t
        total: cython.double = 0.0
        if finish <= self.tight[u]:
            return self.full[u, v]
        for j in range(self.unit_first[u], self.unit_first[u + 1]):
            row = self.unit_rows[j]
            total += self.accuracy[row, v] * (1.0 - self._gamma(row, finish))
            if self.worth[row] > 0.0:
                total -= self.worth[row]
        self.work += self.many[u]
        return total

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _late_value(self, s: cython.Py_ssize_t, finish: cython.double) -> cython.double:
        """What a slot gains if it ends then, row by row."""
        u: cython.longlong = self.slot_head[s]
        total: cython.double = 0.0
        while u >= 0:
            total += self._gain(u, self.slot_variant[s], finish)
            u = self.after[u]
        return total

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _refresh(self, s: cython.Py_ssize_t) -> cython.void:
        """Sum and smallest slack of a slot from its units."""
        u: cython.Py_ssize_t = self.slot_head[s]
        v: cython.Py_ssize_t = self.slot_variant[s]
        self.slot_full[s] = 0.0
        self.slot_tight[s] = 1e300
        while u >= 0:
            self.work += 1
            self.slot_full[s] += self.full[u, v]
            if self.tight[u] < self.slot_tight[s]:
                self.slot_tight[s] = self.tight[u]
            u = self.after[u]

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _take_out(self, u: cython.Py_ssize_t) -> cython.void:
        s: cython.Py_ssize_t = self.at[u]
        if s < 0:
            return
        if self.ahead[u] >= 0:
            self.after[self.ahead[u]] = self.after[u]
        else:
            self.slot_head[s] = self.after[u]
        if self.after[u] >= 0:
            self.ahead[self.after[u]] = self.ahead[u]
        self.slot_rows[s] -= self.many[u]
        self.at[u] = -1
        if self.tight[u] <= self.slot_tight[s]:
            self._refresh(s)
        else:
            self.slot_full[s] -= self.full[u, self.slot_variant[s]]

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _put_in(self, u: cython.Py_ssize_t, s: cython.Py_ssize_t) -> cython.void:
        self.at[u] = s
        if s < 0:
            return
        self.ahead[u] = -1
        self.after[u] = self.slot_head[s]
        if self.slot_head[s] >= 0:
            self.ahead[self.slot_head[s]] = u
        self.slot_head[s] = u
        self.slot_rows[s] += self.many[u]
        self.slot_full[s] += self.full[u, self.slot_variant[s]]
        if self.tight[u] < self.slot_tight[s]:
            self.slot_tight[s] = self.tight[u]

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _touch(self, w: cython.Py_ssize_t, p: cython.Py_ssize_t) -> cython.void:
        """What stands from this place on is no longer as it was settled."""
        if p < self.since[w]:
            self.since[w] = p

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _shift(self, u: cython.Py_ssize_t, s: cython.Py_ssize_t) -> cython.void:
        """Move a unit to a slot, -1 for none, and remember from where."""
        old: cython.Py_ssize_t = self.at[u]
        self.log_unit[self.log_n] = u
        self.log_from[self.log_n] = old
        self.log_n += 1
        if old >= 0:
            self._touch(self.slot_worker[old], self.stands[old])
        if s >= 0:
            self._touch(self.slot_worker[s], self.stands[s])
        self._take_out(u)
        self._put_in(u, s)
        self.work += 1

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _undo(self) -> cython.void:
        """All units back to where they were; queues have to be as they were already."""
        w: cython.Py_ssize_t
        while self.log_n > 0:
            self.log_n -= 1
            self._take_out(self.log_unit[self.log_n])
            self._put_in(self.log_unit[self.log_n], self.log_from[self.log_n])
        for w in range(self.free_s.shape[0]):
            self.since[w] = FAR

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _trial(self, enough: cython.double) -> cython.double:
        """What the plan would be worth as it now is; a number that is no more than `enough` if it is no more."""
        w: cython.Py_ssize_t
        q: cython.Py_ssize_t
        total: cython.double = 0.0
        ceiling: cython.double = 0.0
        value: cython.double
        for w in range(self.free_s.shape[0]):
            if self.since[w] == FAR:
                total += self.before[w, self.queue_n[w]]
            else:
                ceiling += self.before[w, self.since[w]]
                for q in range(self.since[w], self.queue_n[w]):
                    ceiling += self.slot_full[self.queue[w, q]]
        for w in range(self.free_s.shape[0]):
            if self.since[w] == FAR:
                continue
            if total + ceiling <= enough:
                return total + ceiling
            value = self.before[w, self.since[w]]
            for q in range(self.since[w], self.queue_n[w]):
                value += self.slot_full[self.queue[w, q]]
            ceiling -= value
            total += self._run(w, self.since[w], enough - total - ceiling)
        return total + ceiling

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _accept(self) -> cython.void:
        """The plan as it now is, settled."""
        i: cython.Py_ssize_t
        w: cython.Py_ssize_t
        for i in range(self.log_n):
            if self.at[self.log_unit[i]] < 0:
                self.cur[self.log_unit[i]] = 0.0
        self.log_n = 0
        self.total = 0.0
        for w in range(self.free_s.shape[0]):
            if self.since[w] < FAR:
                self._settle(w, self.since[w])
                self.since[w] = FAR
            self.total += self.before[w, self.queue_n[w]]

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _insert(self, s: cython.Py_ssize_t, w: cython.Py_ssize_t, p: cython.Py_ssize_t) -> cython.void:
        q: cython.Py_ssize_t = self.queue_n[w]
        while q > p:
            self.queue[w, q] = self.queue[w, q - 1]
            self.stands[self.queue[w, q]] = q
            q -= 1
        self.queue[w, p] = s
        self.stands[s] = p
        self.slot_worker[s] = w
        self.queue_n[w] += 1
        self._touch(w, p)

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _remove(self, s: cython.Py_ssize_t) -> cython.void:
        w: cython.Py_ssize_t = self.slot_worker[s]
        q: cython.Py_ssize_t
        self.queue_n[w] -= 1
        self._touch(w, self.stands[s])
        for q in range(self.stands[s], self.queue_n[w]):
            self.queue[w, q] = self.queue[w, q + 1]
            self.stands[self.queue[w, q]] = q

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _new(self, lane: cython.Py_ssize_t, v: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """A slot without units and without a place. There is always one to spare: no slot stays without a unit."""
        s: cython.Py_ssize_t
        self.spare_n -= 1
        s = self.spare[self.spare_n]
        self.slot_lane[s] = lane
        self.slot_variant[s] = v
        self.slot_rows[s] = 0
        self.slot_head[s] = -1
        self.slot_full[s] = 0.0
        self.slot_tight[s] = 1e300
        return s

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _free(self, s: cython.Py_ssize_t) -> cython.void:
        self.spare[self.spare_n] = s
        self.spare_n += 1

    # ---- carrying it out -----------------------------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _recall(self, w: cython.Py_ssize_t, p: cython.Py_ssize_t) -> cython.void:
        """The weights held ahead of a place into the first list of `lru`."""
        i: cython.Py_ssize_t
        self.lru_n[0] = self.seen_n[w, p]
        for i in range(self.seen_n[w, p]):
            self.lru[0, i] = self.seen[w, p, i]

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _run(self, w: cython.Py_ssize_t, p: cython.Py_ssize_t, enough: cython.double) -> cython.double:
        """What the worker's queue is worth, carried out from a place on; all ahead of it is as it was settled. Given
        up, with a number that is no more than `enough`, as soon as it cannot be worth more."""
        q: cython.Py_ssize_t
        s: cython.Py_ssize_t
        weights: cython.longlong
        free: cython.double = self.began[w, p]
        total: cython.double = self.before[w, p]
        rest: cython.double = 0.0
        since: cython.double = free
        for q in range(p, self.queue_n[w]):
            rest += self.slot_full[self.queue[w, q]]
        if total + rest <= enough:
            return total + rest
        self._recall(w, p)
        for q in range(p, self.queue_n[w]):
            s = self.queue[w, q]
            if self.slot_rows[s] == 0:
                continue
            weights = self.weights[self.slot_lane[s], self.slot_variant[s]]
            free += self._load(w, 0, weights)
            self._use(w, 0, weights)
            free += self._seconds(w, self.slot_lane[s], self.slot_variant[s], self.slot_rows[s])
            self.work += 1
            if free > self.slot_tight[s]:
                rest -= self.slot_full[s]
                total += self._late_value(s, free)
                if total + rest <= enough:
                    return total + rest
            else:
                rest -= self.slot_full[s]
                total += self.slot_full[s]
        return total - self.price * (free - since)

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _settle(self, w: cython.Py_ssize_t, p: cython.Py_ssize_t) -> cython.void:
        """Carry the queue out from a place on and keep what it comes to; slots without units go."""
        q: cython.Py_ssize_t
        i: cython.Py_ssize_t
        to: cython.Py_ssize_t = p
        s: cython.Py_ssize_t
        u: cython.longlong
        weights: cython.longlong
        free: cython.double = self.began[w, p]
        total: cython.double = 0.0
        begin: cython.double
        self._recall(w, p)
        for q in range(p, self.queue_n[w]):
            s = self.queue[w, q]
            if self.slot_rows[s] == 0:
                self._free(s)
                continue
            self._refresh(s)
            self.queue[w, to] = s
            self.stands[s] = to
            begin = free
            weights = self.weights[self.slot_lane[s], self.slot_variant[s]]
            free += self._load(w, 0, weights)
            self._use(w, 0, weights)
            free += self._seconds(w, self.slot_lane[s], self.slot_variant[s], self.slot_rows[s])
            total = 0.0
            u = self.slot_head[s]
            while u >= 0:
                self.cur[u] = self._gain(u, self.slot_variant[s], free)
                total += self.cur[u]
                u = self.after[u]
            self.slot_finish[s] = free
            self.slot_value[s] = total
            to += 1
            self.began[w, to] = free
            self.before[w, to] = self.before[w, to - 1] + total - self.price * (free - begin)
            self.lost[w, to] = self.lost[w, to - 1] + self.slot_full[s] - total + self.price * (free - begin)
            self.seen_n[w, to] = self.lru_n[0]
            for i in range(self.lru_n[0]):
                self.seen[w, to, i] = self.lru[0, i]
        self.work += self.queue_n[w] - p + 1
        self.queue_n[w] = to

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _spill(self, w: cython.Py_ssize_t, p: cython.Py_ssize_t) -> cython.double:
        """What is lost to lateness and time from a place on: no saving of time there can gain more."""
        return self.lost[w, self.queue_n[w]] - self.lost[w, p]

    # ---- keeping and restoring -----------------------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _save(self) -> cython.void:
        """Keep the plan as it is."""
        w: cython.Py_ssize_t
        q: cython.Py_ssize_t
        u: cython.Py_ssize_t
        s: cython.Py_ssize_t
        self.kept_total = self.total
        for u in range(self.units):
            self.kept_at[u] = self.at[u]
        for w in range(self.free_s.shape[0]):
            self.kept_queue_n[w] = self.queue_n[w]
            for q in range(self.queue_n[w]):
                s = self.queue[w, q]
                self.kept_queue[w, q] = s
                self.kept_lane[s] = self.slot_lane[s]
                self.kept_which[s] = self.slot_variant[s]
        self.work += self.units

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _restore(self) -> cython.void:
        """The plan that was kept."""
        w: cython.Py_ssize_t
        q: cython.Py_ssize_t
        u: cython.Py_ssize_t
        s: cython.Py_ssize_t
        to: cython.Py_ssize_t = 0
        for s in range(self.most_slots):
            self.slot_rows[s] = -1
        for w in range(self.free_s.shape[0]):
            self.queue_n[w] = self.kept_queue_n[w]
            for q in range(self.kept_queue_n[w]):
                s = self.kept_queue[w, q]
                self.queue[w, q] = s
                self.stands[s] = q
                self.slot_worker[s] = w
                self.slot_lane[s] = self.kept_lane[s]
                self.slot_variant[s] = self.kept_which[s]
                self.slot_rows[s] = 0
                self.slot_head[s] = -1
        for s in range(self.most_slots):
            if self.slot_rows[s] < 0:
                self.spare[to] = s
                to += 1
        self.spare_n = to
        for u in range(self.units):
            self.at[u] = -1
            self.cur[u] = 0.0
            if self.kept_at[u] >= 0:
                self._put_in(u, self.kept_at[u])
        self.log_n = 0
        for w in range(self.free_s.shape[0]):
            self.since[w] = 0
        self._accept()
        self.work += self.units

    # ---- from and into the plan of a problem -----------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _read(self) -> cython.void:
        """The plan of the problem as slots. A unit goes where its first row is, or nowhere if it does not fit there."""
        b: cython.Py_ssize_t
        s: cython.longlong
        u: cython.Py_ssize_t
        w: cython.Py_ssize_t
        self._clear()
        for b in range(self.batches):
            self.of_batch[b] = -1
        for u in range(self.units):
            b = self.row_batch[self.unit_rows[self.unit_first[u]]]
            if b >= 0:
                self.of_batch[b] = 0
        for b in range(self.batches):
            if self.of_batch[b] == 0:
                w = self.batch_worker[b]
                s = self._new(self.batch_lane[b], self.batch_variant[b])
                self._insert(s, w, self.queue_n[w])
                self.of_batch[b] = s
        for u in range(self.units):
            b = self.row_batch[self.unit_rows[self.unit_first[u]]]
            if b < 0:
                continue
            s = self.of_batch[b]
            if self.slot_rows[s] + self.many[u] <= self.max_batch[self.slot_lane[s], self.slot_variant[s]]:
                self._put_in(u, s)
        for w in range(self.free_s.shape[0]):
            self.since[w] = 0
        self._accept()
        self.work += self.units

    def utilities(self) -> npt.NDArray[np.float64]:
        """f8[n]: what each row is worth in the plan of the problem, carried out as `policies/worth.py` does, to the
        last bit."""
        utility = np.zeros(self.due.shape[0])
        out: cython.double[::1] = utility
        finish: cython.double[::1] = _floats(self.batches + 1)
        rows: cython.longlong[::1] = _ints(self.batches + 1)
        b: cython.Py_ssize_t
        i: cython.Py_ssize_t
        w: cython.Py_ssize_t
        weights: cython.longlong
        for w in range(self.free_s.shape[0]):
            self.free[w] = self.free_s[w]
            self.lru_n[w] = self.residents[w]
            for i in range(self.residents[w]):
                self.lru[w, i] = self.resident[w, i]
        for i in range(self.due.shape[0]):
            if self.row_batch[i] >= 0:
                rows[self.row_batch[i]] += 1
        for b in range(self.batches):
            w = self.batch_worker[b]
            weights = self.weights[self.batch_lane[b], self.batch_variant[b]]
            self.free[w] += self._load(w, w, weights)
            self._use(w, w, weights)
            self.free[w] += self._seconds(w, self.batch_lane[b], self.batch_variant[b], rows[b])
            finish[b] = self.free[w]
        for i in range(self.due.shape[0]):
            b = self.row_batch[i]
            if b >= 0:
                out[i] = self.accuracy[i, self.batch_variant[b]] * (1.0 - self._gamma(i, finish[b]))
            elif self.row_instant[i]:
                out[i] = self.worth[i]
        return utility

    def busy_s(self) -> float:
        """Seconds of all workers together that the plan takes which `utilities` has just carried out."""
        w: cython.Py_ssize_t
        total: cython.double = 0.0
        for w in range(self.free_s.shape[0]):
            total += self.free[w] - self.free_s[w]
        return float(total)

    def adopt(self, plan: Any) -> None:
        """Another plan of the same problem, as `plan` hands it out, in the place of its own."""
        i: cython.Py_ssize_t
        batch: cython.const[cython.longlong][::1] = plan[0]
        rank: cython.const[cython.longlong][::1] = plan[1]
        instant: cython.const[cython.uchar][::1] = plan[2]
        worker: cython.const[cython.longlong][::1] = plan[3]
        lane: cython.const[cython.longlong][::1] = plan[4]
        variant: cython.const[cython.longlong][::1] = plan[5]
        closed: cython.const[cython.longlong][::1] = plan[6]
        for i in range(batch.shape[0]):
            self.row_batch[i] = batch[i]
            self.row_rank[i] = rank[i]
            self.row_instant[i] = instant[i]
        self.batches = worker.shape[0]
        for i in range(self.batches):
            self.batch_worker[i] = worker[i]
            self.batch_lane[i] = lane[i]
            self.batch_variant[i] = variant[i]
            self.batch_closed[i] = closed[i]

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _write(self) -> cython.void:
        """The slots as batches, as `plan` hands them out."""
        w: cython.Py_ssize_t
        q: cython.Py_ssize_t
        s: cython.Py_ssize_t
        j: cython.Py_ssize_t
        row: cython.Py_ssize_t
        u: cython.longlong
        self._reset()
        for w in range(self.free_s.shape[0]):
            for q in range(self.queue_n[w]):
                s = self.queue[w, q]
                self.batch_worker[self.batches] = w
                self.batch_lane[self.batches] = self.slot_lane[s]
                self.batch_variant[self.batches] = self.slot_variant[s]
                self.batch_closed[self.batches] = POLICY
                if self.slot_rows[s] >= self.max_batch[self.slot_lane[s], self.slot_variant[s]]:
                    self.batch_closed[self.batches] = FULL
                u = self.slot_head[s]
                while u >= 0:
                    for j in range(self.unit_first[u], self.unit_first[u + 1]):
                        row = self.unit_rows[j]
                        self.row_batch[row] = self.batches
                        self.row_rank[row] = self.ranks
                        self.ranks += 1
                    u = self.after[u]
                self.batches += 1
        for u in range(self.units):
            if self.at[u] < 0:
                for j in range(self.unit_first[u], self.unit_first[u + 1]):
                    if self.worth[self.unit_rows[j]] > 0.0:
                        self.row_instant[self.unit_rows[j]] = 1
