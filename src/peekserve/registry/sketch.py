"""Applications that are nothing but numbers: classes, recalls, timings. No models, no tensors.

What an `application.yaml` says with units and files, a written window (docs/windows.md) says in plain JSON numbers:
times in seconds, sizes in bytes.
"""

from collections.abc import Sequence
from functools import partial
from math import fsum, inf

from peekserve.config import Entry, Section
from peekserve.domain.application import Application, PeekSpec, QueryType, Variant, check_name
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.domain.utility import Penalty, PenaltyKind
from peekserve.registry.stated import by_class, prior

# The device of a worker, and of a timing, that names none.
DEVICE = "any"
# Thirty years. Sums of far longer times would overflow, and nobody waits for them.
LONGEST_S = 1e9

_PENALTIES = {str(kind.name).lower(): kind for kind in PenaltyKind}


def read_applications(entry: Entry) -> tuple[Application, ...]:
    made = [app for name, e in entry.pairs().items() for app in e.attempt(partial(_application, name))]
    if not entry.pairs():
        raise entry.wrong("a window needs one application or more")
    return tuple(app for app in made if app is not None)


def _application(name: str, entry: Entry) -> Application | None:
    before = len(entry.problems.errors)
    check_name(name, "application")
    section = Section(entry)
    classes = section.need("classes", lambda e: tuple(c.text() for c in e.items()), ())
    uniform = (1.0 / max(len(classes), 1),) * len(classes)
    frequencies = section.take("frequencies", lambda e: distribution(e, classes), uniform)
    weights = section.take("class_weights", lambda e: vector(e, classes, 0.0, inf), ())
    prior_entry = section.get("prior")
    alpha, learns = next((prior_entry or entry).attempt(lambda _: prior(prior_entry, classes)), ((), None))
    penalty = section.take("penalty", read_penalty, Penalty.step())
    peek = section.take("peek", lambda e: _peek(e, classes, frequencies), None)
    variants = section.need("variants", lambda e: _variants(e, name, classes, frequencies), ())
    section.done()
    if len(entry.problems.errors) > before:
        return None
    return Application(
        name=name,
        classes=classes,
        variants=variants,
        prior=alpha,
        class_weights=weights,
        queries=(("default", QueryType(1.0, penalty)),),
        peek=None if peek is None else PeekSpec(inputs=(), features=(), quality=peek),
        prior_learns=learns,
    )


def _variants(
    entry: Entry, application: str, classes: Sequence[str], frequencies: tuple[float, ...]
) -> tuple[Variant, ...]:
    if not entry.pairs():
        raise entry.wrong("an application needs one variant or more")
    return tuple(
        variant
        for name, e in entry.pairs().items()
        for variant in e.attempt(partial(_variant, name, application, classes, frequencies))
    )


def _variant(
    name: str, application: str, classes: Sequence[str], frequencies: tuple[float, ...], entry: Entry
) -> Variant:
    check_name(name, "variant")
    section = Section(entry)
    recalls = section.need("recalls", lambda e: vector(e, classes, 0.0, 1.0), frequencies)
    max_batch = section.take("max_batch", lambda e: e.integer(1, 65536), 32)
    weights = section.take("weights", Entry.text, name)
    timing: dict[str, Timing] = {}
    if "devices" in section:
        timing = section.take("devices", _devices, {})
    else:
        timing = {DEVICE: _timing(section)}
    section.done()
    return Variant(
        name=name,
        revision=name,
        weights=f"{application}/{weights}",
        max_batch=max_batch,
        quality=Quality(recalls, frequencies),
        timing=timing,
    )


def _devices(entry: Entry) -> dict[str, Timing]:
    made = {}
    for name, e in entry.pairs().items():
        section = Section(e)
        made[name] = _timing(section)
        section.done()
    if not made:
        raise entry.wrong("names no device")
    return made


def _timing(section: Section) -> Timing:
    curve = section.need("latency_s", _curve, None)
    load_s = section.take("load_s", seconds, 0.0)
    size = section.take("bytes", lambda e: e.integer(1), 1)
    return Timing((curve or LatencyCurve((1,), (1.0,)),), load_s, size)


def _curve(entry: Entry) -> LatencyCurve:
    """Seconds for one row, or `{"1": 0.003, "8": 0.009}` by number of rows."""
    if entry.is_text:
        return LatencyCurve((1,), (_positive(entry),))
    points = []
    for rows, value in entry.pairs().items():
        if not rows.isdecimal() or len(rows) > 6 or int(rows) < 1:
            raise value.wrong(f"the number of rows {rows!r} is not a whole number of 1 or more")
        points.append((int(rows), _positive(value)))
    if not points:
        raise entry.wrong("has no entry", 'write for example {"1": 0.003, "8": 0.009}')
    points.sort()
    return LatencyCurve(tuple(b for b, _ in points), tuple(s for _, s in points))


def _peek(entry: Entry, classes: Sequence[str], frequencies: tuple[float, ...]) -> Quality:
    section = Section(entry)
    recalls = section.need("recalls", lambda e: vector(e, classes, 0.0, 1.0), frequencies)
    section.done()
    return Quality(recalls, frequencies)


def read_penalty(entry: Entry) -> Penalty:
    """A kind alone, or a kind with the one option that it has."""
    if entry.is_text:
        kind = entry.one_of(_PENALTIES, "penalty")
        if kind == "table":
            raise entry.wrong("a table needs its points", '{"kind": "table", "points": [[0, 0], [0.05, 1]]}')
        return Penalty(_PENALTIES[kind])
    section = Section(entry)
    kind = section.need("kind", lambda e: e.one_of(_PENALTIES, "penalty"), "step")
    penalty = Penalty.step()
    if kind in ("linear", "sigmoid"):
        penalty = Penalty(_PENALTIES[kind], section.take("width_s", _positive, None))
    elif kind == "constant":
        penalty = Penalty.constant(section.take("level", lambda e: number(e, 0.0, 1.0), 0.0))
    elif kind == "table":
        penalty = section.need("points", _table, penalty)
    section.done()
    return penalty


def _table(entry: Entry) -> Penalty:
    points = [tuple(number(value) for value in point.items()) for point in entry.items()]
    if any(len(point) != 2 for point in points):
        raise entry.wrong("a point is [lateness in seconds, penalty]")
    return Penalty.table([(point[0], point[1]) for point in points])


# ---- numbers --------------------------------------------------------------------------------------------------


def number(entry: Entry, low: float = -inf, high: float = inf) -> float:
    if entry.is_text and not entry.plain:
        raise entry.wrong("is a text, not a number", "write it without quotes")
    return entry.number(low, high)


def seconds(entry: Entry) -> float:
    given = number(entry)
    if given < 0.0:
        raise entry.wrong(f"{given:g} s is a negative time")
    if given > LONGEST_S:
        raise entry.wrong(f"{given:g} s is more than {LONGEST_S:g} s")
    return given


def _positive(entry: Entry) -> float:
    given = seconds(entry)
    if given == 0.0:
        raise entry.wrong("is not above zero")
    return given


def vector(entry: Entry, classes: Sequence[str], low: float, high: float) -> tuple[float, ...]:
    """One number for all classes, a list in their order, or a mapping by name."""
    if entry.is_text:
        return (number(entry, low, high),) * len(classes)
    if entry.is_list:
        if len(entry.items()) != len(classes):
            raise entry.wrong(f"lists {len(entry.items())} numbers for {len(classes)} classes")
        return tuple(number(item, low, high) for item in entry.items())
    return by_class(entry, classes, low, high)


def distribution(entry: Entry, classes: Sequence[str]) -> tuple[float, ...]:
    values = vector(entry, classes, 0.0, 1.0)
    total = fsum(values)
    if abs(total - 1.0) > 1e-6:
        raise entry.wrong(f"sums to {total:.6g}, not to 1")
    return values
