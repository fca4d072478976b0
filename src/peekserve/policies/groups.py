"""Which rows belong together, and in what order: priorities (SneakPeek, eqs. 12 and 14) and groups (5.2, 5.3.2)."""

import numpy as np

from peekserve.policies.base import Floats
from peekserve.policies.placing import DECIMALS, Indices, Items, Outlook, problem


def log_priority(outlook: Outlook, tau_s: float) -> Floats:
    """f8[n]: ln of (1 + Var[accuracies of the lane's variants]) exp(-d / tau_s) (eq. 12), population variance.

    In log form, because exp(-d) of a far deadline is no number. A row that is overdue counts as due now, so that
    it does not push in ahead of those that can be saved.
    """
    own = outlook.own[outlook.view.lane]
    counts = np.maximum(own.sum(axis=1), 1)
    mean = np.zeros(outlook.view.size)
    # Column by column: numpy's own sums along a row add in an order that depends on the processor.
    for v in range(own.shape[1]):
        mean += np.where(own[:, v], outlook.accuracy[:, v], 0.0)
    mean /= counts
    variance = np.zeros(outlook.view.size)
    for v in range(own.shape[1]):
        variance += np.where(own[:, v], np.square(outlook.accuracy[:, v] - mean), 0.0)
    variance /= counts
    return np.round(np.log1p(variance) - np.maximum(outlook.due_s, 0.0) / tau_s, DECIMALS)


def one_by_one(outlook: Outlook, urgency: Floats) -> Items:
    """An item for each open row, the largest `urgency` (f8[n]) first; ties in order of arrival."""
    rows = outlook.open[np.argsort(-urgency[outlook.open], kind="stable")]
    return Items(outlook.view.lane[rows].astype(np.int64), np.arange(len(rows) + 1), rows)


def families(outlook: Outlook) -> Indices:
    """i8[open rows]: rows with one number share a lane and the variants that they may use."""
    lane = outlook.view.lane[outlook.open].astype(np.int64)
    allowed = outlook.view.allowed[outlook.open]
    if np.array_equal(allowed, outlook.own[lane]) or allowed.all():
        return lane
    masks = np.unique(np.packbits(allowed, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    return lane * (int(masks.max(initial=0)) + 1) + masks


def grouped(outlook: Outlook, keys: Indices, priority: Floats, *, most: int | None = None) -> Items:
    """An item for each distinct number in `keys` (i8[open rows]), by falling mean priority (eq. 14).

    `priority`: f8[n], logarithms; the mean is that of what they are logarithms of. `most`: a longer group is cut
    into pieces of that many rows or the lane's largest batch, each with a priority of its own.
    """
    if not len(keys):
        return Items(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64))
    own = priority[outlook.open]
    order = np.lexsort((-own, keys))
    keys, own, rows = keys[order], own[order], outlook.open[order]
    lane = outlook.view.lane[rows]
    begins = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    if most is not None:
        largest = np.array([view.max_batch.max(initial=1) for view in outlook.view.lanes])
        at = np.arange(len(rows)) - np.repeat(begins, np.diff(np.r_[begins, len(rows)]))
        begins = np.flatnonzero(at % np.minimum(largest, most)[lane] == 0)
    sizes = np.diff(np.r_[begins, len(rows)])
    top = np.maximum.reduceat(own, begins)
    mean = top + np.log(np.add.reduceat(np.exp(own - np.repeat(top, sizes)), begins) / sizes)
    by_rank = np.argsort(-np.round(mean, DECIMALS), kind="stable")
    rank = np.empty_like(by_rank)
    rank[by_rank] = np.arange(len(by_rank))
    rows = rows[np.argsort(np.repeat(rank, sizes), kind="stable")]
    start = np.r_[0, np.cumsum(sizes[by_rank])]
    return Items(lane[begins[by_rank]].astype(np.int64), start, rows)


def by_label(outlook: Outlook, priority: Floats, *, rescue: bool, min_gain: float) -> Indices:
    """i8[open rows]: keys of `grouped` that split a family by the class that its rows most likely belong to (5.3.2).

    A part stays apart only for a variant of its own (papers' notes: a part served by the same variant as its
    brothers would lose batching for nothing): one that is worth more than `min_gain` a row above the variant that
    serves the whole family best, each tried as if it were the first to run. Parts that agree are one group again.
    Below zero, `min_gain` keeps every part apart.
    """
    family = families(outlook)
    likely = outlook.view.likely[outlook.open].astype(np.int64)
    keys = family * (int(likely.max(initial=-1)) + 2) + likely + 1
    if min_gain < 0.0 or not len(keys):
        return keys
    parts, part_of_row = np.unique(keys, return_inverse=True)
    where = np.zeros(outlook.view.size, np.int64)
    where[outlook.open] = part_of_row
    items = grouped(outlook, keys, priority)
    alone = problem(outlook, items, rescue=rescue, by_accuracy=False, search_items=0).alone()
    part = where[items.rows[items.start[:-1]]]
    value = np.empty_like(alone)
    value[part] = np.where(alone < 0.0, -np.inf, alone)
    sizes = np.bincount(part_of_row)
    family_of_part = np.zeros(len(parts), np.int64)
    family_of_part[part_of_row] = family
    family_of_part = np.unique(family_of_part, return_inverse=True)[1]
    whole = np.zeros((int(family_of_part.max()) + 1, value.shape[1]))
    np.add.at(whole, family_of_part, value)
    common = whole.argmax(axis=1)[family_of_part]
    choice = value.argmax(axis=1)
    here = np.arange(len(parts))
    best, shared = value[here, choice], value[here, common]
    with np.errstate(invalid="ignore"):  # a family that nothing can serve: minus infinity on both sides
        apart = best - shared > min_gain * sizes
    choice = np.where(apart, choice, common)
    merged: Indices = (family_of_part * value.shape[1] + choice)[part_of_row]
    return merged
