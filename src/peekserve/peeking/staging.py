"""Data staging (SneakPeek, figure 1 and section 3.2): chunks of raw samples go in, windows and their evidence
come out, while the data arrive.

    Chunk -> Staging -> Taken | Turned, Found ... -> a peek -> Looked -> Ready

`Staging` is the state machine: no IO, no clock, no threads. In the server it runs on the event loop and shares
the peeking thread (`LocalStage`).
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np

from peekserve.domain.application import Application
from peekserve.domain.streams import StreamSpec
from peekserve.peeking.base import Counts, Inputs, Lengths, Results
from peekserve.peeking.stage import (
    Block,
    Chunk,
    Forget,
    Found,
    Gone,
    Looked,
    Ready,
    Refusal,
    StageEvent,
    StageNews,
    Taken,
    Tell,
    Tick,
    Turned,
)
from peekserve.peeking.streams import Stream, Tally, Window

# ---- the state machine --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StagingLimits:
    """`streams`: how many at a time. `ring_bytes`: of all their rings. `waiting_bytes`: of windows whose peek is
    not done, all streams together; of one stream, a quarter of it."""

    streams: int = 256
    ring_bytes: int = 256 << 20
    waiting_bytes: int = 64 << 20


@dataclass(slots=True)
class _Held:
    """`heard_at`: when the newest sample of the leading track came; `last_at`: when anything came."""

    stream: Stream
    opened: int
    heard_at: float
    last_at: float
    footprint: int
    waiting_bytes: int = 0


class Staging:
    """All streams of a server."""

    def __init__(self, applications: Mapping[str, Application], limits: StagingLimits | None = None) -> None:
        self._specs: dict[str, tuple[Application, StreamSpec]] = {
            name: (app, app.stream) for name, app in applications.items() if app.stream is not None
        }
        self._limits = limits or StagingLimits()
        self._held: dict[tuple[str, str], _Held] = {}
        self._ring_bytes = 0
        self._waiting_bytes = 0
        self._opened = 0

    def join(self, application: Application) -> list[Taken | Turned | Found | Gone]:
        """Streams under its name are cut as it says from now on; where that is another way, open ones begin anew."""
        before = self._specs.pop(application.name, None)
        if application.stream is not None:
            self._specs[application.name] = (application, application.stream)
        if before is None or (before[1], before[0].inputs) == (application.stream, application.inputs):
            return []
        mine = [key for key in self._held if key[0] == application.name]
        return [gone for key in mine for gone in self._forget(key, idle=True)]

    @property
    def streams(self) -> int:
        return len(self._held)

    def handle(self, event: StageEvent) -> list[Taken | Turned | Found | Gone]:
        """Take one event; what follows from it, a chunk's receipt before its windows."""
        match event:
            case Chunk():
                return self._chunk(event)
            case Looked(application, stream, opened, size):
                held = self._held.get((application, stream))
                if held is not None and held.opened == opened:
                    held.waiting_bytes -= size
                self._waiting_bytes -= size
            case Forget(application, stream):
                return self._forget((application, stream), idle=False)
            case Tick(at):
                idle = [key for key, h in self._held.items() if at - h.last_at > h.stream.spec.idle_s]
                return [gone for key in idle for gone in self._forget(key, idle=True)]
        return []

    def _chunk(self, chunk: Chunk) -> list[Taken | Turned | Found | Gone]:
        known = self._specs.get(chunk.application)
        if known is None:
            return [Turned(chunk.ticket, Refusal.UNKNOWN, self._no_stream(chunk.application))]
        application, spec = known
        wrong = _wrong(chunk, application, spec)
        if wrong is not None:
            return [Turned(chunk.ticket, *wrong)]
        key = (chunk.application, chunk.stream)
        held = self._held.get(key)
        full = self._full(held, spec)
        if full:
            return [Turned(chunk.ticket, Refusal.TOO_FAST, full)]
        if held is None:
            self._opened += 1
            stream, size = Stream(application, spec), Stream.footprint(spec)
            held = self._held[key] = _Held(stream, self._opened, chunk.at, chunk.at, size)
            self._ring_bytes += size
        before = held.stream.newest
        samples = {name: np.asarray(block.array(), np.float32) for name, block in chunk.samples.items()}
        windows = held.stream.push(chunk.first, samples)
        # Old samples that come late do not make a stream young again.
        held.last_at = chunk.at
        if held.stream.newest > before:
            held.heard_at = chunk.at
        found = [_found(chunk, window, held) for window in windows]
        size = sum(window.bytes for window in found)
        held.waiting_bytes += size
        self._waiting_bytes += size
        receipt = Taken(
            chunk.ticket, chunk.application, chunk.stream, held.opened, held.stream.newest, len(found),
            _told(held.stream.tally), held.heard_at,
        )  # fmt: skip
        return [receipt, *found]

    def _full(self, held: _Held | None, spec: StreamSpec) -> str:
        """Why nothing more can be taken now; empty where it can."""
        limits = self._limits
        if held is None:
            if len(self._held) >= limits.streams:
                return f"{len(self._held)} streams are open, which is the limit"
            need = Stream.footprint(spec)
            if self._ring_bytes + need > limits.ring_bytes:
                return (
                    f"the streams' samples take {self._ring_bytes} bytes and this one {need}; "
                    f"the limit is {limits.ring_bytes}"
                )
        elif held.waiting_bytes > limits.waiting_bytes // 4:
            return (
                f"{held.waiting_bytes} bytes of this stream's windows wait for their peek; "
                f"the limit is {limits.waiting_bytes // 4}"
            )
        if self._waiting_bytes > limits.waiting_bytes:
            return (
                f"{self._waiting_bytes} bytes of windows wait for their peek; "
                f"the limit is {limits.waiting_bytes}"
            )
        return ""

    def _forget(self, key: tuple[str, str], idle: bool) -> list[Taken | Turned | Found | Gone]:
        held = self._held.pop(key, None)
        if held is None:
            return []
        self._ring_bytes -= held.footprint
        return [Gone(*key, idle)]

    def _no_stream(self, application: str) -> str:
        known = ", ".join(sorted(self._specs)) or "none"
        return (
            f"application {application[:80]!r} takes no streams: its application.yaml has no section "
            f"'stream'; those that do: {known}"
        )


def _wrong(chunk: Chunk, application: Application, spec: StreamSpec) -> tuple[Refusal, str] | None:
    """What is wrong with a chunk, if anything is."""
    tracks = {track.input: track for track in spec.tracks}
    if not 0 <= chunk.first < 1 << 53:
        return Refusal.INVALID, f"first is the number of a sample, 0 or more, not {chunk.first}"
    if not chunk.samples:
        return Refusal.INVALID, f"the chunk has no samples; the stream takes {', '.join(tracks)}"
    for name, block in chunk.samples.items():
        track = tracks.get(name)
        if track is None:
            return Refusal.INVALID, (
                f"streams of {application.name!r} have no input {name[:80]!r}; they have {', '.join(tracks)}"
            )
        if len(block.shape) != 2 or block.shape[1] != track.channels or not block.shape[0]:
            return Refusal.INVALID, (
                f"input {name!r} comes as samples of {track.channels} values each, one sample or more; "
                f"the chunk has shape {list(block.shape)}"
            )
        most = max(int(np.ceil(spec.max_chunk_s * track.rate)), 1)
        if block.shape[0] > most:
            return Refusal.TOO_LARGE, (
                f"input {name!r} has {block.shape[0]} samples in one chunk; the limit is {most} "
                f"({spec.max_chunk_s:g} s)"
            )
        bad = ~np.isfinite(block.array().astype(np.float32, copy=False))
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            return Refusal.INVALID, (
                f"input {name!r} has {int(bad.sum())} values that are not finite numbers, the first in "
                f"sample {chunk.first + row}; leave out what was not measured"
            )
    return None


def _found(chunk: Chunk, window: Window, held: _Held) -> Found:
    return Found(
        chunk.application,
        chunk.stream,
        held.opened,
        window.number,
        window.first,
        held.heard_at - max(window.ended_s, 0.0),
        chunk.at,
        {name: Block.of(values) for name, values in window.inputs.items()},
        {name: int(values[0]) for name, values in window.lengths.items()},
        window.bucket,
    )


def _told(tally: Tally) -> dict[str, int]:
    return {name: getattr(tally, name) for name in Tally.__slots__}


# ---- beside the server --------------------------------------------------------------------------------------


class Peeking(Protocol):
    """The part of a peeker that a stage uses."""

    def submit(
        self, request_id: str, application: str, inputs: Inputs, lengths: Lengths | None = None
    ) -> None: ...


class LocalStage:
    """Staging on the caller's own thread, and its windows peeked at by a peeker that others use too.

    The peeker's reports of ids for which `mine` is true belong here: hand them to `looked`, on the same
    thread. Without a peek, windows are ready when they are found.
    """

    PREFIX = "window/"

    def __init__(self, staging: Staging, peeker: Peeking | None, peeked: Container[str]) -> None:
        """`peeked`: the applications that the peeker knows, now or later."""
        self._staging = staging
        self._peeker = peeker
        self._peeked = peeked
        self._tell: Tell = lambda news: None
        self._numbers = count(1)
        self._waiting: dict[str, Found] = {}

    def listen(self, tell: Tell) -> None:
        self._tell = tell

    def join(self, application: Application) -> None:
        """Clients get this application under its name from now on (Staging.join)."""
        gone = [one for one in self._staging.join(application) if not isinstance(one, Found)]
        if gone:
            self._tell(gone)

    @classmethod
    def mine(cls, request_id: str) -> bool:
        return request_id.startswith(cls.PREFIX)

    def submit(self, event: Chunk | Forget | Tick) -> None:
        news: list[StageNews] = []
        looks: list[tuple[str, Found]] = []
        for one in self._staging.handle(event):
            if not isinstance(one, Found):
                news.append(one)
            elif self._peeker is None or one.application not in self._peeked:
                news.append(self._ready(one, None))
            else:
                name = f"{self.PREFIX}{next(self._numbers)}"
                self._waiting[name] = one
                looks.append((name, one))
        if news:
            self._tell(news)
        for name, window in looks:
            assert self._peeker is not None
            self._peeker.submit(name, window.application, window.arrays(), window.true_lengths())

    def looked(self, results: Results) -> None:
        """What the peeker reported."""
        news: list[StageNews] = []
        for name, counts in results:
            window = self._waiting.pop(name, None)
            if window is not None:
                news.append(self._ready(window, counts))
        if news:
            self._tell(news)

    def _ready(self, window: Found, counts: Counts | None) -> Ready:
        self._staging.handle(Looked(window.application, window.stream, window.opened, window.bytes))
        return Ready(window, None if counts is None else [float(value) for value in counts[0]])
