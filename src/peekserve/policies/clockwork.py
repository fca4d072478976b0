"""Clockwork (OSDI'20): predictable executions, and the choice of what runs next made in one place.

A *strategy* is a model and a batch size; it must start by deadline(head) - latency(size). The strategy that must start
first is taken, with the largest batch that can be filled by rows that this batch would still answer in time. Which
model a request asks for is its owner's choice (`variant`).

Otherwise than the paper, and why:

- Work is scheduled ahead by 10 ms there; rolling planning asks anew whenever a worker is free, which is the same.
- Loads and inferences overlap there, each decided by itself. Here a worker loads, then runs. So of the models that a
  worker does not hold, only the one that a LOAD would pick competes with those that it holds: the one with most
  demand that is not served, and its latest start counts the load. Demand is the sum of latency(1) / slack over a
  model's rows, spread evenly over the workers that hold it (there: by their load); a worker serves no more than all of
  its time. Least recently used weights make room, as there.
- Any batch size may be filled, not powers of two up to 16, and none is forbidden for being longer than 25 ms: some
  models here take longer alone. The 5 ms taken off each deadline there is the scheduler's margin.
- Awareness has nothing to choose where the owner chose. So with `aware`, or with the option `choose`, a row asks for
  the best variant of those that could answer it in time if it were next: by what is believed of the row, or by
  profile. `choose` alone is what awareness must be compared with.

Keeps between plans what busy workers hold: one policy object for one scheduler. Time that runs backwards makes it begin
anew.

Options: `variant` (-1): number of the variant that every application's requests ask for, -1 for its most accurate by
profile. `choose` (0): 1 lets a row ask for the best variant that fits.
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import ClassVar

import numpy as np

from peekserve.domain.messages import Plan
from peekserve.policies.base import Floats, Switches, View
from peekserve.policies.demand import Known
from peekserve.policies.options import checked
from peekserve.policies.peers import NONE, Draft, Seat, best_that_fits, owners_choice, queues
from peekserve.policies.placing import Grounds, Indices

Queues = Mapping[tuple[int, int], Indices]

# A worker that was not seen for so long is not there any more.
_FORGET_S = 10.0


class Clockwork:
    """The strategy that must start first, on the worker that is free first."""

    OPTIONS: ClassVar[Mapping[str, float]] = {"variant": -1.0, "choose": 0.0}

    def __init__(self, switches: Switches, **options: float) -> None:
        self.switches = switches
        self.options = checked(self.OPTIONS, options, {"variant": -1.0})
        self.grounds = Grounds()
        self._known = Known(_FORGET_S)

    def plan(self, view: View) -> Plan:
        if not view.workers or not view.size:
            return Plan()
        draft = Draft.of(view, self.switches, self.grounds.of(view))
        self._known.see(view)
        asked = self._asked(draft)
        best: Floats = np.where(view.allowed, draft.accuracy, 0.0).max(axis=1)
        draft.short_circuit(best if self._chooses else draft.accuracy[np.arange(view.size), asked])
        soonest_s = np.where(asked == NONE, inf, draft.soonest_s()[view.lane, asked])
        hopeless = [row for row in draft.left.tolist() if soonest_s[row] > draft.due_s[row]]
        draft.drop(hopeless)
        while self._next(draft, asked):
            asked = self._asked(draft) if self._chooses else asked
        if not self.switches.drop:
            draft.drop(draft.left.tolist())
        draft.run_last(draft.seats)
        self._known.gave(view, draft.batches)
        return draft.plan()

    @property
    def _chooses(self) -> bool:
        return self.switches.aware or self.options["choose"] > 0.0

    def _asked(self, draft: Draft) -> Indices:
        if self._chooses:
            return best_that_fits(draft, draft.in_time(draft.soonest_s()))
        return owners_choice(draft, int(self.options["variant"]))

    def _next(self, draft: Draft, asked: Indices) -> bool:
        """One batch more. False when no worker can answer any row in time."""
        waiting = queues(draft, asked)
        here = {seat.worker.name for seat in draft.seats}
        busy = [w.resident for n, w in self._known.there(draft.view).items() if n not in here]
        seats = sorted(draft.seats, key=lambda s: (s.free_s, s.index))
        for seat in seats:
            loadable = _to_load(draft, seat, waiting, busy)
            held = [k for k in waiting if draft.weights(*k) in seat.held or k == loadable]
            if _run_first(draft, seat, {k: waiting[k] for k in held}):
                return True
        # Who holds a model may be too busy for a row that another worker could still answer.
        return any(_run_first(draft, seat, waiting) for seat in seats)


def strategy(draft: Draft, seat: Seat, lane: int, variant: int, rows: Indices) -> tuple[int, float]:
    """(size, latest start in seconds from now) of the largest batch of these rows, which are in order of their
    deadlines, that can be filled with rows that it answers in time; (0, inf) where there is none."""
    most = min(draft.most(lane, variant), len(rows))
    ready_s = seat.ready_s(draft.weights(lane, variant))
    latency_s = seat.worker.latency_s[lane][variant, 1 : most + 1]
    # The first row that a batch of each size would still answer in time.
    first = np.searchsorted(draft.due_s[rows], ready_s + latency_s)
    filled = np.flatnonzero(len(rows) - first >= np.arange(1, most + 1))
    if not len(filled):
        return 0, inf
    size = int(filled[-1])
    load_s = ready_s - seat.free_s
    return size + 1, float(draft.due_s[rows[first[size]]] - latency_s[size] - load_s)


def _run_first(draft: Draft, seat: Seat, waiting: Queues) -> bool:
    """Give this worker the strategy that must start first. False when it can answer nothing in time."""
    found = []
    for (lane, variant), rows in waiting.items():
        many, start_s = strategy(draft, seat, lane, variant, rows)
        if many:
            found.append((start_s, lane, variant, many))
    if not found:
        return False
    _, lane, variant, many = min(found)
    rows = waiting[lane, variant]
    ends_s = draft.end_s(seat, lane, variant, many)
    draft.run(seat, lane, variant, rows[draft.due_s[rows] >= ends_s][:many].tolist())
    return True


def _to_load(
    draft: Draft, seat: Seat, waiting: Queues, busy: Sequence[Sequence[int]]
) -> tuple[int, int] | None:
    """What a LOAD on this worker would bring: most unserved demand among what it does not hold and what could then
    still answer a row in time. `busy`: what each worker holds that is in no view."""
    demand = {}
    for (lane, variant), rows in waiting.items():
        alone_s = float(seat.worker.latency_s[lane][variant, 1])
        slack = np.maximum(draft.due_s[rows], alone_s)
        demand[lane, variant] = float((alone_s / slack).sum()) if 0.0 < alone_s < inf else 0.0
    unserved = dict(demand)
    held = [other.held for other in draft.seats] + list(busy)
    holders = {key: sum(draft.weights(*key) in own for own in held) for key in demand}
    for own in held:
        shares = {key: demand[key] / holders[key] for key in demand if draft.weights(*key) in own}
        asked = sum(shares.values())
        for key, share in shares.items():
            unserved[key] -= share * min(1.0, 1.0 / asked) if asked > 0.0 else 0.0
    possible = [
        (round(-much, 12), key)
        for key, much in unserved.items()
        if much > 1e-12
        and draft.weights(*key) not in seat.held
        and strategy(draft, seat, *key, waiting[key])[0]
    ]
    return min(possible)[1] if possible else None
