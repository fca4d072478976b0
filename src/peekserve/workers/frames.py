"""What front and worker say to each other over a socket: msgpack structs with their length in front.

Both ends are processes of ours, born of the same files; still nothing here can name code to run.
"""

import struct
from typing import Any

import msgspec
import numpy as np

from peekserve.domain.application import Variant
from peekserve.domain.tensors import TensorSpec

# ---- front to worker ----


class Describe(msgspec.Struct, tag="describe", frozen=True):
    """What (application, variant) means from now on. `inputs`: the application's, for warming up."""

    application: str
    variant: Variant
    classes: int
    inputs: tuple[TensorSpec, ...]


class LoadModel(msgspec.Struct, tag="load", frozen=True):
    """`warm`: run its larger batches once, too."""

    application: str
    variant: str
    warm: bool = False


class UnloadModel(msgspec.Struct, tag="unload", frozen=True):
    weights: str


class Tensor(msgspec.Struct, frozen=True):
    """A stacked input [n, *row]: in the ring at `offset`, or in `data` when `offset` is negative."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int = -1
    data: bytes = b""


class RunModel(msgspec.Struct, tag="run", frozen=True):
    batch_id: int
    application: str
    variant: str
    tensors: tuple[Tensor, ...]


class Ping(msgspec.Struct, tag="ping", frozen=True):
    """Are you there?"""


ToWorker = Describe | LoadModel | UnloadModel | RunModel | Ping

# ---- worker to front ----


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """Ready to take work."""

    pid: int


class ModelLoaded(msgspec.Struct, tag="loaded", frozen=True):
    weights: str
    seconds: float
    bytes: int


class ModelRefused(msgspec.Struct, tag="refused", frozen=True):
    weights: str
    error: str


class ModelUnloaded(msgspec.Struct, tag="unloaded", frozen=True):
    weights: str


class RanModel(msgspec.Struct, tag="ran", frozen=True):
    """`scores`: float64 [rows, classes], row by row. Instants on the machine's one monotonic clock."""

    batch_id: int
    rows: int
    scores: bytes
    started_at: float
    finished_at: float


class RunFailed(msgspec.Struct, tag="failed", frozen=True):
    batch_id: int
    error: str


class Pong(msgspec.Struct, tag="pong", frozen=True):
    """The answer to a Ping."""


ToFront = Hello | ModelLoaded | ModelRefused | ModelUnloaded | RanModel | RunFailed | Pong

# ---- bytes ----

_LENGTH = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()
_of_front: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_of_worker: msgspec.msgpack.Decoder[ToFront] = msgspec.msgpack.Decoder(ToFront)


def pack(message: ToWorker | ToFront) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Cuts a stream of bytes, in whatever pieces it comes, into the bodies of messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are whole now."""
        self._buffer += data
        bodies, start = [], 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[start + _LENGTH.size : end]))
            start = end
        del self._buffer[:start]
        return bodies


def to_worker(body: bytes) -> ToWorker:
    return _of_front.decode(body)


def to_front(body: bytes) -> ToFront:
    return _of_worker.decode(body)


def dtype_of(tensor: Tensor) -> np.dtype[Any]:
    return np.dtype(tensor.dtype)
