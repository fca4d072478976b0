"""What the peers share: clockwork, nexus and proteus, policies of other papers, on the views of this one.

| policy    | a row asks for                  | a free worker runs next                | dropped               |
| --------- | ------------------------------- | -------------------------------------- | --------------------- |
| clockwork | one variant, its owner's choice | the strategy that must start first     | what it cannot do     |
| nexus     | likewise                        | the next session of its duty cycle     | heads in a batch's way |
| proteus   | any that a device was given     | its one variant, after waiting for more | what no device can do |

Each file says what its policy does otherwise than its paper, and why. What is so for all three:

- Latencies are the profile's (95th percentiles where measured), not the last measurements; deadlines are those of the
  view, from which the scheduler took its margin. A load is the first half of a batch: a plan has no loads of its own.
- The unit is the lane: an application and a shape bucket.
- With `drop` off, and for rows whose lateness costs nothing more, what the policy would drop runs after everything
  else, with the quickest variant that the row may use.
- `short_circuit`: a row whose peek is worth more than the most that the policy could give it takes that and no place;
  so does one whose place in the plan turns out to be worth less, and one that the policy would drop.
- `merge` changes nothing: batches are what these policies are about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from peekserve.domain.messages import Batch, Plan
from peekserve.domain.utility import PenaltyKind
from peekserve.kernel import loops
from peekserve.policies.base import Bools, Floats, Switches, View, WorkerView
from peekserve.policies.placing import Ground, Indices, look
from peekserve.policies.worth import loaded


@dataclass(slots=True)
class Seat:
    """A worker while a plan is made. `free_s`: when it has done all that it was given, seconds from now. `held`: the
    weights that it holds by then, the least recently used first."""

    index: int
    worker: WorkerView
    free_s: float
    held: list[int]

    def ready_s(self, weights: int) -> float:
        """When a batch with these weights could begin; infinite where they never fit."""
        if weights in self.held:
            return self.free_s
        worker = self.worker
        return self.free_s + float(worker.load_s[weights]) if worker.bytes[weights] <= worker.budget else inf


@dataclass(slots=True)
class Draft:
    """A plan in the making. `due_s`: f8[n], seconds from now. `accuracy`: f8[n, V], what is believed. `left`: rows
    that have no place yet, by deadline, ties in order of arrival. `dropped`: rows that the policy would not serve."""

    view: View
    switches: Switches
    ground: Ground
    due_s: Floats
    accuracy: Floats
    worth: Floats
    left: Indices
    seats: list[Seat]
    instant: list[int]
    refuse: list[int]
    dropped: list[int] = field(default_factory=list)
    batches: list[tuple[Batch, float]] = field(default_factory=list)

    @classmethod
    def of(cls, view: View, switches: Switches, ground: Ground) -> "Draft":
        """Nothing planned yet but the rows that no variant can finish in time, if those are dropped."""
        outlook = look(view, switches, ground)
        order = np.argsort(outlook.due_s[outlook.open], kind="stable")
        seats = [Seat(i, w, w.free_at - view.now, list(w.resident)) for i, w in enumerate(view.workers)]
        return cls(
            view, switches, ground, outlook.due_s, outlook.accuracy, outlook.worth, outlook.open[order], seats,
            outlook.instant.tolist(), outlook.refuse.tolist(),
        )  # fmt: skip

    # ---- what can be asked ----

    def weights(self, lane: int, variant: int) -> int:
        return int(self.ground.lanes[1][lane, variant])

    def most(self, lane: int, variant: int) -> int:
        """The largest batch of a variant."""
        return int(self.ground.lanes[2][lane, variant])

    def able(self) -> Bools:
        """bool [L, V]: the variants that some worker can run at all."""
        can = np.isfinite(self.ground.first_s) & np.isfinite(self.ground.load_s)
        able: Bools = np.logical_or.reduce(can, axis=0) & self.ground.own
        return able

    def soonest_s(self) -> Floats:
        """f8[L, V]: the soonest end of a batch of one row, over the workers."""
        weights = self.ground.lanes[1]
        ready = np.array([[seat.ready_s(int(w)) for w in weights.ravel()] for seat in self.seats])
        ends = ready.reshape(len(self.seats), *weights.shape) + self.ground.first_s
        soonest: Floats = np.where(self.ground.own, ends.min(axis=0), inf)
        return soonest

    def end_s(self, seat: Seat, lane: int, variant: int, rows: int) -> float:
        """When a batch of so many rows would end on this worker."""
        return seat.ready_s(self.weights(lane, variant)) + float(seat.worker.latency_s[lane][variant, rows])

    def in_time(self, soonest_s: Floats) -> Bools:
        """bool [n, V]: the variants that a row may use and that would be in time, if it ran next and alone."""
        ends = soonest_s[self.view.lane]
        fits: Bools = self.view.allowed & (ends <= self.due_s[:, None])
        return fits

    def last(self, row: int) -> bool:
        """Must this row be served however late? Its lateness costs nothing more, or nothing is dropped."""
        return not self.switches.drop or int(self.view.penalty[row]) == PenaltyKind.CONSTANT

    # ---- what is done ----

    def short_circuit(self, most: Floats) -> None:
        """Rows whose peek is worth more than `most` (f8[n]), all that the policy could give them, take it."""
        better = self.worth[self.left] > most[self.left]
        self.instant += self.left[better].tolist()
        self.left = self.left[~better]

    def drop(self, rows: Sequence[int]) -> None:
        """These have no place in this plan."""
        self.dropped += rows
        self._gone(rows)

    def run(self, seat: Seat, lane: int, variant: int, rows: Sequence[int]) -> None:
        """A batch of these rows, after all that this worker was given."""
        closed = "full" if len(rows) == self.most_of(lane, variant) else "policy"
        seat.free_s += loaded(seat.worker, seat.held, self.weights(lane, variant))
        seat.free_s += float(seat.worker.latency_s[lane][variant, len(rows)])
        self.batches.append((Batch(seat.index, lane, variant, tuple(rows), closed), seat.free_s))
        self._gone(rows)

    def most_of(self, lane: int, variant: int) -> int:
        """The largest batch that the variant itself allows."""
        return int(self.view.lanes[lane].max_batch[variant])

    def run_last(self, seats: Sequence[Seat]) -> None:
        """What must be served however late, on these workers, by the quickest variant and in large batches."""
        late = sorted(row for row in self.dropped if self.last(row))
        if not late or not seats:
            return
        late.sort(key=lambda row: (self.due_s[row], row))
        waiting: dict[tuple[int, int], list[int]] = {}
        soonest = self.soonest_s()
        for row in late:
            lane = int(self.view.lane[row])
            ends = np.where(self.view.allowed[row], soonest[lane], inf)
            if ends.min() < inf:
                waiting.setdefault((lane, int(ends.argmin())), []).append(row)
        for (lane, variant), rows in waiting.items():
            most = self.most(lane, variant)
            for begin in range(0, len(rows), most):
                chunk = rows[begin : begin + most]
                seat = min(seats, key=lambda s: self.end_s(s, lane, variant, len(chunk)))
                if self.end_s(seat, lane, variant, len(chunk)) < inf:
                    self.run(seat, lane, variant, chunk)

    def plan(self, again_at: float = inf) -> Plan:
        """The plan, once every row was placed, dropped or left to wait."""
        placed = {row for batch, _ in self.batches for row in batch.rows}
        instant, refuse, batches = list(self.instant), list(self.refuse), []
        for batch, end_s in self.batches:
            kept = self.kept(batch, end_s)
            instant += [row for row in batch.rows if row not in kept]
            if kept:
                full = len(kept) == self.most_of(batch.lane, batch.variant)
                closed = "full" if full else "policy"
                batches.append(Batch(batch.worker, batch.lane, batch.variant, kept, closed))
        for row in self.dropped:
            if row not in placed:
                if self.worth[row] > 0.0:
                    instant.append(row)
                elif not self.last(row):
                    refuse.append(row)
        return Plan(tuple(batches), tuple(sorted(instant)), tuple(sorted(refuse)), again_at)

    def kept(self, batch: Batch, end_s: float) -> tuple[int, ...]:
        """The rows of a batch whose peek is worth no more than their place in it."""
        if not (self.worth[list(batch.rows)] > 0.0).any():
            return tuple(batch.rows)
        return tuple(row for row in batch.rows if self.worth[row] <= self._worth_in(batch, row, end_s))

    def _worth_in(self, batch: Batch, row: int, end_s: float) -> float:
        view = self.view
        tables = (view.tables.x, view.tables.p, view.tables.start.astype(np.int64))
        lost = loops.penalty(
            int(view.penalty[row]), float(view.width_s[row]), end_s - float(self.due_s[row]), *tables
        )
        return float(self.accuracy[row, batch.variant]) * (1.0 - lost)

    def _gone(self, rows: Sequence[int]) -> None:
        if len(rows):
            gone = np.zeros(self.view.size, np.bool_)
            gone[list(rows)] = True
            self.left = self.left[~gone[self.left]]


NONE = -1


def owners_choice(draft: Draft, option: int) -> Indices:
    """i8[n]: the variant that the owner of each row's application has it ask for: number `option`, or with a number
    below 0 the most accurate by profile; of those that the row may use, the latter where that one is none of them.
    NONE where no worker can run any."""
    view, profiled = draft.view, draft.ground.profiled
    able = view.allowed & draft.able()[view.lane]
    best = np.where(able, profiled[view.lane], -1.0).argmax(axis=1)
    if option >= 0:
        named = np.minimum(option, draft.ground.own.sum(axis=1) - 1)[view.lane]
        best = np.where(able[np.arange(view.size), named], named, best)
    chosen: Indices = np.where(able.any(axis=1), best, NONE)
    return chosen


def best_that_fits(draft: Draft, fits: Bools) -> Indices:
    """i8[n]: of the variants that fit (bool [n, V]) the one believed most accurate, the first of equals; NONE where
    none fits."""
    best = np.where(fits, draft.accuracy, -1.0).argmax(axis=1)
    return np.where(fits.any(axis=1), best, NONE).astype(np.int64)


def queues(draft: Draft, asked: Indices) -> Mapping[tuple[int, int], Indices]:
    """The rows that are left, by the (lane, variant) that each asks for, each by deadline; in a fixed order."""
    rows = draft.left[asked[draft.left] != NONE]
    keys = draft.view.lane[rows].astype(np.int64) * (draft.ground.own.shape[1] + 1) + asked[rows]
    found = {}
    for key in np.unique(keys).tolist():
        own = rows[keys == key]
        found[int(draft.view.lane[own[0]]), int(asked[own[0]])] = own
    return found
