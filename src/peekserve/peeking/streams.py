"""One stream of raw samples, and the windows that are found in it. No IO and no clock: time is an argument.

A *track* is a ring of the samples of one input. Behind its *frontier* every sample is known and was shown to the
finder; ahead of it lie chunks that came early, with holes between them. A hole is waited for until a sample
that is newer by the reorder horizon is here; then it is filled along a straight line, or, if it is longer than
the limit, the track begins afresh behind it. So a chunk within the horizon always finds its place, whatever the
order of the chunks, and the windows do not depend on how the samples were cut into chunks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Application
from peekserve.domain.streams import Normalise, StreamSpec, TrackSpec
from peekserve.domain.tensors import TensorSpec, pad_to_bucket
from peekserve.peeking.finders import Finder, Samples, make_finder

Array = npt.NDArray[np.generic]


@dataclass(slots=True)
class Tally:
    """What became of a stream's samples and windows since it began.

    `samples`: put in their place. `late`: came behind the frontier and were dropped. `duplicates`: were here
    already, the first kept. `filled`, `resets`: holes filled, and holes too long for it. `cut`: windows that a
    fresh beginning or the end of the ring cost. `partial`: windows that went without one of their inputs.
    """

    chunks: int = 0
    samples: int = 0
    late: int = 0
    duplicates: int = 0
    filled: int = 0
    resets: int = 0
    windows: int = 0
    partial: int = 0
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """A window that was found: `first` is the number of its first sample in the leading track. `inputs`: name ->
    [1, *row shape], in the datatype of the application, padded to `bucket`; `lengths`: name -> int64 [1], for
    inputs whose length varies. `ended_s`: how long before the newest sample its last one was taken."""

    number: int
    first: int
    inputs: Mapping[str, Array]
    lengths: Mapping[str, npt.NDArray[np.int64]]
    bucket: int
    ended_s: float

    @property
    def bytes(self) -> int:
        return sum(values.nbytes for values in self.inputs.values())


class Track:
    """The ring of one input. `began`: number of the first sample since the last fresh beginning; `frontier`:
    one behind the last sample that is known and whose predecessors are; `newest`: one behind the newest."""

    def __init__(self, spec: TrackSpec, stream: StreamSpec, behind: int) -> None:
        """`behind`: samples that are kept behind the frontier."""
        self.spec = spec
        self.began = self.frontier = self.newest = -1
        self.longest_chunk = max(ceil(stream.max_chunk_s * spec.rate), 1)
        self._horizon = ceil(stream.reorder_s * spec.rate)
        self._gap = ceil(stream.max_gap_s * spec.rate)
        self._behind = behind
        size = behind + max(self._horizon, self._gap) + self.longest_chunk + 1
        self._values = np.zeros((size, spec.channels), np.float32)
        self._here = np.zeros(size, np.bool_)

    @staticmethod
    def footprint(spec: TrackSpec, stream: StreamSpec, behind: int) -> int:
        """Bytes of a ring, before one is made."""
        ahead = max(stream.reorder_s, stream.max_gap_s) + stream.max_chunk_s
        return (behind + ceil(ahead * spec.rate) + 4) * (4 * spec.channels + 1)

    def put(self, first: int, samples: Samples, tally: Tally) -> Iterator[tuple[int, bool]]:
        """Take samples number first, first + 1, ...: float32 [n, channels], n at most `longest_chunk`.

        Yields, in order, each piece of what is known now and was not before: the new frontier, and whether the
        track began afresh before this piece. A piece has at most `spec.length` samples. The caller must take
        all pieces.
        """
        if self.began < 0:
            self.began = self.frontier = self.newest = first
            yield first, True
        if first > self.newest and first - self.frontier > self._horizon:
            # A jump ahead: what is missing before it can be settled now, and the ring has no room for all between.
            yield from self._advance(first, tally)
            if first - self.frontier > max(self._gap, self._horizon):
                self._restart(first, tally)
                yield first, True
        behind = max(self.frontier - first, 0)
        if behind:
            tally.late += min(behind, len(samples))
            samples, first = samples[behind:], first + behind
        if not len(samples):
            return
        places = np.arange(first, first + len(samples)) % len(self._here)
        fresh = ~self._here[places]
        count = int(fresh.sum())
        tally.duplicates += len(samples) - count
        tally.samples += count
        self._values[places[fresh]] = samples[fresh]
        self._here[places] = True
        self.newest = max(self.newest, first + len(samples))
        yield from self._advance(self.newest, tally)

    def cut(self, first: int) -> Samples | None:
        """The window that begins at sample `first`, float32 [length, channels]; None where it can never be
        had (any more). Only for windows that end at or before the frontier, or begin before what is held."""
        if first < self.oldest or first + self.spec.length > self.frontier:
            return None
        return self._span(first, first + self.spec.length)

    @property
    def oldest(self) -> int:
        """Number of the oldest sample that is still held."""
        return max(self.began, self.frontier - self._behind)

    def piece(self, low: int, high: int) -> Samples:
        return self._span(low, high)

    def _advance(self, newest: int, tally: Tally) -> Iterator[tuple[int, bool]]:
        while self.frontier < self.newest:
            ahead = self._here[np.arange(self.frontier, self.newest) % len(self._here)]
            run = len(ahead) if ahead.all() else int(ahead.argmin())
            for _ in range(0, run, self.spec.length):
                yield self._step(min(self.spec.length, run)), False
                run -= self.spec.length
            if self.frontier == self.newest:
                return
            if newest - self.frontier <= self._horizon:
                return  # what is missing may still come
            hole = int(ahead[self.frontier - self.newest :].argmax())  # True stands at the hole's end
            if hole > self._gap:
                self._restart(self.frontier + hole, tally)
                yield self.frontier, True
            else:
                tally.filled += 1
                self._fill(hole)

    def _step(self, samples: int) -> int:
        # The places that fall out of reach are free for samples that are yet to come.
        gone = np.arange(self.frontier - self._behind, self.frontier - self._behind + samples)
        self._here[gone % len(self._here)] = False
        self.frontier += samples
        return self.frontier

    def _fill(self, hole: int) -> None:
        """A straight line from the sample before the hole to the one behind it."""
        low, high = self.frontier, self.frontier + hole
        # In float64, where the difference of the largest samples is a number too: a finder never forgets a NaN.
        before, behind = np.float64(self._span(low - 1, low)[0]), np.float64(self._span(high, high + 1)[0])
        weight = (np.arange(1, hole + 1) / (hole + 1))[:, None]
        places = np.arange(low, high) % len(self._here)
        self._values[places] = before + (behind - before) * weight
        self._here[places] = True

    def _restart(self, at: int, tally: Tally) -> None:
        tally.resets += 1
        held = np.arange(at, self.newest) if self.newest > at else np.empty(0, np.int64)
        kept = self._here[held % len(self._here)].copy()
        self._here[:] = False
        self._here[held % len(self._here)] = kept
        self.began = self.frontier = at
        self.newest = max(self.newest, at)

    def _span(self, low: int, high: int) -> Samples:
        return self._values[np.arange(low, high) % len(self._here)]


@dataclass(slots=True)
class _Open:
    """A window whose place is known and whose samples are not all here."""

    first: int
    inputs: dict[str, Samples] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)


class Stream:
    """The tracks of one stream, its finder, and the windows on their way."""

    def __init__(self, application: Application, spec: StreamSpec) -> None:
        self.spec = spec
        self.tally = Tally()
        self._declared = {tensor.name: tensor for tensor in application.inputs}
        self._finder: Finder = make_finder(spec.finder, spec.lead.rate)
        self._tracks = {t.input: Track(t, spec, _behind(t, spec, self._finder)) for t in spec.tracks}
        self._lead = self._tracks[spec.lead.input]
        self._open: list[_Open] = []
        self._shown = 0  # samples before this number went to the finder

    @staticmethod
    def footprint(spec: StreamSpec) -> int:
        """Bytes that the rings of such a stream take."""
        finder = make_finder(spec.finder, spec.lead.rate)
        return sum(Track.footprint(t, spec, _behind(t, spec, finder)) for t in spec.tracks)

    def longest_chunk(self, name: str) -> int:
        """Samples of this input that may come at once."""
        return self._tracks[name].longest_chunk

    @property
    def newest(self) -> int:
        """One behind the newest sample of the leading track; -1 before the first."""
        return self._lead.newest

    def push(self, first: int, samples: Mapping[str, Samples]) -> list[Window]:
        """Take one chunk: for each of its inputs the samples number first, first + 1, ..., float32 [n, channels],
        checked by the caller. The windows that are complete now."""
        self.tally.chunks += 1
        found: list[Window] = []
        # The leading input last: its windows would be given up for inputs that lie in this very chunk.
        for name in sorted(samples, key=lambda name: self._tracks[name] is self._lead):
            track = self._tracks[name]
            for frontier, afresh in track.put(first, samples[name], self.tally):
                if track is self._lead:
                    self._show(frontier, afresh)
                self._collect()
                found += self._complete()
        return found

    def _show(self, frontier: int, afresh: bool) -> None:
        if afresh:
            self._finder.restart(frontier)
            lost = [w for w in self._open if self._lead.spec.input not in w.inputs]
            self.tally.cut += len(lost)
            self._open = [w for w in self._open if w not in lost]
            self._shown = frontier
            return
        for first in self._finder.feed(self._lead.piece(self._shown, frontier)):
            if first < self._lead.oldest:
                self.tally.cut += 1
            else:
                self._open.append(_Open(first))
        self._shown = frontier

    def _collect(self) -> None:
        """Take what can be had for the open windows, from every track: one may be ahead of the other."""
        for window in self._open:
            for name, track in self._tracks.items():
                if name in window.inputs or name in window.lost or track.began < 0:
                    continue
                first = self._place(window.first, track)
                if first < track.oldest:
                    window.lost.add(name)
                elif first + track.spec.length <= track.frontier:
                    values = track.cut(first)
                    assert values is not None
                    window.inputs[name] = values

    def _place(self, first: int, track: Track) -> int:
        """The number, in this track, of the sample at the instant of the leading track's sample `first`."""
        if track is self._lead:
            return first
        return round(first * track.spec.rate / self._lead.spec.rate)

    def _complete(self) -> list[Window]:
        """Open windows that have all their inputs, or have waited long enough for the others."""
        done: list[Window] = []
        left: list[_Open] = []
        lead = self._lead
        for window in self._open:
            missing = [n for n in self._tracks if n not in window.inputs]
            waited_s = (lead.frontier - window.first - lead.spec.length) / lead.spec.rate
            if lead.spec.input not in window.inputs:
                if lead.spec.input in window.lost:
                    self.tally.cut += 1
                else:
                    left.append(window)
            elif missing and any(n not in window.lost for n in missing) and waited_s < self.spec.wait_s:
                left.append(window)
            else:
                done.append(self._finished(window, bool(missing)))
        self._open = left
        return done

    def _finished(self, window: _Open, partial: bool) -> Window:
        self.tally.windows += 1
        self.tally.partial += partial
        inputs: dict[str, Array] = {}
        for track in self.spec.tracks:
            if track.input in window.inputs:
                values = normalised(window.inputs[track.input], self.spec.normalise)
                inputs[track.input] = as_row(values, track, self._declared[track.input])
        bucket, lengths = 0, {}
        for name, row in inputs.items():
            spec = self._declared[name]
            if -1 in spec.shape:
                length = row.shape[1 + spec.shape.index(-1)]
                bucket = max(bucket, spec.bucket_of(length))
                lengths[name] = np.full(1, length, np.int64)
        for name in lengths:
            spec = self._declared[name]
            inputs[name] = pad_to_bucket(inputs[name], spec, min(bucket, len(spec.buckets) - 1))
        lead = self._lead
        ended_s = (lead.newest - window.first - lead.spec.length) / lead.spec.rate
        return Window(self.tally.windows, window.first, inputs, lengths, bucket, ended_s)


def _behind(track: TrackSpec, stream: StreamSpec, finder: Finder) -> int:
    """Samples to keep behind the frontier: two windows, what the finder takes to say so, and, with several
    tracks, as much as one may be ahead of the other."""
    apart_s = stream.max_chunk_s + stream.wait_s if len(stream.tracks) > 1 else 0.0
    late_s = finder.lag / stream.lead.rate
    return 2 * track.length + ceil((late_s + apart_s) * track.rate) + 1


def normalised(values: Samples, how: Normalise) -> Samples:
    """A window's values, float32 [n, channels], each channel normalised by itself. A channel that does not
    change becomes zero."""
    if how is Normalise.NONE:
        return values
    wide = values.astype(np.float64)
    if how is Normalise.CENTRE:
        return np.asarray(_within(wide - np.median(wide, axis=0), np.dtype(np.float32)), np.float32)
    spread = wide.std(axis=0)
    return np.asarray((wide - wide.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0), np.float32)


def as_row(values: Samples, track: TrackSpec, spec: TensorSpec) -> Array:
    """[n, channels] as one row of the input, [1, *row shape], in its datatype and held within its range; whole
    numbers are rounded."""
    rest = tuple(size for axis, size in enumerate(spec.shape) if axis != track.axis)
    row: Array = np.moveaxis(values.reshape(len(values), *rest), 0, track.axis)[None]
    if spec.dtype.kind in "iu":
        row = _within(np.rint(row.astype(np.float64)), spec.dtype)
    elif spec.dtype.itemsize < 4:
        row = _within(row.astype(np.float64), spec.dtype)
    return np.ascontiguousarray(row.astype(spec.dtype))


def _within(values: npt.NDArray[np.float64], dtype: np.dtype[np.generic]) -> npt.NDArray[np.float64]:
    """Held to what the datatype can say, so that no finite value becomes an infinity or another number."""
    limits = np.iinfo(dtype.str) if dtype.kind in "iu" else np.finfo(dtype.str)
    low, high = float(limits.min), float(limits.max)
    if dtype.kind in "iu" and high > limits.max:
        high = float(np.nextafter(high, 0.0))  # 2 ** 63 - 1 is no float64
    return np.clip(values, low, high)
