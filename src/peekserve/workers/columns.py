"""Rows side by side become columns: what a batch sends to its worker."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Variant
from peekserve.errors import InvalidTensor
from peekserve.workers.base import RowInputs
from peekserve.workers.frames import Tensor
from peekserve.workers.ring import Ring, aligned

Column = Sequence[npt.NDArray[Any]]


def by_input(variant: Variant, rows: Sequence[RowInputs]) -> dict[str, Column]:
    """The inputs that the variant needs (all where it names none), each as the list of its rows.

    Raises InvalidTensor when a row lacks one of them, or rows differ in datatype or shape.
    """
    columns: dict[str, Column] = {}
    for name in variant.needs or rows[0]:
        missing = next((i for i, row in enumerate(rows) if name not in row), None)
        if missing is not None:
            raise InvalidTensor(
                f"row {missing} of the batch lacks input {name!r}, needed by {variant.name!r}"
            )
        column = columns[name] = [row[name] for row in rows]
        kinds = {(x.dtype.str, x.shape) for x in column}
        if len(kinds) > 1:
            raise InvalidTensor(
                f"input {name!r}: rows of a batch differ in datatype or shape: {sorted(kinds)}"
            )
    return columns


def lay_out(ring: Ring, columns: Mapping[str, Column]) -> tuple[int | None, tuple[Tensor, ...]]:
    """Stack each column into the ring: the offset to free when the batch has ended, and where each tensor lies.

    A batch that finds no room goes through the socket instead, and the offset is None. That is several times as
    slow, and rare: a ring holds more than the two batches that a worker has at once, unless one is larger than it.
    """
    sizes = {name: len(column) * column[0].nbytes for name, column in columns.items()}
    offset = ring.take(sum(aligned(size) for size in sizes.values()))
    tensors, at = [], offset
    for name, column in columns.items():
        shape, dtype = (len(column), *column[0].shape), column[0].dtype
        if at is None:
            tensors.append(Tensor(name, dtype.str, shape, data=np.stack(column).tobytes()))
        else:
            np.stack(column, out=ring.array(at, shape, dtype))
            tensors.append(Tensor(name, dtype.str, shape, offset=at))
            at += aligned(sizes[name])
    return offset, tuple(tensors)
