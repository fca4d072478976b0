"""The yardstick of the planner: every plan of a small space, by the same judge.

A plan is a placement, and for each range of load a cascade, a queue length for each of its stages, and the share of
each stage's load that each device takes. Here all of these are tried: every cascade with rising costs over the grid of
thresholds, every filling of every device that leaves no room for another model, every queue length of a list for every
stage, and every division of a stage's load in equal parts, beside the one that the linear program finds. That grows
with the power of nearly everything, so it is for three models, two devices and a few ranges.

What a cascade's 95th percentile is at best depends on its own replicas, its range's load, and on no goal. So it is
found once (`Times`), and every goal is answered from it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import inf

from peekserve.cascades.cascade import Cascade, Judged
from peekserve.cascades.thresholds import grid
from peekserve.planner.balance import Balance
from peekserve.planner.estimate import Estimator, Work
from peekserve.planner.placement import Replicas, spread
from peekserve.planner.problem import Device, Problem, Slo

# Of the first stage, of each later one, and in how many parts a load is divided.
LENGTHS, LATER, PARTS = (1, 2, 4, 8, 16, 32), (1, 8), 2


@dataclass(frozen=True, slots=True)
class Best:
    """Means over the expected loads: `score` as the search ranks cascades, `p95_s` of the ranges' 95th percentiles.
    `cascades`: of each range."""

    score: float
    p95_s: float
    cascades: tuple[Judged, ...]


def everything(problem: Problem) -> tuple[Judged, ...]:
    """Every candidate: one stage up to `problem.stages`, each dearer than the one before, thresholds on its grid."""
    seconds, answers = problem.seconds(), problem.answers
    order = sorted(answers.variants, key=lambda name: (seconds[name], name))
    cuts = {name: grid(answers.certainty[answers.index(name)], problem.steps).tolist() for name in order}
    found = []
    for many in range(1, problem.stages + 1):
        for stages in combinations(order, many):
            for thresholds in product(*(cuts[stage] for stage in stages[:-1])):
                one = Cascade(stages, thresholds)
                judged = one.judged(answers, seconds, answers.best(), problem.confidence)
                if all(judged.reach):  # where everything stops, it is the shorter cascade
                    found.append(judged)
    return tuple(found)


def placements(problem: Problem) -> list[Replicas]:
    """Every filling of the devices, none with room for one more; like devices are not told apart."""
    size = {model.weights: model.bytes for model in problem.models}
    seen: dict[tuple[object, ...], Replicas] = {}
    for filled in product(*(_fillings(size, device) for device in problem.devices)):
        key = tuple(sorted((d.kind, d.budget_bytes, f) for d, f in zip(problem.devices, filled, strict=True)))
        pairs = zip(problem.devices, filled, strict=True)
        seen.setdefault(key, frozenset((w, d.name) for d, weights in pairs for w in weights))
    return list(seen.values())


def _fillings(size: dict[str, int], device: Device) -> list[tuple[str, ...]]:
    fits = [
        kept
        for many in range(len(size) + 1)
        for kept in combinations(sorted(size), many)
        if sum(size[w] for w in kept) <= device.budget_bytes
    ]
    return [kept for kept in fits if not any(set(kept) < set(more) for more in fits)]


class Times:
    """The least 95th percentile of every cascade, in every range, with every placement. `asked`: how often the judge
    was."""

    def __init__(
        self,
        problem: Problem,
        estimator: Estimator,
        lengths: Sequence[int] = LENGTHS,
        later: Sequence[int] = LATER,
        parts: int = PARTS,
    ) -> None:
        self._problem, self._estimator = problem, estimator
        self._lengths, self._later, self._parts = lengths, later, parts
        self._known: dict[tuple[Cascade, int, Replicas], float] = {}
        self.asked = 0
        self._cascades = everything(problem)
        # Of each placement and range, the front of (p95, score), the quickest first.
        self._fronts = [
            [self._front(at, replicas) for at in range(problem.loads.ranges)]
            for replicas in placements(problem)
        ]

    def best(self, slo: Slo) -> Best | None:
        """The best plan for a goal: with a p95 the highest score within it, with an accuracy alone the least p95 with
        such a score. None where no plan meets it."""
        weights = self._problem.loads.weights
        found: Best | None = None
        for fronts in self._fronts:
            if not all(fronts):
                continue
            if slo.by_latency:
                within = [[f for f in front if f[0] <= slo.p95_s] for front in fronts]
                if not all(within):
                    continue
                chosen: Iterator[tuple[tuple[float, Judged], ...]] = iter([tuple(w[-1] for w in within)])
            else:
                chosen = product(*fronts)
            for one in chosen:
                score = sum(w * judged.score for w, (_, judged) in zip(weights, one, strict=True))
                p95_s = sum(w * p95 for w, (p95, _) in zip(weights, one, strict=True))
                if score < slo.accuracy:
                    continue
                better = (score, -p95_s) if slo.by_latency else (-p95_s, score)
                than = (-inf, -inf)
                if found is not None:
                    than = (found.score, -found.p95_s) if slo.by_latency else (-found.p95_s, found.score)
                if better > than:
                    found = Best(score, p95_s, tuple(judged for _, judged in one))
        return found

    def _front(self, at: int, replicas: Replicas) -> list[tuple[float, Judged]]:
        timed = ((self._p95_s(one, at, replicas), one) for one in self._cascades)
        kept: list[tuple[float, Judged]] = []
        for p95_s, one in sorted(timed, key=lambda t: (t[0], -t[1].score, t[1].cascade.name)):
            if p95_s < inf and (not kept or one.score > kept[-1][1].score):
                kept.append((p95_s, one))
        return kept

    def _p95_s(self, one: Judged, at: int, replicas: Replicas) -> float:
        own = {self._problem.model(stage).weights for stage in one.cascade.stages}
        mine = frozenset(r for r in replicas if r[0] in own)
        key = (one.cascade, at, mine)
        if key not in self._known:
            self._known[key] = self._least(one, self._problem.loads.edges[at + 1], mine)
        return self._known[key]

    def _least(self, one: Judged, rate: float, replicas: Replicas) -> float:
        problem, least = self._problem, inf
        holds = {d.name: tuple(sorted(w for w, on in replicas if on == d.name)) for d in problem.devices}
        for balance in self._balances(one, rate, replicas):
            for queues in product(self._lengths, *(self._later for _ in one.cascade.stages[1:])):
                self.asked += 1
                work = Work(problem, one, rate, balance, queues, holds)
                least = min(least, self._estimator.estimate(work).p95_s)
        return least

    def _balances(self, one: Judged, rate: float, replicas: Replicas) -> list[Balance]:
        """The linear program's, and every division in equal parts. None where it is too much, or a stage has no
        device."""
        solved = spread(self._problem, one, rate, replicas)
        if solved is None or solved.utilisation > 1.0:
            return []
        each = []
        for stage in one.cascade.stages:
            weights = self._problem.model(stage).weights
            hosts = [d.name for d in self._problem.devices if (weights, d.name) in replicas]
            each.append([_shares(hosts, taken, self._parts) for taken in _divided(self._parts, len(hosts))])
        return [solved] + [
            Balance(solved.utilisation, dict(zip(one.cascade.stages, shares, strict=True)))
            for shares in product(*each)
        ]


def _shares(hosts: Sequence[str], taken: Sequence[int], parts: int) -> dict[str, float]:
    return {host: part / parts for host, part in zip(hosts, taken, strict=True) if part}


def _divided(parts: int, among: int) -> list[tuple[int, ...]]:
    """All ways to hand out so many parts.

    >>> _divided(2, 2)
    [(0, 2), (1, 1), (2, 0)]
    """
    if among == 1:
        return [(parts,)]
    return [(first, *rest) for first in range(parts + 1) for rest in _divided(parts - first, among - 1)]
