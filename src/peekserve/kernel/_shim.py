"""Stands in for `cython` where that package is not installed, so that `loops.py` runs interpreted.

Only what `loops.py` may use is here: C types (which do nothing in an annotation and convert when called),
the decorators (which return what they are given) and `nogil` (which releases nothing). Interpreted code
is the reference that the compiled kernel is compared with, so nothing here may change a value beyond
what the C type itself would: `int(2.9)` is 2, `float(2)` is 2.0.
"""

from collections.abc import Callable
from typing import Any, Self, TypeVar

_T = TypeVar("_T")

compiled = False


class CType:
    """A C type's name: `double`, `double[::1]` in an annotation, `double(x)` as a conversion."""

    def __init__(self, convert: Callable[[Any], Any]) -> None:
        self._convert = convert

    def __call__(self, value: Any = 0) -> Any:
        """Return `value` as the Python type nearest to this C type."""
        return self._convert(value)

    def __getitem__(self, _layout: Any) -> Self:
        """Return the type itself: a memoryview's layout means nothing to the interpreter."""
        return self


double = CType(float)
bint = CType(bool)
_whole = CType(int)  # under a name of its own: the next lines hide Python's `int`
Py_ssize_t = size_t = int = uint = long = ulong = longlong = ulonglong = short = ushort = char = uchar = (
    _whole
)
void = CType(lambda value: value)

const = _whole  # `const[double][::1]`, in annotations only


class _NoGil:
    """Both `with cython.nogil:` and `@cython.nogil`."""

    def __call__(self, function: _T) -> _T:
        return function

    def __enter__(self) -> None: ...

    def __exit__(self, *_raised: object) -> None: ...


nogil = _NoGil()


def _as_it_is(item: _T, /) -> _T:
    return item


cfunc = ccall = inline = cclass = final = _as_it_is


def _setting(*_values: Any, **_named: Any) -> Callable[[_T], _T]:
    return _as_it_is


locals = returns = exceptval = boundscheck = wraparound = cdivision = initializedcheck = _setting


def declare(kind: Any = None, value: Any = None, **_types: Any) -> Any:
    """Return the first value of a declared variable (None where none was given)."""
    return value


def cast(kind: Any, value: Any) -> Any:
    """Return `value` converted to `kind`."""
    return kind(value)
