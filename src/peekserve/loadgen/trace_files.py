"""Reading recorded arrivals: a column of numbers, or csv with a header; gzipped or not. docs/traces.md has the forms.

Files are read in pieces, so that memory goes with the number of requests and not with the bytes of the file. Whatever
is in them, what comes out is a trace, InvalidData with the line, or InvalidConfiguration where `slot_s` does not fit.
"""

import codecs
import csv
import gzip
import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from peekserve.config import Problem, nearest
from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.loadgen.rates import Floats
from peekserve.loadgen.traces import MOST_REQUESTS, Counts, Requests, Trace

if TYPE_CHECKING:
    import _csv

# What a column of instants may be called, and how many seconds its unit has.
INSTANTS = {"at": 1.0, "arrived_at": 1.0, "arrival": 1.0, "time": 1.0, "timestamp": 1.0, "seconds": 1.0}
INSTANTS |= {"at_ms": 1e-3, "timestamp_ms": 1e-3, "at_us": 1e-6, "timestamp_us": 1e-6}
COUNTS = ("count", "counts", "requests", "invocations")
# Azure Functions 2021 says when an invocation ended and how long it took.
ENDED = ("end_timestamp", "duration")
# Azure Functions 2019 has a line for each function, with a column for each minute of a day.
BY_MINUTE = tuple(str(minute) for minute in range(1, 24 * 60 + 1))
PIECE, LONGEST_LINE = 1 << 18, 1 << 16
# Three thousand years: a number beyond is no count of seconds from any beginning.
LATEST_S = 1e11
# A recording that is shorter has no rate that means anything.
SHORTEST_S = 1e-6
_NUMERIC = b"0123456789.+-eE\r\n"


def read_trace(path: Path, slot_s: float | None = None) -> Trace:
    """A recording. `slot_s`: the file holds counts of slots so long, and not instants.

    Raises InvalidData for a file that is no recording, with the line; InvalidConfiguration where `slot_s` is missing or
    too much; OSError where the file cannot be opened.
    """
    if slot_s is not None and not 0.0 < slot_s < np.inf:
        raise InvalidConfiguration(f"a slot lasts more than 0 s, not {slot_s:g}")
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if packed else raw
        try:
            return _read(path, stream, slot_s)  # type: ignore[arg-type]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidData(f"{path}: the gzip file is damaged: {error}") from None


def _read(path: Path, stream: IO[bytes], slot_s: float | None) -> Trace:
    first = stream.readline(LONGEST_LINE)
    if not first:
        raise InvalidData(f"{path} is empty; a trace has a line for each request or slot")
    mark = len(codecs.BOM_UTF8) if first.startswith(codecs.BOM_UTF8) else 0
    stream.seek(mark)
    if _number(first[mark:].decode("latin-1")) is None:
        return _table(path, stream, slot_s)
    values = _column(path, stream)
    return _instants(path, values) if slot_s is None else _counts(path, values, slot_s)


# ---- one column ----


def _column(path: Path, stream: IO[bytes]) -> Floats:
    """float64 [lines]. Pieces of plain numbers are read at once; only in one that is not so is each line looked at."""
    parts: list[Floats] = []
    lines, rest = 0, b""
    while piece := stream.read(PIECE):
        whole, newline, rest = (rest + piece).rpartition(b"\n")
        if len(rest) > LONGEST_LINE:
            raise _wrong(path, lines + whole.count(b"\n") + 2, "a line without end", "one number on each")
        if newline:
            parts.append(_values(path, whole + newline, lines))
            lines += len(parts[-1])
            _few(path, lines)
    if rest:
        parts.append(_values(path, rest, lines))
    return np.concatenate(parts)


def _values(path: Path, text: bytes, before: int) -> Floats:
    words = text.split()
    if len(words) == text.count(b"\n") + (not text.endswith(b"\n")) and not text.translate(None, _NUMERIC):
        try:
            found = np.array(words).astype(np.float64)
        except ValueError:
            found = np.array([np.nan])
        if np.isfinite(found).all():
            return found
    told = []
    for number, line in enumerate(text.decode("latin-1").removesuffix("\n").split("\n"), before + 1):
        value = _number(line)
        if value is None:
            raise _wrong(path, number, f"{_short(line)} is not a number", "one number on each line")
        told.append(value)
    return np.array(told)


def _number(text: str) -> float | None:
    """A finite number, written plainly; None for all else."""
    text = text.strip()
    try:
        value = float(text) if text.isascii() and "_" not in text else np.nan
    except ValueError:
        return None
    return value if np.isfinite(value) else None


# ---- what the numbers mean ----


def _instants(path: Path, at: Floats, lines: Sequence[int] | None = None) -> Requests:
    """Seconds from the first one. A falling instant is an error: sorting would hide a file of another kind. `lines`:
    where each stands; None for one on each line."""
    far = np.flatnonzero(np.abs(at) > LATEST_S)
    if len(far):
        what = f"{at[far[0]]:.9g} s is no instant"
        raise _wrong(path, _line(lines, far[0]), what, "a column may be called at_ms or at_us")
    falls = np.flatnonzero(np.diff(at) < 0.0)
    if len(falls):
        what = f"{at[falls[0] + 1]:.9g} comes after {at[falls[0]]:.9g}"
        hint = "instants never fall; of counts, say how long a slot is with --slot"
        raise _wrong(path, _line(lines, falls[0] + 1), what, hint)
    if not len(at) or not at[-1] - at[0] >= SHORTEST_S:
        raise InvalidData(f"{path}: a trace has two requests at least that are a microsecond apart")
    return Requests(at - at[0])


def _counts(path: Path, values: Floats, slot_s: float, lines: Sequence[int] | None = None) -> Counts:
    wrong = np.flatnonzero((values < 0.0) | (values != np.floor(values)) | (values > 2**53))
    if len(wrong):
        what = f"{values[wrong[0]]:.9g} is not a count"
        raise _wrong(path, _line(lines, wrong[0]), what, "counts are whole numbers, 0 or more")
    if not 0.0 < float(values.sum()) <= 2**53:
        raise InvalidData(f"{path}: {values.sum():.6g} requests in all; a trace has some")
    return Counts(values.astype(np.int64), slot_s)


def _line(lines: Sequence[int] | None, index: np.intp) -> int:
    return int(index) + 1 if lines is None else lines[int(index)]


# ---- csv with a header ----


def _table(path: Path, stream: IO[bytes], slot_s: float | None) -> Trace:
    sheet = csv.reader(_lines(path, stream), strict=True)
    try:
        head = [name.strip().lower() for name in next(sheet)]
        rows = _rows(path, sheet, head)
        if set(BY_MINUTE) <= set(head):
            if slot_s is not None:
                raise InvalidConfiguration(f"{path}: its columns 1 to 1440 are minutes; leave --slot out")
            return _by_minute(path, rows, head)
        if slot_s is not None:
            column = _column_of(path, head, COUNTS, "--slot is for counts")
            values, lines = array("d"), array("q")
            for line, row in rows:
                values.append(_field(path, line, row[column]))
                lines.append(line)
            return _counts(path, np.array(values), slot_s, lines)
        if set(ENDED) <= set(head):
            return _ended(path, rows, head)
        return _listed(path, rows, head)
    except csv.Error as error:
        raise _wrong(path, sheet.line_num, f"not csv: {error}", "quote fields with commas in them") from None


def _ended(path: Path, rows: Iterator[tuple[int, list[str]]], head: list[str]) -> Requests:
    """When each began, in the order in which they did."""
    end, duration = (_place(path, head, name) for name in ENDED)
    at, lines = array("d"), array("q")
    for line, row in rows:
        at.append(_field(path, line, row[end]) - _field(path, line, row[duration]))
        lines.append(line)
    began = np.array(at)
    order = np.argsort(began, kind="stable")
    return _instants(path, began[order], np.array(lines)[order].tolist())


def _listed(path: Path, rows: Iterator[tuple[int, list[str]]], head: list[str]) -> Requests:
    """A line for each request; `application` and `sample` where there are such columns."""
    column = _column_of(path, head, INSTANTS, "of counts, say how long a slot is with --slot")
    unit = INSTANTS[head[column]]
    app, sample = (_place(path, head, n) if n in head else None for n in ("application", "sample"))
    at, lines, samples, applications = array("d"), array("q"), array("q"), []
    read: Callable[[Path, int, str], float] | None = None
    for line, row in rows:
        if read is None:
            read = _field if _number(row[column]) is not None else _wall_clock
        value = read(path, line, row[column]) * unit
        if at and value < at[-1]:
            raise _wrong(path, line, f"{_short(row[column])} is before the line above", "instants never fall")
        at.append(value)
        lines.append(line)
        if app is not None:
            applications.append(sys.intern(row[app].strip()))
        if sample is not None:
            samples.append(_sample(path, line, row[sample].strip()))
    found = _instants(path, np.array(at), lines)
    return Requests(
        found.at, applications if app is not None else None, samples if sample is not None else None
    )


def _by_minute(path: Path, rows: Iterator[tuple[int, list[str]]], head: list[str]) -> Counts:
    columns = [_place(path, head, name) for name in BY_MINUTE]
    total = np.zeros(len(BY_MINUTE))
    for line, row in rows:
        counts = np.array([_field(path, line, row[i]) for i in columns])
        if (counts < 0.0).any():
            raise _wrong(path, line, f"{counts.min():g} is not a count", "counts are 0 or more")
        total += counts
    return _counts(path, total, 60.0)


def _rows(path: Path, sheet: "_csv.Reader", head: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its line."""
    many = 0
    for row in sheet:
        if not row:
            continue
        if len(row) != len(head):
            raise _wrong(path, sheet.line_num, f"{len(row)} fields", f"the header has {len(head)}")
        many += 1
        _few(path, many)
        yield sheet.line_num, row


def _lines(path: Path, stream: IO[bytes]) -> Iterator[str]:
    number = 0
    while raw := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            raise _wrong(path, number, "a line without end", f"a line has at most {LONGEST_LINE} bytes")
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError:
            raise _wrong(path, number, "not UTF-8 text", "a trace is text, or text in gzip") from None


def _column_of(path: Path, head: list[str], known: Iterable[str], hint: str) -> int:
    for name in known:
        if name in head:
            return _place(path, head, name)
    names = list(known)
    near = next((nearest(name, names) for name in head if "mean" in nearest(name, names)), "")
    has = _short(", ".join(head))
    raise _wrong(path, 1, f"no column {', '.join(names)} among {has}", "; ".join(filter(None, (near, hint))))


def _place(path: Path, head: list[str], name: str) -> int:
    if head.count(name) > 1:
        raise _wrong(path, 1, f"two columns {name!r}", "which of them is meant? rename the other")
    return head.index(name)


def _field(path: Path, line: int, text: str) -> float:
    value = _number(text)
    if value is None:
        raise _wrong(path, line, f"{_short(text)} is not a number", "a plain one, such as 12.5")
    return value


def _wall_clock(path: Path, line: int, text: str) -> float:
    """Seconds of a date and time, to the microsecond. One that names no zone is taken for UTC."""
    try:
        found = datetime.fromisoformat(text.strip())
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        hint = "seconds, such as 12.5, or a date and time, such as 2023-11-16 18:17:03.98"
        raise _wrong(path, line, f"{_short(text)} is no instant", hint) from None


def _sample(path: Path, line: int, text: str) -> int:
    if not text:
        return -1
    value = _field(path, line, text)
    if value < 0.0 or value != int(value) or value > 2**53:
        raise _wrong(path, line, f"{_short(text)} is no sample", "the number of a row, from 0, or nothing")
    return int(value)


# ---- what is wrong ----


def _few(path: Path, lines: int) -> None:
    if lines > MOST_REQUESTS:
        raise InvalidData(f"{path} has more than {MOST_REQUESTS:,} lines; cut it, or count it by slots")


def _wrong(path: Path, line: int, what: str, hint: str) -> InvalidData:
    return InvalidData(str(Problem(str(path), line, what, hint)))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
