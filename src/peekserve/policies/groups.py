"""Which rows belong together, and in what order: priorities (SneakPeek, eqs. 12 and 14) and groups (5.2,
5.3.2)."""

import numpy as np

from peekserve.kernel import loops
from peekserve.policies.base import Bools, Floats
from peekserve.policies.placing import DECIMALS, Indices, Items, Outlook


def log_priority(outlook: Outlook, tau_s: float) -> Floats:
    """f8[n]: ln of (1 + Var[accuracies of the lane's variants]) exp(-d / tau_s) (eq. 12), population
    variance.

    In log form, because exp(-d) of a far deadline is no number. A row that is overdue counts as due now, so
    that it does not push in ahead of those that can be saved.
    """
    own = outlook.own[outlook.view.lane]
    counts = np.maximum(outlook.lanes[0], 1)[outlook.view.lane]
    # A running sum adds column after column: numpy's other sums add in an order that depends on the processor.
    mean: Floats = np.cumsum(np.where(own, outlook.accuracy, 0.0), axis=1)[:, -1] / counts
    apart = np.square(outlook.accuracy - mean[:, None])
    variance: Floats = np.cumsum(np.where(own, apart, 0.0), axis=1)[:, -1] / counts
    priority: Floats = np.log1p(variance) - np.maximum(outlook.due_s, 0.0) / tau_s
    return np.round(priority, DECIMALS)


def one_by_one(outlook: Outlook, urgency: Floats) -> Items:
    """An item for each open row, the largest `urgency` (f8[n]) first; ties in order of arrival."""
    rows = outlook.open[np.argsort(-urgency[outlook.open], kind="stable")]
    return Items(outlook.view.lane[rows].astype(np.int64), np.arange(len(rows) + 1), rows)


def families(outlook: Outlook) -> Indices:
    """i8[open rows]: rows with one number share a lane and the variants that they may use."""
    lane = outlook.view.lane[outlook.open].astype(np.int64)
    allowed = outlook.view.allowed[outlook.open]
    if allowed.all() or np.array_equal(allowed, outlook.own[lane]):
        return lane
    masks = np.unique(np.packbits(allowed, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    return lane * (int(masks.max(initial=0)) + 1) + masks


def grouped(outlook: Outlook, keys: Indices, priority: Floats, *, most: int | None = None) -> Items:
    """An item for each distinct number in `keys` (i8[open rows]), by falling mean priority (eq. 14).

    `priority`: f8[n], logarithms; the mean is that of what they are logarithms of. `most`: a longer group is
    cut into pieces of that many rows or the lane's largest batch, each with a priority of its own.
    """
    if not len(keys):
        return Items(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64))
    own = priority[outlook.open]
    order = np.lexsort((-own, keys))
    keys, own, rows = keys[order], own[order], outlook.open[order]
    lane = outlook.view.lane[rows]
    begins = np.flatnonzero(_first(keys))
    if most is not None:
        largest = outlook.lanes[2].max(axis=1, initial=1)
        at = np.arange(len(rows)) - np.repeat(begins, _sizes(begins, len(rows)))
        begins = np.flatnonzero(at % np.minimum(largest, most)[lane] == 0)
    sizes = _sizes(begins, len(rows))
    top = np.maximum.reduceat(own, begins)
    mean = top + np.log(np.add.reduceat(np.exp(own - np.repeat(top, sizes)), begins) / sizes)
    by_rank = np.argsort(-np.round(mean, DECIMALS), kind="stable")
    rank = np.empty_like(by_rank)
    rank[by_rank] = np.arange(len(by_rank))
    rows = rows[np.argsort(np.repeat(rank, sizes), kind="stable")]
    start = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes[by_rank], out=start[1:])
    return Items(lane[begins[by_rank]].astype(np.int64), start, rows)


def _first(keys: Indices) -> Bools:
    """bool[n]: where a number in sorted `keys` stands for the first time."""
    first = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return first


def _sizes(begins: Indices, end: int) -> Indices:
    sizes = np.empty_like(begins)
    np.subtract(begins[1:], begins[:-1], out=sizes[:-1])
    sizes[-1] = end - begins[-1]
    return sizes


def by_label(outlook: Outlook, whole: Indices) -> Indices:
    """i8[open rows]: the families in `whole` split by the class that a row most likely belongs to (5.3.2);
    rows with no such class are a part of their own."""
    likely = outlook.view.likely[outlook.open].astype(np.int64)
    return whole * (int(likely.max(initial=-1)) + 2) + likely + 1


def numbered(keys: Indices) -> Indices:
    """i8[n]: the same numbers without gaps, from 0 in rising order."""
    if not len(keys):
        return keys
    number: Indices = (np.cumsum(np.bincount(keys) > 0) - 1)[keys]
    return number


def differ(parts: Indices, whole: Indices) -> bool:
    """Do these parts, which lie inside families, divide any of them?"""
    return len(parts) > 0 and np.count_nonzero(np.bincount(parts)) != np.count_nonzero(np.bincount(whole))


def agreeing(
    outlook: Outlook, whole: Indices, parts: Indices, priority: Floats, made: loops.Problem
) -> Indices:
    """i8[open rows]: `parts` (i8[open rows]) with those put together that would be served by the same variant
    anyway, for which being apart only costs batching. `made`: the kernel's form of the outlook, of any items.

    The variant of a part is the one that serves it best if it comes first; but the one that serves its whole
    family best, if that is no worse.
    """
    if not len(parts):
        return parts
    part_of_row, family_of_row = numbered(parts), numbered(whole)
    many = int(part_of_row.max()) + 1
    family_of_part = np.zeros(many, np.int64)
    family_of_part[part_of_row] = family_of_row
    items = grouped(outlook, parts, priority)
    made.take((items.lane, items.start, items.rows))
    alone = made.alone()
    number = np.zeros(outlook.view.size, np.int64)
    number[outlook.open] = part_of_row
    value = np.empty_like(alone)
    # Far below any utility, and still a number when such are added up.
    value[number[items.rows[items.start[:-1]]]] = np.where(alone < 0.0, -1e9, alone)
    together = np.zeros((int(family_of_part.max()) + 1, value.shape[1]))
    np.add.at(together, family_of_part, value)
    common = together.argmax(axis=1)[family_of_part]
    best = value.argmax(axis=1)
    here = np.arange(many)
    choice = np.where(value[here, best] > value[here, common], best, common)
    merged: Indices = (family_of_part * value.shape[1] + choice)[part_of_row]
    return merged
