"""What an answer is worth: its accuracy, less a penalty for the time it comes late.

    utility = accuracy * (1 - penalty(lateness))                              (SneakPeek, eq. 2)

Lateness is x = finish - deadline in seconds. Every penalty is 0 for x <= 0, never falls as x grows, and stays
in [0, 1]; `constant` alone ignores x, so that only accuracy counts. The paper names the step function and
leaves the linear and sigmoid ones open; ours are papers/notes.md 5.2 point 6: S is the request's own relative
deadline.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import inf, isfinite, tanh

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidConfiguration


class PenaltyKind(IntEnum):
    """Small integers, because the compiled kernel branches on them."""

    STEP = 0
    LINEAR = 1
    SIGMOID = 2
    CONSTANT = 3
    TABLE = 4


@dataclass(frozen=True, slots=True)
class Penalty:
    """How much of an answer's worth its lateness takes.

    `width`: seconds (`linear`: where all is lost; `sigmoid`: h in tanh(x / 2h)); None means the request's own
    relative deadline S, or a tenth of it for `sigmoid`. `level`: the value of `constant`. `points`: the
    owner's table of (lateness in seconds, penalty), linear in between, flat outside.

    >>> Penalty.step().at(0.001, deadline_s=0.1), Penalty.step().at(0.0, deadline_s=0.1)
    (1.0, 0.0)
    >>> Penalty.linear(width=0.2).at(0.05, deadline_s=0.1)
    0.25
    """

    kind: PenaltyKind
    width: float | None = None
    level: float = 0.0
    points: tuple[tuple[float, float], ...] = ()

    @classmethod
    def step(cls) -> "Penalty":
        return cls(PenaltyKind.STEP)

    @classmethod
    def linear(cls, width: float | None = None) -> "Penalty":
        return cls(PenaltyKind.LINEAR, _checked_width(width))

    @classmethod
    def sigmoid(cls, width: float | None = None) -> "Penalty":
        return cls(PenaltyKind.SIGMOID, _checked_width(width))

    @classmethod
    def constant(cls, level: float = 0.0) -> "Penalty":
        if not 0.0 <= level <= 1.0:
            raise InvalidConfiguration(f"a constant penalty lies in [0, 1], not {level}")
        return cls(PenaltyKind.CONSTANT, level=level)

    @classmethod
    def table(cls, points: Sequence[tuple[float, float]]) -> "Penalty":
        """An owner's own function: starts at (0, 0), lateness rises, the penalty never falls and stays in [0,
        1]."""
        if len(points) < 2:
            raise InvalidConfiguration(f"a penalty table needs two points or more, not {len(points)}")
        for (x0, p0), (x1, p1) in itertools.pairwise(points):
            if not x1 > x0:
                raise InvalidConfiguration(f"a penalty table's lateness must rise: {x1} follows {x0}")
            if p1 < p0:
                raise InvalidConfiguration(
                    f"a penalty may not fall with lateness: {p1} at {x1} s follows {p0} at {x0} s"
                )
        if points[0] != (0.0, 0.0) or points[-1][1] > 1.0:
            raise InvalidConfiguration("a penalty table starts at (0, 0) and stays at or below 1")
        return cls(PenaltyKind.TABLE, points=tuple((float(x), float(p)) for x, p in points))

    def width_s(self, deadline_s: float) -> float:
        """The width in seconds for a request with this relative deadline; the level for `constant`."""
        if self.kind is PenaltyKind.CONSTANT:
            return self.level
        if self.width is not None:
            return self.width
        return deadline_s * (0.1 if self.kind is PenaltyKind.SIGMOID else 1.0)

    def at(self, lateness_s: float, deadline_s: float) -> float:
        """The penalty, in [0, 1], of an answer that is `lateness_s` past its deadline."""
        if self.kind is PenaltyKind.CONSTANT:
            return self.level
        if lateness_s <= 0.0:
            return 0.0
        width = self.width_s(deadline_s)
        if self.kind is PenaltyKind.STEP or lateness_s == inf:
            return self.points[-1][1] if self.kind is PenaltyKind.TABLE else 1.0
        if self.kind is PenaltyKind.LINEAR:
            return min(lateness_s / width, 1.0)
        if self.kind is PenaltyKind.SIGMOID:
            return tanh(lateness_s / (2.0 * width))
        xs, ps = zip(*self.points, strict=True)
        return float(np.interp(lateness_s, xs, ps))


@dataclass(frozen=True, slots=True)
class PenaltyTables:
    """Every owner's table of a set of applications, end to end, as the kernel reads them.

    `x`, `p`: float64 [points]; table i lies at start[i] : start[i + 1]. `start`: int32 [tables + 1].
    """

    x: npt.NDArray[np.float64]
    p: npt.NDArray[np.float64]
    start: npt.NDArray[np.int32]

    @classmethod
    def of(cls, penalties: Sequence[Penalty]) -> "PenaltyTables":
        tables = [penalty.points for penalty in penalties]
        start = np.cumsum([0, *(len(points) for points in tables)]).astype(np.int32)
        flat = [point for points in tables for point in points]
        return cls(np.array([x for x, _ in flat]), np.array([p for _, p in flat]), start)


def _checked_width(width: float | None) -> float | None:
    if width is not None and not (isfinite(width) and width > 0.0):
        raise InvalidConfiguration(f"a penalty's width is a positive time, not {width}")
    return width
