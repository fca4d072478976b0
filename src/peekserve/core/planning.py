"""When to plan, and how much of a plan to carry out."""

from dataclasses import dataclass
from math import floor
from typing import Protocol

from peekserve.errors import InvalidConfiguration


class Planning(Protocol):
    """`whole`: carry out the whole plan, or only the first batch of each worker. `lead_s`: a worker can take
    more that long before all that it has should be done. `hold`: keep the peek's answers back while
    something better may still come. `rebalance_s`: give a whole plan away bit by bit, and plan again what was not given
    away yet after so long; 0 gives all of it away at once."""

    @property
    def whole(self) -> bool: ...
    @property
    def lead_s(self) -> float: ...
    @property
    def hold(self) -> bool: ...
    @property
    def rebalance_s(self) -> float: ...

    def next_at(self, now: float) -> float:
        """When to plan, given that something changed now."""
        ...


@dataclass(frozen=True, slots=True)
class Rolling:
    """Plan whenever something changed and a worker can take work; run the first batch, then think again.

    That is rebalancing all the time: a worker has one batch, and with a lead the next one, and all else is open.
    """

    lead_s: float = 0.0
    hold: bool = True
    whole: bool = False
    rebalance_s: float = 0.0

    def next_at(self, now: float) -> float:
        return now


@dataclass(frozen=True, slots=True)
class Window:
    """The paper's way: requests wait for the end of a window, then the whole plan is carried out.

    With `rebalance_s` (SneakPeek, section 7.2: "we may require periodic load balancing") a worker is given a batch
    `lead_s` before it should be free, and what is left of the plan is planned again that often.
    """

    length_s: float
    lead_s: float = float("inf")
    hold: bool = False
    whole: bool = True
    rebalance_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.length_s > 0.0:
            raise InvalidConfiguration(f"a window is a positive time, not {self.length_s} s")
        if self.rebalance_s < 0.0 or (self.rebalance_s > 0.0 and self.lead_s == float("inf")):
            raise InvalidConfiguration(
                f"a plan is rebalanced after {self.rebalance_s} s with a lead of {self.lead_s} s; both are times"
            )

    def next_at(self, now: float) -> float:
        return (floor(now / self.length_s) + 1) * self.length_s
