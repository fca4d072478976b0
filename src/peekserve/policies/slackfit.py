"""SlackFit (SuperServe, section 4.2): the slack of the most urgent row picks a bucket, the bucket a subnet and a batch.

Offline, the latencies between the quickest and the slowest tuple (variant, batch size) are cut into K buckets of equal
width. Each bucket's choice is the tuple in it with the largest batch; of equals the most accurate. Online, the bucket
with the largest latency that fits the head's slack is taken, and as many rows as its choice says. Slow buckets hold few
tuples, all accurate; quick ones hold many, of which the largest batch is taken: when the queue grows, the slack of its
head shrinks, and batches grow at the cost of accuracy.

What the paper leaves open, and what we do (`pick` in this order):

- A bucket fits when the time of its own choice does, not when its upper end does. The paper may mean the end; then a
  slack inside a bucket would never be used, and one below the first end would count as hopeless.
- An empty bucket has no choice; the next lower one is asked.
- Slack below the lowest choice, but not below every tuple: the largest batch in time, as MaxBatch takes it.
- Tuples of a variant that another one beats in accuracy and in time at every batch size are in no bucket: the paper's
  variants are a Pareto front.
- K is not given. A bucket must be so wide that batch sizes compete in it, or it holds one tuple and always the most
  accurate, and so narrow that little slack is left over. 8: in simulated bursts over a stated front of six subnets
  (tests/policies/supernet.py, other seeds than its tests use) 4 and 8 kept most deadlines at the same accuracy, and
  from 32 on up to 4 % of all requests were lost where 8 lost 1 %.

Two repairs, from our own measurements:

- `raise`: a queue shorter than the chosen batch leaves time over, which paper mode spends on nothing. After the batch
  is cut to the queue, the most accurate variant is taken that still ends within the bucket.
- `drain`: SlackFit spends all slack of the head, and what arrives meanwhile pays. With `drain`, the most accurate
  variant is taken that would have the *whole queue* done within this share of the head's slack; where none would, the
  quickest, in the largest batch that is in time. Rows of other lanes count with their quickest variant. There are
  no buckets then. Several workers share the queue: those in the view, which with rolling planning are seldom more than
  one, or as many as `workers` says; each is then taken to do its part of it.
  A queue that a burst has made too long never recovers by itself: its head is always nearly due, so that batches are
  short, and short batches answer less. As in Nexus's early drop, the heads that are in a full batch's way are passed
  over then: if the queue would lose fewer rows by it, those heads counted, with the quickest variant on all workers
  that share it. Nexus drops them whatever the queue loses. They wait on, and are taken if a worker is there for them.

Options: `buckets` (8): K. `raise` (1): 0 is the paper's mode. `drain` (0): the share of the slack, 0 for SlackFit; 0.3
kept as many deadlines as the smallest variant alone (experiments/superserve/entrants.py). `workers` (0): how many share
the queue; 0 for those in the view.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf
from typing import ClassVar

import numpy as np

from peekserve.errors import InvalidConfiguration
from peekserve.policies.base import Bools, Floats, LaneView, Switches
from peekserve.policies.placing import Indices
from peekserve.policies.reactive import Reactive, Turn


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket's choice: so many rows by this variant, which takes `latency_s`; the bucket ends at `until_s`."""

    variant: int
    size: int
    latency_s: float
    until_s: float


def front(latency_s: Floats, most: Indices, accuracy: Floats) -> Bools:
    """bool [V]: the variants that no other one beats: as accurate, as large a batch, no slower at any size; of equals
    the first. `latency_s`: f8[V, B + 1]; `most`: i8[V], 0 for one that is not to be had; `accuracy`: f8[V]."""
    sizes = np.arange(1, latency_s.shape[1])
    # What is beyond a variant's largest batch is slower than anything.
    time_s = np.where(sizes <= most[:, None], latency_s[:, 1:], inf)
    no_slower = (time_s[:, None, :] <= time_s[None, :, :]).all(axis=2)
    no_worse = no_slower & (accuracy[:, None] >= accuracy[None, :])
    first = np.arange(len(most))[:, None] < np.arange(len(most))[None, :]
    beaten = no_worse & (~no_worse.T | first)
    kept: Bools = (most > 0) & np.isfinite(latency_s[:, 1]) & ~beaten.any(axis=0)
    return kept


def buckets(latency_s: Floats, most: Indices, accuracy: Floats, many: int) -> tuple[Bucket, ...]:
    """The choices of the buckets that are not empty, the quickest bucket first; arrays as for `front`.

    >>> lines = np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 4.0]])
    >>> [(b.variant, b.size) for b in buckets(lines, np.array([2, 2]), np.array([0.7, 0.9]), 3)]
    [(0, 1), (0, 2), (1, 2)]
    """
    sizes = np.arange(1, latency_s.shape[1])
    tuples = (
        (sizes <= most[:, None]) & front(latency_s, most, accuracy)[:, None] & np.isfinite(latency_s[:, 1:])
    )
    variant, size = np.nonzero(tuples)
    if not len(variant):
        return ()
    size += 1
    time_s = latency_s[variant, size]
    low, wide = float(time_s.min()), float(time_s.max() - time_s.min())
    # The last bucket is closed above.
    within = (
        np.minimum(((time_s - low) * (many / wide)).astype(np.int64), many - 1) if wide > 0.0 else size * 0
    )
    order = np.lexsort((-variant, -time_s, accuracy[variant], size, within))
    last = order[np.flatnonzero(np.diff(within[order], append=many))]
    return tuple(
        Bucket(int(variant[i]), int(size[i]), float(time_s[i]), low + wide * (int(within[i]) + 1) / many)
        for i in last
    )


def lost(due_s: Floats, begin_s: float, latency_s: Floats, sharing: int) -> int:
    """How many rows a queue loses where so many workers begin together, each with the largest batch that answers its
    head in time, and again when that is done. `due_s`: f8[n], rising; `latency_s`: f8[B + 1], seconds by rows.

    >>> one_or_two = np.array([0.0, 2.0, 3.0])
    >>> lost(np.array([2.5, 3.0, 3.0, 5.0]), 0.0, one_or_two, 1)  # the first alone, and then two are too late
    2
    >>> lost(np.array([3.0, 3.0, 5.0]), 0.0, one_or_two, 1)  # two, and then the last
    0
    """
    at_s, head, gone = begin_s, 0, 0
    while head < len(due_s):
        if due_s[head] < at_s + latency_s[1]:
            late = int(np.searchsorted(due_s, at_s + latency_s[1])) - head
            gone, head = gone + late, head + late
            continue
        size = int(np.searchsorted(latency_s[1:], due_s[head] - at_s, side="right"))
        at_s += float(latency_s[size])
        head += size * sharing
    return gone


class SlackFit(Reactive):
    """The largest batch in the slowest bucket that the slack allows; or, with `drain`, what empties the queue in
    time."""

    OPTIONS: ClassVar[Mapping[str, float]] = {
        **Reactive.OPTIONS, "buckets": 8.0, "raise": 1.0, "drain": 0.0, "workers": 0.0,
    }  # fmt: skip
    LOWEST: ClassVar[Mapping[str, float]] = {"buckets": 1.0}

    def __init__(self, switches: Switches, **options: float) -> None:
        super().__init__(switches, **options)
        if self.options["drain"] > 1.0:
            raise InvalidConfiguration(
                f"policy option 'drain' is a share of the slack, 0 to 1, not {self.options['drain']}"
            )
        # What follows from the profile alone, kept while the profile is the same object.
        self._known: dict[tuple[str, int, bytes], tuple[LaneView, Floats, tuple[Bucket, ...]]] = {}

    def pick(self, turn: Turn) -> tuple[int, int] | None:
        if self.options["drain"] > 0.0:
            return self._drained(turn) or turn.quickly()
        chosen = next(
            (b for b in reversed(self._buckets(turn)) if b.latency_s <= turn.slack_s[b.variant]), None
        )
        if chosen is None:
            return turn.maxbatch()
        size = min(chosen.size, int(turn.counts[chosen.variant]))
        return (self._raised(turn, chosen, size) if self.options["raise"] > 0.0 else chosen.variant), size

    def in_the_way(self, turn: Turn) -> int:
        if self.options["drain"] <= 0.0:
            return 0
        variant = turn.quickest()
        latency_s, most = turn.latency_s[variant], int(min(turn.most[variant], turn.counts[variant]))
        if turn.largest(variant) >= most:
            return 0
        begin_s = turn.seat.free_s + float(turn.load_s[variant])
        due_s = turn.draft.due_s[turn.rows]
        heads = int(np.searchsorted(due_s, begin_s + float(latency_s[most])))
        sharing = max(int(self.options["workers"]), len(turn.draft.seats))
        fewer = heads + lost(due_s[heads:], begin_s, latency_s[: most + 1], sharing)
        return heads if fewer < lost(due_s, begin_s, latency_s[: most + 1], sharing) else 0

    def _buckets(self, turn: Turn) -> tuple[Bucket, ...]:
        many = int(self.options["buckets"])
        if self.switches.aware:
            return buckets(turn.latency_s, turn.most, turn.accuracy, many)
        lane, table = turn.draft.view.lanes[turn.lane], turn.seat.worker.latency_s[turn.lane]
        key = (turn.seat.worker.name, turn.lane, turn.most.tobytes())
        known = self._known.get(key)
        if known is None or known[0] is not lane or known[1] is not table:
            known = (lane, table, buckets(turn.latency_s, turn.most, turn.accuracy, many))
            self._known[key] = known
        return known[2]

    def _raised(self, turn: Turn, chosen: Bucket, size: int) -> int:
        within = turn.load_s + turn.latency_s[:, size] <= chosen.until_s
        within[chosen.variant] = True
        best = turn.best(within & turn.fits[:, size - 1], size)
        return chosen.variant if best is None else best

    def _drained(self, turn: Turn) -> tuple[int, int] | None:
        """The most accurate variant that has this worker's part of the queue done within its share of the slack."""
        share, seats = self.options["drain"], turn.draft.seats
        sharing = max(int(self.options["workers"]), len(seats))
        as_free = sum(seat.free_s <= turn.seat.free_s for seat in seats)
        waiting = len(turn.rows)
        part = ceil(waiting / sharing)
        most = np.maximum(turn.most, 1)
        many = np.arange(len(most))
        full, rest = np.divmod(part, most)
        time_s = full * turn.latency_s[many, most] + np.where(rest > 0, turn.latency_s[many, rest], 0.0)
        # The load eats into the share as the batches do: it, too, is time in which others wait.
        load_s = np.where(turn.fits[:, 0], turn.load_s, 0.0)
        spare_s = share * (turn.slack_s + load_s) - load_s
        time_s = time_s + _elsewhere_s(turn) / sharing
        variant = turn.best((time_s <= spare_s) & turn.fits[:, 0], 1)
        if variant is None:
            return None
        # More than its part while that, too, is done within the share; but who is as free as this one gets a part, too.
        largest = np.flatnonzero(turn.fits[variant] & (turn.latency_s[variant, 1:] <= spare_s[variant]))
        return variant, min(int(largest[-1]) + 1, ceil(waiting / as_free))


def _elsewhere_s(turn: Turn) -> float:
    """Seconds for the rows of other lanes, with the quickest variants and full batches."""
    view, total = turn.draft.view, 0.0
    if len(view.lanes) == 1:
        return total
    counts = np.bincount(view.lane[turn.draft.left], minlength=len(view.lanes))
    for lane in np.flatnonzero(counts).tolist():
        if lane != turn.lane:
            most = turn.draft.ground.lanes[2][lane, : len(view.lanes[lane].variants)]
            each_s = turn.seat.worker.latency_s[lane][np.arange(len(most)), most] / most
            total += float(counts[lane] * each_s.min())
    return total if total < inf else 0.0
