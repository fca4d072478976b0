"""Streams whose rate changes: steps, ramps, bursts over a base.

A stream of one request a unit (`arrivals.beats`) is stretched: where the rate is r, r units pass in a second. So the
number that comes in any stretch of time has the mean that the rates say, and gaps vary everywhere by the same cv2 of
what is the mean gap there.
"""

import numpy as np
import numpy.typing as npt

from peekserve.loadgen.arrivals import Instants, beats, checked, gamma

Floats = npt.NDArray[np.float64]


def bursty(base: float, varying: float, cv2: float, seconds: float, rng: np.random.Generator) -> Instants:
    """float64 [n]: a fixed beat of `base` requests per second under a gamma stream of `varying` per second with `cv2`
    (SuperServe, section 6: lambda_b, of CV^2 = 0, and lambda_v). Either may be 0, not both.

    >>> len(bursty(10.0, 20.0, 4.0, 100.0, np.random.default_rng(0)))
    3109
    """
    checked(base + varying, seconds)
    if base < 0.0 or varying < 0.0:
        raise ValueError(f"rates are 0 or more, not {base}/s and {varying}/s")
    steady = gamma(base, 0.0, seconds, rng) if base else np.empty(0)
    rest = gamma(varying, cv2, seconds, rng) if varying else np.empty(0)
    return np.sort(np.concatenate([steady, rest]))


def ramp(
    start: float,
    end: float,
    tau: float,
    cv2: float,
    seconds: float,
    rng: np.random.Generator,
    hold_s: float = 0.0,
) -> Instants:
    """float64 [n]: `start` requests per second for `hold_s`, then more (or fewer) by `tau` requests per second in each
    second up to `end`, which stays (SuperServe, section 6: lambda_1, lambda_2, tau)."""
    checked(min(start, end), seconds)
    if not 0.0 < tau < np.inf or not hold_s >= 0.0:
        raise ValueError(f"a ramp needs a positive slope after 0 s or more, not {tau}/s^2 after {hold_s} s")
    slope = tau if end >= start else -tau
    turn_s = abs(end - start) / tau  # how long the rate is on its way
    before, during = start * hold_s, (start + end) / 2.0 * turn_s
    at = beats(ramped(start, end, tau, seconds, hold_s), cv2, rng)
    first, last = np.searchsorted(at, [before, before + during])
    units = at[first:last] - before
    # The root of start t + slope t^2 / 2 = units, in the form that does not cancel.
    risen = 2.0 * units / (start + np.sqrt(np.maximum(start * start + 2.0 * slope * units, 0.0)))
    rest = (at[last:] - before - during) / end
    found = np.concatenate([at[:first] / start, hold_s + risen, hold_s + turn_s + rest])
    return _within(found, seconds)


def ramped(start: float, end: float, tau: float, seconds: float, hold_s: float = 0.0) -> float:
    """How many requests a ramp has in the mean."""
    held = min(hold_s, seconds)
    turn_s = abs(end - start) / tau
    turning = min(max(seconds - hold_s, 0.0), turn_s)
    reached = start + (end - start) * (turning / turn_s if turn_s else 0.0)
    after = max(seconds - hold_s - turn_s, 0.0)
    return start * held + (start + reached) / 2.0 * turning + end * after


def steps(rates: Floats, seconds: float, cv2: float, rng: np.random.Generator) -> Instants:
    """float64 [n]: `rates` [k], requests per second, one after another for seconds / k each. Some may be 0.

    >>> at = steps(np.array([5.0, 0.0, 10.0]), 30.0, 0.0, np.random.default_rng(0))
    >>> np.histogram(at, 3, (0.0, 30.0))[0].tolist()
    [50, 0, 100]
    """
    at, _ = stretched(np.asarray(rates, dtype=np.float64) * (seconds / len(rates)), seconds, cv2, rng)
    return at


def stretched(
    expected: Floats, seconds: float, cv2: float, rng: np.random.Generator
) -> tuple[Instants, Floats]:
    """Of `expected` [k], how many come in each of k equal parts of `seconds`: the instants, float64 [n], and where each
    lies in the running sum of what is expected, float64 [n]."""
    if not len(expected) or not np.all((expected >= 0.0) & np.isfinite(expected)):
        raise ValueError("rates are 0 or more and finite, and there is at least one")
    sums = np.concatenate([[0.0], np.cumsum(expected)])
    checked(sums[-1] / seconds if seconds else 0.0, seconds)
    found = beats(float(sums[-1]), cv2, rng)
    # Sums that repeat are parts without requests: the part that a position lies in is the last that begins there.
    part = np.searchsorted(sums, found, side="right") - 1
    at = (part + (found - sums[part]) / expected[part]) * (seconds / len(expected))
    return _within(at, seconds), found


def random_rates(
    capacity: float, rng: np.random.Generator, count: int = 10, low: float = 0.3, high: float = 6.0
) -> Floats:
    """float64 [count]: rates from `low` to `high` times a capacity, each octave as likely as any other: a load that
    nobody has tuned a policy on."""
    if count < 1 or not 0.0 < low <= high or not capacity > 0.0:
        raise ValueError(f"{count} rates from {low} to {high} times {capacity}/s cannot be drawn")
    return np.asarray(capacity * np.exp(rng.uniform(np.log(low), np.log(high), count)))


def _within(at: Instants, seconds: float) -> Instants:
    """What rounding did to gaps of 1e-12 s and to the last instant, undone."""
    return np.maximum.accumulate(np.minimum(at, np.nextafter(seconds, 0.0)))
