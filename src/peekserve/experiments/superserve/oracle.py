"""The best that could be done with a trace that is known beforehand: SuperServe's zero-one program (section 4.1).

    max  sum Acc(phi) |B| I(phi, B, n, t)
    s.t. every request in at most one batch that runs                    (1a)
         a worker runs one batch at a time                               (1b)
         t >= a(B)                                                       (1c)
         every batch once at most                                        (1d)
         t + l(phi, |B|) <= d(B)                                         (1e)

In (1c) a(B) must be the latest arrival in B: with the earliest, as printed, a batch could begin before its rows are
there. d(B) is the earliest deadline in it.

Batches and instants are not listed here, because there are 2^n of the ones and no end of the others. A worker has n
*slots*, one after another, and the program says which rows are in which: z[r, k] = 1 where row r is in slot k, and
u[k, phi, b] = 1 where slot k runs b rows by the subnet phi, from the instant t[k]. That is the same program: every
schedule of batches is one of slots, and the other way round.

    max  sum_k,phi,b  Acc(phi) b u[k, phi, b]
    s.t. sum_k z[r, k] <= 1                                              (1a, 1d)
         sum_r z[r, k] = sum_phi,b b u[k, phi, b],   sum_phi,b u[k, phi, b] <= 1
         t[k + 1] >= t[k] + sum_phi,b l(phi, b) u[k, phi, b]             (1b)
         t[k] >= a[r] z[r, k]                                            (1c)
         t[k] + sum_phi,b l(phi, b) u[k, phi, b] <= d[r] + (H - d[r]) (1 - z[r, k])    (1e)

H is the last deadline, after which nothing has to end. Slots are used in order. Weights are resident, and switching
costs nothing: with one supernet that is so. For a dozen requests; needs scipy (the extra `peers`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from peekserve.errors import DataUnavailable, InvalidData, InvariantBroken

Floats = npt.NDArray[np.float64]

# Nodes of the search tree, not seconds: the same answer on any machine.
MOST_NODES = 200_000
# The solver keeps its constraints to about 1e-6 of the unit of time, which is the shortest latency.
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Instance:
    """A trace and the workers that serve it, all alike. `arrived_at`, `due_at`: f8[n], seconds. `latency_s`: f8[V, B +
    1], seconds of each subnet by number of rows; column 0 is not read. `accuracy`: f8[V]. Raises InvalidData for one
    that cannot be."""

    arrived_at: Floats
    due_at: Floats
    latency_s: Floats
    accuracy: Floats
    workers: int = 1

    def __post_init__(self) -> None:
        instants = np.concatenate([self.arrived_at, self.due_at])
        if len(self.arrived_at) != len(self.due_at) or not np.isfinite(instants).all():
            raise InvalidData(
                f"{len(self.arrived_at)} arrivals and {len(self.due_at)} deadlines: one each, and finite"
            )
        if self.latency_s.shape[0] != len(self.accuracy) or self.latency_s.shape[1] < 2 or self.workers < 1:
            raise InvalidData(
                f"latencies of {self.latency_s.shape[0]} subnets for {self.latency_s.shape[1] - 1} rows and "
                f"{len(self.accuracy)} accuracies on {self.workers} workers: at least one row and worker, "
                "and one accuracy for each subnet"
            )
        times = self.latency_s[:, 1:]
        if not (np.isfinite(times) & (times > 0.0)).all() or not np.isfinite(self.accuracy).all():
            raise InvalidData("latencies are positive and finite, and accuracies are finite")


@dataclass(frozen=True, slots=True)
class Run:
    """One batch: these requests, by this subnet, on this worker, from `start_at` to `end_at`."""

    worker: int
    subnet: int
    rows: tuple[int, ...]
    start_at: float
    end_at: float


@dataclass(frozen=True, slots=True)
class Best:
    """`utility`: the sum of Acc(phi) over the requests of `runs`, all in time. `bound`: no schedule has more; `proven`:
    it is the same."""

    utility: float
    bound: float
    proven: bool
    runs: tuple[Run, ...]


def solve(instance: Instance, most_nodes: int = MOST_NODES) -> Best:
    """The best schedule of a trace, or the best that was found within so many nodes.

    Raises DataUnavailable where scipy is not installed.
    """
    if not len(instance.arrived_at):
        return Best(0.0, 0.0, True, ())
    program = _Program(instance)
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError:
        raise DataUnavailable(
            "the offline oracle solves its program with scipy: pip install 'peekserve[peers]'"
        ) from None
    rows, low, high = program.lines()
    solved = milp(
        program.cost(),
        integrality=program.integral(),
        bounds=Bounds(np.zeros(program.size), program.upper()),
        constraints=LinearConstraint(rows, low, high),
        options={"mip_rel_gap": 0.0, "node_limit": most_nodes},
    )
    bound = float(instance.accuracy.max()) * len(instance.due_at)
    if solved.mip_dual_bound is not None and np.isfinite(solved.mip_dual_bound):
        bound = min(bound, -float(solved.mip_dual_bound))
    if solved.x is None:
        return Best(0.0, bound, False, ())
    runs = program.runs(solved.x)
    utility = worth(instance, runs)
    return Best(utility, max(bound, utility), bool(solved.status == 0 and bound <= utility + 1e-6), runs)


def worth(instance: Instance, runs: Sequence[Run]) -> float:
    """The sum of the accuracies over all requests. Raises InvariantBroken for a schedule that cannot be."""
    slack_s = TOLERANCE * _unit_s(instance)
    seen = [row for run in runs for row in run.rows]
    if len(seen) != len(set(seen)):
        raise InvariantBroken(f"requests {sorted(r for r in set(seen) if seen.count(r) > 1)} run twice")
    free = [-np.inf] * instance.workers
    for run in runs:
        rows = list(run.rows)
        took_s = float(instance.latency_s[run.subnet, len(rows)])
        begins_at = max(free[run.worker], float(instance.arrived_at[rows].max()))
        if run.start_at < begins_at - slack_s or run.end_at < run.start_at + took_s - slack_s:
            raise InvariantBroken(f"{run} cannot begin before {begins_at} and takes {took_s} s")
        if run.end_at > instance.due_at[rows].min() + slack_s:
            raise InvariantBroken(
                f"{run} ends after {instance.due_at[rows].min()}, when the first of it is due"
            )
        free[run.worker] = run.end_at
    return float(sum(instance.accuracy[run.subnet] * len(run.rows) for run in runs))


def _unit_s(instance: Instance) -> float:
    return float(instance.latency_s[:, 1:].min())


class _Program:
    """The arrays of the program. Columns: z[k, r], then u[k, phi, b], then t[k]; k counts all workers' slots."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.unit_s = _unit_s(instance)
        self.n = len(instance.arrived_at)
        # No longer batch than there are requests.
        self.latency = instance.latency_s[:, 1 : self.n + 1] / self.unit_s
        begin_at = instance.arrived_at.min()
        self.arrived = (instance.arrived_at - begin_at) / self.unit_s
        self.due = (instance.due_at - begin_at) / self.unit_s
        self.end = max(float(self.due.max()), 0.0)
        self.slots = self.n * instance.workers
        self.each = self.latency.size
        self.rows_in = np.tile(np.arange(1.0, self.latency.shape[1] + 1.0), self.latency.shape[0])
        self.first_u = self.slots * self.n
        self.first_t = self.first_u + self.slots * self.each
        self.size = self.first_t + self.slots

    def cost(self) -> Floats:
        gain = np.repeat(self.instance.accuracy, self.latency.shape[1]) * self.rows_in
        return np.concatenate([np.zeros(self.first_u), -np.tile(gain, self.slots), np.zeros(self.slots)])

    def integral(self) -> Floats:
        return np.concatenate([np.ones(self.first_t), np.zeros(self.slots)])

    def upper(self) -> Floats:
        return np.concatenate([np.ones(self.first_t), np.full(self.slots, self.end)])

    def lines(self) -> tuple[Any, Floats, Floats]:
        """(rows [m, size], lower f8[m], upper f8[m])."""
        n, latency = self.n, self.latency.ravel()
        rows: list[Floats] = []
        low: list[float] = []
        high: list[float] = []

        def line(least: float, most: float, *parts: tuple[int, Any]) -> None:
            made = np.zeros(self.size)
            for at, values in parts:
                made[at : at + len(values)] = values
            rows.append(made)
            low.append(least)
            high.append(most)

        for r in range(n):
            line(-np.inf, 1.0, *((k * n + r, [1.0]) for k in range(self.slots)))
        for k in range(self.slots):
            z, u, t = k * n, self.first_u + k * self.each, self.first_t + k
            line(0.0, 0.0, (z, np.ones(n)), (u, -self.rows_in))
            line(-np.inf, 1.0, (u, np.ones(self.each)))
            for r in range(n):
                line(0.0, np.inf, (t, [1.0]), (z + r, [-self.arrived[r]]))
                line(-np.inf, self.end, (t, [1.0]), (u, latency), (z + r, [self.end - self.due[r]]))
            if (k + 1) % n:  # not the worker's last
                line(0.0, np.inf, (t + 1, [1.0]), (t, [-1.0]), (u, -latency))
                line(0.0, np.inf, (u, np.ones(self.each)), (u + self.each, -np.ones(self.each)))
        return np.stack(rows), np.array(low), np.array(high)

    def runs(self, x: Floats) -> tuple[Run, ...]:
        """A solution's batches, each begun as soon as it can be."""
        taken = x[: self.first_u].reshape(self.slots, self.n) > 0.5
        used = x[self.first_u : self.first_t].reshape(self.slots, *self.latency.shape) > 0.5
        instance, made = self.instance, []
        for k in range(self.slots):
            if k % self.n == 0:
                free_at = -np.inf
            rows = np.flatnonzero(taken[k])
            if len(rows):
                subnet = int(np.argwhere(used[k])[0, 0])
                start_at = max(free_at, float(instance.arrived_at[rows].max()))
                free_at = start_at + float(instance.latency_s[subnet, len(rows)])
                made.append(Run(k // self.n, subnet, tuple(rows.tolist()), start_at, free_at))
        return tuple(made)
