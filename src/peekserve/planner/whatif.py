"""How many devices does a load take? Gear plans against single models, device by device (CascadeServe, figure 6).

| column  | cascades | changes with the load | stands for                  |
| ------- | -------- | --------------------- | --------------------------- |
| gears   | yes      | yes                   | CascadeServe                |
| singles | no       | yes                   | Model-Switching             |
| one     | no       | no                    | dynamic batching of a model |
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from peekserve.domain.gears import GearPlan
from peekserve.planner.estimate import Estimator
from peekserve.planner.faults import Fault
from peekserve.planner.loop import Tell, plan
from peekserve.planner.problem import Device, Problem

Made = GearPlan | Fault


@dataclass(frozen=True, slots=True)
class Line:
    """What so many devices can do."""

    devices: int
    gears: Made
    singles: Made
    one: Made


def what_if(
    problem: Problem, most: int, estimator: Estimator | None = None, tell: Tell = lambda what: None
) -> list[Line]:
    """Plans for one device up to `most` like the problem's first."""
    kind, budget = problem.devices[0].kind, problem.devices[0].budget_bytes
    lines = []
    for many in range(1, most + 1):
        tell(f"{many} of {most} devices")
        own = replace(problem, devices=tuple(Device(f"{kind}:{i}", kind, budget) for i in range(many)))
        singles = replace(own, stages=1)
        one = replace(singles, switching=False)
        lines.append(Line(many, plan(own, estimator), plan(singles, estimator), plan(one, estimator)))
    return lines


def accuracy(made: Made) -> float:
    """Of a plan, over the expected loads; 0 where there is none."""
    return made.accuracy if isinstance(made, GearPlan) else 0.0


def needed(made: Sequence[Made], least: float) -> int | None:
    """The fewest devices with which a plan is this accurate; `made[0]` has one device."""
    return next((n for n, plan in enumerate(made, start=1) if accuracy(plan) >= least > 0.0), None)
