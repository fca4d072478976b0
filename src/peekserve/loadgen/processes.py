"""Arrival processes by name, as commands take them: `poisson`, `gamma:cv2=4`, `bursty:base=1500,varying=4900,cv2=4`."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Protocol

import numpy as np

from peekserve.config import Entry, nearest
from peekserve.errors import InvalidConfiguration
from peekserve.loadgen.arrivals import Instants, gamma, poisson
from peekserve.loadgen.functions import MOST, Kind, compressed, day
from peekserve.loadgen.rates import bursty, ramp, ramped, random_rates, steps
from peekserve.loadgen.traces import Counts, Played, Requests, Trace, limited, play

# Where neither the command nor the process says one.
RATE, SECONDS = 200.0, 20.0


class Process(Protocol):
    """When requests come, up to the rate."""

    def own_rate(self, seconds: float) -> float | None:
        """Requests per second in the mean, where the process says; None where any rate will do."""

    def draw(self, rate: float, seconds: float, rng: np.random.Generator) -> Instants:
        """float64 [n]: instants from 0 to below `seconds`, never falling, at a mean of `rate` per second."""


@dataclass(frozen=True, slots=True)
class Poisson:
    """Nobody knows of anybody else."""

    def own_rate(self, seconds: float) -> float | None:
        return None

    def draw(self, rate: float, seconds: float, rng: np.random.Generator) -> Instants:
        return poisson(rate, seconds, rng)


@dataclass(frozen=True, slots=True)
class Gamma:
    """Gaps of one mean that vary more (`cv2` above 1) or less."""

    cv2: float

    def own_rate(self, seconds: float) -> float | None:
        return None

    def draw(self, rate: float, seconds: float, rng: np.random.Generator) -> Instants:
        return gamma(rate, self.cv2, seconds, rng)


@dataclass(frozen=True, slots=True)
class Bursty:
    """A fixed beat with a gamma stream over it. Another rate than its own scales both."""

    base: float
    varying: float
    cv2: float

    def own_rate(self, seconds: float) -> float | None:
        return self.base + self.varying

    def draw(self, rate: float, seconds: float, rng: np.random.Generator) -> Instants:
        factor = rate / (self.base + self.varying)
        return bursty(self.base * factor, self.varying * factor, self.cv2, seconds, rng)


@dataclass(frozen=True, slots=True)
class Ramp:
    """`start` per second for `hold` seconds, then by `tau` per second in each second to `end`. Another rate than its
    own scales all three."""

    start: float
    end: float
    tau: float
    cv2: float = 8.0
    hold: float = 0.0

    def own_rate(self, seconds: float) -> float | None:
        return ramped(self.start, self.end, self.tau, seconds, self.hold) / seconds

    def draw(self, rate: float, seconds: float, rng: np.random.Generator) -> Instants:
        factor = rate / (self.own_rate(seconds) or rate)
        return ramp(
            self.start * factor, self.end * factor, self.tau * factor, self.cv2, seconds, rng, self.hold
        )


@dataclass(frozen=True, slots=True)
class Segments:
    """So many rates of equal length, each drawn from `low` to `high` times the given rate: that is no mean here, but
    what the system is thought to carry."""

    count: int = 10
    low: float = 0.3
    high: float = 6.0
    cv2: float = 4.0

    def own_rate(self, seconds: float) -> float | None:
        return None

    def draw(self, rate: float, seconds: float, rng: np.random.Generator) -> Instants:
        rates = random_rates(rate, rng, self.count, self.low, self.high)
        limited(float(rates.mean()) * seconds)
        return steps(rates, seconds, self.cv2, rng)


@dataclass(frozen=True, slots=True)
class Functions:
    """A day of serverless functions, compressed."""

    functions: int = 4000
    zipf: float = 1.0
    cv2: float = 1.0

    def own_rate(self, seconds: float) -> float | None:
        return None

    def draw(self, rate: float, seconds: float, rng: np.random.Generator) -> Instants:
        return compressed(day(rng, self.functions, self.zipf).minutes, rate, seconds, rng, self.cv2)


PROCESSES: Mapping[str, type[Process]] = {
    "poisson": Poisson,
    "gamma": Gamma,
    "bursty": Bursty,
    "ramp": Ramp,
    "segments": Segments,
    "functions": Functions,
}
# From where to where an option may go; the others are rates and times from 0.
_WHOLE = {"count": (1, 100_000), "functions": (len(Kind), MOST)}
_FROM = {"start": 1e-6, "end": 1e-6, "tau": 1e-6, "low": 1e-6, "high": 1e-6}
_TO = {"cv2": 1e4, "zipf": 10.0}


def parse_process(text: str, flag: str = "--arrivals") -> Process:
    """A process from its word. Raises InvalidConfiguration, which names what is unknown, missing or out of range.

    >>> parse_process("gamma:cv2=4")
    Gamma(cv2=4.0)
    """
    name, _, rest = text.partition(":")
    name = name.strip()
    if name not in PROCESSES:
        raise InvalidConfiguration(f"{flag}: unknown process {name[:60]!r}; {nearest(name, PROCESSES)}")
    kind = PROCESSES[name]
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    given: dict[str, float] = {}
    for pair in rest.split(",") if rest.strip() else ():
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise InvalidConfiguration(f"{flag} {name}: {pair[:60]!r} is not OPTION=NUMBER")
        if key not in known:
            hint = nearest(key, known) if known else "it takes none"
            raise InvalidConfiguration(f"{flag} {name}: unknown option {key[:60]!r}; {hint}")
        if key in given:
            raise InvalidConfiguration(f"{flag} {name}: {key} stands there twice")
        entry = Entry(f"{flag} {name}", 0, key, value)
        given[key] = entry.integer(*_WHOLE[key]) if key in _WHOLE else _number(entry, key)
    missing = [key for key, field in known.items() if field.default is MISSING and key not in given]
    if missing:
        example = ",".join([*rest.split(",")] * bool(given) + [f"{key}=NUMBER" for key in missing])
        raise InvalidConfiguration(f"{flag} {name}: needs {', '.join(missing)}; write {name}:{example}")
    found = kind(**given)
    if isinstance(found, Segments) and found.low > found.high:
        raise InvalidConfiguration(f"{flag} {name}: low is {found.low:g}, above high, {found.high:g}")
    if found.own_rate(SECONDS) == 0.0:
        raise InvalidConfiguration(f"{flag} {text}: nothing ever comes; one of its rates is above 0")
    return found


def _number(entry: Entry, key: str) -> float:
    return entry.number(_FROM.get(key, 0.0), _TO.get(key, 1e9))


def arrive(
    source: Process | Trace, rate: float | None, seconds: float | None, rng: np.random.Generator
) -> Played:
    """A process or a trace, played. Of a process, `rate` is its own if not given, or 200, and `seconds` are 20; of a
    trace, see `play`. Raises InvalidConfiguration for what cannot be drawn, or is more than a run takes."""
    if isinstance(source, Requests | Counts):
        return play(source, rate, seconds, rng)
    seconds = SECONDS if seconds is None else seconds
    try:
        wanted = rate if rate is not None else source.own_rate(seconds)
        wanted = RATE if wanted is None else wanted
        limited(wanted * seconds)
        return Played(source.draw(wanted, seconds, rng), seconds)
    except ValueError as error:
        raise InvalidConfiguration(
            f"{source} at {rate or 'its own rate'} for {seconds:g} s: {error}"
        ) from None
