"""The traces of the experiments on gears, written down before the first full run.

Their kinds and loads are those of the first draft. Their lengths, and the loads and ranges of the plans, were changed
after small runs on test samples: runs took too long, gears of a plan hardly differed, and with six ranges switching
gears were half a point behind the best static gear, with twelve less. All traces and samples were drawn anew then,
by other generators, and after what the guard does with rows that went on was mended on validation samples.

A load is a share of the highest that the plan was made for, which is some times what the devices answer with the
largest model alone (planned.py). The deadline is 400 ms and the gear period 100 ms, as in the paper, so what counts as
a burst is what lasts for some deadlines: gamma gaps, however uneven, are averaged out within one. So bursts come and go
here, and gaps have a squared coefficient of variation of `CV2` everywhere.

    steady          0.5 of the load planned for                        a gear for it exists: one suffices
    bursts          0.2, and for 0.6 s every 2 s in the mean 0.9       known only when its first period is over
    bursts over     0.3, and for 0.4 s every 2 s in the mean 1.3       more than was planned for
    day             24 hours from 0.06 at night to 0.9, two peaks      the paper's: low loads have more accurate gears
    functions       part of a day of serverless functions, mean 0.45   superserve's, drawn; its peaks are about 0.7

The paper's days are 20 minutes of tweets, scaled to a peak of 7600 per second (BERT), or a peak of 60 (Llama). Here a
day is 16 s, and so an hour less than two deadlines and about seven gear periods: it changes faster than theirs, against
switching. The ablations have a day of 30 s.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.loadgen.arrivals import Instants
from peekserve.loadgen.functions import MINUTES, compressed, day
from peekserve.loadgen.rates import steps

Floats = npt.NDArray[np.float64]

CV2 = 4.0
# Shares of the day's peak by the hour: night, the morning's rise, a dip at noon, the evening's peak.
HOURS = (
    *(0.12, 0.08, 0.07, 0.07, 0.08, 0.12, 0.22, 0.40, 0.62, 0.78, 0.86, 0.84),
    *(0.72, 0.70, 0.74, 0.76, 0.78, 0.86, 0.96, 1.00, 0.88, 0.64, 0.38, 0.20),
)
# Parts of an hour, each with a rate of its own.
PARTS = 10
_SLOT_S = 0.05
_FUNCTIONS, _INVOCATIONS = 2000, 2e6


class Cell(Protocol):
    """One kind of trace. `name`: as it stands in tables. `changes`: does its load change by the hour?"""

    @property
    def name(self) -> str: ...

    @property
    def changes(self) -> bool: ...

    def instants(self, highest: float, share: float, rng: np.random.Generator) -> Instants:
        """float64 [n], rising from 0: for a plan up to `highest` requests per second, for a `share` of its usual
        time."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """`load`: in shares of what was planned for."""

    load: float
    seconds: float
    name: str
    changes: bool = False

    def instants(self, highest: float, share: float, rng: np.random.Generator) -> Instants:
        return steps(np.array([self.load * highest]), self.seconds * share, CV2, rng)


@dataclass(frozen=True, slots=True)
class Bursts:
    """`base`, and `burst` for exponential times of mean `last_s`, with exponential times of mean `every_s` between the
    beginnings."""

    base: float
    burst: float
    last_s: float
    every_s: float
    seconds: float
    name: str
    changes: bool = False

    def instants(self, highest: float, share: float, rng: np.random.Generator) -> Instants:
        many = max(round(self.seconds * share / _SLOT_S), 1)
        rates, at = np.full(many, self.base), rng.exponential(self.every_s)
        while at < many * _SLOT_S:
            end = at + rng.exponential(self.last_s)
            rates[int(at / _SLOT_S) : int(np.ceil(end / _SLOT_S))] = self.burst
            at += rng.exponential(self.every_s)
        return steps(rates * highest, self.seconds * share, CV2, rng)


@dataclass(frozen=True, slots=True)
class Day:
    """24 hours of `HOURS`, their peak at `load`. A share of the time is a faster day, not a part of one: both night and
    noon belong to it."""

    load: float
    seconds: float
    name: str
    changes: bool = True

    @property
    def rates(self) -> Floats:
        """float64 [24 * PARTS], in shares of what was planned for: straight lines between the hours."""
        at = np.arange(24 * PARTS) / PARTS
        return np.asarray(np.interp(at, np.arange(25), [*HOURS, HOURS[0]]) * self.load)

    def instants(self, highest: float, share: float, rng: np.random.Generator) -> Instants:
        return steps(self.rates * highest, self.seconds * share, CV2, rng)


@dataclass(frozen=True, slots=True)
class Functions:
    """So many minutes of a drawn day, from a minute that each seed chooses, at a mean of `load` over the day."""

    load: float
    minutes: int
    seconds: float
    name: str
    changes: bool = True

    def instants(self, highest: float, share: float, rng: np.random.Generator) -> Instants:
        counts = day(rng, _FUNCTIONS, invocations=_INVOCATIONS).minutes
        first = int(rng.integers(MINUTES - self.minutes))
        part = counts[first : first + self.minutes]
        rate = self.load * highest * float(part.mean() / counts.mean())
        return compressed(part, rate, self.seconds * share, rng, CV2)


DAY = Day(0.9, 16.0, "day")
LONG_DAY = Day(0.9, 30.0, "long day")
CELLS: tuple[Cell, ...] = (
    Steady(0.5, 2.0, "steady"),
    Bursts(0.2, 0.9, 0.6, 2.0, 5.0, "bursts"),
    Bursts(0.3, 1.3, 0.4, 2.0, 5.0, "bursts over"),
    DAY,
    Functions(0.45, 90, 5.0, "functions"),
)
