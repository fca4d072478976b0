"""What a plan is worth, whoever made it: its batches carried out on paper, one after another."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from peekserve.domain.messages import Batch, Plan
from peekserve.domain.utility import PenaltyTables
from peekserve.errors import InvariantBroken
from peekserve.kernel import loops
from peekserve.policies.base import Floats, Ints, Switches, View, WorkerView


def evaluate(view: View, plan: Plan, switches: Switches) -> tuple[Floats, Floats]:
    """(utility, finish), f8[n] each: what every row is believed to be worth under this plan, and when it ends.

    Finish is in seconds from now; nan for a row that gets no answer, whose utility is 0. The belief is the
    row's own with `aware`, else the profile's. The peek's answers count at once and for their profiled
    accuracy. The other switches say what a policy may do and change nothing here. Costs and residency are
    those of `kernel.loops`: all rows of a batch end together, least recently used weights make room. Raises
    InvariantBroken for a plan that cannot be carried out: a row in two places, a variant that a row may not
    use, more rows or bytes than fit.
    """
    accuracy = believed(view, switches)
    utility, finish = np.zeros(view.size), np.full(view.size, np.nan)
    kind, width, due = view.penalty.tolist(), view.width_s.tolist(), (view.due_at - view.now).tolist()
    tables = (view.tables.x, view.tables.p, view.tables.start.astype(np.int64))
    _check_rows(view, plan)
    for row in plan.instant:
        if not switches.short_circuit or np.isnan(view.instant[row]):
            raise InvariantBroken(f"row {row} is answered by a peek that has no answer for it")
        finish[row] = 0.0
        utility[row] = view.instant[row] * (1.0 - loops.penalty(kind[row], width[row], -due[row], *tables))
    free = [worker.free_at - view.now for worker in view.workers]
    held = [list(worker.resident) for worker in view.workers]
    for batch in plan.batches:
        w, worker, lane = batch.worker, view.workers[batch.worker], view.lanes[batch.lane]
        _check_batch(view, worker, batch)
        free[w] += loaded(worker, held[w], int(lane.weights[batch.variant]))
        free[w] += float(worker.latency_s[batch.lane][batch.variant, len(batch.rows)])
        for row in batch.rows:
            lost = loops.penalty(kind[row], width[row], free[w] - due[row], *tables)
            finish[row], utility[row] = free[w], accuracy[row, batch.variant] * (1.0 - lost)
    return utility, finish


def worth_at(
    value: Floats, finish_at: Floats, due_at: Floats, kind: Ints, width: Floats, tables: PenaltyTables
) -> Floats:
    """f8[n]: what is left of answers worth `value` that come at these instants. `kind`, `width`: as a view's `penalty`
    and `width_s`."""
    flat = (tables.x, tables.p, tables.start.astype(np.int64))
    kinds, widths = kind.astype(np.int64), np.ascontiguousarray(width)
    return np.asarray(loops.instant_worth(due_at - finish_at, kinds, widths, value, *flat))


def believed(view: View, switches: Switches) -> Floats:
    """f8[n, V]: the accuracies that a policy with these switches reads."""
    if switches.aware:
        return view.accuracy
    accuracy = np.zeros(view.accuracy.shape)
    for i, lane in enumerate(view.lanes):
        accuracy[view.lane == i, : len(lane.variants)] = lane.profiled
    return accuracy


def loaded(worker: WorkerView, held: list[int], weights: int) -> float:
    """Seconds until these weights are resident; `held` (least recently used first) is brought up to date."""
    load_s = 0.0
    if weights in held:
        held.remove(weights)
    else:
        load_s = float(worker.load_s[weights])
        while held and float(worker.bytes[held].sum() + worker.bytes[weights]) > worker.budget:
            held.pop(0)
    held.append(weights)
    return load_s


def _check_rows(view: View, plan: Plan) -> None:
    groups: list[Sequence[int]] = [*(batch.rows for batch in plan.batches), plan.instant, plan.refuse]
    times = Counter(row for rows in groups for row in rows)
    twice = sorted(row for row, many in times.items() if many > 1)
    strange = sorted(row for row in times if not 0 <= row < view.size)
    if twice or strange:
        raise InvariantBroken(f"a plan of {view.size} rows has rows {twice} twice and rows {strange} besides")


def _check_batch(view: View, worker: WorkerView, batch: Batch) -> None:
    lane = view.lanes[batch.lane]
    name = f"{lane.name}/{lane.variants[batch.variant]}"
    if not 1 <= len(batch.rows) <= int(lane.max_batch[batch.variant]):
        raise InvariantBroken(f"a batch of {len(batch.rows)} rows of {name}")
    wrong = [r for r in batch.rows if view.lane[r] != batch.lane or not view.allowed[r, batch.variant]]
    if wrong:
        raise InvariantBroken(f"rows {wrong} may not use {name}")
    size = float(worker.bytes[lane.weights[batch.variant]])
    if size > worker.budget:
        raise InvariantBroken(f"{name} needs {size:.0f} bytes of the {worker.budget:.0f} on {worker.name}")
