"""The soonest of many instants that come, go and move."""

import heapq
from collections.abc import Callable

INF = float("inf")


class Alarms:
    """Instants by slot, on a heap. Nothing is ever taken out when it stops to hold: whoever asks for the next one says
    what still holds, and what does not is dropped when it comes to the top."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._tidy_at = 1024

    def set(self, at: float, slot: int) -> None:
        """One more; an infinite one is none."""
        if at < INF:
            heapq.heappush(self._heap, (at, slot))

    def next(self, holds: Callable[[float, int], bool]) -> float:
        """The soonest that holds, infinite without one. What holds not now must be set anew to hold again."""
        heap = self._heap
        if len(heap) > self._tidy_at:  # far deadlines of rows long settled would pile up under near ones
            heap[:] = {entry for entry in heap if holds(*entry)}
            heapq.heapify(heap)
            self._tidy_at = 2 * len(heap) + 1024
        while heap and not holds(*heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else INF
