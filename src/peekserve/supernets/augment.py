"""Training rows as they might have been recorded another time: a supernet of little data learns more from them.

Every epoch sees every row changed anew. What changes is stated, each by one number, and 0 leaves it out:

    shift     found so many places early or late, at most: along the last axis, or along each of the last ones; what
              stands at an edge is repeated
    scale     larger or smaller by a factor exp(normal(0, scale))
    level     higher or lower by normal(0, level), the whole row
    drift     on a straight line from -d to d along the last axis, d from normal(0, drift)
    noise     normal(0, noise) on every number
    gap       a stretch of at most so many places along the last axis reads 0 (cutout, DeVries and Taylor 2017)
    mirror    half of the rows the other way round along the last axis

Only what cannot change a row's class may be named: that is known to who has the data and to nobody else. Numbers are in
the units of the network's input. Statistics of subnets are computed on rows changed in the same way (calibrate.py).
"""

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from peekserve.errors import InvalidConfiguration

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What may change in a row; see the module. Raises InvalidConfiguration for a number below 0."""

    shift: tuple[int, ...] = ()
    scale: float = 0.0
    level: float = 0.0
    drift: float = 0.0
    noise: float = 0.0
    gap: int = 0
    mirror: bool = False

    def __post_init__(self) -> None:
        given = {"scale": self.scale, "level": self.level, "drift": self.drift, "noise": self.noise}
        for name, value in (*given.items(), ("gap", self.gap), *(("shift", most) for most in self.shift)):
            if not math.isfinite(value) or value < 0:
                raise InvalidConfiguration(f"augment: {name} {value}: 0 or more, and finite")

    def __str__(self) -> str:
        """What changes, as a recipe states it."""
        changes = (f"{one.name} {getattr(self, one.name)}" for one in fields(self) if getattr(self, one.name))
        return ", ".join(changes) or "none"

    def check(self, row: tuple[int, ...]) -> None:
        """Raises InvalidConfiguration where rows of this shape are too short for `shift` or `gap`."""
        if len(self.shift) > len(row):
            raise InvalidConfiguration(
                f"augment: shift along {len(self.shift)} axes, of rows {list(row)}, which have {len(row)}"
            )
        ends = zip(self.shift, row[len(row) - len(self.shift) :], strict=True)
        for name, most, length in (*(("shift", *end) for end in ends), ("gap", self.gap, row[-1])):
            if most >= length:
                raise InvalidConfiguration(
                    f"augment: {name} {most}, of rows {list(row)}: less than the {length} places of that axis"
                )

    def __call__(self, rows: NDArray[np.floating], rng: np.random.Generator) -> Floats:
        """Rows [n, *row] changed, each by draws of its own; the same seed changes the same rows alike."""
        self.check(rows.shape[1:])
        n, length = len(rows), rows.shape[-1]
        one = (n, *(1,) * (rows.ndim - 1))  # a number for each row
        seen: NDArray[np.floating] = rows
        for back, most in enumerate(reversed(self.shift), 1):
            places = seen.shape[-back]
            at = np.clip(np.arange(places) + rng.integers(-most, most + 1, (n, 1)), 0, places - 1)
            along = (n, *(1,) * (rows.ndim - 1 - back), places, *(1,) * (back - 1))
            seen = np.take_along_axis(seen, at.reshape(along), -back)
        line: NDArray[np.floating] | float = 0.0
        if self.level:
            line = rng.normal(0.0, self.level, one)
        if self.drift:
            line = line + rng.normal(0.0, self.drift, one) * np.linspace(-1.0, 1.0, length)
        if self.scale:
            seen = seen * np.exp(rng.normal(0.0, self.scale, one))
        if self.level or self.drift:
            seen = seen + line
        if self.noise:
            seen = seen + rng.normal(0.0, self.noise, rows.shape)
        if self.gap:
            wide = rng.integers(0, self.gap + 1, one)
            since = np.arange(length) - rng.integers(0, length, one)
            seen = np.where((since >= 0) & (since < wide), 0.0, seen)
        if self.mirror:
            seen = np.where(rng.random(one) < 0.5, seen[..., ::-1], seen)
        return np.asarray(seen, np.float32)


UNCHANGED = Augmentation()
