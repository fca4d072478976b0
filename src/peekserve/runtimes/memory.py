"""What this process holds, and giving it back."""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

_PAGE = os.sysconf("SC_PAGE_SIZE")


def held_bytes() -> int:
    """Bytes of memory that are this process's own; 0 where the system does not tell.

    Pages of mapped files are left out: the runtime's code comes in with whichever model is first, and stays.
    """
    try:
        with open("/proc/self/statm", "rb") as statm:
            _, resident, shared, *_ = statm.read().split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * _PAGE


def give_back() -> None:
    """Hand freed memory back to the system: glibc keeps what lies between two live blocks until it is asked."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """malloc_trim, or None on systems that have none, and need none (musl). Looked up once: each look-up makes a type,
    which only a collection of garbage takes away."""
    if sys.platform != "linux":
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
