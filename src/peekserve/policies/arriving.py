"""What a second of a worker is worth to those who have not come yet, from the rate at which they come.

A plan for the rows that wait spends all the time that their deadlines leave, on the most accurate variants that fit.
Rows that come meanwhile find the workers busy and a long queue, and must do with less than if both had shared. What
both together get from the time is largest where the last bit of it brings the same everywhere: that is a price.

Let lane l bring r_l rows a second, and let variant v of it take s_v seconds of a worker for each row, at its best
batch. Of the points (s_v, accuracy_v) only those on the concave hull are worth their time; between two neighbours lies
a step that costs r_l (s' - s) workers and brings r_l (accuracy' - accuracy). First each lane gets its cheapest point on
the hull, so that nobody is left out for the sake of others' accuracy. Then steps are bought in falling order of what
they bring for their time, as long as there are workers. The step at which the workers end is the one of which only a
part can be had, and its slope is what a second is worth.

The price is taken half way between that slope and the next step's. With just that slope a plan would not care on which
side of the step its rows are, and the fixed costs of batches would decide; so rows rather take the step, and the queue
decides how many of them: it grows, and its deadlines keep the later ones from it. Where not even the cheapest points
can be had by all, no step is worth taking: the price is as far above the steepest slope. It is not what a row left out
would bring, or a worker would rather be idle than run a small batch. Where all steps can be had it is 0.

Rates are averages in which a row counts half after about as long as the memory, three of the view's mean deadlines.
Loads are not reckoned with, nor that batches are not always full: rates that only full batches could serve are near
the limit, and there the deadlines of those who wait decide.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from peekserve.policies.base import Floats, View, WorkerView
from peekserve.policies.demand import Known

# Rows come in bursts of a few deadlines: a longer memory would come too late for them, a shorter one sees only chance.
MEMORY_DEADLINES = 3.0
# A worker that was not seen for so many deadlines is gone.
FORGET_DEADLINES = 10.0
# Below any deadline that is kept: only so that a rate is a number.
_SHORTEST_S = 1e-3


@dataclass(slots=True)
class Arriving:
    """State between plans, of one scheduler: how often rows come, by lane, and which workers there are. Time that runs
    backwards, or other lanes, make it begin anew."""

    _view: View | None = None
    _known: Known = field(default_factory=lambda: Known(0.0))
    _newest_at: Floats = field(default_factory=lambda: np.zeros(0))
    _rows: Floats = field(default_factory=lambda: np.zeros(0))
    _seconds: float = 0.0
    _workers: tuple[WorkerView, ...] = ()
    _hulls: list[list[tuple[float, float]]] = field(default_factory=list)

    def price_per_s(self, view: View) -> float:
        """Utility that a second of a worker would bring elsewhere. Counts the rows that were not seen before."""
        self._see(view)
        rates = self._rows / max(self._seconds, _SHORTEST_S)
        return price_of(self._hulls, rates, float(len(self._workers)))

    def _see(self, view: View) -> None:
        last = self._view
        if last is None or view.now < last.now or view.lanes is not last.lanes:
            self._newest_at = np.full(len(view.lanes), -np.inf)
            self._rows = np.zeros(len(view.lanes))
            self._known, self._seconds, self._workers = Known(0.0), 0.0, ()
            # Watched since the first row came, which therefore does not count.
            first = int(view.arrived_at.argmin())
            self._newest_at[view.lane[first]] = view.arrived_at[first]
            passed_s = view.now - float(view.arrived_at[first])
        else:
            passed_s = view.now - last.now
        deadline_s = max(float(view.deadline_s.mean()), _SHORTEST_S)
        # Not a power of e, which differs between machines in its last bits.
        kept = 1.0 / (1.0 + passed_s / (MEMORY_DEADLINES * deadline_s))
        fresh = view.lane[view.arrived_at > self._newest_at[view.lane]]
        self._rows = self._rows * kept + np.bincount(fresh, minlength=len(view.lanes))
        self._seconds = self._seconds * kept + passed_s
        np.maximum.at(self._newest_at, view.lane, view.arrived_at)
        self._known.forget_s = FORGET_DEADLINES * deadline_s
        self._known.see(view)
        self._view = view
        workers = tuple(self._known.workers.values())
        # Profiles are the same objects from plan to plan: what follows from them is kept.
        if [id(w.latency_s) for w in workers] != [id(w.latency_s) for w in self._workers]:
            self._hulls = [
                hull(_each_s(workers, i, lane.max_batch), lane.profiled) for i, lane in enumerate(view.lanes)
            ]
        self._workers = workers


def _each_s(
    workers: tuple[WorkerView, ...], lane: int, most: np.ndarray[tuple[int], np.dtype[np.int32]]
) -> Floats:
    """f8[V]: seconds of a worker for a row at each variant's best batch, the mean over these workers' paces."""
    paces = []
    for worker in workers:
        table = worker.latency_s[lane]
        sizes = np.arange(1, table.shape[1])
        each = np.where(sizes <= most[:, None], table[: len(most), 1:] / sizes, np.inf)
        paces.append(1.0 / each.min(axis=1))
    pace = np.mean(paces, axis=0)
    return np.asarray(np.divide(1.0, pace, out=np.full_like(pace, np.inf), where=pace > 0.0))


def hull(each_s: Floats, accuracy: Floats) -> list[tuple[float, float]]:
    """The points (seconds, accuracy) that are worth their time, in rising order: those on the concave hull of all with
    (0, 0), which is not among them.

    >>> hull(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.8, 0.81, 0.9, 0.85]))
    [(1.0, 0.8), (3.0, 0.9)]
    """
    found = [(0.0, 0.0)]
    for s, a in sorted(zip(each_s.tolist(), accuracy.tolist(), strict=True)):
        if not s < np.inf or a <= found[-1][1]:
            continue
        while len(found) > 1 and _slope(found[-2], (s, a)) >= _slope(found[-2], found[-1]):
            found.pop()
        found.append((s, a))
    return found[1:]


def _slope(low: tuple[float, float], high: tuple[float, float]) -> float:
    return (high[1] - low[1]) / (high[0] - low[0]) if high[0] > low[0] else np.inf


def price_of(hulls: list[list[tuple[float, float]]], rates: Floats, workers: float) -> float:
    """Utility per second of a worker where lanes with these hulls bring so many rows a second (f8[L]) to so many
    workers.

    >>> lane = [(0.1, 0.8), (0.2, 0.9), (0.4, 0.96)]  # steps of slope 1.0 and 0.3
    >>> [round(price_of([lane], np.array([rate]), 1.0), 3) for rate in (2.0, 4.0, 8.0, 16.0)]
    [0.0, 0.15, 0.65, 1.35]
    """
    used = sum(rate * own[0][0] for own, rate in zip(hulls, rates.tolist(), strict=True) if own)
    steps = sorted(
        (
            (_slope(low, high), rate * (high[0] - low[0]))
            for own, rate in zip(hulls, rates.tolist(), strict=True)
            for low, high in pairwise(own)
        ),
        reverse=True,
    )
    slopes = [*(slope for slope, _ in steps), 0.0]
    if steps and used >= workers:
        return slopes[0] + (slopes[0] - slopes[1]) / 2.0
    for i, (_, cost) in enumerate(steps):
        used += cost
        if used > workers:
            return (slopes[i] + slopes[i + 1]) / 2.0
    return 0.0
