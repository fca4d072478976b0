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

    from peekserve.kernel.penalty import CONSTANT, _floats, _held, _ints, _penalty

    def rint(value: float, /) -> float:
        return float(round(value)) if isfinite(value) else value


# Orders may not hang on the last bits of a logarithm, which differ between processors: 12 decimals.
DECIMALS = cython.declare(cython.double, 1e12)
# Far below any utility, and still a number when such are added up.
WORST = cython.declare(cython.double, -1e9)


def looked(
    now: float, rows: Any, ground: Any, workers: Any, tables: Any, drop: bool, short_circuit: bool
) -> tuple[Any, ...]:
    """What of a view's rows has to be planned, for `policies/placing.py`, which says what it means: (due_s f8[n], kind
    i8[n], worth f8[n], whether every row may use all that its lane has, the rows to plan, those that the peek answers
    and those to refuse i8[:]).

    `rows`: (due_at f8[n], kind i4[n], width f8[n], instant f8[n], lane i4[n], allowed u1[n, V]). `ground`: (own u1[L,
    V], weights i8[L, V], first_s, load_s f8[W, L, V]). `workers`: (free_s f8[W], resident i8[W, M], residents i8[W]).
    """
    due_at: cython.const[cython.double][::1] = rows[0]
    kind_: cython.const[cython.int][::1] = rows[1]
    width: cython.const[cython.double][::1] = rows[2]
    instant: cython.const[cython.double][::1] = rows[3]
    lane: cython.const[cython.int][::1] = rows[4]
    allowed: cython.const[cython.uchar][:, ::1] = rows[5]
    own: cython.const[cython.uchar][:, ::1] = ground[0]
    weights: cython.const[cython.longlong][:, ::1] = ground[1]
    first_s: cython.const[cython.double][:, :, ::1] = ground[2]
    load_s: cython.const[cython.double][:, :, ::1] = ground[3]
    free_s: cython.const[cython.double][::1] = workers[0]
    resident: cython.const[cython.longlong][:, ::1] = workers[1]
    residents: cython.const[cython.longlong][::1] = workers[2]
    x: cython.const[cython.double][::1] = tables[0]
    p: cython.const[cython.double][::1] = tables[1]
    start: cython.const[cython.longlong][::1] = tables[2]
    many: cython.Py_ssize_t = due_at.shape[0]
    wide: cython.Py_ssize_t = own.shape[1]
    begin: cython.double = now
    drops: cython.bint = drop
    cuts: cython.bint = short_circuit
    reals = np.empty((2, many))
    kinds = np.empty(many, np.int64)
    lists = np.empty((3, many), np.int64)
    due: cython.double[::1] = reals[0]
    worth: cython.double[::1] = reals[1]
    kind: cython.longlong[::1] = kinds
    of: cython.longlong[:, ::1] = lists
    soonest: cython.double[:, ::1] = _floats(own.shape[0], max(wide, 1))
    quickest: cython.double[::1] = _floats(own.shape[0])
    opened: cython.Py_ssize_t = 0
    saved: cython.Py_ssize_t = 0
    refused: cython.Py_ssize_t = 0
    free: cython.bint = True
    i: cython.Py_ssize_t
    j: cython.Py_ssize_t
    v: cython.Py_ssize_t
    w: cython.Py_ssize_t
    load: cython.double
    finish: cython.double
    for i in range(own.shape[0]):
        quickest[i] = 1e400
        for v in range(wide):
            soonest[i, v] = 1e400
            for w in range(free_s.shape[0]):
                load = load_s[w, i, v]
                for j in range(residents[w]):
                    if resident[w, j] == weights[i, v]:
                        load = 0.0
                finish = free_s[w] + load + first_s[w, i, v]
                if finish < soonest[i, v]:
                    soonest[i, v] = finish
            if soonest[i, v] < quickest[i]:
                quickest[i] = soonest[i, v]
    for i in range(many):
        due[i] = due_at[i] - begin
        kind[i] = kind_[i]
        worth[i] = -1.0
        if cuts and instant[i] >= 0.0:
            worth[i] = instant[i] * (1.0 - _penalty(kind[i], width[i], -due[i], x, p, start))
        finish = quickest[lane[i]]
        for v in range(wide):
            if allowed[i, v] != own[lane[i], v]:
                free = False
                finish = 1e400
        if finish == 1e400:
            for v in range(wide):
                if allowed[i, v] and soonest[lane[i], v] < finish:
                    finish = soonest[lane[i], v]
        if drops and finish > due[i] and (kind[i] != CONSTANT or finish == 1e400):
            if worth[i] > 0.0:
                of[1, saved] = i
                saved += 1
            else:
                of[2, refused] = i
                refused += 1
        else:
            of[0, opened] = i
            opened += 1
    return reals[0], kinds, reals[1], free, lists[0, :opened], lists[1, :saved], lists[2, :refused]


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


def _by_key(keys: Any, order: Any) -> npt.NDArray[np.int64]:
    """i8[m]: `order` i8[m] by rising `keys` i8[m], 0 or more; those of one key as they come."""
    key: cython.const[cython.longlong][::1] = keys
    old: cython.const[cython.longlong][::1] = order.astype(np.int64, copy=False)
    many: cython.Py_ssize_t = key.shape[0]
    top: cython.longlong = -1
    i: cython.Py_ssize_t
    for i in range(many):
        top = max(top, key[i])
    begins: cython.longlong[::1] = _ints(top + 2)
    sorted_rows = np.empty(many, np.int64)
    out: cython.longlong[::1] = sorted_rows
    for i in range(many):
        begins[key[i] + 1] += 1
    for i in range(top + 1):
        begins[i + 1] += begins[i]
    for i in range(many):
        out[begins[key[old[i]]]] = old[i]
        begins[key[old[i]]] += 1
    return sorted_rows


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
    order: cython.const[cython.longlong][::1] = _by_key(keys, np.argsort(-priority, kind="stable"))
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
    order = _by_key(keys, np.argsort(urgency, kind="stable"))
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


def parted(
    made: Any, whole: Any, likely: Any, priority: Any, rows: Any, lane: Any, longest: Any, most: Any
) -> tuple[Any, int] | None:
    """The families split by likely class, those parts put together that `agreeing` says: items as `grouped` hands them
    out, and how many parts there are. None where that divides no family.

    As for `agreeing`; `likely` i8[m]; `longest`, `most` i8[L]: what is the longest group of a lane to it, and here.
    """
    whole_: cython.const[cython.longlong][::1] = whole
    likely_: cython.const[cython.longlong][::1] = likely
    many: cython.Py_ssize_t = whole_.shape[0]
    top: cython.longlong = -1
    i: cython.Py_ssize_t
    families: cython.Py_ssize_t = _distinct(whole)
    for i in range(many):
        top = max(top, likely_[i])
    parts = np.empty(many, np.int64)
    part: cython.longlong[::1] = parts
    for i in range(many):
        part[i] = whole_[i] * (top + 2) + likely_[i] + 1
    if many == 0 or _distinct(parts) == families:
        return None
    parts = agreeing(made, whole, parts, priority, rows, lane, longest)
    count = _distinct(parts)
    if count == families:
        return None
    return grouped(parts, priority, rows, lane, most), count


def _distinct(keys: Any) -> int:
    """How many numbers there are in `keys` i8[m], which are 0 or more."""
    key: cython.const[cython.longlong][::1] = keys
    top: cython.longlong = -1
    count: cython.Py_ssize_t = 0
    i: cython.Py_ssize_t
    for i in range(key.shape[0]):
        top = max(top, key[i])
    seen: cython.longlong[::1] = _ints(top + 1)
    for i in range(key.shape[0]):
        if not seen[key[i]]:
            seen[key[i]] = 1
            count += 1
    return count
