"""Ours: near the optimum in a fraction of a millisecond (kernel/search.py has the theory).

A search: any batches, any variants and any order, on all workers
together, with the peek's answer for each row that it serves better. The same switches mean what they mean for the other
policies; `merge` is of no matter, because the search chooses its batches freely.

The guard. What a plan is believed to be worth is never below what SneakPeek's, with its default options, is worth for
the same view and switches, to the last bit of `worth.evaluate`: where the search should end below, SneakPeek's plan is
taken. SneakPeek comes after the search, for what cannot be worth more than the plan that there is need not be looked at
then; that halves its time. With a price of time it comes first, and the guard holds of the utility less the price.

Options:

- `budget` (11500): rows and slots that the search may look at with 24 rows waiting; with more or fewer it is larger
  (`operations`). Never time, so that the same view has the same plan on any machine.
- `price_per_s` (0): utility that a second of a worker must bring while rows are left over that SneakPeek finds no
  place for; what gains less is left for rows that come later. Over ten simulated services, planned at every event, 2
  changed the utility by less than 0.003, and 5 cost 0.002 to 0.008.
- `arrivals` (0): 1 counts on rows that will come: a second of a worker must bring what the rate of arrivals says that
  it is worth (arriving.py). Then it remembers between plans: one policy object for one scheduler. The guard holds of
  the utility less the price then, too. For one supernet, whose variants need no loads. Over streams of several
  applications with models to be loaded, planned at every event, it cost 0.005 to 0.03 of the utility.
"""

from collections.abc import Mapping
from math import sqrt
from typing import ClassVar

import numpy as np

from peekserve.domain.messages import Plan
from peekserve.kernel import grouping, search
from peekserve.policies.arriving import Arriving
from peekserve.policies.base import Floats, Switches, View
from peekserve.policies.groups import by_label, families, log_priority
from peekserve.policies.options import checked
from peekserve.policies.placing import Grounds, Indices, Outlook, look, to_plan
from peekserve.policies.sneakpeek import SneakPeek

# So many rows are moved one by one; of more, bunches of them at first, about as many as CLUSTERS.
ONE_BY_ONE = 64
CLUSTERS = 48
# So many rows have just the budget. Fewer have more, up to MOST times as much, for there the search comes close to the
# optimum; more rows have more, because there is more to look at.
USUAL, MOST = 24, 2.5
# Sums of the same numbers in another order differ by far less.
MARGIN = 1e-7


class Horizon:
    """A search, and SneakPeek's plan where that is better. `looked_at`: rows and slots, for the last plan."""

    OPTIONS: ClassVar[Mapping[str, float]] = {"budget": 11_500.0, "price_per_s": 0.0, "arrivals": 0.0}

    def __init__(self, switches: Switches, **options: float) -> None:
        self.switches = switches
        self.options = checked(self.OPTIONS, options, {})
        self.grounds = Grounds()
        self.guard = _Guard(switches)
        self.arriving = Arriving()
        self.looked_at = 0

    def plan(self, view: View) -> Plan:
        if not view.workers or not view.size:
            return Plan()
        outlook = look(view, self.switches, self.grounds.of(view))
        guard = self.guard
        priority = log_priority(outlook, guard.options["tau_s"])
        made = guard.problem(outlook, families(outlook), priority)
        rows, ends = _units(outlook)
        scarce, price = self.options["price_per_s"], 0.0
        if self.options["arrivals"] > 0.0:
            price = self.arriving.price_per_s(view)
        priced = scarce > 0.0 or price > 0.0
        if priced:
            first = guard.chosen(outlook, priority, made).plan()
            if (first[0][rows] < 0).any():
                price = max(scarce, price)
            made.adopt(first)
            floor = _worth(outlook, made, price)
            made.swap()
            made.adopt(first)
        else:
            made.greedy()
        budget = operations(self.options["budget"], len(rows))
        made.improve(view.lane[rows].astype(np.int64), rows, ends, price, budget)
        self.looked_at = made.looked_at()
        ours = _worth(outlook, made, price)
        if priced:
            if ours < floor:
                made.swap()
        else:
            guard.better(outlook, priority, made, ours)
        return to_plan(outlook, made)


def operations(budget: float, rows: int) -> int:
    """How many rows and slots may be looked at for a plan of so many rows: the budget times (rows/USUAL)^(1/4) above
    USUAL, and times (USUAL/rows)^(5/4) below. By roots of roots, which are the same to the last bit on any machine.

    >>> [operations(1000.0, rows) for rows in (4, 12, 24, 384)]
    [2500, 2378, 1000, 2000]
    """
    if not rows:
        return 0
    share = sqrt(sqrt(max(rows / USUAL, USUAL / rows)))
    return int(budget * (share if rows >= USUAL else min(share * USUAL / rows, MOST)))


class _Guard(SneakPeek):
    """SneakPeek, on a problem of the search."""

    def problem(self, outlook: Outlook, keys: Indices, priority: Floats) -> search.Search:
        switches, items = outlook.switches, self.items(outlook, keys, priority)
        return search.Search(
            outlook.lanes,
            outlook.workers,
            outlook.rows,
            (outlook.view.tables.x, outlook.view.tables.p, outlook.view.tables.start),
            items.arrays,
            (switches.merge, switches.drop, switches.short_circuit, self.options["rescue"] > 0.0, False),
            int(self.options["tau"]),
        )

    def better(self, outlook: Outlook, priority: Floats, made: search.Search, ours: float) -> None:
        """Leave in a problem whose plan is worth `ours` SneakPeek's, if that is worth more.

        SneakPeek takes one of two ways to group the rows; here the better one counts, which is worth as much or more.
        """
        floor = ours - float(outlook.worth[outlook.instant].sum()) - MARGIN
        made.swap()
        for i, (items, work) in enumerate(self.ways(outlook, priority, made)):
            made.take(items)
            if self.place(made, work, floor, again=i == 0) > floor:
                theirs = _worth(outlook, made, 0.0)
                if theirs > ours:
                    ours = theirs
                    made.swap()
        made.swap()


def _worth(outlook: Outlook, made: search.Search, price: float) -> float:
    """The sum over all rows of the view, those too that were never planned, less the price of the time."""
    utility: Floats = made.utilities()
    utility[outlook.instant] = outlook.worth[outlook.instant]
    return float(utility.sum()) - price * float(made.busy_s())


def _units(outlook: Outlook) -> tuple[Indices, Indices]:
    """(open rows by family and deadline i8[m], where in them those end that are moved together i8[U])."""
    keys, many = families(outlook), len(outlook.open)
    if many <= ONE_BY_ONE:
        most = 1
    else:
        keys, most = by_label(outlook, keys), -(-many // CLUSTERS)
    order, ends = grouping.bunched(keys, outlook.due_s[outlook.open], most)
    return outlook.open[order], ends
