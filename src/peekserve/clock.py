"""Clocks. Only drivers and measurements hold one; everything else is told the time."""

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds on one monotonic clock, shared by all processes of the machine."""

    def now(self) -> float: ...


class WallClock:
    """CLOCK_MONOTONIC: the same instant in every process of this machine, never set back."""

    def now(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved.

    >>> clock = ManualClock()
    >>> clock.advance(1.5)
    >>> clock.now()
    1.5
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        if seconds < 0.0:
            raise ValueError(f"time does not run backwards: advance({seconds})")
        self._now += seconds
