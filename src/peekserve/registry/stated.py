"""Profiles that an owner states instead of giving labelled data, and the prior that an owner expects."""

from collections.abc import Sequence
from math import fsum

from peekserve.awareness import priors
from peekserve.config import Entry, Section, nearest
from peekserve.domain.application import StreamPrior, check_name
from peekserve.domain.profile import LatencyCurve, Quality, Timing

# The key of stated timings in Variant.timing, until they are given to the device that serves (profiled.py).
STATED = "stated"
# Kinds of device that a machine may really have: what they take is measured. Any other name is only ever stated.
DEVICES = ("cpu", "cuda")


def by_class(entry: Entry, classes: Sequence[str], low: float, high: float) -> tuple[float, ...]:
    """One number for each class, in the order of the classes."""
    written = entry.pairs()
    for name, value in written.items():
        if name not in classes:
            raise value.wrong(f"unknown class {name!r}", nearest(name, classes))
    absent = [name for name in classes if name not in written]
    if absent:
        raise entry.wrong(
            f"needs a value for each class; it lacks {', '.join(absent)} ({len(written)} of {len(classes)} are there)"
        )
    return tuple(written[name].number(low, high) for name in classes)


def prior(entry: Entry | None, classes: Sequence[str]) -> tuple[tuple[float, ...], StreamPrior | None]:
    """The alpha of the prior, and how calibrated beliefs learn theirs: None where the owner fixes it.

    `uninformative`, `{weak: {class: frequency}}`, `{strong: {class: count}}`, `stream`, or `{stream: {frequencies:
    {class: frequency}, half_life: rows}}`.
    """
    plain = priors.uninformative(len(classes))
    if entry is None or (entry.is_text and entry.one_of(("uninformative", "stream"), "prior")):
        return plain, StreamPrior()
    pairs = entry.pairs()
    if len(pairs) != 1:
        raise entry.wrong(
            "is 'uninformative', 'stream', {weak: {class: frequency}} or {strong: {class: count}}"
        )
    kinds = ("weak", "strong", "stream")
    ((kind, value),) = pairs.items()
    if kind not in kinds:
        raise value.wrong(f"unknown kind {kind!r}", nearest(kind, kinds))
    if kind == "stream":
        learns = _stream(value, classes)
        return learns.start or plain, learns
    entries = by_class(value, classes, 0.0, 1.0 if kind == "weak" else 1e9)
    return (priors.weak(entries) if kind == "weak" else priors.strong(entries)), None


def _stream(entry: Entry, classes: Sequence[str]) -> StreamPrior:
    section = Section(entry)
    start = section.take("frequencies", lambda e: priors.beginning(by_class(e, classes, 0.0, 1.0)), ())
    half_life = section.take("half_life", lambda e: e.number(1.0, 1e9), StreamPrior().half_life)
    section.done()
    return StreamPrior(start, half_life)


def variant_profile(
    entry: Entry, classes: Sequence[str], buckets: int
) -> tuple[Quality | None, dict[str, Timing]]:
    """What an owner states of a variant: its worth, and what it costs, under STATED for the device that serves and
    under their names for devices to imitate."""
    section = Section(entry)
    quality = _quality(section, classes)
    timing = _timing(section, buckets)
    devices = section.take("devices", lambda e: _devices(e, buckets), {})
    section.done()
    return quality, {STATED: timing, **devices} if timing is not None else devices


def _devices(entry: Entry, buckets: int) -> dict[str, Timing]:
    timings = {}
    for name, value in entry.pairs().items():
        section = Section(value)
        timing = _timing(section, buckets)
        section.done()
        if timing is None:
            raise value.wrong("states no latency", "write for example {latency: {1: 3ms, 8: 9ms}}")
        timings[check_name(name, "device")] = timing
    return timings


def _timing(section: Section, buckets: int) -> Timing | None:
    curves = section.take("latency", lambda e: _curves(e, buckets), ())
    load_s = section.take("load", Entry.seconds, 0.0)
    size = section.take("memory", Entry.size, 0)
    if not curves and (load_s or size):
        section.entry.note("load and memory need a latency beside them")
    return Timing(curves, load_s, size, STATED) if curves else None


def peek_profile(entry: Entry, classes: Sequence[str]) -> tuple[Quality | None, LatencyCurve | None]:
    section = Section(entry)
    quality = _quality(section, classes)
    latency = section.take("latency", _latency, None)
    section.done()
    return quality, latency


def _quality(section: Section, classes: Sequence[str]) -> Quality | None:
    recalls = section.take("recalls", lambda e: by_class(e, classes, 0.0, 1.0), None)
    uniform = (1.0 / max(len(classes), 1),) * len(classes)
    frequencies = section.take("frequencies", lambda e: _frequencies(e, classes), uniform)
    if recalls is None and "frequencies" in section:
        section.entry.note("frequencies need recalls beside them")
    return None if recalls is None else Quality(recalls, frequencies)


def _frequencies(entry: Entry, classes: Sequence[str]) -> tuple[float, ...]:
    values = by_class(entry, classes, 0.0, 1.0)
    total = fsum(values)
    if abs(total - 1.0) > 1e-6:
        raise entry.wrong(f"the frequencies sum to {total:.6g}, not to 1")
    return values


def _curves(entry: Entry, buckets: int) -> tuple[LatencyCurve, ...]:
    """One curve for all buckets, or a list of one for each."""
    if not entry.is_list:
        return (_curve(entry),)
    curves = tuple(_curve(item) for item in entry.items())
    if len(curves) != buckets:
        raise entry.wrong(f"lists {len(curves)} latencies for {buckets} shape bucket{'s' * (buckets != 1)}")
    return curves


def _latency(entry: Entry) -> LatencyCurve | None:
    return _curve(entry)


def _curve(entry: Entry) -> LatencyCurve:
    """`3ms` for one row, or `{1: 3ms, 8: 9ms}` by number of rows."""
    if entry.is_text:
        return LatencyCurve((1,), (entry.positive_seconds(),))
    points = []
    for rows, value in entry.pairs().items():
        if not rows.isdecimal() or len(rows) > 6 or int(rows) < 1:
            raise value.wrong(f"the number of rows {rows!r} is not a whole number of 1 or more")
        points.append((int(rows), value.positive_seconds()))
    if not points:
        raise entry.wrong("has no entry", "write for example {1: 3ms, 8: 9ms}")
    points.sort()
    return LatencyCurve(tuple(b for b, _ in points), tuple(s for _, s in points))
