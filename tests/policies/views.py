"""Views made by hand, for stories about policies: `a_view(lanes=[...], rows=[...], workers=[...])`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, nan

import numpy as np

from peekserve.domain.messages import Plan
from peekserve.domain.utility import Penalty, PenaltyKind, PenaltyTables
from peekserve.policies.base import LaneView, View, WorkerView

NOW = 100.0


@dataclass(frozen=True)
class A_Variant:  # noqa: N801
    name: str
    seconds: float
    accuracy: float
    each_s: float
    load_s: float
    size: float
    max_batch: int
    weights: str


def takes(
    seconds: float,
    accuracy: float,
    *,
    each_s: float | None = None,
    load_s: float = 0.0,
    size: float = 1.0,
    max_batch: int = 8,
    name: str = "",
    weights: str = "",
) -> A_Variant:
    """A variant: `seconds` for one row and `each_s` for each further one (0.3 of the first if not said)."""
    own = name or f"{seconds:g}s"
    each = 0.3 * seconds if each_s is None else each_s
    return A_Variant(own, seconds, accuracy, each, load_s, size, max_batch, weights)


@dataclass(frozen=True)
class A_Lane:  # noqa: N801
    variants: tuple[A_Variant, ...]
    application: int | None = None
    bucket: int = 0


def a_lane(*variants: A_Variant, application: int | None = None, bucket: int = 0) -> A_Lane:
    return A_Lane(variants, application, bucket)


@dataclass(frozen=True)
class A_Row:  # noqa: N801
    lane: int = 0
    due: float = 1.0
    accuracy: Sequence[float] | None = None
    instant: float = nan
    likely: int = -1
    penalty: Penalty = field(default_factory=Penalty.step)
    allowed: Sequence[bool] | None = None
    deadline_s: float = 1.0


def a_row(lane: int = 0, due: float = 1.0, **more) -> A_Row:
    """A row that is due in `due` seconds; `accuracy` is what awareness believes, the profile's if not
    said."""
    return A_Row(lane, due, **more)


@dataclass(frozen=True)
class A_Worker:  # noqa: N801
    free: float = 0.0
    resident: Sequence[str] = ()
    budget: float = inf
    slower: float = 1.0


def a_worker(
    free: float = 0.0, resident: Sequence[str] = (), budget: float = inf, slower: float = 1.0
) -> A_Worker:
    """A worker, free in `free` seconds, that will hold these weights by then ("LANE/VARIANT" unless
    named)."""
    return A_Worker(free, resident, budget, slower)


def a_view(
    lanes: Sequence[A_Lane],
    rows: Sequence[A_Row] = (),
    workers: Sequence[A_Worker] | None = None,
    now: float = NOW,
) -> View:
    """A view of these rows, in order of arrival, as the scheduler would show it."""
    wide = max(len(lane.variants) for lane in lanes)
    names: list[str] = []
    index = []
    for i, lane in enumerate(lanes):
        own = [v.weights or f"{i}/{v.name}" for v in lane.variants]
        names += [name for name in dict.fromkeys(own) if name not in names]
        index.append(np.array([names.index(name) for name in own], np.int32))
    load_s, size = np.zeros(len(names)), np.zeros(len(names))
    for lane, own in zip(lanes, index, strict=True):
        for v, variant in enumerate(lane.variants):
            load_s[own[v]], size[own[v]] = variant.load_s, variant.size

    lane_views = tuple(
        LaneView(
            name=f"lane{i}",
            application=i if lane.application is None else lane.application,
            bucket=lane.bucket,
            variants=tuple(v.name for v in lane.variants),
            profiled=np.array([v.accuracy for v in lane.variants]),
            weights=index[i],
            max_batch=np.array([v.max_batch for v in lane.variants], np.int32),
        )
        for i, lane in enumerate(lanes)
    )
    worker_views = tuple(
        WorkerView(
            name=f"cpu:{w}",
            free_at=now + worker.free,
            resident=tuple(names.index(name) for name in worker.resident),
            budget=worker.budget,
            latency_s=tuple(_latency(lane, worker.slower) for lane in lanes),
            load_s=load_s,
            bytes=size,
        )
        for w, worker in enumerate(workers if workers is not None else [a_worker()])
    )
    n = len(rows)
    accuracy, allowed = np.zeros((n, wide)), np.zeros((n, wide), np.bool_)
    for r, row in enumerate(rows):
        own = lanes[row.lane].variants
        accuracy[r, : len(own)] = [v.accuracy for v in own] if row.accuracy is None else row.accuracy
        allowed[r, : len(own)] = True if row.allowed is None else row.allowed
    owners = [row.penalty for row in rows if row.penalty.kind is PenaltyKind.TABLE]
    width = [
        owners.index(row.penalty)
        if row.penalty.kind is PenaltyKind.TABLE
        else row.penalty.width_s(row.deadline_s)
        for row in rows
    ]
    view = View(
        now=now,
        lanes=lane_views,
        workers=worker_views,
        lane=np.array([row.lane for row in rows], np.int32),
        arrived_at=now - 1e-3 * np.arange(n, 0, -1),
        due_at=now + np.array([row.due for row in rows], np.float64),
        deadline_s=np.array([row.deadline_s for row in rows], np.float64),
        penalty=np.array([row.penalty.kind for row in rows], np.int32),
        width_s=np.array(width, np.float64),
        tables=PenaltyTables.of(owners),
        accuracy=accuracy,
        allowed=allowed,
        instant=np.array([row.instant for row in rows], np.float64),
        likely=np.array([row.likely for row in rows], np.int32),
    )
    for column in (
        view.lane,
        view.due_at,
        view.width_s,
        view.accuracy,
        view.allowed,
        view.instant,
        view.likely,
    ):
        column.flags.writeable = False
    return view


def _latency(lane: A_Lane, slower: float) -> np.ndarray:
    most = max(v.max_batch for v in lane.variants)
    return np.array(
        [[0.0, *(slower * (v.seconds + v.each_s * b) for b in range(most))] for v in lane.variants]
    )


def a_random_view(seed: int, rows: int = 8, lanes: int = 2, workers: int = 1, *, easy: bool = False) -> View:
    """A view drawn from a seed: every penalty, tight and loose deadlines, budgets that hold one to all
    weights.

    `easy`: the usual case in service, every variant allowed and every row peeked at.
    """
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(lanes):
        base = rng.uniform(0.005, 0.04)
        count = int(rng.integers(1, 4)) if not easy else 5
        made.append(
            a_lane(
                *(
                    takes(
                        base * rng.uniform(0.5, 2.0) * (1 + v),
                        min(0.5 + 0.12 * v + rng.uniform(-0.05, 0.05), 0.99),
                        each_s=base * rng.uniform(0.0, 0.6),
                        load_s=float(rng.choice([0.0, 0.02])),
                        size=float(rng.integers(1, 4)),
                        max_batch=int(rng.choice([1, 2, 3, 8])) if not easy else 16,
                        name=f"v{v}",
                    )
                    for v in range(count)
                )
            )
        )
    kinds = [
        Penalty.step(),
        Penalty.linear(),
        Penalty.sigmoid(),
        Penalty.constant(0.2),
        Penalty.table([(0.0, 0.0), (0.02, 0.3), (0.05, 1.0)]),
    ]
    made_rows = []
    for _ in range(rows):
        lane = int(rng.integers(lanes))
        many = len(made[lane].variants)
        allowed = None if easy or rng.random() < 0.8 else tuple(bool(a) for a in rng.random(many) < 0.6)
        made_rows.append(
            a_row(
                lane,
                due=float(rng.uniform(-0.02, 0.2)),
                accuracy=tuple(
                    np.clip(rng.normal([v.accuracy for v in made[lane].variants], 0.15), 0.0, 1.0)
                ),
                instant=float(rng.uniform(0.3, 0.8)) if easy or rng.random() < 0.8 else nan,
                likely=int(rng.integers(-1, 3)),
                penalty=kinds[int(rng.integers(len(kinds)))],
                allowed=allowed,
                deadline_s=float(rng.uniform(0.0, 0.2)) if rng.random() < 0.9 else 0.0,
            )
        )
    fleet = [
        a_worker(
            free=float(rng.choice([0.0, 0.03])),
            resident=("0/v0",) if rng.random() < 0.5 else (),
            budget=float(rng.choice([2.0, 3.0, 5.0, inf])) if not easy else 6.0,
            slower=float(rng.choice([1.0, 1.5])),
        )
        for _ in range(workers)
    ]
    return a_view(made, made_rows, [w if w.budget >= 3.0 else a_worker(w.free, (), w.budget) for w in fleet])


def penalties(view: View, row: int) -> Penalty:
    """The row's penalty as the domain knows it: what its columns in the view stand for."""
    kind, width = PenaltyKind(int(view.penalty[row])), float(view.width_s[row])
    if kind is PenaltyKind.TABLE:
        begin, end = view.tables.start[int(width) : int(width) + 2]
        return Penalty.table(list(zip(view.tables.x[begin:end], view.tables.p[begin:end], strict=True)))
    if kind is PenaltyKind.CONSTANT:
        return Penalty.constant(width)
    return Penalty(kind, width=width) if width > 0.0 else Penalty.step()


def carried_out(view: View, plan: Plan, accuracy: np.ndarray) -> float:
    """The utility of a plan, summed over rows, by doing as it says: batch after batch, loading and
    evicting."""
    total = sum(
        view.instant[row] * (1.0 - penalties(view, row).at(view.now - view.due_at[row], 1.0))
        for row in plan.instant
    )
    free = [worker.free_at for worker in view.workers]
    held = [list(worker.resident) for worker in view.workers]
    for batch in plan.batches:
        worker = view.workers[batch.worker]
        weights = int(view.lanes[batch.lane].weights[batch.variant])
        resident = held[batch.worker]
        if weights in resident:
            resident.remove(weights)
        else:
            while resident and sum(worker.bytes[resident]) + worker.bytes[weights] > worker.budget:
                resident.pop(0)
            free[batch.worker] += worker.load_s[weights]
        resident.append(weights)
        assert sum(worker.bytes[resident]) <= worker.budget
        free[batch.worker] += worker.latency_s[batch.lane][batch.variant, len(batch.rows)]
        for row in batch.rows:
            late = free[batch.worker] - view.due_at[row]
            total += accuracy[row, batch.variant] * (1.0 - penalties(view, row).at(late, 1.0))
    return float(total)
