"""What a simulation knows that a scheduler does not: true labels, what each model would say, how long things
take."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, log
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Application, Variant
from peekserve.domain.messages import RunBatch
from peekserve.domain.request import Request
from peekserve.errors import InvalidData

Floats = npt.NDArray[np.float64]

# The 95th percentile of a standard normal: turns a measured p95/median into the spread of a lognormal.
Z_P95 = 1.6449


@dataclass(frozen=True, slots=True)
class Recorded:
    """One application's labelled samples and what everything says of them, recorded once.

    `labels`: int64 [N]. `scores`: variant name -> float64 [N, C]. `counts`: float64 [N, C], the peek's
    evidence; None without a peek. `buckets`: int64 [N], the shape bucket of each sample.
    """

    labels: npt.NDArray[np.int64]
    scores: Mapping[str, Floats]
    counts: Floats | None = None
    buckets: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for name, scores in self.scores.items():
            if len(scores) != len(self.labels):
                raise InvalidData(
                    f"variant {name!r} has {len(scores)} recorded answers for {len(self.labels)} samples"
                )

    def sample(self, request: Request, row: int) -> int:
        """Which sample a row is: its request's payload names the first, the others follow."""
        first = int(request.payload.key) if request.payload else 0
        return (first + row) % len(self.labels)


class World(Protocol):
    """All that a simulated run needs beside the scheduler. Chance comes from `rng` alone. `wire_s`: from a command to
    the worker that takes it up, and from the end of a batch to the scheduler's knowing it, seconds each way. `wake_s`:
    how late an alarm rings."""

    @property
    def wire_s(self) -> float: ...

    @property
    def wake_s(self) -> float: ...

    def peek(self, request: Request, rng: np.random.Generator) -> tuple[float, Floats | None]:
        """(seconds, counts float64 [rows, C] or None when the peek fails)."""
        ...

    def scores(self, command: RunBatch, requests: Mapping[str, Request]) -> Floats: ...

    def run_s(self, command: RunBatch, device: str, at: float, rng: np.random.Generator) -> float:
        """Seconds that a batch takes which begins at `at`."""
        ...

    def load_s(
        self, application: str, variant: str, device: str, at: float, rng: np.random.Generator
    ) -> float: ...


@dataclass(frozen=True, slots=True)
class Series:
    """What was seen of one thing. With `at` (seconds from the first arrival, rising, one for each value) a draw is one
    of the few values nearest in time: a machine is slow for a while, and a while that is lost altogether costs less
    than the same slowness strewn over everything. Without, any of them."""

    values: tuple[float, ...]
    at: tuple[float, ...] = ()

    def draw(self, at: float, rng: np.random.Generator) -> float:
        if not self.at:
            return self.values[int(rng.integers(len(self.values)))]
        near = bisect_left(self.at, at) + int(rng.integers(-_NEAR, _NEAR + 1))
        return self.values[min(max(near, 0), len(self.values) - 1)]


# Values on either side of an instant that a draw may take.
_NEAR = 3


@dataclass(frozen=True, slots=True)
class Service:
    """How a live machine differs from its profiles, as measured on it (experiments/service.py); by default not at all.

    `paces`: (application, variant) -> what its batches really took, in shares of their profile's median, one
    number for each batch that was seen; a simulated batch draws one of them, because it is the spread and not
    the mean that decides whether a plan which just fits is in time. `loads_s`: likewise what swapping it in
    took, in seconds, what was unloaded for it included. `peeks_s`: application -> what its peeks took, the waiting
    for others included. `wire_s`: from a command of the front to the worker's
    taking it up, and from the end of a batch to the front's knowing it, seconds each way. `wake_s`: how late an alarm
    rings. `began_at`: the first arrival of the simulation, which the instants of the series are counted from.
    """

    paces: Mapping[tuple[str, str], Series] = field(default_factory=dict)
    loads_s: Mapping[tuple[str, str], Series] = field(default_factory=dict)
    peeks_s: Mapping[str, Series] = field(default_factory=dict)
    wire_s: float = 0.0
    wake_s: float = 0.0
    began_at: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordedWorld:
    """A world of recorded answers and profiled times. `jitter`: draw times around the profile's median with
    the spread of its p95 (lognormal); without it every time is the median. `service`: how
    the machine in question differs from its profiles."""

    applications: Mapping[str, Application]
    recorded: Mapping[str, Recorded]
    jitter: bool = False
    service: Service = Service()
    # Interpolated once: a run asks for the same few numbers of rows again and again.
    _peeks: dict[tuple[str, int], float] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def wire_s(self) -> float:
        return self.service.wire_s

    @property
    def wake_s(self) -> float:
        return self.service.wake_s

    def peek(self, request: Request, rng: np.random.Generator) -> tuple[float, Floats | None]:
        app = self.applications[request.application]
        recorded = self.recorded[request.application]
        seen = self.service.peeks_s.get(request.application)
        if seen:
            seconds = seen.draw(request.arrived_at - self.service.began_at, rng)
        else:
            seconds = self._peek_s(app, request.rows)
        if recorded.counts is None:
            return seconds, None
        if request.rows == 1:
            first = recorded.sample(request, 0)
            return seconds, recorded.counts[first : first + 1]
        return seconds, recorded.counts[[recorded.sample(request, row) for row in range(request.rows)]]

    def scores(self, command: RunBatch, requests: Mapping[str, Request]) -> Floats:
        recorded = self.recorded[command.application]
        rows = [recorded.sample(requests[ref.request_id], ref.row) for ref in command.rows]
        return recorded.scores[command.variant][rows]

    def run_s(self, command: RunBatch, device: str, at: float, rng: np.random.Generator) -> float:
        curve = self._variant(command.application, command.variant).timing[device].curve(command.bucket)
        seconds = curve.seconds(len(command.rows))
        paces = self.service.paces.get((command.application, command.variant))
        if paces:
            return seconds * paces.draw(at - self.service.began_at, rng)
        return seconds * self._jittered(curve.cautious_s(len(command.rows)), seconds, rng)

    def load_s(
        self, application: str, variant: str, device: str, at: float, rng: np.random.Generator
    ) -> float:
        seen = self.service.loads_s.get((application, variant))
        if seen:
            return seen.draw(at - self.service.began_at, rng)
        timing = self._variant(application, variant).timing[device]
        return timing.load_s * self._jittered(timing.cautious_load_s, timing.load_s, rng)

    def _jittered(self, cautious_s: float, median_s: float, rng: np.random.Generator) -> float:
        """What a time is multiplied by: 1 where its spread is not known, or none is asked for."""
        if not self.jitter or not cautious_s > median_s > 0.0:
            return 1.0
        return exp(log(cautious_s / median_s) / Z_P95 * rng.standard_normal())

    def _peek_s(self, app: Application, rows: int) -> float:
        key = (app.name, rows)
        if key not in self._peeks:
            self._peeks[key] = app.peek.latency.seconds(rows) if app.peek and app.peek.latency else 0.0
        return self._peeks[key]

    def _variant(self, application: str, variant: str) -> Variant:
        return self.applications[application].variant(variant)
