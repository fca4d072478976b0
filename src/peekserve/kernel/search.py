"""Near the best of all plans, in a tenth of a millisecond: a search over plans as slots.

The question is that of `exact.py`: rows wait, workers run batches one after another, and a plan is any sequence of
batches, any variant and any rows in each. What a batch costs and leaves behind is what `loops.py` says. The value of
a plan is the sum over its rows of accuracy * (1 - penalty(finish - due)) (SneakPeek, eq. 2), and for a row without a
place what the peek's answer, given now, is worth, or nothing.

A plan. An ordered list of *slots* for each worker, a slot being a lane, a variant and rows; all other rows are
answered at once. So a row counts with what it gains beyond that, and leaving a row out always exists as a choice.
Slots keep the sum of what their rows gain in time and the smallest slack among them: a slot that ends before that is
worth the sum, and only a late one looks at its rows (`slots.py`).

A move is made on the plan itself, carried out from the first place that it touches, for the state ahead of each place
is kept, and taken back unless the plan gained. It is given up as soon as all that follows, in time, could not make it
a gain; and many are not tried at all, because of one sum. What later slots lose to lateness bounds what they can
gain by anything that only gives them time; a row can gain no more than its accuracy in time says.

Moves, the first that gains is taken: a row to another slot or to none; two rows in each other's places, which in
slots of equal rows changes no finish; a slot under another variant, at another place or worker, dissolved among the
others, joined with another, or divided, the urgent rows ahead of or the others behind it; a new slot anywhere, with
the rows that prefer it to what they have, as many as its value rises by.

Seeds: the plan of the problem (SneakPeek's families, placed greedily), and two that are built from nothing by
appending the batch with the most gain for its time, once for time as it is and once to the power of 0.4, which likes
longer batches more. Each is moved until nothing gains or its share of the work is done; the search goes on from the
best.

Beyond that, two changes at once, of which the first loses: *forcing*, a row without a place gets a slot, and slots
that it makes late run other variants; *ejection*, a slot is given up, or runs another variant, and the best new slot
is put beside it; *loosening*, a slot is divided or put elsewhere without gain, and rows are moved into the room that
this makes. Then, as long as there is work to do, slots are given up and forced in by numbers that look random and are
the same every time. Whatever beats the best plan is kept.

Many rows. They are searched in bunches first, of one family and likely class, whose deadlines follow one another, so
that the units to move stay few; then every row may move on its own.

Work is counted in rows and slots looked at, never in time, so the same problem has the same plan on any machine.
A `price` of worker time is taken off the value of every slot, for the seconds that it takes.
"""

from typing import Any

import numpy as np

try:
    import cython
except ImportError:
    from peekserve.kernel import _shim as cython  # type: ignore[no-redef]

if not cython.compiled:  # in the extension these are part of the same module
    from peekserve.kernel.loops import NEARLY
    from peekserve.kernel.penalty import _floats, _ints
    from peekserve.kernel.slots import NEVER, Slots

if cython.compiled:
    from cython.cimports.libc.math import pow as power
else:
    from math import pow as power


@cython.cclass
class Search(Slots):
    """Moves slots and rows of a plan about as long as that gains."""

    picked: cython.longlong[::1]
    picked_key: cython.double[::1]
    picked_n: cython.Py_ssize_t
    taken_n: cython.Py_ssize_t
    limit: cython.longlong
    drawn: cython.longlong

    # ---- which rows a new slot would take ------------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _pick(
        self,
        w: cython.Py_ssize_t,
        p: cython.Py_ssize_t,
        lane: cython.Py_ssize_t,
        v: cython.Py_ssize_t,
        steal: cython.bint,
        alpha: cython.double,
    ) -> cython.double:
        """The units that a new slot at this place would take, the first `taken_n` of `picked`, and its rate: what they
        gain, divided by the time to the power of `alpha`.

        Only those without a place, unless `steal`. In falling order of what each gains alone, as many as the rate
        rises by.
        """
        u: cython.Py_ssize_t
        i: cython.Py_ssize_t
        j: cython.Py_ssize_t
        rows: cython.Py_ssize_t = 0
        cap: cython.Py_ssize_t = self.max_batch[lane, v]
        gain: cython.double
        began: cython.double = self.began[w, p]
        begin: cython.double
        finish: cython.double
        spent: cython.double
        tight: cython.double = 1e300
        total: cython.double = 0.0
        real: cython.double
        rate: cython.double
        best: cython.double = 0.0
        falls: cython.Py_ssize_t = 0
        self.picked_n = 0
        self.taken_n = 0
        self._recall(w, p)
        begin = began + self._load(w, 0, self.weights[lane, v])
        finish = begin + self._seconds(w, lane, v, 1)
        for u in range(self.lane_first[lane], self.lane_first[lane + 1]):
            if self.full[u, v] - self.cur[u] <= NEARLY or (self.at[u] >= 0 and not steal):
                continue
            gain = self._gain(u, v, finish) - self.cur[u]
            if gain <= NEARLY:
                continue
            j = self.picked_n
            while j > 0 and self.picked_key[j - 1] < gain:
                self.picked_key[j] = self.picked_key[j - 1]
                self.picked[j] = self.picked[j - 1]
                j -= 1
            self.picked_key[j] = gain
            self.picked[j] = u
            self.picked_n += 1
        self.work += self.lane_first[lane + 1] - self.lane_first[lane]
        for i in range(self.picked_n):
            u = self.picked[i]
            rows += self.many[u]
            if rows > cap:
                break
            total += self.full[u, v] - self.cur[u]
            if self.tight[u] < tight:
                tight = self.tight[u]
            finish = begin + self._seconds(w, lane, v, rows)
            real = total
            if finish > tight:
                if falls == 2:
                    break
                falls += 1
                real = 0.0
                for j in range(i + 1):
                    real += self._gain(self.picked[j], v, finish) - self.cur[self.picked[j]]
            spent = finish - began
            real -= self.price * spent
            if alpha == 1.0:
                rate = real / (spent + 1e-6)
            elif alpha == 0.0:
                rate = real
            else:
                rate = real / power(spent + 1e-6, alpha)
            if rate > best:
                best = rate
                self.taken_n = i + 1
                falls = 0
        self.work += self.picked_n
        return best

    # ---- seeds -----------------------------------------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _append(self, alpha: cython.double) -> cython.void:
        """To the plan as it is, the slot of the best rate at the end of a queue, again and again."""
        w: cython.Py_ssize_t
        i: cython.Py_ssize_t
        s: cython.Py_ssize_t
        lane: cython.Py_ssize_t
        v: cython.Py_ssize_t
        best_w: cython.Py_ssize_t
        best_lane: cython.Py_ssize_t
        best_v: cython.Py_ssize_t
        rate: cython.double
        best: cython.double
        while self.work < self.limit:
            best = 0.0
            best_w = -1
            best_lane = 0
            best_v = 0
            for w in range(self.free_s.shape[0]):
                for lane in range(self.variants.shape[0]):
                    if self.lane_first[lane] == self.lane_first[lane + 1]:
                        continue
                    for v in range(self.variants[lane]):
                        if not self.usable[w, lane * self.weights.shape[1] + v]:
                            continue
                        rate = self._pick(w, self.queue_n[w], lane, v, False, alpha)
                        if rate > best:
                            best = rate
                            best_w = w
                            best_lane = lane
                            best_v = v
            if best_w < 0:
                return
            self._pick(best_w, self.queue_n[best_w], best_lane, best_v, False, alpha)
            s = self._new(best_lane, best_v)
            self._insert(s, best_w, self.queue_n[best_w])
            for i in range(self.taken_n):
                self._shift(self.picked[i], s)
            self._accept()

    # ---- moves -----------------------------------------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _better(self) -> cython.bint:
        """Whether the plan as it now is gains; if so it is settled, if not the caller has to take it back."""
        if self._trial(self.total + NEARLY) > self.total + NEARLY:
            self._accept()
            return True
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _no_worse(self) -> cython.bint:
        """As `_better`, of a change that is for the good if it costs nothing."""
        if self._trial(self.total - NEARLY) >= self.total:
            self._accept()
            return True
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _relocate(self, u: cython.Py_ssize_t) -> cython.bint:
        """One unit to another slot, or to none."""
        a: cython.Py_ssize_t = self.at[u]
        b: cython.Py_ssize_t
        w: cython.Py_ssize_t
        q: cython.Py_ssize_t
        lane: cython.Py_ssize_t = self.unit_lane[u]
        spared: cython.double = 0.0
        if a >= 0:
            spared = self._spill(self.slot_worker[a], self.stands[a])
            if spared - self.cur[u] > NEARLY or self.cur[u] <= 0.0:
                self._shift(u, -1)
                # A row that gains nothing only takes time from others.
                if self._better() or (self.cur[u] <= 0.0 and self._no_worse()):
                    return True
                self._undo()
        for w in range(self.free_s.shape[0]):
            for q in range(self.queue_n[w]):
                b = self.queue[w, q]
                if b == a or self.slot_lane[b] != lane:
                    continue
                self.work += 1
                if self.full[u, self.slot_variant[b]] - self.cur[u] + spared <= NEARLY:
                    continue
                if self.slot_rows[b] + self.many[u] > self.max_batch[lane, self.slot_variant[b]]:
                    continue
                self._shift(u, b)
                if self._better():
                    return True
                self._undo()
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _swap(self, u: cython.Py_ssize_t) -> cython.bint:
        """One unit in the place of another of its lane, and that in its own."""
        a: cython.Py_ssize_t = self.at[u]
        b: cython.Py_ssize_t
        x: cython.Py_ssize_t
        lane: cython.Py_ssize_t = self.unit_lane[u]
        gain: cython.double
        most: cython.double
        for x in range(self.lane_first[lane], self.lane_first[lane + 1]):
            b = self.at[x]
            if b == a or x == u:
                continue
            most = -self.cur[u] - self.cur[x]
            if a >= 0:
                most += self.full[x, self.slot_variant[a]]
            if b >= 0:
                most += self.full[u, self.slot_variant[b]]
            self.work += 1
            if self.many[u] == self.many[x]:
                # No batch ends at another time than before.
                if most <= NEARLY:
                    continue
                gain = -self.cur[u] - self.cur[x]
                if a >= 0:
                    gain += self._gain(x, self.slot_variant[a], self.slot_finish[a])
                if b >= 0:
                    gain += self._gain(u, self.slot_variant[b], self.slot_finish[b])
                if gain <= NEARLY:
                    continue
            else:
                if a >= 0:
                    most += self._spill(self.slot_worker[a], self.stands[a])
                    if (
                        self.slot_rows[a] - self.many[u] + self.many[x]
                        > self.max_batch[lane, self.slot_variant[a]]
                    ):
                        continue
                if b >= 0:
                    most += self._spill(self.slot_worker[b], self.stands[b])
                    if (
                        self.slot_rows[b] - self.many[x] + self.many[u]
                        > self.max_batch[lane, self.slot_variant[b]]
                    ):
                        continue
                if most <= NEARLY:
                    continue
            self._shift(u, b)
            self._shift(x, a)
            if self._better():
                return True
            self._undo()
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _try_new(
        self,
        w: cython.Py_ssize_t,
        p: cython.Py_ssize_t,
        lane: cython.Py_ssize_t,
        v: cython.Py_ssize_t,
        count: cython.Py_ssize_t,
        force: cython.bint,
    ) -> cython.bint:
        """A new slot there with the first `count` of the units picked."""
        i: cython.Py_ssize_t
        s: cython.Py_ssize_t = self._new(lane, v)
        self._insert(s, w, p)
        for i in range(count):
            self._shift(self.picked[i], s)
        if force:
            self._accept()
            return True
        if self._better():
            return True
        self._remove(s)
        self._undo()
        self._free(s)
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _add(self) -> cython.bint:
        """A new slot anywhere, with the rows that prefer it to what they have."""
        w: cython.Py_ssize_t
        p: cython.Py_ssize_t
        lane: cython.Py_ssize_t
        v: cython.Py_ssize_t
        count: cython.Py_ssize_t
        for lane in range(self.variants.shape[0]):
            if self.lane_first[lane] == self.lane_first[lane + 1]:
                continue
            for v in range(self.variants[lane]):
                if not self._wanted(lane, v):
                    continue
                for w in range(self.free_s.shape[0]):
                    if not self.usable[w, lane * self.weights.shape[1] + v]:
                        continue
                    for p in range(self.queue_n[w] + 1):
                        if self.work > self.limit:
                            return False
                        if self._pick(w, p, lane, v, True, 0.0) <= 0.0:
                            continue
                        count = self.taken_n
                        if self._try_new(w, p, lane, v, count, False):
                            return True
                        if count > 1 and p < self.queue_n[w]:
                            if self._try_new(w, p, lane, v, count // 2, False):
                                return True
                            if count > 3 and self._try_new(w, p, lane, v, 1, False):
                                return True
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _as(self, s: cython.Py_ssize_t, v: cython.Py_ssize_t) -> cython.bint:
        """Give a slot another variant; False, and nothing done, where it could not run where it stands."""
        if not self._could(s, self.slot_worker[s], v):
            return False
        if v != self.slot_variant[s]:
            self.slot_variant[s] = v
            self._refresh(s)
        self._touch(self.slot_worker[s], self.stands[s])
        return True

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _another(self, s: cython.Py_ssize_t) -> cython.bint:
        """Another variant for a slot."""
        v: cython.Py_ssize_t
        old: cython.Py_ssize_t = self.slot_variant[s]
        w: cython.Py_ssize_t = self.slot_worker[s]
        spared: cython.double = self._spill(w, self.stands[s] + 1)
        for v in range(self.variants[self.slot_lane[s]]):
            if v == old or not self._as(s, v):
                continue
            if self.slot_full[s] - self.slot_value[s] + spared > NEARLY and self._better():
                return True
            self._as(s, old)
            self._undo()
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _transfer(self, s: cython.Py_ssize_t) -> cython.bint:
        """A slot to another place, or to another worker and there under any variant."""
        w: cython.Py_ssize_t
        p: cython.Py_ssize_t
        v: cython.Py_ssize_t
        here: cython.Py_ssize_t = self.slot_worker[s]
        place: cython.Py_ssize_t = self.stands[s]
        lane: cython.Py_ssize_t = self.slot_lane[s]
        old: cython.Py_ssize_t = self.slot_variant[s]
        value: cython.double = self.slot_value[s]
        spared: cython.double = self._spill(here, place + 1)
        for w in range(self.free_s.shape[0]):
            if w == here and self._spill(here, 0) <= NEARLY:
                continue
            for v in range(self.variants[lane]):
                if (w == here and v != old) or not self._could(s, w, v):
                    continue
                # A sum over units in another order: where there is nothing to gain it may differ by a last bit.
                if w != here and self._sum(s, v) - value + spared <= NEARLY:
                    continue
                for p in range(self.queue_n[w] + (w != here)):
                    if w == here and p == place:
                        continue
                    self._remove(s)
                    self._insert(s, w, p)
                    self._as(s, v)
                    if self._better():
                        return True
                    self._remove(s)
                    self._insert(s, here, place)
                    self._as(s, old)
                    self._undo()
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _sum(self, s: cython.Py_ssize_t, v: cython.Py_ssize_t) -> cython.double:
        """What the units of a slot would gain in time under a variant."""
        u: cython.longlong = self.slot_head[s]
        total: cython.double = 0.0
        while u >= 0:
            total += self.full[u, v]
            u = self.after[u]
            self.work += 1
        return total

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _could(self, s: cython.Py_ssize_t, w: cython.Py_ssize_t, v: cython.Py_ssize_t) -> cython.bint:
        """Whether a slot as it is could run there under this variant."""
        u: cython.longlong = self.slot_head[s]
        lane: cython.Py_ssize_t = self.slot_lane[s]
        if (
            not self.usable[w, lane * self.weights.shape[1] + v]
            or self.slot_rows[s] > self.max_batch[lane, v]
        ):
            return False
        while u >= 0:
            if self.full[u, v] < NEVER:
                return False
            u = self.after[u]
        return True

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _scatter(self, s: cython.Py_ssize_t) -> cython.void:
        """All units of a slot to the others, each to where it gains most as those now are, or to none."""
        u: cython.Py_ssize_t = self.slot_head[s]
        following: cython.Py_ssize_t
        b: cython.Py_ssize_t
        to: cython.Py_ssize_t
        w: cython.Py_ssize_t
        q: cython.Py_ssize_t
        gain: cython.double
        most: cython.double
        lane: cython.Py_ssize_t = self.slot_lane[s]
        while u >= 0:
            following = self.after[u]
            most = 0.0
            to = -1
            for w in range(self.free_s.shape[0]):
                for q in range(self.queue_n[w]):
                    b = self.queue[w, q]
                    if b == s or self.slot_lane[b] != lane or self.full[u, self.slot_variant[b]] <= most:
                        continue
                    if self.slot_rows[b] + self.many[u] > self.max_batch[lane, self.slot_variant[b]]:
                        continue
                    gain = self._gain(u, self.slot_variant[b], self.slot_finish[b])
                    if gain > most:
                        most = gain
                        to = b
            self._shift(u, to)
            u = following

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _dissolve(self, s: cython.Py_ssize_t) -> cython.bint:
        """A slot given up, its units to the others or to none."""
        if self._spill(self.slot_worker[s], self.stands[s]) <= NEARLY and self.slot_value[s] > 0.0:
            # Even then its units may be worth more elsewhere, but `_relocate` finds that.
            return False
        self._scatter(s)
        if self._better():
            return True
        self._undo()
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _merge(self, a: cython.Py_ssize_t) -> cython.bint:
        """The units of another slot of its lane into this one, under either variant."""
        b: cython.Py_ssize_t
        w: cython.Py_ssize_t
        q: cython.Py_ssize_t
        u: cython.Py_ssize_t
        following: cython.Py_ssize_t
        turn: cython.Py_ssize_t
        lane: cython.Py_ssize_t = self.slot_lane[a]
        old: cython.Py_ssize_t = self.slot_variant[a]
        able: cython.bint
        for w in range(self.free_s.shape[0]):
            for q in range(self.queue_n[w]):
                b = self.queue[w, q]
                if b == a or self.slot_lane[b] != lane:
                    continue
                if self._spill(w, q) + self._spill(self.slot_worker[a], self.stands[a]) <= NEARLY:
                    if self.slot_variant[a] == self.slot_variant[b]:
                        continue
                for turn in range(2):
                    if turn == 1 and (self.slot_variant[b] == old or not self._as(a, self.slot_variant[b])):
                        continue
                    able = True
                    if self.slot_rows[a] + self.slot_rows[b] > self.max_batch[lane, self.slot_variant[a]]:
                        able = False
                    u = self.slot_head[b]
                    while u >= 0 and able:
                        if self.full[u, self.slot_variant[a]] < NEVER:
                            able = False
                        u = self.after[u]
                    if able:
                        u = self.slot_head[b]
                        while u >= 0:
                            following = self.after[u]
                            self._shift(u, a)
                            u = following
                        if self._better():
                            return True
                    self._undo()
                    if turn == 1:
                        self._as(a, old)
                        self._undo()
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _split(self, s: cython.Py_ssize_t) -> cython.bint:
        """The less urgent units of a slot to a new one behind it, or the more urgent to one ahead, any variant."""
        u: cython.Py_ssize_t = self.slot_head[s]
        i: cython.Py_ssize_t
        j: cython.Py_ssize_t
        k: cython.Py_ssize_t
        w: cython.Py_ssize_t
        p: cython.Py_ssize_t
        v: cython.Py_ssize_t
        new: cython.Py_ssize_t
        count: cython.Py_ssize_t
        lane: cython.Py_ssize_t = self.slot_lane[s]
        here: cython.Py_ssize_t = self.slot_worker[s]
        place: cython.Py_ssize_t = self.stands[s]
        spared: cython.double = self._spill(here, place)
        ahead: cython.bint
        able: cython.bint
        rows: cython.Py_ssize_t
        if spared <= NEARLY or self.after[u] < 0:
            return False
        count = self._sorted(s)
        for k in range(1, count):
            for v in range(self.variants[lane]):
                for w in range(self.free_s.shape[0]):
                    if not self.usable[w, lane * self.weights.shape[1] + v]:
                        continue
                    for p in range(self.queue_n[w] + 1):
                        if self.work > self.limit:
                            return False
                        ahead = w == here and p <= place
                        i = 0 if ahead else k
                        j = k if ahead else count
                        able = True
                        rows = 0
                        for u in range(i, j):
                            rows += self.many[self.picked[u]]
                            if self.full[self.picked[u], v] < NEVER:
                                able = False
                        if not able or rows > self.max_batch[lane, v]:
                            continue
                        new = self._new(lane, v)
                        self._insert(new, w, p)
                        for u in range(i, j):
                            self._shift(self.picked[u], new)
                        if self._better():
                            return True
                        self._remove(new)
                        self._undo()
                        self._free(new)
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _slot_moves(self) -> cython.bint:
        w: cython.Py_ssize_t
        q: cython.Py_ssize_t
        s: cython.Py_ssize_t
        for w in range(self.free_s.shape[0]):
            q = 0
            while q < self.queue_n[w]:
                if self.work > self.limit:
                    return False
                s = self.queue[w, q]
                if (
                    self._another(s)
                    or self._transfer(s)
                    or self._dissolve(s)
                    or self._merge(s)
                    or self._split(s)
                ):
                    return True
                q += 1
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _polish(self) -> cython.void:
        """Move after move, each the first found that gains, until none does or the work runs out."""
        u: cython.Py_ssize_t
        moved: cython.bint = True
        while moved and self.work <= self.limit:
            moved = False
            for u in range(self.units):
                if self.work > self.limit:
                    return
                if self._relocate(u) or self._swap(u):
                    moved = True
            if self._slot_moves():
                moved = True
            if not moved and self._add():
                moved = True

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _add_best(self, not_lane: cython.Py_ssize_t, not_v: cython.Py_ssize_t) -> cython.bint:
        """The new slot that gains most; none of this lane and variant."""
        w: cython.Py_ssize_t
        p: cython.Py_ssize_t
        lane: cython.Py_ssize_t
        v: cython.Py_ssize_t
        i: cython.Py_ssize_t
        s: cython.Py_ssize_t
        total: cython.double
        best: cython.double = self.total + NEARLY
        best_w: cython.Py_ssize_t = -1
        best_p: cython.Py_ssize_t = 0
        best_lane: cython.Py_ssize_t = 0
        best_v: cython.Py_ssize_t = 0
        for lane in range(self.variants.shape[0]):
            for v in range(self.variants[lane]):
                if (lane == not_lane and v == not_v) or not self._wanted(lane, v):
                    continue
                for w in range(self.free_s.shape[0]):
                    if not self.usable[w, lane * self.weights.shape[1] + v]:
                        continue
                    for p in range(self.queue_n[w] + 1):
                        if self._pick(w, p, lane, v, True, 0.0) <= 0.0:
                            continue
                        s = self._new(lane, v)
                        self._insert(s, w, p)
                        for i in range(self.taken_n):
                            self._shift(self.picked[i], s)
                        total = self._trial(best)
                        self._remove(s)
                        self._undo()
                        self._free(s)
                        if total > best:
                            best = total
                            best_w = w
                            best_p = p
                            best_lane = lane
                            best_v = v
        if best_w < 0:
            return False
        self._pick(best_w, best_p, best_lane, best_v, True, 0.0)
        return self._try_new(best_w, best_p, best_lane, best_v, self.taken_n, True)

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _wanted(self, lane: cython.Py_ssize_t, v: cython.Py_ssize_t) -> cython.bint:
        """Whether any unit could gain by a new slot of this variant."""
        u: cython.Py_ssize_t
        for u in range(self.lane_first[lane], self.lane_first[lane + 1]):
            if self.full[u, v] - self.cur[u] > NEARLY:
                return True
        self.work += 1
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _eject(self) -> cython.bint:
        """Give up a slot or give it another variant, put the best new slot beside it, and polish; until that gains."""
        i: cython.Py_ssize_t = 0
        s: cython.Py_ssize_t
        v: cython.Py_ssize_t
        old: cython.Py_ssize_t
        lane: cython.Py_ssize_t
        while i < self._count():
            s = self._nth(i)
            lane = self.slot_lane[s]
            for v in range(-1, self.variants[lane]):
                s = self._nth(i)
                old = self.slot_variant[s]
                if self.work > self.limit:
                    return False
                if v == old:
                    continue
                if v < 0:
                    while self.slot_head[s] >= 0:
                        self._shift(self.slot_head[s], -1)
                elif not self._as(s, v):
                    continue
                self._accept()
                if not self._add_best(lane if v < 0 else -1, old):
                    self._restore()
                elif self._polished():
                    return True
            i += 1
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _fill_up(self) -> cython.bint:
        """Rows to better places, as long as they find some; whether that beats the best plan, then polished and kept.

        The caller has changed something that need not gain by itself.
        """
        u: cython.Py_ssize_t
        moved: cython.bint = False
        for u in range(self.units):
            if self._relocate(u) or self._swap(u):
                moved = True
        if moved and self.total > self.kept_total - NEARLY:
            self._polish()
        if self.total > self.kept_total + NEARLY:
            self._save()
            return True
        self._restore()
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _sorted(self, s: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """The units of a slot into `picked`, the most urgent first: how many."""
        u: cython.Py_ssize_t = self.slot_head[s]
        j: cython.Py_ssize_t
        count: cython.Py_ssize_t = 0
        while u >= 0:
            j = count
            while j > 0 and self.tight[self.picked[j - 1]] > self.tight[u]:
                self.picked[j] = self.picked[j - 1]
                j -= 1
            self.picked[j] = u
            count += 1
            u = self.after[u]
        self.work += count
        return count

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _loosen(self) -> cython.bint:
        """Divide a slot, the less urgent rows to run later, or put a slot elsewhere, and see whether rows find room."""
        i: cython.Py_ssize_t
        j: cython.Py_ssize_t
        k: cython.Py_ssize_t
        p: cython.Py_ssize_t
        s: cython.Py_ssize_t
        w: cython.Py_ssize_t
        new: cython.Py_ssize_t
        count: cython.Py_ssize_t
        place: cython.Py_ssize_t
        for i in range(self._count()):
            s = self._nth(i)
            w = self.slot_worker[s]
            place = self.stands[s]
            for p in range(self.queue_n[w]):
                if p == place:
                    continue
                if self.work > self.limit:
                    return False
                s = self._nth(i)
                self._remove(s)
                self._insert(s, w, p)
                self._accept()
                if self._fill_up():
                    return True
            s = self._nth(i)
            count = self._sorted(s)
            for k in range(1, count):
                for p in range(place + 1, self.queue_n[w] + 1):
                    if self.work > self.limit:
                        return False
                    s = self._nth(i)
                    self._sorted(s)
                    new = self._new(self.slot_lane[s], self.slot_variant[s])
                    self._insert(new, w, p)
                    for j in range(k, count):
                        self._shift(self.picked[j], new)
                    self._accept()
                    if self._fill_up():
                        return True
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _over(self, s: cython.Py_ssize_t, w: cython.Py_ssize_t, p: cython.Py_ssize_t) -> cython.bint:
        """Put a slot on another worker, under its own variant or else the first that can run there."""
        v: cython.Py_ssize_t = self.slot_variant[s]
        other: cython.Py_ssize_t = 0
        while not self._could(s, w, v):
            if other == self.variants[self.slot_lane[s]]:
                return False
            v = other
            other += 1
        self._remove(s)
        self._insert(s, w, p)
        self._as(s, v)
        return True

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _exchange(self) -> cython.bint:
        """Two workers' queues, or two of their slots, in each other's place, and polish; until that gains."""
        i: cython.Py_ssize_t
        j: cython.Py_ssize_t
        a: cython.Py_ssize_t
        b: cython.Py_ssize_t
        w: cython.Py_ssize_t
        x: cython.Py_ssize_t
        p: cython.Py_ssize_t
        q: cython.Py_ssize_t
        for w in range(self.free_s.shape[0]):
            for x in range(w):
                if self.work > self.limit:
                    return False
                i = self.queue_n[w]
                j = self.queue_n[x]
                # What cannot run there stays ahead, and is stepped over.
                p = 0
                while p < i:
                    if self._over(self.queue[w, p], x, self.queue_n[x]):
                        i -= 1
                    else:
                        p += 1
                p = 0
                while p < j:
                    if self._over(self.queue[x, p], w, self.queue_n[w]):
                        j -= 1
                    else:
                        p += 1
                self._accept()
                if self._polished():
                    return True
        for i in range(self._count()):
            for j in range(i):
                a = self._nth(i)
                b = self._nth(j)
                w = self.slot_worker[a]
                x = self.slot_worker[b]
                if w == x:
                    continue
                if self.work > self.limit:
                    return False
                p = self.stands[a]
                q = self.stands[b]
                if self._over(a, x, q) and self._over(b, w, p):
                    self._accept()
                    if self._polished():
                        return True
                else:
                    self._restore()
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _force(self) -> cython.bint:
        """A new slot for a unit that has no place, whatever it costs, and other variants for those that it makes late;
        until that gains."""
        u: cython.Py_ssize_t
        v: cython.Py_ssize_t
        w: cython.Py_ssize_t
        p: cython.Py_ssize_t
        q: cython.Py_ssize_t
        s: cython.Py_ssize_t
        lane: cython.Py_ssize_t
        finish: cython.double
        for u in range(self.units):
            if self.at[u] >= 0:
                continue
            lane = self.unit_lane[u]
            for v in range(self.variants[lane]):
                if self.full[u, v] <= NEARLY or self.many[u] > self.max_batch[lane, v]:
                    continue
                for w in range(self.free_s.shape[0]):
                    if not self.usable[w, lane * self.weights.shape[1] + v]:
                        continue
                    for p in range(self.queue_n[w] + 1):
                        if self.work > self.limit:
                            return False
                        self._recall(w, p)
                        finish = self.began[w, p] + self._load(w, 0, self.weights[lane, v])
                        finish += self._seconds(w, lane, v, self.many[u])
                        self.work += 1
                        if self._gain(u, v, finish) <= NEARLY:
                            continue
                        s = self._new(lane, v)
                        self._insert(s, w, p)
                        self._shift(u, s)
                        self._accept()
                        for q in range(p + 1, self.queue_n[w]):
                            s = self.queue[w, q]
                            if self.slot_value[s] < self.slot_full[s] - NEARLY:
                                self._another(s)
                        if self.total > self.kept_total + NEARLY:
                            self._polish()
                            self._save()
                            return True
                        self._restore()
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _polished(self) -> cython.bint:
        """Polish; whether that beats the best plan, which is kept or else restored."""
        self._polish()
        if self.total > self.kept_total + NEARLY:
            self._save()
            return True
        self._restore()
        return False

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _shakes(self) -> cython.void:
        """Disturb the best plan and polish what comes of it, as long as there is work to do."""
        tried: cython.bint = True
        while self.work <= self.limit:
            if tried:
                while self.work <= self.limit and (
                    self._force() or self._eject() or self._loosen() or self._exchange()
                ):
                    pass
                tried = False
            self._shake()
            tried = self._polished()

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _chance(self, many: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """A number from 0 to below `many`, the same ones in every search."""
        self.drawn = (self.drawn * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.drawn >> 8) % many

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _count(self) -> cython.Py_ssize_t:
        w: cython.Py_ssize_t
        many: cython.Py_ssize_t = 0
        for w in range(self.free_s.shape[0]):
            many += self.queue_n[w]
        return many

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _nth(self, i: cython.Py_ssize_t) -> cython.Py_ssize_t:
        w: cython.Py_ssize_t
        for w in range(self.free_s.shape[0]):
            if i < self.queue_n[w]:
                return self.queue[w, i]
            i -= self.queue_n[w]
        return -1

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _shake(self) -> cython.void:
        """One to three slots given up, and mostly a new one put somewhere whatever it costs."""
        s: cython.Py_ssize_t
        i: cython.Py_ssize_t
        u: cython.Py_ssize_t
        w: cython.Py_ssize_t
        p: cython.Py_ssize_t
        v: cython.Py_ssize_t
        lane: cython.Py_ssize_t
        many: cython.Py_ssize_t = self._count()
        kind: cython.Py_ssize_t = self._chance(8)
        for i in range(kind % 3 + (kind < 6)):
            if many == 0:
                break
            s = self._nth(self._chance(many))
            while self.slot_head[s] >= 0:
                self._shift(self.slot_head[s], -1)
            self._accept()
            many -= 1
        if kind >= 2:
            u = self._chance(self.units)
            lane = self.unit_lane[u]
            w = self._chance(self.free_s.shape[0])
            v = self._chance(self.variants[lane])
            p = self._chance(self.queue_n[w] + 1)
            if (
                self.usable[w, lane * self.weights.shape[1] + v]
                and self._pick(w, p, lane, v, True, 0.0) > 0.0
            ):
                self._try_new(w, p, lane, v, self.taken_n, True)
        else:
            self._append(1.0 if kind == 0 else 0.4)

    # ---- the end ---------------------------------------------------------------------------------------------

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _order(self) -> cython.void:
        """Of two neighbours in a queue, first the one that gains more for its time, where that costs nothing: what
        comes later may never be run, if more is known by then."""
        w: cython.Py_ssize_t
        q: cython.Py_ssize_t
        a: cython.Py_ssize_t
        b: cython.Py_ssize_t
        swapped: cython.bint = True
        while swapped:
            swapped = False
            for w in range(self.free_s.shape[0]):
                for q in range(self.queue_n[w] - 1):
                    a = self.queue[w, q]
                    b = self.queue[w, q + 1]
                    # Without loads, which hang on the order: so this comes to an end.
                    if self.slot_full[b] * self._run_s(a) <= self.slot_full[a] * self._run_s(b) + NEARLY:
                        continue
                    self._remove(a)
                    self._insert(a, w, q + 1)
                    if self._no_worse():
                        swapped = True
                    else:
                        self._remove(a)
                        self._insert(a, w, q)
                        self._undo()

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _run_s(self, s: cython.Py_ssize_t) -> cython.double:
        return self._seconds(self.slot_worker[s], self.slot_lane[s], self.slot_variant[s], self.slot_rows[s])

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _clean(self) -> cython.void:
        """No place for a row that is late in it and worth nothing (`drop`)."""
        u: cython.Py_ssize_t
        j: cython.Py_ssize_t
        row: cython.Py_ssize_t
        finish: cython.double
        useless: cython.bint
        moved: cython.bint = self.drop
        while moved:
            moved = False
            for u in range(self.units):
                if self.at[u] < 0:
                    continue
                finish = self.slot_finish[self.at[u]]
                useless = True
                for j in range(self.unit_first[u], self.unit_first[u + 1]):
                    row = self.unit_rows[j]
                    if not (finish > self.due[row] and self._gamma(row, finish) >= 1.0):
                        useless = False
                if useless:
                    self._shift(u, -1)
                    self._accept()
                    moved = True

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _serve_all(self) -> cython.void:
        """Rows that have no place and no answer of the peek, at the end: they may not be dropped."""
        u: cython.Py_ssize_t
        v: cython.Py_ssize_t
        w: cython.Py_ssize_t
        s: cython.Py_ssize_t
        best_w: cython.Py_ssize_t
        best_v: cython.Py_ssize_t
        lane: cython.Py_ssize_t
        finish: cython.double
        soonest: cython.double
        for u in range(self.units):
            if self.at[u] >= 0 or self.worth[self.unit_rows[self.unit_first[u]]] > 0.0:
                continue
            lane = self.unit_lane[u]
            best_w = -1
            best_v = 0
            soonest = 1e300
            for w in range(self.free_s.shape[0]):
                s = self.queue[w, self.queue_n[w] - 1] if self.queue_n[w] > 0 else -1
                if s >= 0 and self.slot_lane[s] == lane and self.full[u, self.slot_variant[s]] > NEVER:
                    if self.slot_rows[s] + self.many[u] <= self.max_batch[lane, self.slot_variant[s]]:
                        finish = self.slot_finish[s]
                        # Beside rows that are worth nothing any more, and only there.
                        if self.slot_value[s] <= NEARLY and finish < soonest:
                            soonest = finish
                            best_w = w
                            best_v = -1
                self._recall(w, self.queue_n[w])
                for v in range(self.variants[lane]):
                    if self.full[u, v] < NEVER or not self.usable[w, lane * self.weights.shape[1] + v]:
                        continue
                    finish = self.began[w, self.queue_n[w]] + self._load(w, 0, self.weights[lane, v])
                    finish += self._seconds(w, lane, v, self.many[u])
                    if finish < soonest:
                        soonest = finish
                        best_w = w
                        best_v = v
            if best_w < 0:
                continue
            if best_v < 0:
                s = self.queue[best_w, self.queue_n[best_w] - 1]
            else:
                s = self._new(lane, best_v)
                self._insert(s, best_w, self.queue_n[best_w])
            self._shift(u, s)
            self._accept()

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _search(self) -> cython.void:
        """From each seed to where no move gains, then on from the best of those."""
        seed: cython.Py_ssize_t
        limit: cython.longlong = self.limit
        self._read()
        self._save()
        for seed in range(3):
            self.limit = self.work + (limit - self.work) // (5 - seed)
            if seed > 0:
                self._clear()
                self._append(1.0 if seed == 1 else 0.4)
            self._polish()
            if self.total > self.kept_total + NEARLY:
                self._save()
        self.limit = limit
        self._restore()
        self._polish()
        self._save()
        self.drawn = 1
        self._shakes()
        self._restore()

    @cython.final
    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _rows(self) -> cython.void:
        """Single rows to better places, as long as some move."""
        u: cython.Py_ssize_t
        moved: cython.bint = True
        while moved and self.work <= self.limit:
            moved = False
            for u in range(self.units):
                if self.work > self.limit:
                    return
                if self._relocate(u):
                    moved = True

    def improve(self, lane: Any, rows: Any, ends: Any, price: float, budget: int) -> None:
        """Better the plan of the problem.

        `rows` i8[m]: those to plan, `lane` i8[m] theirs, rising. `ends` i8[U]: where in `rows` the units end, those
        rows that go everywhere together until the last pass. `price`: utility for each second of a worker. `budget`:
        rows and slots to look at.
        """
        m: cython.Py_ssize_t = len(rows)
        units: cython.Py_ssize_t = len(ends)
        each = np.arange(m + 1)
        self.work = 0
        if m == 0:
            return
        self.picked = _ints(m)
        self.picked_key = _floats(m)
        if units == m:
            self.limit = budget
            self.units_of(lane, each, rows, price, m + 1)
            self._search()
        else:
            first = np.concatenate((each[:1], ends))
            self.limit = 2 * budget // 3
            self.units_of(lane[first[:-1]], first, rows, price, units + 1)
            self._search()
            self._write()
            self.limit = budget
            self.units_of(lane, each, rows, price, self.batches + 1 if self.drop else m + 1)
            self._read()
            self._rows()
        self._clean()
        self._order()
        if not self.drop:
            self._serve_all()
        self._write()

    def looked_at(self) -> int:
        """Rows and slots that the last `improve` looked at."""
        return int(self.work)
