import os
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.errors import InvariantBroken
from peekserve.workers.ring import ALIGNMENT, Ring, RingReader, aligned


@pytest.fixture
def ring():
    one = Ring(1024)
    yield one
    one.close()


def test_what_one_end_writes_the_other_reads_and_cannot_change(ring):
    reader = RingReader(ring.fd, ring.capacity)
    offset = ring.take(100)
    ring.array(offset, (5, 5), np.dtype(np.float32))[...] = np.arange(25).reshape(5, 5)
    seen = reader.array(offset, (5, 5), np.dtype(np.float32))
    assert seen.tolist() == np.arange(25).reshape(5, 5).tolist()
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 1.0


def test_the_bottom_is_used_again_as_soon_as_it_is_free(ring):
    first, second = ring.take(300), ring.take(300)
    ring.free(first)
    assert ring.take(300) == first
    ring.free(second)
    assert ring.take(300) == second


def test_regions_are_freed_in_their_order(ring):
    ring.take(10)
    second = ring.take(10)
    with pytest.raises(InvariantBroken, match=str(second)):
        ring.free(second)


def test_no_room_is_no_error_and_a_dead_worker_leaves_all_of_it(ring):
    assert ring.take(1025) is None
    assert ring.take(1024) == 0
    assert ring.take(1) is None
    ring.clear()
    assert ring.take(1024) == 0


def test_pages_are_taken_when_they_are_written():
    ring = Ring(64 * 2**20)
    assert os.fstat(ring.fd).st_blocks == 0
    ring.array(ring.take(4096), (4096,), np.dtype(np.uint8))[:] = 1
    assert os.fstat(ring.fd).st_blocks * 512 <= 64 * 1024
    ring.close()


@given(st.lists(st.one_of(st.integers(1, 700), st.none()), max_size=60))
def test_live_regions_never_overlap(steps):
    """A number takes that many bytes, None frees the oldest."""
    ring, live = Ring(1024), deque()
    for size in steps:
        if size is None:
            if live:
                ring.free(live.popleft()[0])
            continue
        offset = ring.take(size)
        if offset is None:
            assert live, "an empty ring has room for anything that fits in it"
            continue
        assert offset % ALIGNMENT == 0
        assert offset + aligned(size) <= ring.capacity
        assert all(offset + size <= start or end <= offset for start, end in live)
        live.append((offset, offset + size))
    ring.close()
