"""Gear plans of the zoos, made on validation answers and measured times, and what is served under them.

Each zoo's plan is for `DEVICES` like devices and loads up to `OF_BASE` times what they answer with the largest model in
its largest batches, or `OF_TINY` of what they answer with the smallest, if that is less: so high that gears for low
loads are more accurate than those for high ones on validation data. The load is not known in advance, so the ranges are
weighed by Zipf as in the paper. The goal is a 95th percentile within `GOAL` of the deadline: the rest is for the tail.
Gears are judged by the real scheduler in pretended time, on bursty arrivals and without the guard.

Beside it stand the plans that lack a part: no switching (one cascade for all loads), no cascades (single models, which
is Model-Switching), neither (one model, dynamic batching), and a plan as the paper prints it: for Poisson arrivals, and
with the whole deadline as its goal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from peekserve.domain.gears import GearPlan
from peekserve.errors import InvalidData
from peekserve.experiments.cascadeserve.lab import DEADLINE_S, DEVICE, MAX_BATCH, Zoo, problem
from peekserve.planner.loads import Loads
from peekserve.planner.loop import plan
from peekserve.planner.problem import Slo
from peekserve.planner.simulated import Simulated

DEVICES = {"ecg": 2, "keywords": 3, "digits": 2}
OF_BASE = {"ecg": 4.0, "keywords": 4.0, "digits": 7.0}
OF_TINY, RANGES = 0.7, 12
GOAL, BURSTINESS = 0.75, 4.0
REQUESTS = 3000


@dataclass(frozen=True, slots=True)
class Plans:
    """Plans of one zoo for the same devices and loads. `gears`: the whole. `one_cascade`: no switching. `singles`: no
    cascades. `one_model`: neither. `printed`: as the paper has it."""

    gears: GearPlan
    one_cascade: GearPlan
    singles: GearPlan
    one_model: GearPlan
    printed: GearPlan

    @property
    def highest(self) -> float:
        """Requests per second."""
        return self.gears.highest

    @property
    def statics(self) -> Sequence[int]:
        """The numbers of the gears that differ in their cascade; of those with the same, that for the highest load."""
        last = {(gear.stages, gear.thresholds): number for number, gear in enumerate(self.gears.gears)}
        return sorted(last.values())


class _Same:
    """A zoo that equals itself alone."""

    def __init__(self, zoo: Zoo) -> None:
        self.zoo = zoo

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.zoo is self.zoo

    def __hash__(self) -> int:
        return id(self.zoo)


def plans_of(zoo: Zoo) -> Plans:
    """Made once for each zoo. Raises InvalidData where there is no plan, with the planner's reason."""
    return _plans_of(_Same(zoo))


@lru_cache(maxsize=8)
def _plans_of(same: _Same) -> Plans:
    zoo = same.zoo
    return Plans(
        made(zoo),
        made(zoo, switching=False),
        made(zoo, stages=1),
        made(zoo, stages=1, switching=False),
        made(zoo, goal=1.0, burstiness=1.0),
    )


def made(
    zoo: Zoo,
    goal: float = GOAL,
    burstiness: float = BURSTINESS,
    stages: int | None = None,
    switching: bool = True,
) -> GearPlan:
    """A plan for this zoo's devices and loads. Raises InvalidData where there is none."""
    loads, devices = Loads.zipf(highest(zoo), RANGES), DEVICES.get(zoo.name, 2)
    asked = problem(zoo, Slo(p95_s=goal * DEADLINE_S), loads, devices)
    asked = replace(asked, switching=switching, stages=stages or asked.stages)
    found = plan(asked, Simulated(zoo.application, zoo.validation, REQUESTS, burstiness))
    if not isinstance(found, GearPlan):
        raise InvalidData(f"{zoo.name} has no gear plan for its traces: {found.why}")
    return found


def highest(zoo: Zoo) -> float:
    """Requests per second that the plan is made for."""
    least, most = _capacity(zoo, zoo.sizes[-1]), _capacity(zoo, zoo.sizes[0])
    return DEVICES.get(zoo.name, 2) * min(OF_TINY * most, OF_BASE.get(zoo.name, 4.0) * least)


def model_number(zoo: Zoo, name: str) -> int:
    """The place of a model among all of the zoo by rising accuracy, as the policy `dynba` counts them."""
    worth = {v.name: v.quality.accuracy for v in zoo.application.variants if v.quality is not None}
    return sorted(worth, key=lambda one: worth[one]).index(name)


def _capacity(zoo: Zoo, size: str) -> float:
    """Samples per second of one device with this model at its best batch."""
    curve = zoo.application.variant(size).timing[DEVICE].curve(0)
    return max(b / curve.seconds(b) for b in range(1, MAX_BATCH + 1))
