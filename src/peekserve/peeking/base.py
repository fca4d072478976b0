"""The seams of peeking: what is looked at, what gives evidence, what looks, and who is told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

# Application input name -> [n, *row shape], n rows, all of one shape bucket.
Inputs = Mapping[str, npt.NDArray[np.generic]]
# Input name -> int [n], the true length of each row along the axis that varies, padding not counted.
Lengths = Mapping[str, npt.NDArray[np.integer]]
Counts = npt.NDArray[np.float64]

# What one turn of looking brought: request id and its counts [rows, C], or None where the peek failed.
Results = list[tuple[str, Counts | None]]
Report = Callable[[Results], None]


@dataclass(frozen=True, slots=True)
class Glance:
    """What there is to see of one request: its raw inputs, and the true lengths where they vary."""

    inputs: Inputs
    lengths: Lengths = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return max((len(values) for values in self.inputs.values()), default=0)


class Sees(Protocol):
    """Turns raw inputs into features: fitted steps, or the scores of a model."""

    def transform(self, inputs: Inputs, lengths: Lengths | None = None) -> npt.NDArray[np.float32]:
        """float32 [n, D] for n rows of one shape. Raises InvalidTensor when they cannot be looked at."""
        ...


class Evidence(Protocol):
    """Turns features into votes. Labelled neighbours do; so can an approximate index or a model's
    decision."""

    def counts(self, features: npt.NDArray[np.float32]) -> Counts:
        """float64 [n, C], finite and not negative, for features float32 [n, D]; row by row, so that a row's
        counts never depend on the rows beside it."""
        ...


class Looks(Protocol):
    """Looks at many requests of one application at once."""

    def look_all(self, glances: Sequence[Glance]) -> list[Counts]:
        """One float64 [rows, C] for each glance, in their order. Raises when any of them cannot be looked
        at."""
        ...


class Peeks(Protocol):
    """Takes requests and reports the counts of each exactly once, later and from any thread."""

    def start(self) -> None: ...

    def submit(
        self, request_id: str, application: str, inputs: Inputs, lengths: Lengths | None = None
    ) -> None: ...

    def stop(self) -> None: ...
