"""Recorded arrivals, played as they were, faster, or at another mean rate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidConfiguration
from peekserve.loadgen.arrivals import Instants
from peekserve.loadgen.rates import stretched

# Of one run. A request costs some hundred bytes by the time that it is simulated.
MOST_REQUESTS = 20_000_000
# How finely the shape of recorded requests is kept where others are drawn in their place: by the second, if not longer.
SLOT_S, MOST_SLOTS = 1.0, 1_000_000


@dataclass(frozen=True, slots=True)
class Requests:
    """Every request of a recording. `at`: float64 [n], seconds, never falling, the first at 0 and the last later.
    `applications`, `samples`: [n] where the recording says them; a sample below 0 is not said."""

    at: Instants
    applications: Sequence[str] | None = None
    samples: Sequence[int] | None = None

    @property
    def requests(self) -> int:
        return len(self.at)

    @property
    def length_s(self) -> float:
        """To where the next would come: one mean gap after the last."""
        return float(self.at[-1]) * len(self.at) / (len(self.at) - 1)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many requests each slot of a recording had. `counts`: int64 [slots], at least one above 0."""

    counts: npt.NDArray[np.int64]
    slot_s: float

    @property
    def requests(self) -> int:
        return int(self.counts.sum())

    @property
    def length_s(self) -> float:
        return len(self.counts) * self.slot_s


Trace = Requests | Counts


@dataclass(frozen=True, slots=True)
class Played:
    """A trace as it is sent. `at`: float64 [n], from 0 to below `seconds`, never falling; the others as in Requests."""

    at: Instants
    seconds: float
    applications: Sequence[str] | None = None
    samples: Sequence[int] | None = None


def play(trace: Trace, rate: float | None, seconds: float | None, rng: np.random.Generator) -> Played:
    """The recorded requests at `rate` requests per second in the mean, for `seconds`.

    With neither, as recorded. With one of them, every recorded request comes once, in time that runs faster or slower.
    With both, the shape is kept and requests are drawn: each slot of the recording becomes an equal part of the run,
    its count is multiplied by one factor for all, and instants are drawn within it, by Poisson. A drawn request is for
    the application of the recorded one in its place.

    Raises InvalidConfiguration for a rate or length that is not positive, or for more than 20 million requests.
    """
    for value, what in ((rate, "rate"), (seconds, "length")):
        if value is not None and not 0.0 < value < np.inf:
            raise InvalidConfiguration(f"a {what} of {value:g} cannot be played; it is above 0")
    if rate is not None and seconds is not None:
        limited(rate * seconds)
        return _drawn(trace, rate, seconds, rng)
    limited(trace.requests)
    length_s = trace.requests / rate if rate is not None else seconds or trace.length_s
    below = np.nextafter(length_s, 0.0)
    if isinstance(trace, Requests):
        at = np.minimum(trace.at * (length_s / trace.length_s), below)
        return Played(at, length_s, trace.applications, trace.samples)
    slot = np.repeat(np.arange(len(trace.counts)), trace.counts)
    at = np.sort(slot + rng.random(len(slot))) * (length_s / len(trace.counts))
    return Played(np.minimum(at, below), length_s)


def limited(requests: float) -> None:
    """Raises InvalidConfiguration for more requests than one run takes."""
    if not requests <= MOST_REQUESTS:
        raise InvalidConfiguration(
            f"{requests:,.0f} requests are too many for one run, which takes {MOST_REQUESTS:,}: lower rate or length"
        )


def slotted(trace: Trace) -> Counts:
    """The trace by slots: recorded requests by the second, or by the millionth part of a longer recording."""
    if isinstance(trace, Counts):
        return trace
    slots = int(min(max(np.ceil(trace.length_s / SLOT_S), 1.0), MOST_SLOTS))
    part = np.minimum((trace.at * (slots / trace.length_s)).astype(np.int64), slots - 1)
    return Counts(np.bincount(part, minlength=slots), trace.length_s / slots)


def _drawn(trace: Trace, rate: float, seconds: float, rng: np.random.Generator) -> Played:
    factor = rate * seconds / trace.requests
    at, position = stretched(slotted(trace).counts.astype(np.float64) * factor, seconds, 1.0, rng)
    if isinstance(trace, Counts):
        return Played(at, seconds)
    # Where a drawn request lies in the sum of what is expected tells which recorded one it stands for.
    of = np.minimum((position / factor).astype(np.int64), trace.requests - 1).tolist()
    applications, samples = trace.applications, trace.samples
    return Played(
        at,
        seconds,
        None if applications is None else [applications[i] for i in of],
        None if samples is None else [samples[i] for i in of],
    )
