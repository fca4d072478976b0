"""The planner's four parts and the loop between them that errors drive (CascadeServe, section 4, algorithm 1).

    cascade search -> cascade for each range -> placement and balance -> minimum queue lengths

A part that cannot do what it is asked hands its fault back to the one before, which mends it or hands it on:

- queue lengths name a range and the stage in the way. Placement mends it by another spread of its load
  (planner/spreads.py); or with one more replica of that stage, if there is a device for one; else the range is
  stepped.
- placement names a range that is too busy: the range is stepped. Or memory that does not suffice: of the weights in
  use, those whose loss costs the least score are given up, and everything starts again without them; if there is no
  plan then, others are given up instead.
- *stepping* a range takes the cascade of the next lower score for it. Heavier ranges take no better one from then on,
  since what a device cannot do at one load it cannot do at a higher.
- a range without a cheaper cascade is handed on: there is no plan, and this fault says why.

With a goal of latency each range begins with the cascade of the best score. With a goal of accuracy alone each begins
with the cheapest, and the range of the least load is raised until the mean over the expected loads meets the goal; a
range that was stepped is not raised again. The mean is over scores (cascades/thresholds.py), which do not flatter.
Where both are asked for, a plan that meets the latency and not the accuracy is no plan.

The search always ends: every mended fault takes something away for good (a cascade of a range, weights, a device
without a replica), and there are finitely many of each.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from math import inf

from peekserve.cascades.cascade import Cascade, Judged
from peekserve.cascades.thresholds import search
from peekserve.domain.gears import Expected, Gear, GearPlan, Holding, Planned, Share
from peekserve.errors import InvariantBroken
from peekserve.planner.estimate import Analytic, Estimate, Estimator
from peekserve.planner.faults import Back, Fault, Part, Remedy, unheard
from peekserve.planner.placement import Known, Placed, mib, place
from peekserve.planner.problem import Problem
from peekserve.planner.queues import Queues
from peekserve.planner.spreads import alike, others

Tell = Callable[[str], None]

# All subsets of so many weights are looked at, and plans tried for so many choices of what to give up.
_TRIED, _ATTEMPTS = 6, 64


def plan(
    problem: Problem,
    estimator: Estimator | None = None,
    tell: Tell = lambda what: None,
    back: Back = unheard,
) -> GearPlan | Fault:
    """A gear plan, or why there is none. `estimator`: how a gear is judged, by default a formula alone. `back`: hears
    of every fault on the way."""
    screen = Analytic()
    queues = Queues(estimator or screen, None if estimator is None else screen)
    waiting: list[frozenset[str]] = [frozenset()]
    tried: set[frozenset[str]] = set()
    first: Fault | None = None
    memory: Fault | None = None
    while waiting and len(tried) < _ATTEMPTS:
        without = waiting.pop(0)
        if without in tried:
            continue
        tried.add(without)
        tell("searching cascades")
        ladder = cascades(problem, without)
        if isinstance(ladder, Fault):
            first = first or ladder
            continue
        round_ = _Round(problem, ladder, queues, tell, back)
        made = round_.settle()
        if not isinstance(made, Fault):
            return made
        if made.part is not Part.PLACEMENT or made.at >= 0:
            back(made, Remedy.NONE)
            if first is None or (made.part is first.part is Part.RANGES and made.best > first.best):
                first = made
            continue
        back(made, Remedy.FEWER)
        memory = memory or made
        if made.model:  # it fits nowhere
            waiting.insert(0, without | _sharing(problem, made.model))
        else:
            waiting = [without | going for going in _to_give_up(problem, without, round_.used)] + waiting
    if first is None:
        raise InvariantBroken("the planner gave up without a reason")
    return first if memory is None else replace(first, why=f"{first.why}. Before that, memory: {memory.why}")


def _sharing(problem: Problem, name: str) -> frozenset[str]:
    """The variants that go when this one's weights go."""
    return frozenset(m.name for m in problem.models if m.weights == problem.model(name).weights)


def _to_give_up(problem: Problem, without: frozenset[str], used: Sequence[str]) -> list[frozenset[str]]:
    """What may be given up of what is in use: as few weights as the memory of all devices together asks for, then more.
    Of as many, first those without which the mean score over the expected loads stays highest, by the cascades that all
    devices together might carry."""
    size = {problem.model(name).weights: problem.model(name).bytes for name in used}
    room, most = sum(device.budget_bytes for device in problem.devices), float(len(problem.devices))
    loads = problem.loads

    def score(kept: Sequence[str]) -> float:
        others = frozenset(m.name for m in problem.models if m.weights not in kept)
        ladder = cascades(problem, without | others)
        if isinstance(ladder, Fault):
            return -inf
        return sum(
            weight * max((j.score for j in ladder if j.cost_s * rate <= most), default=-1.0)
            for weight, rate in zip(loads.weights, loads.edges[1:], strict=True)
        )

    found: list[frozenset[str]] = []
    for many in range(len(size) - 1, 0, -1):
        if len(size) > _TRIED and many < len(size) - 1:
            break  # too many subsets: one at a time
        fits = [
            k
            for k in combinations(sorted(size), many)
            if len(size) > _TRIED or sum(size[w] for w in k) <= room
        ]
        for kept in sorted(fits, key=score, reverse=True):
            found.append(
                frozenset(m.name for m in problem.models if m.weights in size and m.weights not in kept)
            )
    return found


def cascades(problem: Problem, without: frozenset[str] = frozenset()) -> tuple[Judged, ...] | Fault:
    """Of the variants that are left, what no other beats in cost, score and number of stages at once; by rising score.

    The paper keeps the front of cost and accuracy. But each stage is one more batch to wait for: where the goal is
    tight, a single model that costs more than some cascade of its score can answer sooner.
    """
    seconds = {name: s for name, s in problem.seconds().items() if name not in without}
    if not seconds:
        return Fault(Part.CASCADES, _nothing_fits(problem))
    answers = problem.answers.only(tuple(name for name in problem.answers.variants if name in seconds))
    found: dict[Cascade, Judged] = {}
    for stages in range(1, problem.stages + 1):
        fewer = tuple(found.values())
        for one in search(answers, seconds, answers.best(), stages, problem.steps, problem.confidence):
            if not any(f.cost_s <= one.cost_s and f.score >= one.score for f in fewer):
                found[one.cascade] = one
    return tuple(sorted(found.values(), key=lambda j: (j.score, -j.cost_s, j.cascade.name)))


def _nothing_fits(problem: Problem) -> str:
    smallest = min(problem.models, key=lambda m: (m.bytes, m.name))
    most = max(d.budget_bytes for d in problem.devices)
    return (
        f"no variant is left that fits into the memory of the devices: the smallest, {smallest.name}, takes "
        f"{mib(smallest.bytes)}, and the largest device holds {mib(most)}"
    )


class _Round:
    """One ladder of cascades, and the ranges' places on it."""

    def __init__(
        self, problem: Problem, ladder: Sequence[Judged], queues: Queues, tell: Tell, back: Back
    ) -> None:
        self.problem, self.ladder, self.queues, self.tell, self.back = problem, ladder, queues, tell, back
        ranges = problem.loads.ranges
        self.cap = [len(ladder) - 1] * ranges
        self.wanted: dict[str, int] = {}
        # The fault that a replica more was asked for, and weights for which there was no room.
        self.asked: Fault | None = None
        self.full: set[str] = set()
        # Which of the other spreads the load of a range with a cascade has; 0 is the linear program's.
        self.spreads: dict[tuple[int, Cascade], int] = {}
        self.known: Known = {}
        self.used: list[str] = []
        # Of each range, the last fault that took a better cascade from it.
        self.stopped: dict[int, Fault] = {}

    def settle(self) -> GearPlan | Fault:
        while True:
            steps = self._steps()
            chosen = [self.ladder[step] for step in steps]
            self.tell("placing weights and balancing loads")
            placed = place(self.problem, chosen, self.wanted, self.known)
            if isinstance(placed, Fault) and placed.at < 0 and self.asked is not None:
                placed = self._no_room(self.asked)
            self.asked = None
            if isinstance(placed, Fault):
                self.used = sorted({stage for one in chosen for stage in one.cascade.stages})
                if placed.at < 0:
                    return placed
                fault: Fault | None = placed
            else:
                placed = self._as_spread(placed, chosen)
                self.tell("finding minimum queue lengths")
                found = self.queues.lengths(self.problem, chosen, placed)
                if not isinstance(found, Fault):
                    return self._too_inaccurate(steps) or self._made(chosen, placed, found)
                fault = None
                if self._spread(placed, chosen[found.at], found.at):
                    self.back(found, Remedy.SPREAD)
                elif self._one_more(found, placed):
                    self.back(found, Remedy.REPLICA)
                else:
                    fault = found
            if fault is not None:
                if not self._step(fault, steps):
                    return fault
                self.back(fault, Remedy.CHEAPER)

    # ---- which cascade in which range ----

    def _mean(self, steps: Sequence[int]) -> float:
        """The score over the expected loads."""
        weights = self.problem.loads.weights
        return sum(w * self.ladder[step].score for w, step in zip(weights, steps, strict=True))

    def _steps(self) -> list[int]:
        """The cascade of each range: the best that it may have, or with a goal of accuracy alone no more than the goal
        asks for. Where that cannot be met, the best: what can be had is told in the end."""
        highest = list(self.cap) if self.problem.switching else [min(self.cap)] * len(self.cap)
        goal = self.problem.slo.accuracy
        if self.problem.slo.by_latency or self._mean(highest) < goal:
            return highest
        steps, edges = [0] * len(highest), self.problem.loads.edges
        while self._mean(steps) < goal:
            if not self.problem.switching:
                steps = [step + 1 for step in steps]
                continue
            # The range with the least to do after it was raised, to what costs least of what is better.
            ways = [
                (edges[at + 1] * self.ladder[to].cost_s, at, to)
                for at, step in enumerate(steps)
                for to in range(step + 1, highest[at] + 1)
            ]
            _, at, to = min(ways)
            steps[at] = to
        return steps

    def _too_inaccurate(self, steps: Sequence[int]) -> Fault | None:
        goal, best = self.problem.slo.accuracy, self._mean(steps)
        if best >= goal:
            return None
        why = (
            f"the goal is an accuracy of {goal:g}, and what the devices can carry has {best:.4f} in the mean over the "
            f"expected loads; the best cascade alone has {self.ladder[-1].score:.4f} (both as far as the validation "
            "data can tell)"
        )
        if (
            self.stopped and self.ladder[-1].score >= goal
        ):  # of the ranges that could not have the best one, the load that comes most
            at = max(sorted(self.stopped), key=lambda r: self.problem.loads.weights[r])
            why += f". What stands in the way: {self.stopped[at].why}"
        return Fault(Part.RANGES, why, best=best)

    def _step(self, fault: Fault, steps: Sequence[int]) -> bool:
        """The next cheaper cascade for a range; False where there is none."""
        if steps[fault.at] == 0:
            return False
        self.stopped[fault.at] = fault
        for at in range(fault.at, len(self.cap)):
            self.cap[at] = min(self.cap[at], steps[fault.at] - 1)
        return True

    # ---- what mends a fault without stepping ----

    def _spread(self, placed: Placed, one: Judged, at: int) -> bool:
        """Another spread of a range's load, if there is one that was not tried."""
        own = others(self.problem, one, self.problem.loads.edges[at + 1], placed)
        while (tried := self.spreads.get((at, one.cascade), 0)) < len(own):
            self.spreads[at, one.cascade] = tried + 1
            if not alike(own[tried], placed.balances[at]):
                return True
        return False

    def _as_spread(self, placed: Placed, chosen: Sequence[Judged]) -> Placed:
        balances = list(placed.balances)
        for at, one in enumerate(chosen):
            if number := self.spreads.get((at, one.cascade), 0):
                own = others(self.problem, one, self.problem.loads.edges[at + 1], placed)
                if number <= len(own):  # with other replicas there may be fewer
                    balances[at] = own[number - 1]
        return replace(placed, balances=tuple(balances))

    def _one_more(self, fault: Fault, placed: Placed) -> bool:
        """Ask placement for one more replica of the stage in the way, if there may be one."""
        model = self.problem.model(fault.model)
        there = sum(w == model.weights for w, _ in placed.replicas)
        able = sum(d.kind in model.curves and model.bytes <= d.budget_bytes for d in self.problem.devices)
        if there >= able or model.weights in self.full:
            return False
        self.wanted[model.weights] = there + 1
        self.asked = fault
        return True

    def _no_room(self, asked: Fault) -> Fault:
        """Memory does not suffice for what was asked for last: what it was to mend stands."""
        weights = self.problem.model(asked.model).weights
        self.wanted.pop(weights)
        self.full.add(weights)
        return asked

    # ---- the plan ----

    def _made(
        self, chosen: Sequence[Judged], placed: Placed, found: Sequence[tuple[tuple[int, ...], Estimate]]
    ) -> GearPlan:
        problem = self.problem
        gears = []
        for at, (one, (queues, estimate)) in enumerate(zip(chosen, found, strict=True)):
            balance, stages = placed.balances[at], one.cascade.stages
            shares = tuple(
                tuple(Share(device, share) for device, share in balance.shares[stage].items())
                for stage in stages
            )
            expected = Expected(
                one.reach, one.accuracy, one.error, one.bound, estimate.p95_s, balance.utilisation
            )
            low, high = problem.loads.edges[at : at + 2]
            weight = problem.loads.weights[at]
            gears.append(Gear(low, high, stages, one.cascade.thresholds, queues, shares, expected, weight))
        used = dict.fromkeys(stage for gear in gears for stage in gear.stages)
        planned = tuple(Planned(m.name, m.revision, m.weights) for m in problem.models if m.name in used)
        held = tuple(Holding(d.name, d.kind, d.budget_bytes, placed.holds(d.name)) for d in problem.devices)
        return GearPlan(
            problem.application, problem.answers.measure, str(problem.slo), problem.fingerprint, planned, held,
            tuple(gears),
        )  # fmt: skip
