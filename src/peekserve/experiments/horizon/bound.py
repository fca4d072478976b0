"""What no plan for a window can be worth more than: for windows too large for the exact solver.

Take away from the problem all that makes it hard, and keep the machine's time. In any plan for one worker, the batches
that end by an instant t fill no more time than there is until t. If a variant runs b of the lane's n rows by then, that
takes at least once + m b seconds: latency is at least a + m b', for each batch, and weights that are not resident at
first are loaded once at least. As b <= n, that is at least (m + once / n) b, too. So cut time at t_1 < ... < t_K, let
each row choose a variant and the interval in which it ends, at the worth of that interval's beginning, and ask only
that by every cut the time suffices: counted as (m + once / n) b up to the cut at which the variant's once is charged in
full, and as once + m b from there on. Those are two, the end of the first half of the cuts and the last; a variant is
charged at that of the half in which it first runs. A row that ends after the last cut takes no time at all. The best
such choice is worth at least the best plan.

Put a price on each cut's time instead of the constraint, and every row chooses for itself, and every lane which
variants it uses, and from which half on (all ways are tried). For any prices, the sum of what they get less what they
pay, plus the price of the time that there is, is an upper bound again (Lagrange). It is convex in the prices; steps
along its subgradient lower it, in Polyak's size, which a plan that is known gives. Prices of nothing are the first
bound: each row's best, alone on the machine.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from peekserve.domain.utility import PenaltyKind
from peekserve.errors import InvalidData
from peekserve.kernel import loops
from peekserve.policies.base import Switches, View
from peekserve.policies.placing import Outlook, look

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CUTS, STEPS, PATIENCE = 40, 150, 8
HALVES = 2
# A sigmoid penalty has nearly all after so many of its widths; what remains is counted as if it took no time.
TAIL = 6.0


@dataclass(frozen=True, slots=True)
class _Lane:
    """n rows, V variants, K cuts. `gain`: float64 [n, V, K], at the beginning of each interval; -inf where the row
    cannot end by the interval's end. `late`: float64 [n], ending after them all. `each_s`, `once_s`, `spread_s`:
    float64 [V], m, once and m + once / n. `ways`: int64 [W, V], the half in which each variant first runs, or HALVES
    for never."""

    gain: Floats
    late: Floats
    each_s: Floats
    once_s: Floats
    spread_s: Floats
    ways: Ints


def above(view: View, switches: Switches, known: float = 0.0, steps: int = STEPS) -> float:
    """An upper bound on the believed utility of every plan for this view, a sum over rows. `known`: what some plan is
    worth. With no `steps` each row has its best alone. Raises InvalidData for more than one worker."""
    if len(view.workers) != 1:
        raise InvalidData(f"the bound is for one worker, not for {len(view.workers)}")
    outlook = look(view, switches)
    free_s = view.workers[0].free_at - view.now
    least = float(np.maximum(outlook.worth, 0.0).sum())
    cuts = _cuts(outlook, free_s)
    lanes = [
        _lane(outlook, index, rows, cuts)
        for index in range(len(view.lanes))
        if len(rows := outlook.open[view.lane[outlook.open] == index])
    ]
    room = np.maximum(cuts - free_s, 0.0)
    price = np.zeros(len(cuts))
    lowest, at, share = float("inf"), 0, 1.0
    for step in range(steps + 1):
        value, used = least + float(price @ room), np.zeros(len(cuts))
        for lane in lanes:
            gained, taken = _chosen(lane, price)
            value += gained
            used += taken
        if value < lowest * (1.0 - 1e-6):
            at = step
        elif step - at > PATIENCE:
            at, share = step, share / 2.0  # the least is above what is known: steps for that are too long
        lowest = min(lowest, value)
        slope = room - used
        # Where nothing is over-used and priced, no price can do better.
        slope = np.where((price <= 0.0) & (slope > 0.0), 0.0, slope)
        size = float(slope @ slope)
        if size <= 0.0 or value <= known:
            break
        price = np.maximum(price - share * (value - known) / size * slope, 0.0)
    return lowest


def _cuts(outlook: Outlook, free_s: float) -> Floats:
    """float64 [K]: instants, from when the first row could end to when no row has anything to gain or nearly so."""
    due, kind, width = outlook.due_s, outlook.view.penalty, outlook.view.width_s
    tail = np.where(
        kind == PenaltyKind.LINEAR, width, np.where(kind == PenaltyKind.SIGMOID, TAIL * width, 0.0)
    )
    if (kind == PenaltyKind.TABLE).any():
        tail = np.where(kind == PenaltyKind.TABLE, outlook.view.tables.x.max(), tail)
    last = max(float((due + tail).max(initial=0.0)), free_s) + 1e-6
    return np.linspace(free_s, last, CUTS + 1)[1:]


def _lane(outlook: Outlook, index: int, rows: Ints, cuts: Floats) -> _Lane:
    view, worker = outlook.view, outlook.view.workers[0]
    lane = view.lanes[index]
    table, many = worker.latency_s[index], len(lane.variants)
    shared = (
        np.bincount(np.concatenate([one.weights for one in view.lanes]), minlength=len(worker.load_s)) > 1
    )
    each_s, once_s, spread_s, first_s = (np.zeros(many) for _ in range(4))
    for v, weights in enumerate(lane.weights.tolist()):
        batch = np.arange(1, min(int(lane.max_batch[v]), table.shape[1] - 1) + 1)
        seconds = table[v, batch]
        load_s = 0.0 if weights in worker.resident else float(worker.load_s[weights])
        each_s[v] = (seconds[-1] - seconds[0]) / (len(batch) - 1) if len(batch) > 1 else seconds[0]
        once_s[v] = float((seconds - each_s[v] * batch).min())
        if once_s[v] < 0.0:
            each_s[v], once_s[v] = float((seconds / batch).min()), 0.0
        first_s[v] = worker.free_at - view.now + load_s + seconds[0]
        at_most = min(len(rows), len(batch))
        spread_s[v] = each_s[v] + once_s[v] / at_most
        if not shared[weights]:  # else they may have been loaded for another variant
            once_s[v] += load_s
            spread_s[v] += load_s / len(rows)
        if worker.bytes[weights] > worker.budget:
            first_s[v] = np.inf
    begins = np.concatenate([[-np.inf], cuts])
    finish = np.maximum(first_s[:, None], begins)  # [V, K + 1]
    gain = _gain(outlook, rows, finish)
    gain[:, :, :-1][:, first_s[:, None] > cuts] = -np.inf
    gain[~view.allowed[rows][:, :many]] = -np.inf
    ways = np.array(list(product(range(HALVES + 1), repeat=many)), np.int64)
    late = np.maximum(gain[:, :, -1].max(axis=1), 0.0)
    return _Lane(gain[:, :, :-1], late, each_s, once_s, spread_s, ways)


def _gain(outlook: Outlook, rows: Ints, finish: Floats) -> Floats:
    """float64 [n, V, K]: what rows gain beyond what they have without a place, by variant, at these finishes."""
    view, shape = outlook.view, (len(rows), *finish.shape)
    slack = outlook.due_s[rows][:, None, None] - np.where(np.isfinite(finish), finish, 1e9)
    wide = np.broadcast_to(outlook.accuracy[rows][:, : finish.shape[0], None], shape)
    kind = np.broadcast_to(view.penalty[rows].astype(np.int64)[:, None, None], shape)
    width = np.broadcast_to(view.width_s[rows][:, None, None], shape)
    tables = (view.tables.x, view.tables.p, view.tables.start.astype(np.int64))
    worth = loops.instant_worth(slack.ravel(), kind.ravel(), width.ravel(), wide.ravel(), *tables)
    gain: Floats = worth.reshape(shape) - np.maximum(outlook.worth[rows], 0.0)[:, None, None]
    return gain


def _chosen(lane: _Lane, price: Floats) -> tuple[float, Floats]:
    """What the rows of a lane choose at these prices: what they gain less what they pay, and the time that they use by
    each cut, float64 [K]."""
    n, many, cuts = lane.gain.shape
    until = np.cumsum(price[::-1])[::-1]  # who ends by a cut is there at all that follow
    best, when = np.full((n, many, HALVES + 1), -np.inf), np.zeros((n, many, HALVES + 1), np.int64)
    once = np.zeros((many, HALVES + 1))
    for half, (begin, end) in enumerate(_halves(cuts)):
        # Dearer up to the cut at which the once is charged.
        before = np.maximum(until - until[end], 0.0)
        pays = lane.each_s[:, None] * until[begin:] + (lane.spread_s - lane.each_s)[:, None] * before[begin:]
        net = lane.gain[:, :, begin:] - pays
        when[:, :, half] = begin + net.argmax(axis=2)
        best[:, :, half] = net.max(axis=2)
        once[:, half] = lane.once_s * until[end]
    got = np.broadcast_to(lane.late[:, None], (n, len(lane.ways)))
    charged = np.zeros(len(lane.ways))
    for v in range(many):
        got = np.maximum(got, best[:, v, lane.ways[:, v]])
        charged += once[v, lane.ways[:, v]]
    totals = got.sum(axis=0) - charged
    chosen = int(totals.argmax())
    return float(totals[chosen]), _used(lane, lane.ways[chosen], best, when)


def _used(lane: _Lane, way: Ints, best: Floats, when: Ints) -> Floats:
    _, many, cuts = lane.gain.shape
    offered = np.stack([best[:, v, way[v]] for v in range(many)], axis=1)
    which = offered.argmax(axis=1)
    used = np.zeros(cuts)
    for v, half in enumerate(way.tolist()):
        if half == HALVES:
            continue
        end = _halves(cuts)[half][1]
        rows = np.flatnonzero((which == v) & (offered[:, v] > lane.late))
        by = np.cumsum(np.bincount(when[rows, v, half], minlength=cuts))
        used[:end] += lane.spread_s[v] * by[:end]
        used[end:] += lane.each_s[v] * by[end:] + lane.once_s[v]
    return used


def _halves(cuts: int) -> tuple[tuple[int, int], ...]:
    """(the first cut, the cut at which a variant that first runs in this half is charged)."""
    return (0, cuts // 2 - 1), (cuts // 2, cuts - 1)
