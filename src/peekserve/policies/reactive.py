"""What the policies of the SuperServe paper share: one queue by deadline, and a choice whenever a worker is free.

SuperServe (NSDI'25, section 4.2) keeps one global queue, earliest deadline first. When a worker is free, the row at its
head decides how much time there is: *theta*, the head's deadline less the instant at which the worker could begin. A
policy picks a variant and a batch size that end within theta; the batch takes the most urgent rows. That is all that
these policies are: they look at the head, the profile and the length of the queue, and remember nothing.

Where the paper says nothing, or this house is otherwise:

- Here are several lanes. The head's lane decides: its rows alone can share the batch, the most urgent first.
- Weights that the worker does not hold are loaded before the batch, and theta is shorter by that. With one supernet all
  variants have the same weights, and the load is nothing once they are there.
- Workers may be unlike: the one that is free first is asked first, and if it cannot answer the head in time, the next.
- A plan lists a few batches for each worker, as if nothing more came, and asks to be asked again when a worker has done
  its own; the rows behind them wait. Rolling planning carries out the first of each worker and asks again, so there the
  policy is as reactive as the paper's; a window is carried out whole, in several plans if its queue is long. Nothing is
  lost by it: what waits behind batches that are in time is due after them. Option `ahead` (4): how many batches; 0 for
  a place for every row, as `peekserve schedule` has it.
- A head that no worker can answer in time is dropped, with all others like it (they stay in the backlog until nothing
  could save them, see core). With `drop` off it is served late, in its turn, by its quickest variant and with the
  largest batch: SuperServe's own metric counts misses and knows no drops. Rows whose lateness costs nothing more run
  after everything else.
- `aware`: where the paper reads a profiled accuracy, the mean of what is believed of the rows that could share the
  batch. `short_circuit`: a row whose peek is worth more than the best that the policy could give it takes that, and so
  does one that the policy drops. `merge` changes nothing: batches are what these policies are about.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from peekserve.domain.messages import Plan
from peekserve.policies.base import Bools, Floats, Switches, View
from peekserve.policies.options import checked
from peekserve.policies.peers import Draft, Seat
from peekserve.policies.placing import DECIMALS, Grounds, Indices


@dataclass(frozen=True, slots=True)
class Turn:
    """A free worker, and the row at the head of the queue. V variants of the head's lane, B the longest batch there is
    a time for.

    `rows`: the lane's rows that wait, by deadline. `usable`: bool [V], what the head may use. `slack_s`: f8[V], theta
    of a batch of each variant, from when its weights are there; -inf where it cannot run. `load_s`: f8[V]. `latency_s`:
    f8[V, B + 1], seconds by number of rows. `most`: i8[V], the largest batch of each; `counts`: i8[V], the rows that
    wait and may use it; both 0 where the head may not. `accuracy`: f8[V], what is believed, of the profile or of the
    rows that could share the batch. `fits`: bool [V, B], the variants and sizes that wait and are in time.
    """

    draft: Draft
    seat: Seat
    lane: int
    rows: Indices
    usable: Bools
    slack_s: Floats
    load_s: Floats
    latency_s: Floats
    most: Indices
    counts: Indices
    accuracy: Floats
    fits: Bools

    @classmethod
    def of(cls, draft: Draft, seat: Seat, usable: Bools, alike: bool) -> "Turn":
        """`usable`: bool [n, V]; `alike`: do all rows of a lane have the same?"""
        view, ground = draft.view, draft.ground
        head = int(draft.left[0])
        lane = int(view.lane[head])
        many = len(view.lanes[lane].variants)
        rows = draft.left[view.lane[draft.left] == lane] if len(view.lanes) > 1 else draft.left
        own = usable[head, :many]
        latency_s = seat.worker.latency_s[lane][:many]
        weights = ground.lanes[1][lane, :many].tolist()
        ready = {w: seat.ready_s(w) for w in dict.fromkeys(weights)}
        ready_s = np.array([ready[w] for w in weights])
        most: Indices = np.where(own, ground.lanes[2][lane, :many], 0)
        counts = np.full(many, len(rows)) if alike else usable[rows, :many].sum(axis=0)
        slack_s = np.where(own & (ready_s < inf), draft.due_s[head] - ready_s, -inf)
        sizes = np.arange(1, latency_s.shape[1])
        fits = (latency_s[:, 1:] <= slack_s[:, None]) & (sizes <= np.minimum(most, counts)[:, None])
        if draft.switches.aware:
            sharing = rows[: max(int(most.max()), 1)]
            accuracy = np.round(draft.accuracy[sharing, :many].mean(axis=0), DECIMALS)
        else:
            accuracy = ground.profiled[lane, :many]
        return cls(
            draft, seat, lane, rows, own, slack_s, ready_s - seat.free_s, latency_s, most, counts * own, accuracy, fits
        )  # fmt: skip

    def largest(self, variant: int) -> int:
        """The largest batch of what waits that this variant answers in time; 0 if not even the head."""
        return int(np.flatnonzero(self.fits[variant])[-1]) + 1 if self.fits[variant].any() else 0

    def best(self, fits: Bools, size: int) -> int | None:
        """Of these variants (bool [V]) the most accurate; of equals the one that is quickest with so many rows."""
        found = [(-self.accuracy[v], self.latency_s[v, size], v) for v in np.flatnonzero(fits).tolist()]
        return int(min(found)[2]) if found else None

    def quickest(self) -> int:
        """What would end first with one row, its load counted; of equals the more accurate."""
        alone = np.where(self.usable & (self.slack_s > -inf), self.load_s + self.latency_s[:, 1], inf)
        return int(np.lexsort((-self.accuracy, alone))[0])

    def quickly(self) -> tuple[int, int] | None:
        """The quickest variant, with the largest batch that it answers in time."""
        variant = self.quickest()
        size = self.largest(variant)
        return (variant, size) if size else None

    def maxbatch(self) -> tuple[int, int] | None:
        """The largest batch that the quickest variant answers in time, and the most accurate variant that still does
        (SuperServe, A.5)."""
        size = self.largest(self.quickest())
        variant = self.best(self.fits[:, size - 1], size) if size else None
        return None if variant is None else (variant, size)


class Reactive(ABC):
    """The head of the queue, on the worker that is free first."""

    OPTIONS: ClassVar[Mapping[str, float]] = {"ahead": 4.0}
    LOWEST: ClassVar[Mapping[str, float]] = {}

    def __init__(self, switches: Switches, **options: float) -> None:
        self.switches = switches
        self.options = checked(self.OPTIONS, options, self.LOWEST)
        self.ahead = int(self.options["ahead"]) or inf
        self.grounds = Grounds()

    @abstractmethod
    def pick(self, turn: Turn) -> tuple[int, int] | None:
        """(variant, rows) of the next batch, of those that fit the turn; None when the head cannot be in time."""

    def usable(self, draft: Draft) -> Bools:
        """bool [n, V]: the variants that this policy would ever run a row with."""
        return draft.view.allowed

    def in_the_way(self, turn: Turn) -> int:
        """How many heads of the queue cost more than they bring, and are passed over; none in the paper."""
        return 0

    def plan(self, view: View) -> Plan:
        if not view.workers or not view.size:
            return Plan()
        draft = Draft.of(view, self.switches, self.grounds.of(view))
        usable = self.usable(draft)
        alike = bool((usable == draft.ground.own[view.lane]).all())
        draft.short_circuit(np.where(usable, draft.accuracy, 0.0).max(axis=1))
        listed, seen = [0] * len(draft.seats), 0
        while len(draft.left):
            for batch, end_s in draft.batches[seen:]:
                # One whose rows would all rather have their peek is not carried out, and does not count.
                listed[batch.worker] += bool(draft.kept(batch, end_s))
            seen = len(draft.batches)
            if min(listed) >= self.ahead:
                return _so_far(draft)
            seats = sorted(draft.seats, key=lambda s: (s.free_s, s.index))
            if not self._served(draft, seats, usable, alike):
                self._given_up(draft, seats, usable)
        draft.run_last(draft.seats)
        return draft.plan()

    def _served(self, draft: Draft, seats: Sequence[Seat], usable: Bools, alike: bool) -> bool:
        for seat in seats:
            turn = Turn.of(draft, seat, usable, alike)
            heads = self.in_the_way(turn)
            if heads:
                draft.drop(turn.rows[:heads].tolist())
                return True
            found = self.pick(turn)
            if found is not None:
                _run(draft, seat, turn.lane, found[0], found[1], usable)
                return True
        return False

    def _given_up(self, draft: Draft, seats: Sequence[Seat], usable: Bools) -> None:
        """No worker can answer the head in time."""
        head, left = int(draft.left[0]), draft.left
        lane = int(draft.view.lane[head])
        ends_s = np.where(usable, draft.soonest_s()[draft.view.lane], inf)
        if self.switches.drop:
            doomed = (ends_s[left] > draft.due_s[left, None]).all(axis=1)
            draft.drop([head, *(row for row in left[doomed].tolist() if row != head)])
            return
        variant = int(ends_s[head].argmin())
        if ends_s[head, variant] == inf:
            draft.drop([head])
            return
        seat = min(seats, key=lambda s: draft.end_s(s, lane, variant, 1))
        _run(draft, seat, lane, variant, draft.most(lane, variant), usable)


def _so_far(draft: Draft) -> Plan:
    """The plan without the rows that are left. What runs after everything else waits with them."""
    draft.dropped = [row for row in draft.dropped if not draft.last(row)]
    return draft.plan(draft.view.now + min(seat.free_s for seat in draft.seats))


def _run(draft: Draft, seat: Seat, lane: int, variant: int, size: int, usable: Bools) -> None:
    rows = draft.left[(draft.view.lane[draft.left] == lane) & usable[draft.left, variant]]
    draft.run(seat, lane, variant, rows[:size].tolist())
