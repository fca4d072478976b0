"""Priorities and groups (SneakPeek, eqs. 12 and 14, sections 5.2 and 5.3.2), row by row.

What `policies/groups.py` hands out, as plain array code: at a hundred waiting rows, numpy's calls alone would take as
long as all the rest of a plan.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import cython
except ImportError:
    from peekserve.kernel import _shim as cython  # type: ignore[no-redef]

if cython.compiled:
    from cython.cimports.libc.math import exp, log, log1p, rint
else:
    from math import exp, isfinite, log, log1p

    from peekserve.kernel.penalty import _floats, _held, _ints

    def rint(value: float, /) -> float:
        return float(round(value)) if isfinite(value) else value


# Orders may not hang on the last bits of a logarithm, which differ between processors: 12 decimals.
DECIMALS = cython.declare(cython.double, 1e12)
# Far below any utility, and still a number when such are added up.
WORST = cython.declare(cython.double, -1e9)


def log_priority(accuracy: Any, lane: Any, variants: Any, due: Any, tau_s: float) -> npt.NDArray[np.float64]:
    """f8[n]: ln of (1 + Var[accuracies of the lane's variants]) exp(-d / tau_s) (eq. 12), population variance.

    `accuracy` f8[n, V]; `lane` i8[n]; `variants` i8[L], how many a lane has; `due` f8[n], seconds from now; a row that
    is overdue counts as due now.
    """
    accuracy_: cython.const[cython.double][:, ::1] = _held(accuracy, np.float64)
    lane_: cython.const[cython.longlong][::1] = _held(lane, np.int64)
    variants_: cython.const[cython.longlong][::1] = _held(variants, np.int64)
    due_: cython.const[cython.double][::1] = _held(due, np.float64)
    priority = np.empty(len(due))
    out: cython.double[::1] = priority
    row: cython.Py_ssize_t
    v: cython.Py_ssize_t
    many: cython.Py_ssize_t
    mean: cython.double
    apart: cython.double
    late: cython.double
    for row in range(due_.shape[0]):
        many = variants_[lane_[row]]
        mean = 0.0
        for v in range(many):
            mean += accuracy_[row, v]
        mean /= max(many, 1)
        apart = 0.0
        for v in range(many):
            apart += (accuracy_[row, v] - mean) * (accuracy_[row, v] - mean)
        late = due_[row] if due_[row] > 0.0 else 0.0
        out[row] = rint((log1p(apart / max(many, 1)) - late / tau_s) * DECIMALS) / DECIMALS
    return priority


def grouped(keys: Any, priority: Any, rows: Any, lane: Any, most: Any) -> tuple[Any, Any, Any]:
    """(lane i8[K], start i8[K + 1], rows i8[m]): a group for each distinct number in `keys`, by falling mean priority
    (eq. 14), the most urgent first.

    `keys`, `rows`, `lane` i8[m], `priority` f8[m], logarithms; the mean is that of what they are logarithms of. `most`
    i8[L], the longest group of a lane: what is longer is cut, each piece with a priority of its own.
    """
    key_: cython.const[cython.longlong][::1] = keys
    own: cython.const[cython.double][::1] = priority
    rows_: cython.const[cython.longlong][::1] = rows
    lane_: cython.const[cython.longlong][::1] = lane
    most_: cython.const[cython.longlong][::1] = most
    many: cython.Py_ssize_t = key_.shape[0]
    order: cython.const[cython.longlong][::1] = np.lexsort((-priority, keys)).astype(np.int64, copy=False)
    begins: cython.longlong[::1] = _ints(many + 1)
    count: cython.Py_ssize_t = 0
    i: cython.Py_ssize_t
    j: cython.Py_ssize_t
    k: cython.Py_ssize_t
    to: cython.Py_ssize_t = 0
    top: cython.double
    total: cython.double
    for i in range(many):
        if i == 0 or key_[order[i]] != key_[order[i - 1]] or i - begins[count - 1] >= most_[lane_[order[i]]]:
            begins[count] = i
            count += 1
    begins[count] = many
    means = np.empty(count)
    mean: cython.double[::1] = means
    for k in range(count):
        top = own[order[begins[k]]]
        total = 0.0
        for i in range(begins[k], begins[k + 1]):
            total += exp(own[order[i]] - top)
        mean[k] = -rint((top + log(total / (begins[k + 1] - begins[k]))) * DECIMALS) / DECIMALS
    ranked: cython.const[cython.longlong][::1] = np.argsort(means, kind="stable").astype(np.int64, copy=False)
    of_group, start, sorted_rows = (
        np.empty(count, np.int64),
        np.zeros(count + 1, np.int64),
        np.empty(many, np.int64),
    )
    of_group_: cython.longlong[::1] = of_group
    start_: cython.longlong[::1] = start
    sorted_: cython.longlong[::1] = sorted_rows
    for j in range(count):
        k = ranked[j]
        of_group_[j] = lane_[order[begins[k]]]
        for i in range(begins[k], begins[k + 1]):
            sorted_[to] = rows_[order[i]]
            to += 1
        start_[j + 1] = to
    return of_group, start, sorted_rows


def bunched(keys: Any, urgency: Any, most: int) -> tuple[Any, Any]:
    """(order i8[m], ends i8[U]): by rising key and rising `urgency` (i8[m], f8[m]), and where in that order the bunches
    end: each of one key and of no more than `most`."""
    order = np.lexsort((urgency, keys)).astype(np.int64, copy=False)
    order_: cython.const[cython.longlong][::1] = order
    key_: cython.const[cython.longlong][::1] = keys
    many: cython.Py_ssize_t = order_.shape[0]
    ends = np.empty(many, np.int64)
    ends_: cython.longlong[::1] = ends
    count: cython.Py_ssize_t = 0
    size: cython.Py_ssize_t = 0
    longest: cython.Py_ssize_t = most
    i: cython.Py_ssize_t
    for i in range(many):
        size += 1
        if i + 1 == many or size == longest or key_[order_[i]] != key_[order_[i + 1]]:
            ends_[count] = i + 1
            count += 1
            size = 0
    return order, ends[:count]


def agreeing(
    made: Any, whole: Any, parts: Any, priority: Any, rows: Any, lane: Any, most: Any
) -> npt.NDArray[np.int64]:
    """i8[m]: `parts` with those put together that would be served by the same variant anyway.

    As for `grouped`; `whole` i8[m], the families in which the parts lie; `made`: the loops.Problem whose rows they are.
    The variant of a part is the one that serves it best if it comes first; but the one that serves its whole family
    best, if that is no worse.
    """
    whole_: cython.const[cython.longlong][::1] = whole
    parts_: cython.const[cython.longlong][::1] = parts
    many: cython.Py_ssize_t = parts_.shape[0]
    items = grouped(parts, priority, rows, lane, most)
    first: cython.const[cython.longlong][::1] = items[1]
    sorted_: cython.const[cython.longlong][::1] = items[2]
    made.take(items)
    values = made.alone()
    value: cython.double[:, ::1] = values
    width: cython.Py_ssize_t = value.shape[1]
    count: cython.Py_ssize_t = value.shape[0]
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t
    v: cython.Py_ssize_t
    best: cython.Py_ssize_t
    family: cython.Py_ssize_t
    top_part: cython.longlong = 0
    top_family: cython.longlong = 0
    top_row: cython.longlong = 0
    rows_: cython.const[cython.longlong][::1] = rows
    for i in range(many):
        top_part = max(top_part, parts_[i])
        top_family = max(top_family, whole_[i])
        top_row = max(top_row, rows_[i])
    at: cython.longlong[::1] = _ints(top_row + 1)
    item_of: cython.longlong[::1] = _ints(top_part + 1)
    family_of: cython.longlong[::1] = _ints(top_part + 1)
    choice: cython.longlong[::1] = _ints(top_part + 1)
    common: cython.longlong[::1] = _ints(top_family + 1)
    together: cython.double[:, ::1] = _floats(top_family + 1, width)
    merged = np.empty(many, np.int64)
    out: cython.longlong[::1] = merged
    for i in range(many):
        at[rows_[i]] = i
    for k in range(top_part + 1):
        item_of[k] = -1
    for k in range(count):
        i = at[sorted_[first[k]]]
        item_of[parts_[i]] = k
        family_of[parts_[i]] = whole_[i]
        for v in range(width):
            if value[k, v] < 0.0:
                value[k, v] = WORST
    # In rising order of parts: a sum's last bits hang on the order.
    for i in range(top_part + 1):
        if item_of[i] >= 0:
            for v in range(width):
                together[family_of[i], v] += value[item_of[i], v]
    for family in range(top_family + 1):
        for v in range(1, width):
            if together[family, v] > together[family, common[family]]:
                common[family] = v
    for i in range(top_part + 1):
        if item_of[i] < 0:
            continue
        k = item_of[i]
        best = 0
        for v in range(1, width):
            if value[k, v] > value[k, best]:
                best = v
        choice[i] = best if value[k, best] > value[k, common[family_of[i]]] else common[family_of[i]]
    for i in range(many):
        out[i] = whole_[i] * width + choice[parts_[i]]
    return merged
