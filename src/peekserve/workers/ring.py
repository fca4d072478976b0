"""Tensors from the front to one worker without a copy through a pipe: a ring of bytes that both map.

The memory has no name (memfd_create): its descriptor is handed to the worker at birth, so nothing is left behind
when either process dies. Pages are taken from the system when first written. The front alone decides what is free;
the worker learns of a region by its offset, in the message that names the batch.
"""

import mmap
import os
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvariantBroken

# One cache line: what vector instructions like best, and no line is shared by two tensors.
ALIGNMENT = 64

DEFAULT_BYTES = 64 * 2**20


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class Ring:
    """The front's end. Regions are taken in order and freed in the same order, as a worker's batches end.

    >>> ring = Ring(256)
    >>> ring.take(100), ring.take(100), ring.take(100)
    (0, 128, None)
    >>> ring.free(0); ring.take(100)
    0
    >>> ring.close()
    """

    def __init__(self, capacity: int = DEFAULT_BYTES) -> None:
        self.capacity = aligned(capacity)
        self.fd = os.memfd_create("peekserve-ring")
        os.ftruncate(self.fd, self.capacity)
        self._map = mmap.mmap(self.fd, self.capacity)
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._live: deque[tuple[int, int]] = deque()

    def take(self, size: int) -> int | None:
        """Offset of a free region of `size` bytes, 64-byte aligned; None when there is no room now."""
        size = aligned(max(size, 1))
        if not self._live:
            start, end = 0, self.capacity
        else:
            head, tail = self._live[0][0], sum(self._live[-1])
            if head < tail:
                # From the bottom whenever it fits there: the fewer pages are ever touched, the fewer are held.
                start, end = (0, head) if size <= head else (tail, self.capacity)
            else:
                start, end = tail, head
        if end - start < size:
            return None
        self._live.append((start, size))
        return start

    def free(self, offset: int) -> None:
        """Give back the oldest region. Raises InvariantBroken when `offset` is not the oldest."""
        if not self._live or self._live[0][0] != offset:
            raise InvariantBroken(f"ring: {offset} freed; live, oldest first, are {list(self._live)}")
        self._live.popleft()

    def array(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """A writable view of a taken region."""
        return view(self._bytes, offset, shape, dtype)

    def clear(self) -> None:
        """Forget every region: the worker that read them is gone."""
        self._live.clear()

    def close(self) -> None:
        del self._bytes
        self._map.close()
        os.close(self.fd)


class RingReader:
    """The worker's end, read-only."""

    def __init__(self, fd: int, capacity: int) -> None:
        self._bytes = np.frombuffer(mmap.mmap(fd, capacity, prot=mmap.PROT_READ), np.uint8)

    def array(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        return view(self._bytes, offset, shape, dtype)


def view(
    memory: npt.NDArray[np.uint8], offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """An array laid over bytes `offset` and on."""
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    return memory[offset : offset + size].view(dtype).reshape(shape)
