"""Gears: which cascade runs at which load, and where (CascadeServe, sections 3 and 5).

A *gear* is what serves one range of load: a cascade with its thresholds, how many samples a stage waits for before it
runs, and which devices run each stage. A *gear plan* is the gears of one application over all loads, and one placement
of weights for all of them: nothing is loaded when the gear changes, so that a change is a change of a pointer.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from peekserve.errors import InvalidConfiguration

VERSION = 1


@dataclass(frozen=True, slots=True)
class Stop:
    """What becomes of the rows of a batch when it ends: a row whose `certainty` (a name in cascades/certainty.py) is
    below `threshold` goes on to the variant `onto`, an index; all others are answered. `guard`: it goes on only if that
    can still be in time."""

    certainty: str
    threshold: float
    onto: int
    guard: bool = True


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a stage's load a device takes, from 0 to 1."""

    device: str
    share: float


@dataclass(frozen=True, slots=True)
class Expected:
    """What the planner believes of a gear at the upper end of its range. `reach`: the share of samples that comes to
    each stage. `accuracy`, `error`, `bound`: on validation data, with its standard error and lower bound. `p95_s`: the
    95th percentile of the time from arrival to answer. `utilisation`: of the busiest device."""

    reach: tuple[float, ...]
    accuracy: float
    error: float
    bound: float
    p95_s: float
    utilisation: float


@dataclass(frozen=True, slots=True)
class Gear:
    """From `low` up to `high` requests per second. `queues`: how many samples each stage waits for. `shares`: by stage,
    the devices that run it. `weight`: how much of the time the load is expected to be in this range."""

    low: float
    high: float
    stages: tuple[str, ...]
    thresholds: tuple[float, ...]
    queues: tuple[int, ...]
    shares: tuple[tuple[Share, ...], ...]
    expected: Expected
    weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.low < self.high:
            raise InvalidConfiguration(
                f"an empty load range: a gear serves from a lower to a higher rate, not {self.low:g} to "
                f"{self.high:g} requests per second"
            )
        of = len(self.stages)
        if not of or (len(self.thresholds), len(self.queues), len(self.shares)) != (of - 1, of, of):
            raise InvalidConfiguration(
                f"a gear of {of} stages has a threshold between each two, and a queue length and devices for each"
            )
        if any(queue < 1 for queue in self.queues):
            raise InvalidConfiguration(f"a stage waits for one sample or more, not {list(self.queues)}")
        if any(not shares for shares in self.shares):
            raise InvalidConfiguration(
                f"a stage of the gear from {self.low:g} to {self.high:g} runs on no device"
            )


@dataclass(frozen=True, slots=True)
class Planned:
    """A variant as it was when the plan was made."""

    name: str
    revision: str
    weights: str


@dataclass(frozen=True, slots=True)
class Holding:
    """A device and the weights that it holds in every gear. `budget_bytes`: what it has for them."""

    device: str
    kind: str
    budget_bytes: int
    weights: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GearPlan:
    """Gears of one application, their ranges side by side from 0 upwards. `fingerprint`: of the machine that its
    timings hold for. `slo`: what it was made for, as it was written. `share`: how much of the time of its devices it
    was made for; the rest is for plans of other applications."""

    application: str
    certainty: str
    slo: str
    fingerprint: str
    models: tuple[Planned, ...]
    placement: tuple[Holding, ...]
    gears: tuple[Gear, ...]
    version: int = VERSION
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise InvalidConfiguration(
                f"a gear plan has a share of its devices' time above 0 and up to 1, not {self.share:g}"
            )
        if not self.gears or self.gears[0].low != 0.0:
            raise InvalidConfiguration("a gear plan begins at a load of 0 and has one gear or more")
        for lower, upper in zip(self.gears, self.gears[1:], strict=False):
            if lower.high != upper.low:
                raise InvalidConfiguration(
                    f"the ranges of gears lie side by side: one ends at {lower.high:g}, the next begins at "
                    f"{upper.low:g}"
                )
        known = {model.name for model in self.models}
        unknown = sorted({stage for gear in self.gears for stage in gear.stages} - known)
        if unknown:
            raise InvalidConfiguration(f"gears use {', '.join(unknown)}, which the plan does not describe")

    def at(self, rate: float) -> int:
        """The number of the gear for so many requests per second; the last one for more than was planned."""
        return min(bisect_right([gear.low for gear in self.gears], rate), len(self.gears)) - 1

    def only(self, number: int) -> "GearPlan":
        """The same plan with one of its gears for every load. Raises InvalidConfiguration where it has no such gear."""
        if not 0 <= number < len(self.gears):
            raise InvalidConfiguration(
                f"the gear plan of {self.application!r} has gears 0 to {len(self.gears) - 1}, and no gear {number}"
            )
        return replace(self, gears=(replace(self.gears[number], low=0.0, high=self.highest, weight=1.0),))

    @property
    def highest(self) -> float:
        """The load that was planned for."""
        return self.gears[-1].high

    @property
    def accuracy(self) -> float:
        """The mean over the loads that are expected; over all ranges alike where none are."""
        weights: Sequence[float] = [gear.weight for gear in self.gears]
        if not sum(weights) > 0.0:
            weights = [1.0] * len(self.gears)
        return sum(w * g.expected.accuracy for w, g in zip(weights, self.gears, strict=True)) / sum(weights)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Plans that ask for more of a device's time than there is. `share`: what they ask for together."""

    device: str
    applications: tuple[str, ...]
    share: float


# Shares are written in decimals, and three thirds of 0.333 and a bit are one device.
_ROUNDING = 1e-9


def crowded(plans: Mapping[str, GearPlan]) -> tuple[Crowd, ...]:
    """The devices on which the plans of several applications, each made as if it had its share for itself, ask for more
    than the whole; in the order of their names."""
    found = []
    for device in sorted({held.device for plan in plans.values() for held in plan.placement if held.weights}):
        here = [
            name
            for name, plan in sorted(plans.items())
            if any(held.device == device and held.weights for held in plan.placement)
        ]
        share = sum(plans[name].share for name in here)
        if len(here) > 1 and share > 1.0 + _ROUNDING:
            found.append(Crowd(device, tuple(here), share))
    return tuple(found)
