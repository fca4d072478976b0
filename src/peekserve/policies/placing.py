"""Between a view and the kernel: what a policy believes of each row, and the kernel's arrays back to a
plan."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from peekserve.domain.messages import Batch, Plan
from peekserve.domain.utility import PenaltyKind
from peekserve.kernel import loops
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
    that a lane has. `open`: i8[:], the rows to plan; `instant`, `refuse`: i8[:], those that no variant can
    finish in time. `lanes`, `workers`, `rows`: the view as the kernel reads it (loops.Problem).
    """

    view: View
    switches: Switches
    accuracy: Floats
    due_s: Floats
    worth: Floats
    own: Bools
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


def look(view: View, switches: Switches) -> Outlook:
    """What these switches make of a view.

    With `drop`, rows that would be late even if they were the next to run on the worker that is best for them
    are not planned: those that have a peek's answer worth giving take it, if short-circuiting is allowed, the
    others are refused. A constant penalty knows no lateness, so its rows are never doomed.
    """
    width = view.accuracy.shape[1] if view.accuracy.ndim == 2 else 0
    counts = np.array([len(lane.variants) for lane in view.lanes], np.int64)
    own = np.arange(width) < counts[:, None]
    if switches.aware:
        accuracy = view.accuracy
    else:
        profiled = np.zeros((len(view.lanes), width))
        for i, lane in enumerate(view.lanes):
            profiled[i, : len(lane.variants)] = lane.profiled
        accuracy = profiled[view.lane]
    due_s = view.due_at - view.now
    kind, width_s = view.penalty.astype(np.int64), np.ascontiguousarray(view.width_s)
    if switches.short_circuit:
        tables = (view.tables.x, view.tables.p, view.tables.start.astype(np.int64))
        worth = loops.instant_worth(due_s, kind, width_s, view.instant, *tables)
    else:
        worth = np.full(view.size, -1.0)
    doomed = _doomed(view, own, due_s) if switches.drop else np.zeros(view.size, np.bool_)
    saved = doomed & (worth > 0.0)
    return Outlook(
        view=view,
        switches=switches,
        accuracy=accuracy,
        due_s=due_s,
        worth=worth,
        own=own,
        open=np.flatnonzero(~doomed),
        instant=np.flatnonzero(saved),
        refuse=np.flatnonzero(doomed & ~saved),
        lanes=_lane_arrays(view, own),
        workers=_worker_arrays(view),
        rows=(due_s, kind, width_s, accuracy, view.allowed.view(np.uint8), worth),
    )


def _doomed(view: View, own: Bools, due_s: Floats) -> Bools:
    soonest = np.full(own.shape, np.inf)
    for worker in view.workers:
        load_s = np.where(worker.bytes <= worker.budget, worker.load_s, np.inf)
        load_s[list(worker.resident)] = 0.0
        for i, lane in enumerate(view.lanes):
            many = len(lane.variants)
            finish = (worker.free_at - view.now) + load_s[lane.weights] + worker.latency_s[i][:many, 1]
            np.minimum(soonest[i, :many], finish, out=soonest[i, :many])
    finish = np.where(view.allowed, soonest[view.lane], np.inf).min(axis=1, initial=np.inf)
    late = finish > due_s
    doomed: Bools = late & ((view.penalty != PenaltyKind.CONSTANT) | (finish == np.inf))
    return doomed


def _lane_arrays(view: View, own: Bools) -> tuple[Any, ...]:
    weights = np.zeros(own.shape, np.int64)
    max_batch = np.ones(own.shape, np.int64)
    for i, lane in enumerate(view.lanes):
        many = len(lane.variants)
        weights[i, :many] = lane.weights
        longest = min(worker.latency_s[i].shape[1] for worker in view.workers) - 1
        max_batch[i, :many] = np.minimum(lane.max_batch, longest)
    return own.sum(axis=1), weights, max_batch


def _worker_arrays(view: View) -> tuple[Any, ...]:
    workers = view.workers
    shape = (len(workers), len(view.lanes))
    tables = [table for worker in workers for table in worker.latency_s]
    lines = np.array([table.shape[1] for table in tables], np.int64)
    begins = np.cumsum([0, *(table.size for table in tables)])[:-1]
    resident = np.zeros((len(workers), len(workers[0].load_s)), np.int64)
    for w, worker in enumerate(workers):
        resident[w, : len(worker.resident)] = worker.resident
    return (
        np.concatenate([table.ravel() for table in tables]),
        begins.reshape(shape),
        lines.reshape(shape),
        np.stack([worker.load_s for worker in workers]),
        np.stack([worker.bytes for worker in workers]),
        np.array([worker.budget for worker in workers]),
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
        items=(items.lane, items.start, items.rows),
        switches=(switches.merge, switches.drop, switches.short_circuit, rescue, by_accuracy),
        search_items=search_items,
    )


def to_plan(outlook: Outlook, placed: loops.Problem) -> Plan:
    """The kernel's plan, with the rows that were never handed to it."""
    batch, rank, instant, worker, lane, variant, closed = placed.plan()
    rows = np.flatnonzero(batch >= 0)
    rows = rows[np.lexsort((rank[rows], batch[rows]))]
    ends = np.cumsum(np.bincount(batch[rows], minlength=len(worker))).tolist()
    flat = rows.tolist()
    batches = [
        Batch(w, l_, v, tuple(flat[start:end]), CLOSED[c])
        for w, l_, v, c, start, end in zip(
            worker.tolist(),
            lane.tolist(),
            variant.tolist(),
            closed.tolist(),
            [0, *ends][:-1],
            ends,
            strict=True,
        )
    ]
    at_once = np.union1d(np.flatnonzero(instant), outlook.instant)
    return Plan(tuple(batches), tuple(at_once.tolist()), tuple(outlook.refuse.tolist()))
