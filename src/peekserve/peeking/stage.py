"""The seam between staging and the server: what goes in, what comes out, and nothing else.

Small structs without references to anything, so that a stage can live beside the server (staging.py) or in a
process of its own (stage_pipe.py).
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from peekserve.peeking.base import Inputs, Lengths


class Block(msgspec.Struct, frozen=True, gc=False):
    """An array as it travels."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: npt.NDArray[np.generic]) -> "Block":
        return cls(array.dtype.str, array.shape, array.tobytes())

    def array(self) -> npt.NDArray[np.generic]:
        """The array again, read-only."""
        return np.frombuffer(self.data, np.dtype(self.dtype)).reshape(self.shape)


# ---- in ---------------------------------------------------------------------------------------------------


class Chunk(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Samples of one stream: `first` is the number of the first sample of each input; a float32 block [n, channels]
    for each. `ticket` names the chunk in the receipt; `at`: when it came, in seconds."""

    ticket: int
    application: str
    stream: str
    first: int
    samples: dict[str, Block]
    at: float


class Forget(msgspec.Struct, frozen=True, gc=False, tag=True):
    """This stream is over."""

    application: str
    stream: str


class Looked(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A window left staging, its peek done: its bytes count no longer."""

    application: str
    stream: str
    opened: int
    bytes: int


class Tick(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Time has passed: idle streams may be forgotten."""

    at: float


StageEvent = Chunk | Forget | Looked | Tick


# ---- out --------------------------------------------------------------------------------------------------


class Refusal(StrEnum):
    """Why a chunk was turned away."""

    UNKNOWN = "unknown"  # no such application, or one without streams
    INVALID = "invalid"  # inputs, channels, values
    TOO_LARGE = "too_large"
    TOO_FAST = "too_fast"  # too much waits: try again later


class Taken(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A chunk is in. `received` and the rest: of the stream since it began (streams.Tally)."""

    ticket: int
    application: str
    stream: str
    opened: int  # which opening: a stream that was closed and opened again is another one
    next: int  # one behind the newest sample of the leading track
    windows: int  # found by this chunk
    tally: dict[str, int]
    at: float


class Turned(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A chunk was turned away and nothing of it stored."""

    ticket: int
    refusal: Refusal
    sentence: str


class Found(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A window. `number` counts the stream's windows from 1; `first`: its first sample's number in the leading track;
    `ended_at`: when its last sample was taken, on the clock of `Chunk.at` (the newest sample counts as taken when
    it came)."""

    application: str
    stream: str
    opened: int
    number: int
    first: int
    ended_at: float
    found_at: float
    inputs: dict[str, Block]
    lengths: dict[str, int]
    bucket: int

    @property
    def bytes(self) -> int:
        return sum(len(block.data) for block in self.inputs.values())

    def arrays(self) -> Inputs:
        return {name: block.array() for name, block in self.inputs.items()}

    def true_lengths(self) -> Lengths:
        return {name: np.full(1, length, np.int64) for name, length in self.lengths.items()}


class Ready(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A window with what its peek counted for each class; None without a peek, or where it failed."""

    window: Found
    counts: list[float] | None


class Gone(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A stream was forgotten: asked for, or idle for too long."""

    application: str
    stream: str
    idle: bool


StageNews = Taken | Turned | Ready | Gone
Tell = Callable[[Sequence[StageNews]], None]


class Stage(Protocol):
    """Where windows come from: beside the server or in a process of its own. What becomes of an event is told
    to whoever listens, at once or later, on the thread that submits."""

    def listen(self, tell: Tell) -> None: ...

    def submit(self, event: Chunk | Forget | Tick) -> None: ...
