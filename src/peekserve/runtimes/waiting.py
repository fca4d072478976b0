"""Waiting for an instant more exactly than a sleep does."""

import time
from collections.abc import Callable

# Waits until an instant of the monotonic clock; in pretended time, moves that clock.
WaitUntil = Callable[[float], None]

# A sleep may end this much late on a quiet machine (timer slack, the scheduler's turn); the rest is spun away.
_SPIN_S = 0.0004


def wait_until(instant: float) -> None:
    """Return at `instant` (time.monotonic seconds) by a sleep and a short spin; at once if it has passed."""
    while (left := instant - time.monotonic()) > 0.0:
        if left > _SPIN_S:
            time.sleep(left - _SPIN_S)
