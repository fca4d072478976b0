"""A window written down as JSON (docs/windows.md) -> the values that it stands for, or all that is wrong with it.

The text must be strict JSON. What is wrong with its content is said as for every other file of ours: file, line,
key, and what would be right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path

import msgspec

from peekserve.config import MAX_BYTES, Entry, Misread, Problem, Problems, Section, nearest, parse
from peekserve.domain.application import Application, QueryType
from peekserve.registry.sketch import DEVICE, distribution, read_applications, read_penalty, seconds, vector

SWITCHES = ("aware", "short_circuit", "drop", "merge")
# A stated belief counts as so many votes: beside them no prior shows in a float.
CERTAIN = 2.0**60


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """`counts`: evidence for each class, None without a peek. `query`: where its penalty is found."""

    application: str
    deadline_s: float
    waited_s: float
    counts: tuple[float, ...] | None
    query: str
    pinned: str | None


@dataclass(frozen=True, slots=True)
class WrittenWorker:
    """`resident`: names of weights, the least recently used first. `free_s`: seconds from now."""

    name: str
    device: str
    budget_bytes: float
    free_s: float
    resident: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WrittenWindow:
    """`switches`: those that the file sets; the others are the policy's own."""

    applications: tuple[Application, ...]
    rows: tuple[WrittenRow, ...]
    workers: tuple[WrittenWorker, ...]
    switches: dict[str, bool]


def read_window(path: Path) -> WrittenWindow:
    """Raises InvalidConfiguration with a line for each thing that is wrong, OSError where there is no such file."""
    with path.open("rb") as stream:
        raw = stream.read(MAX_BYTES + 1)
    return parse_window(raw, str(path))


def parse_window(raw: bytes, file: str) -> WrittenWindow:
    """As `read_window`; `file` is the name for messages."""
    problems = Problems()
    if len(raw) > MAX_BYTES:
        raise Misread(Problem(file, 0, f"a window has at most {MAX_BYTES} bytes"))
    try:
        msgspec.json.decode(raw)
        text = raw.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misread(_not_json(raw, file, str(error))) from None
    except RecursionError:
        raise Misread(Problem(file, 1, "nested too deep for a window")) from None
    # To YAML, of which JSON is a part, a tab is no space. Inside a JSON string there can be none.
    entry = parse(text.replace("\t", " "), file, problems)
    window = next(entry.attempt(_window), None)
    problems.raise_errors()
    if window is None:
        raise Misread(Problem(file, 0, "holds no window"))
    return window


def _not_json(raw: bytes, file: str, what: str) -> Problem:
    before, _, rest = what.partition("(byte ")
    at = rest.rstrip(")")
    line = 1 + raw[: int(at)].count(b"\n") if at.isdecimal() else 1
    return Problem(file, line, f"not JSON: {before.strip()}")


def _window(entry: Entry) -> WrittenWindow | None:
    top = Section(entry)
    applications = top.need("applications", read_applications, ())
    if entry.problems.errors:
        return None  # whatever refers to them would be blamed for what is wrong with them
    rows, penalties = top.need("rows", lambda e: _rows(e, applications), ((), {}))
    alone = [key for key in ("budget_bytes", "resident", "free_s", "device") if key in top]
    if "workers" in top:
        workers = top.take("workers", lambda e: _workers(e, applications), ())
        for key in alone:
            entry.note(f"{key} stands beside workers", "write it in each worker")
    else:
        workers = (_worker(top, "worker", applications),)
    switches = top.take("switches", _switches, {})
    for key in alone:
        top.get(key)
    top.done()
    return WrittenWindow(
        tuple(
            replace(app, queries=(*app.queries, *penalties.get(app.name, {}).items())) for app in applications
        ),
        rows,
        workers,
        switches,
    )


Penalties = dict[str, dict[str, QueryType]]


def _rows(entry: Entry, applications: Sequence[Application]) -> tuple[tuple[WrittenRow, ...], Penalties]:
    if not entry.items():
        raise entry.wrong("a window needs one row or more")
    known = {app.name: app for app in applications}
    penalties: Penalties = {}
    return tuple(entry.each(lambda e: _row(e, known, penalties))), penalties


def _row(entry: Entry, known: dict[str, Application], penalties: Penalties) -> WrittenRow:
    section = Section(entry)
    name = section.need("application", Entry.text, "")
    app = known.get(name)
    if name and app is None:
        section.entry.note(f"unknown application {name!r}", nearest(name, known))
    deadline_s = section.need("deadline_s", seconds, 0.0)
    waited_s = section.take("waited_s", seconds, 0.0)
    penalty = section.take("penalty", read_penalty, None)
    classes = app.classes if app is not None else ()
    counts: tuple[float, ...] | None = None
    if "theta" in section and "counts" in section:
        entry.note("has both theta and counts", "write what is believed, or what was seen")
    for key, decode in _EVIDENCE.items():
        given = section.get(key)
        if given is not None and app is not None:
            counts = next(given.attempt(partial(decode, classes)), counts)
    variants = [v.name for v in app.variants] if app is not None else []
    pinned_entry = section.get("pinned")
    pinned = None
    if pinned_entry is not None and app is not None:
        pinned = next(pinned_entry.attempt(lambda e: e.one_of(variants, "variant")), None)
    section.done()
    query = "default"
    if penalty is not None and app is not None:
        query = f"{entry.key}.penalty"
        penalties.setdefault(name, {})[query] = QueryType(1.0, penalty)
    return WrittenRow(name, deadline_s, waited_s, counts, query, pinned)


def _believed(classes: Sequence[str], entry: Entry) -> tuple[float, ...]:
    return tuple(CERTAIN * p for p in distribution(entry, classes))


def _counted(classes: Sequence[str], entry: Entry) -> tuple[float, ...]:
    return vector(entry, classes, 0.0, 1e15)


_EVIDENCE: dict[str, Callable[[Sequence[str], Entry], tuple[float, ...]]] = {
    "theta": _believed,
    "counts": _counted,
}


def _workers(entry: Entry, applications: Sequence[Application]) -> tuple[WrittenWorker, ...]:
    made: dict[str, WrittenWorker] = {}
    for item in entry.items():
        section = Section(item)
        name = section.take("name", Entry.text, f"worker{len(made)}")
        if name in made:
            item.note(f"two workers are named {name!r}")
        made[name] = _worker(section, name, applications)
        section.done()
    if not made:
        raise entry.wrong("lists no worker", "leave the key out for one worker")
    return tuple(made.values())


def _worker(section: Section, name: str, applications: Sequence[Application]) -> WrittenWorker:
    devices = {device for app in applications for v in app.variants for device in v.timing}
    device = section.take("device", lambda e: e.one_of(sorted(devices), "device"), "")
    if not device:
        if devices and DEVICE not in devices and "device" not in section:
            section.entry.note("needs the key 'device'", f"known: {', '.join(sorted(devices))}")
        device = DEVICE
    sizes = {
        v.weights: v.timing[device].bytes for app in applications for v in app.variants if device in v.timing
    }
    budget = section.take("budget_bytes", lambda e: float(e.integer(1)), inf)
    held = section.take("resident", lambda e: tuple(e.each(lambda i: i.one_of(sizes, "model"))), ())
    if len(set(held)) != len(held):
        section.entry.note(f"a model is resident twice: {', '.join(held)}")
    total = sum(sizes.get(name, 0) for name in held)
    if total > budget:
        section.entry.note(f"{total} bytes are resident of a budget of {budget:.0f}")
    return WrittenWorker(name, device, budget, section.take("free_s", seconds, 0.0), held)


def _switches(entry: Entry) -> dict[str, bool]:
    section = Section(entry)
    found = {name: section.take(name, Entry.boolean, None) for name in SWITCHES}
    section.done()
    return {name: value for name, value in found.items() if value is not None}
