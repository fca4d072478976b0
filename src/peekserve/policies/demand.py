"""What a view does not show and policies that plan ahead must know: how much is asked for, and which workers there are.

Proteus and Nexus know their load from the front end that counts it. Here a policy is shown what waits, so rows are
counted when they are first seen waiting: what dies of a full backlog before any plan is made goes uncounted.

The average is renewed once every `interval_s`. At first nothing is known, so until one interval has passed it is
renewed each time that the time watched has doubled, beginning with one mean deadline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from peekserve.domain.messages import Batch
from peekserve.policies.base import Floats, View, WorkerView
from peekserve.policies.worth import loaded

# The newest interval's part in the moving average.
SMOOTHING = 0.5
# Below any deadline that is kept: only so that a rate is a number.
_SHORTEST_S = 1e-3


@dataclass(slots=True)
class Demand:
    """State between plans, of one scheduler.

    `rates`: requests per second by key, as of the last renewal. A key says what a row asks for.
    """

    interval_s: float
    rates: dict[int, float] = field(default_factory=dict)
    _view: View | None = None
    _since: float = 0.0
    _next_at: float = 0.0
    _unit_s: float = _SHORTEST_S
    _folded: bool = False
    _counts: dict[int, int] = field(default_factory=dict)
    _seen: dict[tuple[int, float], tuple[int, float]] = field(default_factory=dict)
    _sums: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    _rows: Floats = field(default_factory=lambda: np.zeros(0))

    def follows(self, view: View) -> bool:
        """Could this view follow the last one? If not, begin anew."""
        last = self._view
        return last is not None and view.now >= last.now and view.lanes is last.lanes

    def begin(self, view: View) -> None:
        """Nothing is known yet; it is watched since the first of these rows came."""
        self._sums = np.zeros((len(view.lanes), 1 + view.accuracy.shape[1]))
        self._rows = np.zeros(len(view.lanes))
        self._since = float(view.arrived_at.min(initial=view.now))
        self._unit_s = max(float(view.deadline_s.mean()), _SHORTEST_S)
        self._next_at = view.now

    def see(self, view: View, rows: Sequence[int], keys: Sequence[int], accuracy: Floats) -> None:
        """Count those of these rows that were not seen before. `keys`: what each row of the view asks for; `accuracy`:
        f8[n, V], what is believed of them."""
        self._view = view
        here: dict[tuple[int, float], int] = {}
        lanes, arrived = view.lane.tolist(), view.arrived_at.tolist()
        for row in rows:
            name = (lanes[row], arrived[row])
            here[name] = here.get(name, 0) + 1
            if here[name] > self._seen.get(name, (0, 0.0))[0]:
                self._seen[name] = (here[name], view.now)
                self._counts[keys[row]] = self._counts.get(keys[row], 0) + 1
                self._rows[lanes[row]] += 1.0
                self._sums[lanes[row], 0] += view.deadline_s[row]
                self._sums[lanes[row], 1:] += accuracy[row]
        for name in here:
            self._seen[name] = (self._seen[name][0], view.now)

    def is_due(self, now: float) -> bool:
        return now >= self._next_at

    def renew(self, now: float) -> None:
        """Bring `rates` up to date."""
        passed_s = max(now - self._since, self._unit_s)
        fresh = {key: count / passed_s for key, count in sorted(self._counts.items())}
        if now - self._since < self.interval_s and not self._folded:
            self.rates = fresh
            self._next_at = now + min(self._since + self.interval_s - now, passed_s)
            return
        if now >= self._next_at:
            keys = sorted({*self.rates, *fresh})
            part = SMOOTHING if self._folded else 1.0
            self.rates = {k: part * fresh.get(k, 0.0) + (1.0 - part) * self.rates.get(k, 0.0) for k in keys}
            self._folded = True
            self._counts = {}
            self._since, self._next_at = now, now + self.interval_s
            self._sums *= 0.5
            self._rows *= 0.5
            self._seen = {k: v for k, v in self._seen.items() if v[1] >= now - self.interval_s}
            return
        # Between two renewals, something that nobody asked for before.
        self.rates = {**fresh, **self.rates}

    def deadline_s(self, lane: int) -> float:
        """The mean relative deadline of a lane's rows; infinite where none came."""
        if self._rows[lane] == 0.0:
            return float("inf")
        return max(float(self._sums[lane, 0] / self._rows[lane]), _SHORTEST_S)

    def accuracy(self, lane: int) -> Floats:
        """f8[V]: the mean of what was believed of a lane's rows; zeros where none came."""
        return np.asarray(self._sums[lane, 1:] / max(float(self._rows[lane]), 1.0))


@dataclass(slots=True)
class Known:
    """The workers that there are: a view shows only those that can take work. State between plans, of one scheduler.

    `workers`: by name, in the order in which they first came; a busy one as it should be when it has done what it was
    last given. One that was not seen for `forget_s` is gone. Time that runs backwards makes it begin anew.
    """

    forget_s: float
    workers: dict[str, WorkerView] = field(default_factory=dict)
    _seen_at: dict[str, float] = field(default_factory=dict)

    def see(self, view: View) -> bool:
        """Are there others than before?"""
        before = list(self.workers)
        if any(at > view.now for at in self._seen_at.values()):
            self.workers.clear()
            self._seen_at.clear()
        for worker in view.workers:
            self.workers[worker.name] = worker
            self._seen_at[worker.name] = view.now
        for name in [n for n, at in self._seen_at.items() if at < view.now - self.forget_s]:
            del self.workers[name], self._seen_at[name]
        return list(self.workers) != before

    def gave(self, view: View, batches: Sequence[tuple[Batch, float]]) -> None:
        """The first batch of each worker is carried out. `batches`: with their ends, seconds from now."""
        for batch, end_s in reversed(batches):
            worker, weights = view.workers[batch.worker], view.lanes[batch.lane].weights[batch.variant]
            held = list(worker.resident)
            loaded(worker, held, int(weights))
            self.workers[worker.name] = replace(worker, free_at=view.now + end_s, resident=tuple(held))

    def there(self, view: View) -> dict[str, WorkerView]:
        """Those that can take work now or should soon. One that should be free and is not to be seen is left out: it
        is late, or gone."""
        here = {worker.name for worker in view.workers}
        return {n: w for n, w in self.workers.items() if n in here or w.free_at >= view.now}
