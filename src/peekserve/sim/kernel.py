"""Pretended time: a heap of things that will happen.

At one instant, what happens to the scheduler comes before the timer that it set for that instant, as in one
turn of a live event loop; otherwise things happen in the order in which they were put in.
"""

import heapq
from collections.abc import Callable
from itertools import count

Action = Callable[[float], None]


class Agenda:
    """Actions by instant. `at` schedules one, `run` lives through them all."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Action]] = []
        self._count = count()
        self.now = 0.0

    def at(self, instant: float, action: Action, last: bool = False) -> None:
        """`last`: after everything else of the same instant. An instant in the past means now."""
        heapq.heappush(self._heap, (max(instant, self.now), int(last), next(self._count), action))

    def run(self, until: float = float("inf")) -> None:
        """Live until nothing is left to do, or until `until`."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, _, action = heapq.heappop(self._heap)
            action(self.now)
