"""The section `stream:` of application.yaml: how windows come out of raw samples (docs/streams.md).

stream:
  rate: 180                                # samples a second; or {accelerometer: 50, tags: 20}
  window: 180                              # samples, or a time: 1s
  finder: {kind: r_peak, at: 400ms}        # or {kind: sliding, stride: 500ms}, {kind: onset, pre_roll: 250ms}
"""

from collections.abc import Sequence

from peekserve.config import Entry, Section
from peekserve.domain.application import QueryType
from peekserve.domain.streams import (
    Finding,
    Normalise,
    Onset,
    Recurring,
    RPeak,
    Sliding,
    StreamSpec,
    TrackSpec,
)
from peekserve.domain.tensors import TensorSpec

FINDERS = ("sliding", "onset", "r_peak")
FRAME_S = 0.01


def stream_spec(
    entry: Entry, inputs: Sequence[TensorSpec], queries: Sequence[tuple[str, QueryType]]
) -> StreamSpec | None:
    """The section as it is written; None where `entry` got a note that it cannot be."""
    before = len(entry.problems.errors)
    section = Section(entry)
    rates = section.need("rate", lambda e: _rates(e, inputs), {})
    lead = next(iter(rates.items()), None)
    window_s = section.need("window", lambda e: _span_s(e, lead[1] if lead else 1.0), 1.0)
    declared = {spec.name: spec for spec in inputs}
    tracks = tuple(
        track
        for name, rate in rates.items()
        for track in entry.attempt(lambda e, n=name, r=rate: _track(e, declared[n], r, window_s))  # type: ignore[misc]
    )
    rate = tracks[0].rate if tracks else 1.0
    length = tracks[0].length if tracks else 2
    finder = section.need("finder", lambda e: _finder(e, rate, length), Sliding(1))
    recurring = section.take("query", lambda e: _recurring(e, [name for name, _ in queries]), None)
    normalise = section.take("normalise", lambda e: e.member(Normalise), Normalise.NONE)
    base = StreamSpec((TrackSpec("x", 1.0, 2),), Sliding(1))
    times = {
        f"{key}_s": section.take(key, Entry.seconds, getattr(base, f"{key}_s"))
        for key in ("reorder", "max_gap", "wait")
    }
    spans = {
        f"{key}_s": section.take(key, Entry.positive_seconds, getattr(base, f"{key}_s"))
        for key in ("max_age", "max_chunk", "idle")
    }
    section.done()
    if len(entry.problems.errors) > before or not tracks:
        return None
    return StreamSpec(tracks, finder, normalise=normalise, recurring=recurring, **times, **spans)


def _rates(entry: Entry, inputs: Sequence[TensorSpec]) -> dict[str, float]:
    """Input -> rate in Hz, the first one the finder's. One number is the rate of all inputs."""
    if entry.is_text:
        rate = _rate(entry)
        return {spec.name: rate for spec in inputs}
    known = [spec.name for spec in inputs]
    rates = {}
    for name, one in entry.pairs().items():
        if name not in known:
            raise one.wrong(f"the application has no input {name!r}", f"known: {', '.join(known)}")
        rates[name] = _rate(one)
    if not rates:
        raise entry.wrong("needs the rate of one input or more", f"known: {', '.join(known)}")
    return rates


def _rate(entry: Entry) -> float:
    rate = entry.number(0.0, 1e6)
    if not rate > 0.0:
        raise entry.wrong("a rate is above 0 samples a second")
    return rate


def _span_s(entry: Entry, rate: float) -> float:
    """A time with its unit, or a whole number of samples of the leading input; above zero."""
    if entry.text().isdigit():
        return entry.integer(1) / rate
    return entry.positive_seconds()


def _samples(entry: Entry, rate: float) -> int:
    """The same as a number of samples, none allowed."""
    return entry.integer(0) if entry.text().isdigit() else round(entry.seconds() * rate)


def _some(entry: Entry, rate: float) -> int:
    return max(round(_span_s(entry, rate) * rate), 1)


def _track(entry: Entry, spec: TensorSpec, rate: float, window_s: float) -> TrackSpec:
    """Time is the axis as long as the window, or else the one whose length varies; the others are channels."""
    length = round(window_s * rate)
    if spec.datatype == "BOOL":
        raise entry.wrong(f"input {spec.name!r} is BOOL; samples are numbers")
    fits = [axis for axis, size in enumerate(spec.shape) if size == length]
    varies = [axis for axis, size in enumerate(spec.shape) if size == -1]
    if not fits and not (varies and spec.bucket_of(length) >= 0):
        raise entry.wrong(
            f"a window of {window_s:g} s at {rate:g} Hz has {length} samples; no axis of input {spec.name!r}, "
            f"{list(spec.shape)}, is that long",
            f"longest bucket: {max(spec.buckets)}" if varies and spec.buckets else "",
        )
    axis = (fits or varies)[0]
    channels = 1
    for other, size in enumerate(spec.shape):
        if other != axis and size == -1:
            raise entry.wrong(f"input {spec.name!r} has another axis that varies")
        channels *= size if other != axis else 1
    return TrackSpec(spec.name, rate, length, channels, axis)


def _finder(entry: Entry, rate: float, length: int) -> Finding:
    if entry.is_text:
        kind, section = entry.one_of(FINDERS, "finder"), None
    else:
        section = Section(entry)
        kind = section.need("kind", lambda e: e.one_of(FINDERS, "finder"), "")
    empty = Section(Entry(entry.file, entry.line, entry.key, {}, problems=entry.problems))
    options = section or empty
    made: Finding
    if kind == "sliding":
        made = Sliding(options.take("stride", lambda e: _some(e, rate), length))
    elif kind == "onset":
        pre_roll = options.take("pre_roll", lambda e: _samples(e, rate), 0)
        made = Onset(
            frame=options.take("frame", lambda e: _some(e, rate), max(round(FRAME_S * rate), 1)),
            pre_roll=pre_roll,
            apart=options.take("apart", lambda e: _some(e, rate), max(length - pre_roll, 1)),
            rise=options.take("rise", lambda e: e.number(1.0), 8.0),
            sustain=options.take("sustain", lambda e: e.integer(1, 1000), 3),
            least=options.take("least", lambda e: e.number(0.0), 0.0),
        )
    elif kind == "r_peak":
        made = RPeak(
            options.need("at", lambda e: _samples(e, rate), 0),
            options.take("channel", lambda e: e.integer(0, 64), 0),
        )
    else:
        return Sliding(1)  # noted already; its other keys cannot be judged
    if section is not None:
        section.done()
    return made


def _every(entry: Entry) -> float | None:
    """None: at each event."""
    text = entry.text()
    if text == "event":
        return None
    if text[:1].isalpha():
        raise entry.wrong(f"{text[:100]!r} is neither event nor a time", "write a time like 500ms")
    return entry.positive_seconds()


def _recurring(entry: Entry, queries: Sequence[str]) -> Recurring:
    section = Section(entry)
    every = section.need("every", _every, None)
    query = section.take("type", lambda e: e.one_of(["default", *queries], "query type"), "default")
    section.done()
    return Recurring(every, query)
