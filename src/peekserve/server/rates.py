"""Token buckets: how often each client may ask."""

from collections import OrderedDict

from peekserve.errors import InvalidConfiguration

# Clients that are remembered; who was forgotten begins with a full bucket, and has not asked for longest.
REMEMBERED = 10_000


class Buckets:
    """One bucket for each client, full at first. `rate`: tokens a second; `burst`: what a bucket holds.

    Raises InvalidConfiguration unless both are above 0 and a bucket holds one token or more.
    """

    def __init__(self, rate: float, burst: float) -> None:
        if not rate > 0.0 or not burst >= 1.0:
            raise InvalidConfiguration(
                f"a client's rate is above 0 and its burst at least 1, not {rate:g} and {burst:g}"
            )
        self.rate = rate
        self.burst = burst
        self._filled: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, now: float) -> float:
        """A token: 0.0, or in how many seconds there will be one. `now`: seconds on a monotonic clock."""
        tokens, at = self._filled.get(client, (self.burst, now))
        tokens = min(self.burst, tokens + max(now - at, 0.0) * self.rate)
        got = tokens >= 1.0
        tokens -= got
        self._filled[client] = (tokens, now)
        self._filled.move_to_end(client)
        if len(self._filled) > REMEMBERED:
            self._filled.popitem(last=False)
        return 0.0 if got else (1.0 - tokens) / self.rate
