"""What one subnet can carry of a trace that is known beforehand: between what a plan attains and what none can pass.

A policy sees a trace row by row. Whether a load could be carried at all is not for a policy to say, so it is worked out
before any runs, from the arrivals and the subnet's times alone.

*At least*: a plan that knows all arrivals. Rows go in order, workers take them as they become free, and each waits for
so many rows as make its batch, but no longer than the head can wait; what then fits is the batch. A head that no batch
could answer is lost; in a second form of the plan also heads that are in the way of a batch of that size. Both forms,
with every size, and the best of them counts.

*At most*: workers that answer each row in the least time that a batch of any size takes for one, without ever waiting
for a batch to fill or to end. Rows of one deadline, in order: whoever would wait longer than the deadline is left out,
and nobody could leave out fewer.
"""

from dataclasses import dataclass
from heapq import heapreplace

from peekserve.experiments.table import Floats


@dataclass(frozen=True, slots=True)
class Bounds:
    """Shares of the rows that are answered in time: a plan attains `at_least`, and none more than `at_most`."""

    at_least: float
    at_most: float


def bounds(arrived_at: Floats, deadline_s: float, latency_s: Floats, workers: int) -> Bounds:
    """`arrived_at`: f8[n], rising; `latency_s`: f8[B + 1], seconds by rows of a batch.

    >>> import numpy as np
    >>> bounds(np.array([0.0, 0.0, 0.0]), 2.0, np.array([0.0, 1.0, 2.0]), 1)  # two of three, one by one or together
    Bounds(at_least=0.6666666666666666, at_most=0.6666666666666666)
    """
    if not len(arrived_at):
        return Bounds(1.0, 1.0)
    at, times = arrived_at.tolist(), latency_s.tolist()
    met = max(
        _planned(at, deadline_s, times, workers, size, passing)
        for size in range(1, len(times))
        for passing in (False, True)
    )
    each_s = min(s / size for size, s in enumerate(times) if size) / workers
    return Bounds(met / len(at), _flowed(at, deadline_s, each_s, max(each_s, times[1])) / len(at))


def _planned(
    at: list[float], deadline_s: float, times: list[float], workers: int, size: int, passing: bool
) -> int:
    """Rows answered in time in batches of so many. `passing`: heads in a batch's way are passed over."""
    free = [at[0]] * workers
    head, met = 0, 0
    while head < len(at):
        many = min(size, len(at) - head)
        due, since = at[head] + deadline_s, free[0]
        while many and max(since, at[head + many - 1]) + times[many] > due:
            many -= 1
        waited = at[min(head + size, len(at)) - 1] <= since
        if not many or (passing and many < size and waited and head + size <= len(at)):
            head += 1
            continue
        heapreplace(free, max(since, at[head + many - 1]) + times[many])
        head, met = head + many, met + many
    return met


def _flowed(at: list[float], deadline_s: float, each_s: float, alone_s: float) -> int:
    """Rows that workers without batches answer in time, together one in `each_s`, and none sooner than `alone_s`."""
    busy_until, met = at[0], 0
    for instant in at:
        ends = max(max(busy_until, instant) + each_s, instant + alone_s)
        if ends <= instant + deadline_s + 1e-12:
            busy_until, met = max(busy_until, instant) + each_s, met + 1
    return met
