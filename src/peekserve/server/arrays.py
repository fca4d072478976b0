"""Tensor contents, as JSON or as raw bytes, to arrays: each element checked, nothing converted by
accident."""

import re
from functools import cache
from math import prod
from typing import Any

import msgspec
import numpy as np

from peekserve.domain.tensors import DATATYPES
from peekserve.errors import InvalidTensor
from peekserve.server.calls import Array

MAX_AXES = 16

_OPENING = re.compile(rb"[\s\[]*")


def dtype_of(name: str, datatype: str) -> np.dtype[np.generic]:
    dtype = DATATYPES.get(datatype)
    if dtype is None:
        raise InvalidTensor(
            f"input {name!r} has datatype {datatype[:40]!r}; known are {', '.join(DATATYPES)}"
        )
    return dtype


def from_json(name: str, datatype: str, shape: tuple[int, ...], raw: bytes) -> Array:
    """The array of a tensor's `data`, flat or nested to the depth of its shape. `null` is NaN in a float
    tensor.

    Raises InvalidTensor for elements of another type or out of range, and for another number of them.
    """
    dtype = dtype_of(name, datatype)
    check_axes(name, shape)
    # One typed decoder for each depth: it is quick, and it takes no "1", true or null where a number belongs.
    depth = _OPENING.match(raw)[0].count(b"[")  # type: ignore[index]
    if depth not in (1, len(shape)):
        raise InvalidTensor(
            f"input {name!r}: its data are nested {depth} deep; with shape {list(shape)} they are one flat "
            f"list, or nested {len(shape)} deep"
        )
    # Counted before they are decoded: a lie about the shape must not cost seconds of the event loop.
    if bytes(raw).count(b",") >= max(prod(shape), 1):
        raise InvalidTensor(f"input {name!r}: shape {list(shape)} asks for {prod(shape)} elements, more came")
    try:
        values = _decoder(dtype.kind, depth).decode(raw)
        with np.errstate(over="ignore"):
            data = np.array(values, dtype)
    except (msgspec.MsgspecError, OverflowError, ValueError) as error:
        raise InvalidTensor(
            f"input {name!r}: its data are not {datatype} of shape {list(shape)}: {error}"
        ) from None
    if data.shape == shape:
        return data
    if depth > 1 or data.size != prod(shape):
        raise InvalidTensor(
            f"input {name!r}: shape {list(shape)} asks for {prod(shape)} elements, its data "
            + (f"have shape {list(data.shape)}" if depth > 1 else f"are {data.size}")
        )
    return data.reshape(shape)


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], raw: memoryview) -> Array:
    """The array of a tensor's raw contents: little-endian, row-major, no padding. Read-only, nothing is
    copied.

    Raises InvalidTensor when the number of bytes is not what datatype and shape ask for.
    """
    dtype = dtype_of(name, datatype)
    check_axes(name, shape)
    wanted = prod(shape) * dtype.itemsize
    if len(raw) != wanted:
        raise InvalidTensor(
            f"input {name!r}: {datatype} of shape {list(shape)} takes {wanted} bytes, and {len(raw)} came"
        )
    if dtype.kind == "b" and len(raw) and np.frombuffer(raw, np.uint8).max() > 1:
        raise InvalidTensor(f"input {name!r}: each byte of a BOOL tensor is 0 or 1")
    return np.frombuffer(raw, dtype.newbyteorder("<")).reshape(shape)


def strings_to_bytes(texts: list[str]) -> bytes:
    """A BYTES tensor's raw contents: each element after its length in four bytes, little-endian."""
    encoded = [text.encode() for text in texts]
    return b"".join(len(item).to_bytes(4, "little") + item for item in encoded)


def check_axes(name: str, shape: tuple[int, ...]) -> None:
    if not 1 <= len(shape) <= MAX_AXES:
        raise InvalidTensor(
            f"input {name!r}: a shape has 1 to {MAX_AXES} axes, the batch first; not {len(shape)}"
        )
    if min(shape) < 0:
        raise InvalidTensor(
            f"input {name!r}: a size is 0 or more, and shape {list(shape)} has a negative one"
        )
    # Without the zeros: numpy counts them so, and no memory holds that many.
    if prod(max(size, 1) for size in shape) >= 1 << 48:
        raise InvalidTensor(f"input {name!r}: no tensor has the shape {list(shape)}")


@cache
def _decoder(kind: str, depth: int) -> "msgspec.json.Decoder[Any]":
    element: Any = {"b": bool, "f": float | None}.get(kind, int)
    for _ in range(depth):
        element = list[element]
    return msgspec.json.Decoder(element)
