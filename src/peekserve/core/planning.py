"""When to plan, and how much of a plan to carry out."""

from dataclasses import dataclass
from math import floor
from typing import Protocol

from peekserve.errors import InvalidConfiguration


class Planning(Protocol):
    """`whole`: carry out the whole plan, or only the first batch of each worker. `lead_s`: a worker can take
    more that long before all that it has should be done. `hold`: keep the peek's answers back while
    something better may still come."""

    @property
    def whole(self) -> bool: ...
    @property
    def lead_s(self) -> float: ...
    @property
    def hold(self) -> bool: ...

    def next_at(self, now: float) -> float:
        """When to plan, given that something changed now."""
        ...


@dataclass(frozen=True, slots=True)
class Rolling:
    """Plan whenever something changed and a worker can take work; run the first batch, then think again."""

    lead_s: float = 0.0
    hold: bool = True
    whole: bool = False

    def next_at(self, now: float) -> float:
        return now


@dataclass(frozen=True, slots=True)
class Window:
    """The paper's way: requests wait for the end of a window, then the whole plan is carried out."""

    length_s: float
    lead_s: float = float("inf")
    hold: bool = False
    whole: bool = True

    def __post_init__(self) -> None:
        if not self.length_s > 0.0:
            raise InvalidConfiguration(f"a window is a positive time, not {self.length_s} s")

    def next_at(self, now: float) -> float:
        return (floor(now / self.length_s) + 1) * self.length_s
