"""What one part of the planner tells another: that something cannot be, where, and what the best would be.

A goal that nothing meets is an outcome of planning and no error: it is returned, and its last fault says why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """The four parts of the planner (CascadeServe, section 4, algorithm 1)."""

    CASCADES = "cascade search"
    RANGES = "cascade for each load range"
    PLACEMENT = "placement and load balancing"
    QUEUES = "minimum queue lengths"


@dataclass(frozen=True, slots=True)
class Fault:
    """`part`: who found it. `at`: the range of load, -1 for all. `model`: the bottleneck, where there is one. `why`: a
    sentence with the numbers. `best`: the best p95 in seconds, accuracy or utilisation that could be had."""

    part: Part
    why: str
    at: int = -1
    model: str = ""
    best: float = float("nan")

    def __str__(self) -> str:
        return f"no plan meets the goal: {self.part.value}: {self.why}"


class Remedy(StrEnum):
    """What the planner does about a fault (planner/loop.py)."""

    SPREAD = "another spread of the load"
    REPLICA = "one more replica"
    CHEAPER = "a lesser cascade in that range"
    FEWER = "fewer weights"
    NONE = "none"


# Hears of every fault on the way to a plan, and what was done about it.
Back = Callable[[Fault, Remedy], None]


def unheard(fault: Fault, remedy: Remedy) -> None:
    """For who does not listen."""
