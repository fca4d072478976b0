"""Is this server alive, and can it serve? Judged from the ups and downs of its workers, of which heartbeats
(workers/seat.py) are a part; the loop that asks turns, or it could not ask."""

from math import inf

# Having been up this long, a worker is no longer one that comes up only to die.
PROVEN_S = 10.0
# So long may a server be without a worker while it tries to start one. After that, whoever watches it should start the
# server anew: it may be its own memory, its descriptors or its state that kills them.
PATIENCE_S = 60.0


class Health:
    """A server is alive while a worker is up that has been so for `proven_s`, and for `patience_s` after the last such
    one went down, or the first of all came up: workers that come up and die at their first batch for a minute on end
    are no life. Before the first one is up it is starting, which has a limit of its own.

    >>> health = Health(proven_s=10.0, patience_s=60.0)
    >>> health.up("cpu-0", now=0.0)
    >>> health.down("cpu-0", now=100.0)
    >>> health.live(now=159.0), health.live(now=160.0)
    (True, False)
    """

    def __init__(self, proven_s: float = PROVEN_S, patience_s: float = PATIENCE_S) -> None:
        self._proven_s = proven_s
        self._patience_s = patience_s
        self._up_since: dict[str, float] = {}
        self._well_until = inf

    def up(self, worker: str, now: float) -> None:
        if self._well_until == inf:
            self._well_until = now
        self._up_since[worker] = now

    def down(self, worker: str, now: float) -> None:
        since = self._up_since.pop(worker, inf)
        if now - since >= self._proven_s:
            self._well_until = now

    def live(self, now: float) -> bool:
        proven = any(now - since >= self._proven_s for since in self._up_since.values())
        return proven or now - self._well_until < self._patience_s
