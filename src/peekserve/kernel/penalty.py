"""What the compiled kernel's files share: the penalty of lateness, and arrays as the kernel holds them.

`penalty` is `Penalty.at` of the domain (SneakPeek, eq. 2), for one answer at a time and without objects. It stands here
once: the build makes one extension of this file and those after it, in which they call it as a C function.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import cython
except ImportError:
    from peekserve.kernel import _shim as cython  # type: ignore[no-redef]

if cython.compiled:
    from cython.cimports.libc.math import tanh
else:
    from math import tanh

STEP = cython.declare(cython.longlong, 0)
LINEAR = cython.declare(cython.longlong, 1)
SIGMOID = cython.declare(cython.longlong, 2)
CONSTANT = cython.declare(cython.longlong, 3)

# The hyperbolic tangent at so many steps to 1, up to so much: what it is between two of them lies between the two. A
# row is late far more often than anyone needs to know how much that costs to the last bit.
STEPS = cython.declare(cython.Py_ssize_t, 32)
REACH = cython.declare(cython.double, 16.0)


def _tanhs() -> Any:
    array: Any = np.array([tanh(i / 32.0) for i in range(16 * 32 + 2)])
    return memoryview(array)


TANH = cython.declare(cython.double[::1], _tanhs())


@cython.inline
@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _lost(kind: cython.longlong, width: cython.double, late: cython.double) -> cython.double:
    """The penalty of every kind but a table's."""
    if kind == CONSTANT:
        return width
    if late <= 0.0:
        return 0.0
    if kind == STEP:
        return 1.0
    if kind == LINEAR:
        return 1.0 if late >= width else late / width
    # From 20 on tanh is 1 to the last bit; a request that is due on arrival has a width of nothing.
    if late >= 40.0 * width:
        return 1.0
    return tanh(late / (2.0 * width))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _penalty(
    kind: cython.longlong,
    width: cython.double,
    late: cython.double,
    x: cython.const[cython.double][::1],
    p: cython.const[cython.double][::1],
    start: cython.const[cython.longlong][::1],
) -> cython.double:
    table: cython.Py_ssize_t
    i: cython.Py_ssize_t
    end: cython.Py_ssize_t
    slope: cython.double
    if kind <= CONSTANT:
        return _lost(kind, width, late)
    if late <= 0.0:
        return 0.0
    table = cython.cast(cython.Py_ssize_t, width)
    i = start[table]
    end = start[table + 1] - 1
    if late >= x[end]:
        return p[end]
    while x[i + 1] <= late:
        i += 1
    if x[i] == late:
        return p[i]
    slope = (p[i + 1] - p[i]) / (x[i + 1] - x[i])
    return slope * (late - x[i]) + p[i]


def penalty(kind: int, width: float, lateness: float, x: Any, p: Any, start: Any) -> float:
    """The share of an answer's worth that `lateness` seconds take: `Penalty.at` of the domain, for one
    answer.

    `width`: seconds, the level of a constant, or the index of a table in `x`, `p` f8[points] and `start`
    i8[tables + 1].
    """
    return float(_penalty(kind, width, lateness, x, p, start))


def instant_worth(
    due: Any, kind: Any, width: Any, instant: Any, x: Any, p: Any, start: Any
) -> npt.NDArray[np.float64]:
    """f8[n]: what the peek's own answer is worth if given now; -1 where there is none.

    `due` f8[n], seconds from now; `kind` i8[n]; `width`, `instant` f8[n], nan where the peek has nothing to
    say.
    """
    due_: cython.const[cython.double][::1] = due
    kind_: cython.const[cython.longlong][::1] = kind
    width_: cython.const[cython.double][::1] = width
    instant_: cython.const[cython.double][::1] = instant
    x_: cython.const[cython.double][::1] = x
    p_: cython.const[cython.double][::1] = p
    start_: cython.const[cython.longlong][::1] = start
    worth = np.full(len(due), -1.0)
    worth_: cython.double[::1] = worth
    i: cython.Py_ssize_t
    for i in range(due_.shape[0]):
        if instant_[i] >= 0.0:
            worth_[i] = instant_[i] * (1.0 - _penalty(kind_[i], width_[i], -due_[i], x_, p_, start_))
    return worth


# Memoryviews, because the interpreter reads Python numbers out of one three times as fast as out of an array.
def _held(values: Any, dtype: Any) -> Any:
    array: Any = np.ascontiguousarray(values, dtype)
    return memoryview(array)


def _ints(*shape: int) -> Any:
    array: Any = np.zeros(shape, np.int64)
    return memoryview(array)


def _floats(*shape: int) -> Any:
    array: Any = np.zeros(shape, np.float64)
    return memoryview(array)


def _flags(*shape: int) -> Any:
    array: Any = np.zeros(shape, np.uint8)
    return memoryview(array)
