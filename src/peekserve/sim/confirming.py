"""True classes that come back in a simulation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from peekserve.domain.request import Request
from peekserve.errors import InvalidConfiguration
from peekserve.sim.world import Recorded


@dataclass(frozen=True, slots=True)
class Confirming:
    """Each answered request is confirmed `delay_s` after its answer, with probability `chance`. `truth`: the true
    classes of its rows."""

    truth: Callable[[Request], tuple[int | None, ...]]
    chance: float = 1.0
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.chance <= 1.0 and self.delay_s >= 0.0):
            raise InvalidConfiguration(
                f"labels come back with a probability from 0 to 1 and not before the answer; got {self.chance} and "
                f"{self.delay_s} s"
            )


def truth_of(recorded: Mapping[str, Recorded]) -> Callable[[Request], tuple[int | None, ...]]:
    """The labels that a world was recorded with, by application."""

    def truth(request: Request) -> tuple[int | None, ...]:
        known = recorded[request.application]
        return tuple(int(known.labels[known.sample(request, row)]) for row in range(request.rows))

    return truth
