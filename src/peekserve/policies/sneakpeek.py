"""The five policies of the SneakPeek paper (SoCC'25, section 6.1): an order, a grouping, a choice of variant.

| policy      | items    | order                     | variant                                        |
| ----------- | -------- | ------------------------- | ---------------------------------------------- |
| maxacc-edf  | rows     | earliest deadline first   | highest accuracy                               |
| lo-edf      | rows     | earliest deadline first   | highest utility (eq. 13)                       |
| lo-priority | rows     | priority (eq. 12)         | highest utility                                |
| grouped     | lanes    | exact, or priority (14)   | exact, or highest mean utility (Algorithm 1)   |
| sneakpeek   | lane and likely class | likewise     | likewise, aware and with short-circuit         |

Awareness, short-circuit, dropping of doomed work and merging of neighbours are switches on all of them; the
kernel's docstring says what each does to a plan. Options, all numbers:

- `rescue` (1): with short-circuit, a row whose place in the plan is worth less than the peek's answer takes
that.
- `tau_s` (1.0): time scale of the priority, seconds; near 0 it is earliest deadline first.
- `tau` (5): most groups that are put in order exactly; `limit` (30000): most candidates, orders times
choices;
  `work` (30000): rows that the search may look at before it settles for its best plan so far.
- `group_size` (0): no batch is larger; 0 for the variants' own limits, and with several workers for groups of at
  most ceil(rows / workers). `rebalance` (1): with several workers, how often the last group of the most loaded one may
  move to another where that gains.
- `split` (1): groups by likely class; `min_gain` (0): what splitting must gain a row, on the mean, to be
done; a
  part whose best variant is that of the rest of its lane goes back to it. Below 0: always split, as the paper
  does.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import ceil, inf
from typing import Any, ClassVar

from peekserve.domain.messages import Plan
from peekserve.kernel import loops
from peekserve.policies.base import Floats, Switches, View
from peekserve.policies.groups import (
    by_label,
    families,
    grouped,
    log_priority,
    one_by_one,
    parted,
)
from peekserve.policies.options import checked
from peekserve.policies.placing import Grounds, Indices, Items, Kept, Outlook, Placed, look, problem, to_plan

# A time scale of nothing is none; a gain may be asked for that is a loss.
LEAST: Mapping[str, float] = {"tau_s": 1e-9, "min_gain": -inf}


class _OneByOne(ABC):
    """Each row at the place and variant that are best for it, in an order of its own; what came before
    stays."""

    OPTIONS: ClassVar[Mapping[str, float]] = {"rescue": 1.0}
    BY_ACCURACY: ClassVar[bool] = False

    def __init__(self, switches: Switches, **options: float) -> None:
        self.switches = switches
        self.options = checked(self.OPTIONS, options, LEAST)
        self.grounds = Grounds()

    @abstractmethod
    def urgency(self, outlook: Outlook) -> Floats:
        """f8[n]: the largest is served first."""

    def plan(self, view: View) -> Plan:
        if not view.workers or not view.size:
            return Plan()
        outlook = look(view, self.switches, self.grounds.of(view))
        return to_plan(outlook, self.placed(outlook))

    def placed(self, outlook: Outlook) -> loops.Problem:
        """The rows of an outlook, placed."""
        items = one_by_one(outlook, self.urgency(outlook))
        rescue = self.options["rescue"] > 0.0
        made = problem(outlook, items, rescue=rescue, by_accuracy=self.BY_ACCURACY, search_items=0)
        made.greedy()
        return made


class LoEdf(_OneByOne):
    """Earliest deadline first, the locally best variant."""

    def urgency(self, outlook: Outlook) -> Floats:
        return -outlook.due_s


class MaxAccEdf(LoEdf):
    """Earliest deadline first, the most accurate variant whatever the time; never the peek's answer for a row
    that a variant could still serve."""

    BY_ACCURACY: ClassVar[bool] = True


class LoPriority(_OneByOne):
    """By priority, the locally best variant."""

    OPTIONS: ClassVar[Mapping[str, float]] = {"rescue": 1.0, "tau_s": 1.0}

    def urgency(self, outlook: Outlook) -> Floats:
        return log_priority(outlook, self.options["tau_s"])


class Grouped:
    """Algorithm 1: one variant for all rows of a lane; few groups are put in order exactly, many greedily."""

    OPTIONS: ClassVar[Mapping[str, float]] = {
        "rescue": 1.0,
        "tau_s": 1.0,
        "tau": 5.0,
        "limit": 30_000.0,
        "work": 30_000.0,
        "group_size": 0.0,
        "rebalance": 1.0,
    }

    def __init__(self, switches: Switches, **options: float) -> None:
        self.switches = switches
        self.options = checked(self.OPTIONS, options, LEAST)
        self.grounds = Grounds(int(self.options["group_size"]))

    def plan(self, view: View) -> Plan:
        if not view.workers or not view.size:
            return Plan()
        outlook = look(view, self.switches, self.grounds.of(view))
        return to_plan(outlook, self.best(outlook, log_priority(outlook, self.options["tau_s"])))

    def best(self, outlook: Outlook, priority: Floats) -> Placed:
        """The rows of an outlook, placed."""
        made = self.problem(outlook, families(outlook), priority)
        self.place(made, self.options["work"])
        return made

    def items(self, outlook: Outlook, keys: Indices, priority: Floats) -> Items:
        """The groups of these keys (i8[open rows])."""
        return grouped(outlook, keys, priority, most=self.most(outlook))

    def most(self, outlook: Outlook) -> int | None:
        """The longest group: with several workers none so long that one worker has it all while others stand idle
        (section 7.2; notes 5.2 point 10)."""
        many, limit = len(outlook.view.workers), int(self.options["group_size"])
        return limit or (ceil(len(outlook.open) / many) if many > 1 else None)

    def problem(self, outlook: Outlook, keys: Indices, priority: Floats) -> loops.Problem:
        """The groups of these keys (i8[open rows]), not placed yet."""
        return problem(
            outlook,
            self.items(outlook, keys, priority),
            rescue=self.options["rescue"] > 0.0,
            by_accuracy=False,
            search_items=int(self.options["tau"]),
        )

    def place(self, made: loops.Problem, work: float, floor: float = -inf, *, again: bool = False) -> float:
        """Place the items that a problem holds: their utility, a sum over rows. Plans worth no more than `floor` need
        not be found. `again`: it was these that it last placed greedily."""
        made.search(self.options["limit"], int(work), floor, again)
        return made.rebalance(int(self.options["rebalance"]), int(work), floor)


class SneakPeek(Grouped):
    """Grouped by lane and by likely class, where that is believed to be worth it.

    Every part is a batch more, often a load more, and more than `tau` groups are past exact ordering: where
    the peek's answer is not there to fill the gaps, splitting can cost far more than it gains. So the lanes
    are also planned undivided, and `min_gain` is what the split plan must be worth above that one.
    """

    OPTIONS: ClassVar[Mapping[str, float]] = {**Grouped.OPTIONS, "split": 1.0, "min_gain": 0.0}

    def best(self, outlook: Outlook, priority: Floats) -> Placed:
        return self.chosen(outlook, priority, self.problem(outlook, families(outlook), priority))

    def chosen(self, outlook: Outlook, priority: Floats, made: loops.Problem) -> Placed:
        """The better of the ways to group the rows. `made`: as for `ways`."""
        ways = self.ways(outlook, priority, made)
        least = self.place(made, ways[0][1])
        if len(ways) == 1:
            return made
        undivided = Kept(made.plan(), least)
        items, work = ways[1]
        made.take(items)
        gain = self.place(made, work) - least
        return made if gain > self.options["min_gain"] * len(outlook.open) else undivided

    def ways(
        self, outlook: Outlook, priority: Floats, made: loops.Problem
    ) -> list[tuple[tuple[Any, ...], float]]:
        """The ways to group the rows, one or two: items, and the work that placing them may take. `made`: a problem
        whose items are the families; after that, those of the first way."""
        whole, work = families(outlook), self.options["work"]
        ways = [(made.items(), work)]
        if self.options["split"] > 0.0 and self.options["min_gain"] < 0.0:
            ways = [(self.items(outlook, by_label(outlook, whole), priority).arrays, work)]
        elif self.options["split"] > 0.0:
            found = parted(outlook, whole, priority, made, most=self.most(outlook))
            if found is not None:
                items, many = found
                # More parts than `tau` are placed greedily, which leaves all the work to the other.
                share = work / 2.0 if many <= self.options["tau"] else work
                ways = [(ways[0][0], share), (items.arrays, share)]
        made.take(ways[0][0])
        return ways
