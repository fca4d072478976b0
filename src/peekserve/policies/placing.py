"""Between a view and the kernel: what a policy believes of each row, and the kernel's arrays back to a
plan."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from peekserve.domain.messages import Batch, Plan
from peekserve.kernel import grouping, loops
from peekserve.policies.base import Bools, Floats, Switches, View

Indices = npt.NDArray[np.int64]

CLOSED = ("policy", "full", "deadline")
# Orders may not hang on the last bits of a logarithm, which differ between processors.
DECIMALS = 12


@dataclass(frozen=True, slots=True)
class Outlook:
    """A view as one policy sees it. n rows, L lanes, V variants at most, W workers, M weights.

    `accuracy`: f8[n, V], what the policy believes. `due_s`: f8[n], seconds from now. `worth`: f8[n], the
    peek's answer given now, -1 where there is none or it may not be used. `own`: bool [L, V], the variants
    that a lane has. `free`: every row may use all that its lane has. `open`: i8[:], the rows to plan; `instant`,
    `refuse`: i8[:], those that no variant can finish in time. `lanes`, `workers`, `rows`: the view as the kernel
    reads it (loops.Problem).
    """

    view: View
    switches: Switches
    accuracy: Floats
    due_s: Floats
    worth: Floats
    own: Bools
    free: bool
    open: Indices
    instant: Indices
    refuse: Indices
    lanes: tuple[Any, ...]
    workers: tuple[Any, ...]
    rows: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """Rows to be served together, in the order in which they are placed.

    `lane`: i8[K]. `start`: i8[K + 1]; item k is rows[start[k] : start[k + 1]], the most urgent first.
    """

    lane: Indices
    start: Indices
    rows: Indices

    @property
    def size(self) -> int:
        return len(self.lane)

    @property
    def arrays(self) -> tuple[Indices, Indices, Indices]:
        """As the kernel takes them."""
        return self.lane, self.start, self.rows


@dataclass(frozen=True, slots=True)
class Ground:
    """What views of the same lanes and devices share, whatever waits and whatever the workers hold.

    L lanes, V variants at most, W workers, M weights. `own`: bool [L, V], the variants that a lane has. `profiled`:
    f8[L, V]. `lanes`: as the kernel reads them, (variants, weights, max batch). `timing`: likewise of the workers,
    (latency tables end to end, where each begins, their lines, load_s, bytes, budget). `first_s`: f8[W, L, V], a batch
    of one row; `load_s`: f8[W, L, V], the load before it, infinite where the weights can never fit.
    """

    view: View
    group_size: int
    own: Bools
    profiled: Floats
    lanes: tuple[Any, ...]
    timing: tuple[Any, ...]
    first_s: Floats
    load_s: Floats

    @classmethod
    def of(cls, view: View, group_size: int = 0) -> "Ground":
        """`group_size`: no batch is larger, 0 for the lanes' own limits."""
        workers = view.workers
        width = view.accuracy.shape[1] if view.accuracy.ndim == 2 else 0
        own = np.arange(width) < np.array([len(lane.variants) for lane in view.lanes], np.int64)[:, None]
        profiled = np.zeros(own.shape)
        weights = np.zeros(own.shape, np.int64)
        max_batch = np.ones(own.shape, np.int64)
        first_s = np.full((len(workers), *own.shape), np.inf)
        for i, lane in enumerate(view.lanes):
            many = len(lane.variants)
            profiled[i, :many] = lane.profiled
            weights[i, :many] = lane.weights
            longest = min(worker.latency_s[i].shape[1] for worker in workers) - 1
            max_batch[i, :many] = np.minimum(lane.max_batch, min(longest, group_size or longest))
            for w, worker in enumerate(workers):
                first_s[w, i, :many] = worker.latency_s[i][:many, 1]
        tables = [table for worker in workers for table in worker.latency_s]
        load_s = np.stack([worker.load_s for worker in workers])
        size = np.stack([worker.bytes for worker in workers])
        budget = np.array([worker.budget for worker in workers])
        timing = (
            np.concatenate([table.ravel() for table in tables]),
            np.cumsum([0, *(table.size for table in tables)])[:-1].reshape(len(workers), len(view.lanes)),
            np.array([table.shape[1] for table in tables], np.int64).reshape(len(workers), len(view.lanes)),
            load_s,
            size,
            budget,
        )
        fits = np.where(size <= budget[:, None], load_s, np.inf)
        lanes = (own.sum(axis=1), weights, max_batch)
        return cls(
            view, group_size, own, profiled, lanes, timing, first_s, np.ascontiguousarray(fits[:, weights])
        )

    def holds(self, view: View, group_size: int) -> bool:
        """Is it that of this view, too? By identity: the core makes these arrays once."""
        old = self.view
        return (
            view.lanes is old.lanes
            and group_size == self.group_size
            and len(view.workers) == len(old.workers)
            and view.accuracy.shape[1:] == old.accuracy.shape[1:]
            and all(
                now.latency_s is before.latency_s
                and now.load_s is before.load_s
                and now.bytes is before.bytes
                and now.budget == before.budget
                for now, before in zip(view.workers, old.workers, strict=True)
            )
        )


class Grounds:
    """The ground of the last view, kept for the next: they seldom differ, and making one costs as much as a small
    plan."""

    def __init__(self, group_size: int = 0) -> None:
        self._group_size = group_size
        self._last: dict[int, Ground] = {}

    def of(self, view: View) -> Ground:
        """The ground of this view."""
        many = len(view.workers)  # rolling planning sees now one worker, now two
        known = self._last.get(many)
        if known is None or not known.holds(view, self._group_size):
            known = self._last[many] = Ground.of(view, self._group_size)
        return known


def look(view: View, switches: Switches, ground: Ground | None = None) -> Outlook:
    """What these switches make of a view.

    With `drop`, rows that would be late even if they were the next to run on the worker that is best for them
    are not planned: those that have a peek's answer worth giving take it, if short-circuiting is allowed, the
    others are refused. A constant penalty knows no lateness, so its rows are never doomed.
    """
    ground = ground or Ground.of(view)
    accuracy = view.accuracy if switches.aware else ground.profiled[view.lane]
    workers = _worker_arrays(view, ground)
    width_s, allowed = np.ascontiguousarray(view.width_s), view.allowed.view(np.uint8)
    tables = (view.tables.x, view.tables.p, view.tables.start.astype(np.int64, copy=False))
    due_s, kind, worth, free, opened, instant, refuse = grouping.looked(
        view.now,
        (view.due_at, view.penalty, width_s, view.instant, view.lane, allowed),
        (ground.own.view(np.uint8), ground.lanes[1], ground.first_s, ground.load_s),
        workers[6:],
        tables,
        switches.drop,
        switches.short_circuit,
    )
    return Outlook(
        view=view,
        switches=switches,
        accuracy=accuracy,
        due_s=due_s,
        worth=worth,
        own=ground.own,
        free=free,
        open=opened,
        instant=instant,
        refuse=refuse,
        lanes=ground.lanes,
        workers=workers,
        rows=(due_s, kind, width_s, accuracy, allowed, worth),
    )


def _worker_arrays(view: View, ground: Ground) -> tuple[Any, ...]:
    workers = view.workers
    resident = np.zeros((len(workers), len(workers[0].load_s)), np.int64)
    for w, worker in enumerate(workers):
        resident[w, : len(worker.resident)] = worker.resident
    return (
        *ground.timing,
        np.array([worker.free_at - view.now for worker in workers]),
        resident,
        np.array([len(worker.resident) for worker in workers]),
    )


def problem(
    outlook: Outlook, items: Items, *, rescue: bool, by_accuracy: bool, search_items: int
) -> loops.Problem:
    """The kernel's form of these items on this view's workers."""
    switches = outlook.switches
    return loops.Problem(
        lanes=outlook.lanes,
        workers=outlook.workers,
        rows=outlook.rows,
        tables=(outlook.view.tables.x, outlook.view.tables.p, outlook.view.tables.start),
        items=items.arrays,
        switches=(switches.merge, switches.drop, switches.short_circuit, rescue, by_accuracy),
        search_items=search_items,
    )


class Placed(Protocol):
    """Items on workers: a problem of the kernel after `greedy` or `search`, or what one was like."""

    def plan(self) -> tuple[Any, ...]: ...

    def value(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What a problem had found before it was given other items."""

    arrays: tuple[Any, ...]
    utility: float

    def plan(self) -> tuple[Any, ...]:
        """As loops.Problem.plan."""
        return self.arrays

    def value(self) -> float:
        """A sum over rows."""
        return self.utility


def to_plan(outlook: Outlook, placed: Placed) -> Plan:
    """The kernel's plan, with the rows that were never handed to it."""
    listed, at_once = loops.listed(placed.plan())
    batches = tuple(Batch(w, lane, v, rows, CLOSED[why]) for w, lane, v, why, rows in listed)
    if len(outlook.instant):
        at_once = sorted((*at_once, *outlook.instant.tolist()))
    return Plan(batches, tuple(at_once), tuple(outlook.refuse.tolist()))
