"""How a peek sees raw inputs: shapes checked, NaN filled, laid out as series."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidConfiguration, InvalidData, InvalidTensor
from peekserve.peeking import signals
from peekserve.peeking.base import Inputs, Lengths

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Varying:
    """An input whose length varies: along which axis of a row, and the longest that will ever come."""

    axis: int
    longest: int


@dataclass(frozen=True, slots=True)
class Seen:
    """One input, cleaned: NaN filled. `values` [n, *row shape], `series` [n, channels, L], `lengths` where
    they vary."""

    values: Floats
    series: Floats
    lengths: Ints | None


@dataclass(frozen=True, slots=True)
class SeenInput:
    """What was learnt of one input from the reference. `fill` is broadcast over the rows; `longest` bounds
    lengths."""

    name: str
    shape: tuple[int, ...]
    axis: int
    varies: bool
    longest: int
    fill: Floats

    def see(self, inputs: Inputs, lengths: Lengths) -> Seen:
        if self.name not in inputs:
            raise InvalidTensor(
                f"the peek needs input {self.name!r}; there is {', '.join(sorted(inputs)) or 'none'}"
            )
        given = inputs[self.name]
        if not self._fits(given.shape[1:]):
            raise InvalidTensor(
                f"input {self.name!r}: rows have shape {given.shape[1:]}; the peek knows {self.shape}"
            )
        values = given.astype(np.float64)
        missing = np.isnan(values)
        if missing.any():
            values = np.where(missing, self.fill, values)
        true = _lengths(self.name, lengths, given.shape, self.axis, self.longest) if self.varies else None
        return Seen(values, signals.as_series(values, self.axis), true)

    def _fits(self, shape: tuple[int, ...]) -> bool:
        if not self.varies:
            return shape == self.shape
        axis = self.axis
        return len(shape) == len(self.shape) and (
            shape[:axis] + shape[axis + 1 :] == self.shape[:axis] + self.shape[axis + 1 :]
        )


def learn(
    name: str, values: npt.NDArray[np.generic], lengths: Lengths, varying: Mapping[str, Varying]
) -> SeenInput:
    """What a reference input, [n, *row shape], teaches: layout, bounds and the mean that stands in for a NaN.

    Raises InvalidData, InvalidConfiguration, and InvalidTensor for lengths that are absent or out of bounds.
    """
    shape = values.shape[1:]
    if not shape or 0 in shape:
        raise InvalidData(
            f"reference input {name!r} has shape {values.shape}; it needs rows of one value or more"
        )
    longest_axis = max(range(len(shape)), key=lambda axis: (shape[axis], axis))
    varies = name in varying or name in lengths
    layout = varying.get(name, Varying(longest_axis, shape[longest_axis]))
    if not 0 <= layout.axis < len(shape):
        raise InvalidConfiguration(f"input {name!r}: rows of shape {shape} have no axis {layout.axis}")
    longest = max(layout.longest, shape[layout.axis]) if varies else shape[layout.axis]
    clean = values.astype(np.float64)
    bad = np.isnan(clean)
    if varies:
        true = _lengths(name, lengths, values.shape, layout.axis, longest)
        along = [1] * clean.ndim
        along[layout.axis + 1] = clean.shape[layout.axis + 1]
        within = np.arange(clean.shape[layout.axis + 1]).reshape(along)
        bad = bad | (within >= true.reshape(-1, *[1] * len(shape)))
        fold: tuple[int, ...] = (0, layout.axis + 1)
    else:
        fold = (0,)
    if np.isinf(clean[~bad]).any():
        raise InvalidData(f"reference input {name!r} holds an infinity")
    number = (~bad).sum(axis=fold, keepdims=True)
    total = np.where(bad, 0.0, clean).sum(axis=fold, keepdims=True)
    overall = total.sum() / max(int(number.sum()), 1)
    fill = np.where(number > 0, total / np.maximum(number, 1), overall)[0]
    return SeenInput(name, shape, layout.axis, varies, longest, fill)


def _lengths(name: str, lengths: Lengths, shape: tuple[int, ...], axis: int, longest: int) -> Ints:
    if name not in lengths:
        raise InvalidTensor(
            f"the length of input {name!r} varies; say the true length of each of its {shape[0]} rows"
        )
    given = np.asarray(lengths[name], dtype=np.int64)
    bound = min(shape[axis + 1], longest)
    if given.shape != (shape[0],) or (given.size and not (given.min() >= 1 and given.max() <= bound)):
        raise InvalidTensor(
            f"input {name!r}: {shape[0]} lengths from 1 to {bound} are wanted, one for each row, "
            f"not {given.tolist()}"
        )
    return given
