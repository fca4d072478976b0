"""Minimum queue lengths (CascadeServe, section 4.3, submodule 4).

Each range's first stage waits for one sample, then for more, until the load is kept up with and the 95th percentile of
the time to an answer is within the goal. Later stages wait for one: more comes to them at once. A largest batch is not
set, because then the stages of a cascade would contend more. With a goal of accuracy alone, the length that answers
soonest is taken.

Lengths are tried on a grid that grows by half. Larger ones make batches more efficient and the wait for them longer, so
the search ends once waiting alone takes longer than the goal, or two lengths did worse than one before.
"""

from collections.abc import Mapping, Sequence
from math import inf

from peekserve.cascades.cascade import Judged
from peekserve.planner.estimate import Estimate, Estimator, Work
from peekserve.planner.faults import Fault, Part
from peekserve.planner.placement import Placed
from peekserve.planner.problem import Problem

Found = tuple[tuple[int, ...], Estimate]


class Queues:
    """Finds them, and remembers what was found for the same work. `screen`: is asked before the `estimator`, and what
    it finds hopeless the estimator is not asked about: more than `slack` times the goal."""

    def __init__(self, estimator: Estimator, screen: Estimator | None = None, slack: float = 2.0) -> None:
        self._estimator = estimator
        self._screen = screen
        self._slack = slack
        self._known: dict[object, Found | Fault] = {}

    def lengths(self, problem: Problem, chosen: Sequence[Judged], placed: Placed) -> list[Found] | Fault:
        """For each range its lengths by stage and the estimate; or the first range that cannot be served."""
        holds = {device.name: placed.holds(device.name) for device in problem.devices}
        found = []
        for at, one in enumerate(chosen):
            got = self._of_range(problem, one, at, placed, holds)
            if isinstance(got, Fault):
                return got
            found.append(got)
        return found

    def _of_range(
        self, problem: Problem, one: Judged, at: int, placed: Placed, holds: Mapping[str, tuple[str, ...]]
    ) -> Found | Fault:
        rate, balance = problem.loads.edges[at + 1], placed.balances[at]
        shares = tuple((s, tuple(balance.shares[s].items())) for s in one.cascade.stages)
        key = (one.cascade, rate, shares, tuple(holds.items()))
        if key not in self._known:
            self._known[key] = self._search(Work(problem, one, rate, balance, (), holds), at)
        return self._known[key]

    def _search(self, work: Work, at: int) -> Found | Fault:
        problem, stages = work.problem, work.judged.cascade.stages
        goal_s = problem.slo.p95_s
        best: Found | None = None
        worse = 0
        for length in _lengths(problem.model(stages[0]).max_batch):
            if (length - 1) / work.rate > goal_s and best is not None:
                break
            queues = (length, *(1 for _ in stages[1:]))
            tried = self._ask(Work(problem, work.judged, work.rate, work.balance, queues, work.holds), goal_s)
            if tried.p95_s <= goal_s < inf:
                return queues, tried
            if best is None or tried.p95_s < best[1].p95_s:
                best, worse = (queues, tried), 0
            elif tried.p95_s > best[1].p95_s:
                worse += 1
                if worse == 2:
                    break
        if best is not None and best[1].p95_s < goal_s == inf:
            return best
        p95_s = inf if best is None else best[1].p95_s
        bottleneck = stages[-1] if best is None else best[1].bottleneck
        why = (
            f"at {work.rate:g} requests per second {work.judged.cascade.name} "
            + (f"answers 95% within {p95_s * 1e3:.3g} ms at best" if p95_s < inf else "does not keep up")
            + (f", and the goal is {goal_s * 1e3:g} ms" if goal_s < inf else "")
            + f"; the bottleneck is {bottleneck}"
        )
        return Fault(Part.QUEUES, why, at, bottleneck, p95_s)

    def _ask(self, work: Work, goal_s: float) -> Estimate:
        if self._screen is not None:
            first = self._screen.estimate(work)
            if first.p95_s > self._slack * goal_s or first.p95_s == inf:
                return first
        return self._estimator.estimate(work)


def _lengths(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 9, ... up to the largest batch.

    >>> _lengths(16)
    [1, 2, 3, 4, 6, 9, 13, 16]
    """
    found = [1]
    while found[-1] < most:
        found.append(min(max(found[-1] + 1, found[-1] * 3 // 2), most))
    return found
