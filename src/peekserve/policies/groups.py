"""Which rows belong together, and in what order: priorities (SneakPeek, eqs. 12 and 14) and groups (5.2,
5.3.2)."""

import numpy as np

from peekserve.kernel import grouping, loops
from peekserve.policies.base import Floats
from peekserve.policies.placing import Indices, Items, Outlook


def log_priority(outlook: Outlook, tau_s: float) -> Floats:
    """f8[n]: ln of (1 + Var[accuracies of the lane's variants]) exp(-d / tau_s) (eq. 12), population
    variance.

    In log form, because exp(-d) of a far deadline is no number. A row that is overdue counts as due now, so
    that it does not push in ahead of those that can be saved.
    """
    return grouping.log_priority(outlook.accuracy, outlook.view.lane, outlook.lanes[0], outlook.due_s, tau_s)


def one_by_one(outlook: Outlook, urgency: Floats) -> Items:
    """An item for each open row, the largest `urgency` (f8[n]) first; ties in order of arrival."""
    rows = outlook.open[np.argsort(-urgency[outlook.open], kind="stable")]
    return Items(outlook.view.lane[rows].astype(np.int64), np.arange(len(rows) + 1), rows)


def families(outlook: Outlook) -> Indices:
    """i8[open rows]: rows with one number share a lane and the variants that they may use."""
    lane = outlook.view.lane[outlook.open].astype(np.int64)
    if outlook.free:
        return lane
    allowed = outlook.view.allowed[outlook.open]
    if np.array_equal(allowed, outlook.own[lane]):
        return lane
    masks = np.unique(np.packbits(allowed, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    return lane * (int(masks.max(initial=0)) + 1) + masks


def grouped(outlook: Outlook, keys: Indices, priority: Floats, *, most: int | None = None) -> Items:
    """An item for each distinct number in `keys` (i8[open rows]), by falling mean priority (eq. 14).

    `priority`: f8[n], logarithms; the mean is that of what they are logarithms of. `most`: a longer group is
    cut into pieces of that many rows or the lane's largest batch, each with a priority of its own.
    """
    return Items(*grouping.grouped(keys, *_open(outlook, priority), _longest(outlook, most)))


def _open(outlook: Outlook, priority: Floats) -> tuple[Floats, Indices, Indices]:
    """Of the open rows: priorities, which they are, their lanes."""
    rows = outlook.open
    return priority[rows], rows, outlook.view.lane[rows].astype(np.int64)


def _longest(outlook: Outlook, most: int | None) -> Indices:
    """i8[L]: the longest group of each lane."""
    if most is None:
        return np.full(len(outlook.view.lanes), outlook.view.size + 1, np.int64)
    longest: Indices = np.minimum(outlook.lanes[2].max(axis=1, initial=1), most)
    return longest


def parted(
    outlook: Outlook, whole: Indices, priority: Floats, made: loops.Problem, *, most: int | None = None
) -> tuple[Items, int] | None:
    """The items of the families in `whole` split by likely class, without parts for which being apart only costs
    batching, as the kernel's `grouping.agreeing` says; and how many parts there are. None where that divides no
    family."""
    likely = outlook.view.likely[outlook.open].astype(np.int64)
    own, longest = _open(outlook, priority), _longest(outlook, None)
    found = grouping.parted(made, whole, likely, *own, longest, _longest(outlook, most))
    return found and (Items(*found[0]), found[1])


def by_label(outlook: Outlook, whole: Indices) -> Indices:
    """i8[open rows]: the families in `whole` split by the class that a row most likely belongs to (5.3.2);
    rows with no such class are a part of their own."""
    likely = outlook.view.likely[outlook.open].astype(np.int64)
    return whole * (int(likely.max(initial=-1)) + 2) + likely + 1
