"""The driver's one alarm, which rings when the scheduler asked to be woken.

An alarm for now does not ring at once. Requests that were sent together are read from their connections one by one, in
several turns of the event loop; whoever plans after the first of them gives a worker away before knowing the others. So
it rings when the loop has turned a few times and brought nobody new, which takes a tenth of a millisecond where nobody
comes, and in a flood not later than `GATHER_S`, nor when a row that waits would be lost by it.
"""

import asyncio
from collections.abc import Callable
from math import ceil, inf

from peekserve.clock import Clock

QUIET_TURNS = 3
GATHER_S = 0.005
# Nor later than so long before something must be done about a row: there must be time to plan it.
AHEAD_S = 0.001


class Alarm:
    """`ring`: called on the loop's thread. `by`: when something must be done, whatever else comes. There is one alarm:
    to set it takes back what was set before."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        ring: Callable[[], None],
        by: Callable[[], float] = lambda: inf,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._ring = ring
        self._by = by
        self._handle: asyncio.Handle | None = None
        self._came = 0
        self._rung_for = 0
        self._since: float | None = None

    def came(self) -> None:
        """A request was read."""
        self._came += 1

    def set(self, at: float, now: float) -> None:
        """Ring at this instant, or as soon as can be."""
        since = self._since
        self.cancel()
        if at > now:
            # Event loops count in milliseconds and may ring early: rounded up, or the scheduler would be woken in vain.
            self._handle = self._loop.call_later(ceil((at - now) * 1e3) / 1e3, self._rings)
        elif self._came == self._rung_for:
            self._handle = self._loop.call_soon(self._rings)
        else:
            self._since = now if since is None else since
            self._handle = self._loop.call_soon(self._listen, self._came, 0, self._since)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._since = None

    def _listen(self, came: int, turns: int, since: float) -> None:
        turns = turns + 1 if came == self._came else 0
        if turns < QUIET_TURNS and self._clock.now() < min(since + GATHER_S, self._by() - AHEAD_S):
            self._handle = self._loop.call_soon(self._listen, self._came, turns, since)
        else:
            self._rings()

    def _rings(self) -> None:
        self._handle, self._since, self._rung_for = None, None, self._came
        self._ring()
