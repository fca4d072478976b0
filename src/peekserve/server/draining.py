"""When it is worth asking again: how much waits, and how fast it goes."""

from math import ceil, exp

# What was seen so long ago counts for a third.
MEMORY_S = 5.0
# Nobody is told to come back later than this: much may have changed by then.
MOST_S = 30


class Draining:
    """Counts rows that are under way and those that were done with, the latter less and less as time goes by. Refused
    rows are neither: they took no place."""

    def __init__(self) -> None:
        self._rows = 0
        self._done = 0.0
        self._watched_s = 0.0
        self._at: float | None = None

    def came(self, rows: int, now: float) -> None:
        """These rows were handed in."""
        self._fade(now)
        self._rows += rows

    def went(self, rows: int, refused: bool, now: float) -> None:
        """They have their outcome."""
        self._fade(now)
        self._rows -= rows
        self._done += 0.0 if refused else rows

    def retry_after_s(self) -> int:
        """Whole seconds until all that waits now should be gone, from 1 to 30; 1 where less than a second was seen."""
        if self._watched_s < 1.0:
            return 1
        # Less than a row is none, and nothing is known but that it takes longer.
        seconds = self._rows * self._watched_s / max(self._done, 1.0)
        return min(max(ceil(seconds), 1), MOST_S)

    def _fade(self, now: float) -> None:
        if self._at is not None and now > self._at:
            kept = exp((self._at - now) / MEMORY_S)
            self._done *= kept
            self._watched_s = self._watched_s * kept + MEMORY_S * (1.0 - kept)
        self._at = now
