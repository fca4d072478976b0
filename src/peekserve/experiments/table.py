"""Rows of an experiment, and means of them with what chance does to them.

A row is what one seed measured at one point: who, where, how many requests, and their means. Chance enters by seed:
each seed resamples the subjects of the test data, draws its own requests, and serves them to all policies alike. A
bootstrap over seeds therefore covers subjects, samples and arrivals at once, and keeps what was compared paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidData

Floats = npt.NDArray[np.float64]
Value = float | int | str
Row = Mapping[str, Value]

# What stands in a row besides measurements: numbers by which a point is found must be here.
SEED, REQUESTS = "seed", "requests"
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value and its 95% interval."""

    measured: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Floats) -> "Interval":
        """From float64 [1 + draws]: the value itself, then what it was in each resample.

        >>> Interval.of(np.array([2.0, 1.0, 2.0, 3.0])).measured
        2.0
        """
        if not np.isfinite(values[0]):
            return cls(float("nan"), float("nan"), float("nan"))
        low, high = np.nanquantile(values[1:], [0.025, 0.975])
        return cls(float(values[0]), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.measured:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Table:
    """The rows of one experiment, and means over them.

    >>> rows = [{"policy": "a", "seed": s, "requests": 2, "utility": u} for s, u in ((0, 0.5), (1, 0.7))]
    >>> round(float(Table(rows).mean("utility", policy="a")[0]), 3)
    0.6
    """

    def __init__(self, rows: Sequence[Row], draws: int = DRAWS, seed: int = 0) -> None:
        self.rows = tuple(rows)
        self.seeds = sorted({int(row[SEED]) for row in rows})
        self._draws, self._seed = draws, seed

    def values(self, column: str) -> list[Value]:
        """The distinct values of a column, in the order in which they came."""
        return list(dict.fromkeys(row[column] for row in self.rows if column in row))

    def mean(self, metric: str, **where: Value) -> Floats:
        """float64 [1 + draws]: the mean of a metric over the requests of the rows that are so, then the same in each
        resample of the seeds. Raises InvalidData where there is no such row."""
        sums, counts = np.zeros(len(self.seeds)), np.zeros(len(self.seeds))
        place = {seed: i for i, seed in enumerate(self.seeds)}
        for row in self._found(metric, where):
            weight = float(row.get(REQUESTS, 1))
            sums[place[int(row[SEED])]] += weight * float(row[metric])
            counts[place[int(row[SEED])]] += weight
        drawn: Floats = (self._weights @ sums) / (self._weights @ counts)
        return drawn

    def each(self, metric: str, **where: Value) -> Floats:
        """float64 [1 + seeds]: the mean of a metric over the requests of the rows that are so, then each seed's own. A
        seed resamples the subjects once: what is spread over seeds is what another set of subjects could have shown,
        however many seeds there are. Raises InvalidData where there is no such row."""
        own = [
            np.average(
                [float(row[metric]) for row in rows], weights=[float(row.get(REQUESTS, 1)) for row in rows]
            )
            for seed in self.seeds
            if (rows := [row for row in self._found(metric, where) if row[SEED] == seed])
        ]
        return np.array([self.mean(metric, **where)[0], *own])

    def quantile(self, metric: str, share: float, **where: Value) -> Floats:
        """float64 [1 + draws]: the least value that this share of the rows does not exceed, then the same in each
        resample of the seeds. Every row counts once. Raises InvalidData where there is no such row.

        >>> rows = [{"seed": s, "gap": g} for s, g in ((0, 0.1), (0, 0.4), (1, 0.2), (1, 0.3))]
        >>> float(Table(rows).quantile("gap", 0.5)[0])
        0.2
        """
        found = sorted(self._found(metric, where), key=lambda row: float(row[metric]))
        values = np.array([float(row[metric]) for row in found])
        place = {seed: i for i, seed in enumerate(self.seeds)}
        times = np.cumsum(self._weights[:, [place[int(row[SEED])] for row in found]], axis=1)
        # A resample may lack all seeds that have such a row: what is not there has no quantile.
        enough = times >= np.maximum(share * times[:, -1:], 1e-9)
        drawn: Floats = np.where(enough.any(axis=1), values[enough.argmax(axis=1)], np.nan)
        return drawn

    def _found(self, metric: str, where: Mapping[str, Value]) -> list[Row]:
        key = (metric, *sorted(where.items()))
        if key not in self._index:
            found = [
                row
                for row in self.rows
                if metric in row and all(row.get(name) == value for name, value in where.items())
            ]
            if not found:
                raise InvalidData(f"no row has {metric} at {dict(where)}")
            self._index[key] = found
        return self._index[key]

    @cached_property
    def _index(self) -> dict[tuple[object, ...], list[Row]]:
        return {}

    @cached_property
    def _weights(self) -> Floats:
        """float64 [1 + draws, seeds]: how often each seed counts; once each at first."""
        n = len(self.seeds)
        drawn = np.random.default_rng(self._seed).multinomial(n, np.full(n, 1.0 / n), self._draws)
        return np.concatenate([np.ones((1, n)), drawn.astype(np.float64)])


def worst(values: Sequence[Floats]) -> Floats:
    """The least of several quantities, resample by resample."""
    return np.asarray(np.minimum.reduce(list(values)), np.float64)


def best(values: Sequence[Floats]) -> Floats:
    """The greatest of several quantities, resample by resample."""
    return np.asarray(np.maximum.reduce(list(values)), np.float64)


def average(values: Sequence[Floats]) -> Floats:
    """The mean of several quantities, resample by resample."""
    return np.asarray(np.mean(list(values), axis=0), np.float64)
