"""The loads of the experiments on supernets, written down before the first of them was run.

The paper's rates are for eight GPUs that answer about 2000 requests per second with its largest subnet and about 8000
with its smallest (SuperServe, section 6). Here a rate is a share of what the workers can answer with one or the other
at its best batch. Our smallest subnets are faster beside the largest than the paper's, so one number cannot stand for
both: the paper's rates are taken over the capacity of the largest, and again, where the load nears what can be carried
at all, over that of the smallest.

    paper                                  over the largest (2000/s)             over the smallest (8000/s)
    base 1500, varying 2950/4900/5550      0.75 and 1.475/2.45/2.775             0.1875 and 0.69375 (the highest)
    CV^2 of the varying part               2, 4, 8                               2, 4, 8
    ramps from 2500 to 4800/6800/7800      1.25 to 2.4/3.4/3.9                   0.3125 to 0.9 (ours)
    by 250/500/5000 per second             0.25 (to 3.9) and 2.5                 0.625
    policies at 7000, base 1500            0.75 and 2.75                         0.1875 and 0.6875
    Functions trace, mean 6400             3.2                                   0.6 (the paper's peaks pass what its
                                                                                 smallest carries; its mean is 0.8)

The slowest ramp, of 250 per second, was in the grid at first and was taken out: it lasts 22 s, more than all other
ramps together, and looks to a policy like the one of 500, since neither changes much within a few deadlines.

A light load of ours stands beside them, 0.2 and 0.6 over the largest, where the best answer is nearly always the
largest subnet.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from peekserve.experiments.superserve.worlds import World
from peekserve.loadgen.arrivals import Instants
from peekserve.loadgen.functions import compressed, day
from peekserve.loadgen.rates import bursty, ramp

LARGEST, SMALLEST, LIGHT = "largest", "smallest", "light"
CV2 = (2.0, 4.0, 8.0)
# Seconds of a bursty trace: 17 deadlines, or 11 at the rates that only small subnets carry, which are many requests.
BURSTY_S, FASTEST_S = 0.6, 0.4
# A minute of the Functions trace is 83 ms of a run, as in the paper, where a day is two minutes.
MINUTE_S = 120.0 / (24 * 60)
FUNCTIONS, INVOCATIONS = 2000, 2e6
HOLD_S = 0.5


class Cell(Protocol):
    """One load. `name`: as it stands in tables."""

    @property
    def name(self) -> str: ...

    def instants(self, world: World, share: float, rng: np.random.Generator) -> Instants:
        """float64 [n], for a `share` of its usual time."""
        ...


@dataclass(frozen=True, slots=True)
class Bursty:
    """`base`, `varying`: shares of the capacity of the subnet `over`."""

    over: str
    base: float
    varying: float
    cv2: float

    @property
    def seconds(self) -> float:
        return FASTEST_S if self.over == SMALLEST else BURSTY_S

    @property
    def name(self) -> str:
        return f"{self.over} {self.base:g}+{self.varying:g}, CV2 {self.cv2:g}"

    def instants(self, world: World, share: float, rng: np.random.Generator) -> Instants:
        full = capacity_of(world, self.over)
        return bursty(self.base * full, self.varying * full, self.cv2, self.seconds * share, rng)


@dataclass(frozen=True, slots=True)
class Ramp:
    """`start`, `end`: shares of the capacity of the subnet `over`; `tau`: such shares per second."""

    over: str
    start: float
    end: float
    tau: float
    cv2: float = 8.0

    @property
    def name(self) -> str:
        return f"{self.over} {self.start:g} to {self.end:g} by {self.tau:g}/s"

    @property
    def seconds(self) -> float:
        return 2 * HOLD_S + (self.end - self.start) / self.tau

    def instants(self, world: World, share: float, rng: np.random.Generator) -> Instants:
        full = capacity_of(world, self.over)
        # A part of the time is a steeper ramp, not a part of one: both ends belong to it.
        hold_s, tau = HOLD_S * share, self.tau / share
        return ramp(
            self.start * full, self.end * full, tau * full, self.cv2, self.seconds * share, rng, hold_s
        )


@dataclass(frozen=True, slots=True)
class Functions:
    """So many minutes of a drawn day, from a minute that each seed chooses, at a mean over the capacity of `over`."""

    over: str
    mean: float
    minutes: int

    @property
    def name(self) -> str:
        return f"functions, {self.mean:g} of the {self.over}"

    def instants(self, world: World, share: float, rng: np.random.Generator) -> Instants:
        counts = day(rng, FUNCTIONS, invocations=INVOCATIONS).minutes
        many = max(round(self.minutes * share), 2)
        first = int(rng.integers(len(counts) - many))
        rate = self.mean * capacity_of(world, self.over)
        # The day's mean, not the part's: an hour may be busier than the day.
        part = counts[first : first + many]
        return compressed(part, rate * float(part.mean() / counts.mean()), many * MINUTE_S, rng)


def capacity_of(world: World, over: str) -> float:
    """Requests per second that the workers answer with the largest subnet, or with the smallest."""
    return world.capacity(world.smallest if over == SMALLEST else world.largest)


_RATES = (
    (LIGHT, 0.2, 0.6),
    (LARGEST, 0.75, 1.475),
    (LARGEST, 0.75, 2.45),
    (LARGEST, 0.75, 2.775),
    (SMALLEST, 0.1875, 0.69375),
)
BURSTY = tuple(Bursty(over, base, varying, cv2) for over, base, varying in _RATES for cv2 in CV2)
RAMPS = (
    *(Ramp(LARGEST, 1.25, end, 2.5) for end in (2.4, 3.4, 3.9)),
    Ramp(LARGEST, 1.25, 3.9, 0.25),
    Ramp(SMALLEST, 0.3125, 0.9, 0.625),
)
POLICIES = tuple(
    Bursty(over, base, varying, cv2)
    for over, base, varying in ((LARGEST, 0.75, 2.75), (SMALLEST, 0.1875, 0.6875))
    for cv2 in CV2
)
TRACES = (Functions(LARGEST, 3.2, 24), Functions(SMALLEST, 0.6, 8))
