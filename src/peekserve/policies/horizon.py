"""Ours: near the optimum in a fraction of a millisecond (kernel/search.py has the theory).

SneakPeek's plan is made first, and a search betters it: any batches, any variants and any order, on all workers
together, with the peek's answer for each row that it serves better. The same switches mean what they mean for the other
policies; `merge` is of no matter, because the search chooses its batches freely.

The guard. What a plan is believed to be worth is never below what SneakPeek's, with its default options, is worth for
the same view and switches, to the last bit of `worth.evaluate`: where the search should end below, SneakPeek's plan is
taken. With a price of time that holds of the utility less the price, not of the utility alone.

Options:

- `budget` (10000): rows and slots that the search may look at. Never time, so that the same view has the same plan
  on any machine.
- `price_per_s` (0): utility that a second of a worker must bring while rows are left over that SneakPeek finds no
  place for; what gains less is left for rows that come later. Over ten simulated services, planned at every event, 2
  changed the utility by less than 0.003, and 5 cost 0.002 to 0.008.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from peekserve.domain.messages import Plan
from peekserve.kernel import grouping, search
from peekserve.policies.base import Floats, Switches, View
from peekserve.policies.groups import by_label, families, log_priority
from peekserve.policies.options import checked
from peekserve.policies.placing import Grounds, Indices, Outlook, look, to_plan
from peekserve.policies.sneakpeek import SneakPeek

# So many rows are moved one by one; of more, bunches of them at first, about as many as CLUSTERS.
ONE_BY_ONE = 64
CLUSTERS = 48


class Horizon:
    """A search from SneakPeek's plan on. `looked_at`: rows and slots, for the last plan."""

    OPTIONS: ClassVar[Mapping[str, float]] = {"budget": 10_000.0, "price_per_s": 0.0}

    def __init__(self, switches: Switches, **options: float) -> None:
        self.switches = switches
        self.options = checked(self.OPTIONS, options, {})
        self.grounds = Grounds()
        self.looked_at = 0

    def plan(self, view: View) -> Plan:
        if not view.workers or not view.size:
            return Plan()
        outlook = look(view, self.switches, self.grounds.of(view))
        seed = _Seed(self.switches)
        first = seed.best(outlook, log_priority(outlook, seed.options["tau_s"])).plan()
        made = seed.made
        made.adopt(first)
        rows, ends = _units(outlook)
        left_over = bool((first[0][rows] < 0).any())
        price = self.options["price_per_s"] if left_over else 0.0
        least = _worth(outlook, made, price)
        made.improve(view.lane[rows].astype(np.int64), rows, ends, price, int(self.options["budget"]))
        self.looked_at = made.looked_at()
        if _worth(outlook, made, price) < least:
            made.adopt(first)
        return to_plan(outlook, made)


class _Seed(SneakPeek):
    """SneakPeek, on a problem of the search, `made`."""

    made: search.Search

    def problem(self, outlook: Outlook, keys: Indices, priority: Floats) -> search.Search:
        switches, items = outlook.switches, self.items(outlook, keys, priority)
        self.made = search.Search(
            outlook.lanes,
            outlook.workers,
            outlook.rows,
            (outlook.view.tables.x, outlook.view.tables.p, outlook.view.tables.start),
            (items.lane, items.start, items.rows),
            (switches.merge, switches.drop, switches.short_circuit, self.options["rescue"] > 0.0, False),
            int(self.options["tau"]),
        )
        return self.made


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
