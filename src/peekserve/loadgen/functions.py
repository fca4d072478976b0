"""A day of serverless functions in a few minutes: what SuperServe plays from the Azure Functions trace of 2019.

The trace itself is not here, so a day is drawn after its description (Shahrad et al., "Serverless in the Wild", ATC
2020): thousands of functions of very unequal popularity, each with a trigger. The description's shares by trigger, in
per cent of functions and of invocations, are HTTP 55 and 36, queues 15 and 34, events 2 and 25, timers 16 and 2,
orchestration 7 and 2, others 5 and 1. Three kinds of behaviour are made of them:

- `TIMER`: fires every so many minutes, most on the round ones, as cron does;
- `STEADY` (HTTP, others): a Poisson stream whose rate follows the hours;
- `ON_OFF` (queues, events, orchestration): works off what came, then is silent.

What the description does not say is ours: Zipf's exponent, the hours' swing, how long a function is on or off. A day is
then compressed as SuperServe does it, keeping its shape: each minute becomes an equal part of the run and keeps its
share of all requests.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from peekserve.loadgen.arrivals import Instants
from peekserve.loadgen.rates import Floats, stretched

MINUTES = 24 * 60
MOST = 40_000


class Kind(IntEnum):
    """How a function is invoked."""

    TIMER = 0
    STEADY = 1
    ON_OFF = 2


# Of functions, and of invocations; see above.
OF_FUNCTIONS = {Kind.TIMER: 0.16, Kind.STEADY: 0.60, Kind.ON_OFF: 0.24}
OF_INVOCATIONS = {Kind.TIMER: 0.02, Kind.STEADY: 0.37, Kind.ON_OFF: 0.61}

PERIODS = np.array([1, 2, 5, 10, 15, 20, 30, 60, 120, 240, 360, 720, 1440])
ON_THE_ROUND_MINUTE = 0.7
SWING = 0.3  # of a steady function's rate, up and down from its mean
BUSY_HOUR, HOURS_APART = 14.0, 3.0  # when most are busiest, and how far functions differ in that
# Minutes on and off are exponential, their means drawn anew for each function from these ranges, octaves alike.
ON_MINUTES, OFF_MINUTES = (2.0, 60.0), (5.0, 240.0)
# A popular function works for many callers, each on and off by itself: one for each such share of its kind's
# invocations, begun or full. It decides how high the peaks of a day are. With 0.02 the busiest second of 120 has 1.38
# times the mean, in the median of 20 days; SuperServe's trace has 8750 over 6400, which is 1.37.
CALLER = 0.02


@dataclass(frozen=True, slots=True)
class Day:
    """`counts`: int64 [functions, 1440], invocations by the minute. `kinds`: int8 [functions]. `expected`: float64
    [functions], what was asked for in a day; counts differ from it by chance, and a timer's by its period."""

    counts: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int8]
    expected: Floats

    @property
    def minutes(self) -> Floats:
        """float64 [1440]: all invocations of each minute."""
        return np.asarray(self.counts.sum(0), dtype=np.float64)


def zipf(count: int, exponent: float) -> Floats:
    """float64 [count]: shares by rank, in proportion to rank ** -exponent, summing to 1.

    >>> zipf(3, 1.0).round(3).tolist()
    [0.545, 0.273, 0.182]
    """
    weights = np.arange(1.0, count + 1.0) ** -exponent
    return np.asarray(weights / weights.sum())


def day(
    rng: np.random.Generator, functions: int = 4000, exponent: float = 1.0, invocations: float = 2e6
) -> Day:
    """A day of so many functions, popular by Zipf within each kind. Raises ValueError for fewer than one function of
    each kind or more than 40,000, a negative exponent, or less than one invocation."""
    if not len(Kind) <= functions <= MOST or not exponent >= 0.0 or not 1.0 <= invocations < np.inf:
        raise ValueError(
            f"a day has {len(Kind)} to {MOST} functions, an exponent of 0 or more and at least one invocation, not "
            f"{functions}, {exponent} and {invocations:g}"
        )
    timers = max(1, round(OF_FUNCTIONS[Kind.TIMER] * functions))
    on_off = max(1, round(OF_FUNCTIONS[Kind.ON_OFF] * functions))
    many = {Kind.TIMER: timers, Kind.STEADY: functions - timers - on_off, Kind.ON_OFF: on_off}
    expected = {k: zipf(many[k], exponent) * OF_INVOCATIONS[k] * invocations for k in Kind}
    draw = {Kind.TIMER: _timers, Kind.STEADY: _steady, Kind.ON_OFF: _on_off}
    counts = [draw[kind](expected[kind], rng) for kind in Kind]
    kinds = np.repeat(np.array(list(Kind), dtype=np.int8), [many[kind] for kind in Kind])
    return Day(np.concatenate(counts), kinds, np.concatenate([expected[kind] for kind in Kind]))


def _timers(expected: Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The period nearest to what is expected; the popular ones have several instances that fire together."""
    wanted = MINUTES / np.maximum(expected, 1.0)
    period = PERIODS[np.abs(np.log(wanted[:, None] / PERIODS)).argmin(1)]
    instances = np.maximum(1, np.rint(expected * period / MINUTES)).astype(np.int64)
    odd = rng.random(len(expected)) >= ON_THE_ROUND_MINUTE
    phase = np.where(odd, rng.integers(0, period), 0)
    fires = (np.arange(MINUTES) - phase[:, None]) % period[:, None] == 0
    return np.asarray(fires * instances[:, None])


def _steady(expected: Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    busiest = (BUSY_HOUR + HOURS_APART * rng.standard_normal(len(expected))) * 60.0
    angle = 2.0 * np.pi * (np.arange(MINUTES) - busiest[:, None]) / MINUTES
    return rng.poisson(expected[:, None] / MINUTES * (1.0 + SWING * np.cos(angle)))


def _on_off(expected: Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    callers = np.ceil(expected / (expected.sum() * CALLER)).astype(np.int64)
    first = np.cumsum(callers) - callers
    expected = np.repeat(expected / callers, callers)
    many = len(expected)
    to_off, to_on = (
        np.exp(-rng.uniform(np.log(low), np.log(high), many)) for low, high in (ON_MINUTES, OFF_MINUTES)
    )
    share = to_on / (to_on + to_off)
    on = rng.random(many) < share
    is_on = np.empty((many, MINUTES), dtype=bool)
    for minute, chance in enumerate(rng.random((MINUTES, many))):
        is_on[:, minute] = on
        on = np.where(on, chance >= to_off, chance < to_on)
    counts = rng.poisson(is_on * (expected / share / MINUTES)[:, None])
    return np.asarray(np.add.reduceat(counts, first, axis=0))


def compressed(
    counts: Floats, rate: float, seconds: float, rng: np.random.Generator, cv2: float = 1.0
) -> Instants:
    """float64 [n]: a recording's `counts` [slots] played in `seconds` at a mean of `rate` requests per second. Each
    slot keeps its share: counts are multiplied by one factor, and instants drawn within the slot, by Poisson or with
    another `cv2` (0: as evenly as can be)."""
    total = float(np.sum(counts))
    if not total > 0.0:
        raise ValueError("there is nothing in the recording")
    at, _ = stretched(np.asarray(counts, dtype=np.float64) * (rate * seconds / total), seconds, cv2, rng)
    return at
