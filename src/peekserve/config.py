"""YAML with line numbers -> typed values with units, and every problem of a file at once.

A file becomes a tree of entries, each of which knows its file, its line and its key. A decoder is a
function from an entry to a value; a `Section` hands the entries of a mapping to decoders, notes what goes
wrong instead of stopping, and at the end names the keys that nobody asked for.

    >>> root = parse("deadline: 150ms", "app.yaml", Problems())
    >>> Section(root).take("deadline", Entry.seconds, 1.0)
    0.15

The tree is built from the parser's events and not by a YAML constructor: a scalar stays the text that was
written until a decoder asks for a number, so that the classes `yes` and `no` are words and not truth
values; and no alias is followed, so that no small file can unfold into a large one.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import yaml

from peekserve.errors import InvalidConfiguration

T = TypeVar("T")
D = TypeVar("D")
E = TypeVar("E", bound=StrEnum)

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

# As texts, because 9 * 0.001 is not 0.009 in binary and 9ms has to be.
SECONDS = {"us": "1e-6", "µs": "1e-6", "ms": "1e-3", "s": "1", "min": "60", "h": "3600"}
BYTES = {
    "B": "1",
    "KiB": "1024",
    "MiB": "1048576",
    "GiB": "1073741824",
    "kB": "1e3",
    "MB": "1e6",
    "GB": "1e9",
}

_QUANTITY = re.compile(r"([-+]?[0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-zµ]*)")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][-+]?[0-9]{1,3})?")


class Severity(StrEnum):
    """Whether a problem stops its application from being served."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what would be right. `line` is 0 where a place has no lines."""

    file: str
    line: int
    what: str
    hint: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        mark = "" if self.severity is Severity.ERROR else "warning: "
        return f"{place}: {mark}{self.what}" + (f"; {self.hint}" if self.hint else "")


class Problems:
    """What was found wrong while something was read, in the order of reading, and the line of every key
    seen.
    """

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.lines: dict[str, int] = {}

    def note(self, problem: Problem) -> None:
        if problem not in self.found:
            self.found.append(problem)

    @property
    def errors(self) -> list[Problem]:
        return [p for p in self.found if p.severity is Severity.ERROR]

    def raise_errors(self) -> None:
        """InvalidConfiguration with one line for each error, if there is any."""
        if self.errors:
            raise InvalidConfiguration("\n".join(str(p) for p in self.errors))


class Misread(InvalidConfiguration):
    """An InvalidConfiguration that knows its place."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Entry:
    """A value as it was written: text, a list of entries, or a mapping of them. `key` is its whole path."""

    file: str
    line: int
    key: str
    value: "str | list[Entry] | dict[str, Entry]"
    plain: bool = True
    problems: Problems = field(default_factory=Problems, repr=False, compare=False)

    def wrong(self, what: str, hint: str = "") -> Misread:
        return Misread(Problem(self.file, self.line, f"{self.key}: {what}" if self.key else what, hint))

    def note(self, what: str, hint: str = "") -> None:
        self.problems.note(self.wrong(what, hint).problem)

    @property
    def is_text(self) -> bool:
        return isinstance(self.value, str)

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, list)

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong(f"must be one value, not {_kind(self.value)}")
        if self.plain and self.value in ("", "~", "null"):
            raise self.wrong("has no value", "write one or leave the key out")
        return self.value

    def integer(self, low: int = -(10**18), high: int = 10**18) -> int:
        text = self.text()
        if not _INTEGER.fullmatch(text):
            raise self.wrong(f"{_short(text)} is not a whole number")
        if not low <= int(text) <= high:
            raise self.wrong(
                f"{text} is not {f'{low} or more' if high == 10**18 else f'from {low} to {high}'}"
            )
        return int(text)

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        text = self.text()
        if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
            raise self.wrong(f"{_short(text)} is not a number")
        if not low <= float(text) <= high:
            raise self.wrong(
                f"{text} is not {f'{low:g} or more' if high == math.inf else f'from {low:g} to {high:g}'}"
            )
        return float(text)

    def boolean(self) -> bool:
        return self.one_of(("true", "false")) == "true"

    def seconds(self) -> float:
        """A duration with its unit, zero or more: `150ms` -> 0.15."""
        return self._quantity(SECONDS, ("ms", "s"), "a time")

    def positive_seconds(self) -> float:
        seconds = self.seconds()
        if seconds <= 0.0:
            raise self.wrong(f"{self.text()} is not above zero")
        return seconds

    def size(self) -> int:
        """A size in bytes with its unit, above zero: `64KiB` -> 65536."""
        size = int(self._quantity(BYTES, ("MiB", "GiB"), "a size in bytes"))
        if size <= 0:
            raise self.wrong(f"{self.text()} is not above zero")
        return size

    def _quantity(self, units: dict[str, str], examples: tuple[str, str], what: str) -> float:
        text = self.text()
        match = _QUANTITY.fullmatch(text.strip())
        if not match:
            raise self.wrong(
                f"{_short(text)} is not {what}", f"write it like 150{examples[0]} or 2{examples[1]}"
            )
        number, unit = match.groups()
        if not unit:
            raise self.wrong(f"{text} has no unit", f"write {text}{examples[0]} or {text}{examples[1]}")
        if unit not in units:
            raise self.wrong(f"unknown unit {unit!r} in {_short(text)}", nearest(unit, units))
        if float(number) < 0.0:
            raise self.wrong(f"{text} is below zero")
        return float(Decimal(number) * Decimal(units[unit]))

    def one_of(self, known: Iterable[str], what: str = "value") -> str:
        text, names = self.text(), list(known)
        if text not in names:
            raise self.wrong(f"unknown {what} {_short(text)}", nearest(text, names))
        return text

    def member(self, kind: type[E]) -> E:
        return kind(self.one_of([str(m) for m in kind]))

    def items(self) -> "list[Entry]":
        if not isinstance(self.value, list):
            raise self.wrong(f"must be a list, not {_kind(self.value)}")
        return self.value

    def each(self, decode: "Callable[[Entry], T]") -> list[T]:
        """The items of a list, decoded; those that cannot be are noted and left out."""
        return [value for item in self.items() for value in item.attempt(decode)]

    def pairs(self) -> "dict[str, Entry]":
        if not isinstance(self.value, dict):
            raise self.wrong(f"must be a mapping, not {_kind(self.value)}")
        return self.value

    def attempt(self, decode: "Callable[[Entry], T]") -> Iterator[T]:
        """The decoded value, or nothing and a note of what is wrong with it."""
        try:
            yield decode(self)
        except Misread as misread:
            self.problems.note(misread.problem)
        except InvalidConfiguration as error:
            self.note(str(error))


class Section:
    """A mapping with known keys: those that were asked for by the time `done` is called."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._pairs = entry.pairs()
        self._asked: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._pairs

    def get(self, key: str) -> Entry | None:
        self._asked.append(key)
        return self._pairs.get(key)

    def take(self, key: str, decode: Callable[[Entry], T], default: D) -> T | D:
        """The key's value; the default where the key is absent, or wrong and therefore noted."""
        entry = self.get(key)
        if entry is None:
            return default
        for value in entry.attempt(decode):
            return value
        return default

    def need(self, key: str, decode: Callable[[Entry], T], stand_in: D) -> T | D:
        """As `take`, but an absent key is noted too."""
        if key not in self._pairs:
            self.entry.note(f"needs the key {key!r}")
        return self.take(key, decode, stand_in)

    def done(self) -> None:
        """Note every key that was never asked for, with the nearest one that was."""
        for key, entry in self._pairs.items():
            if key not in self._asked:
                where = f"{self.entry.key}: " if self.entry.key else ""
                what = f"{where}unknown key {_short(key)}"
                entry.problems.note(Problem(entry.file, entry.line, what, nearest(key, self._asked)))


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint: the one that was probably meant, or all that there are."""
    names = list(dict.fromkeys(known))
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word[:100].lower(), lower, n=1, cutoff=0.6)
    return f"did you mean {lower[close[0]]!r}?" if close else f"known: {', '.join(names)}"


def read(path: Path, problems: Problems) -> Entry | None:
    """A YAML file as a tree; None, and a note, where there is none to be had."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            problems.note(Problem(str(path), 0, f"a configuration file has at most {MAX_BYTES} bytes"))
            return None
        return parse(raw.decode("utf-8"), str(path), problems)
    except OSError as error:
        problems.note(Problem(str(path), 0, f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        problems.note(Problem(str(path), 1 + raw[: error.start].count(b"\n"), "is not UTF-8 text"))
    except Misread as misread:
        problems.note(misread.problem)
    return None


def parse(text: str, file: str, problems: Problems, key: str = "") -> Entry:
    """A YAML text as a tree of entries whose keys begin at `key`. Raises Misread where it is no such text."""
    if len(text) > MAX_BYTES:
        raise Misread(Problem(file, 0, f"a configuration has at most {MAX_BYTES} bytes"))
    try:
        root = _build(text, file, problems, key)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        raise Misread(Problem(file, mark.line + 1 if mark else 1, f"not YAML: {what}")) from None
    return Entry(file, 1, key, {}, problems=problems) if root is None else root


_LOADER: type[yaml.CSafeLoader] | type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class _Open:
    """A list or mapping that is still being read; `name` is the key that waits for its value."""

    entry: Entry
    name: str | None = None
    name_line: int = 0

    def add(self, child: Entry) -> None:
        into = self.entry.value
        if isinstance(into, list):
            into.append(child)
        elif isinstance(into, dict) and self.name is not None:
            into[self.name] = child
            self.name = None


def _build(text: str, file: str, problems: Problems, key: str) -> Entry | None:
    root: Entry | None = None
    stack: list[_Open] = []
    documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1 if event.start_mark else 0

        def wrong(what: str, hint: str = "", line: int = line) -> Misread:
            return Misread(Problem(file, line, what, hint))

        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise wrong("a second document begins here", "a file holds one")
        elif isinstance(event, yaml.AliasEvent):
            raise wrong(f"aliases like *{event.anchor} are not taken", "write the value out again")
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            stack.pop()
        elif isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent):
            if event.tag is not None and event.tag != "!":
                raise wrong(f"tags like {_short(event.tag)} are not taken", "write the plain value")
            top = stack[-1] if stack else None
            if top is not None and isinstance(top.entry.value, dict) and top.name is None:
                if not isinstance(event, yaml.ScalarEvent):
                    raise wrong("a key must be one word")
                if event.value in top.entry.value:
                    before = top.entry.value[event.value].line
                    raise wrong(f"key {_short(event.value)} stands here twice", f"first on line {before}")
                top.name, top.name_line = event.value, line
                continue
            entry = _entry(event, top, Entry(file, line, key, "", problems=problems))
            problems.lines[entry.key] = entry.line
            if top is None:
                root = entry
            else:
                top.add(entry)
            if not entry.is_text:
                if len(stack) == MAX_DEPTH:
                    raise wrong(f"nested more than {MAX_DEPTH} deep")
                stack.append(_Open(entry))
    if root is not None and root.plain and root.value == "":
        return None
    return root


def _entry(event: yaml.Event, top: _Open | None, blank: Entry) -> Entry:
    key, line = blank.key, blank.line
    if top is not None and isinstance(top.entry.value, list):
        key = f"{top.entry.key}[{len(top.entry.value)}]"
    elif top is not None:
        # The key's line, not the value's: that is where one looks for it.
        key, line = (f"{top.entry.key}.{top.name}" if top.entry.key else str(top.name)), top.name_line
    value: str | list[Entry] | dict[str, Entry] = (
        event.value
        if isinstance(event, yaml.ScalarEvent)
        else []
        if isinstance(event, yaml.SequenceStartEvent)
        else {}
    )
    plain = not isinstance(event, yaml.ScalarEvent) or not event.style
    return Entry(blank.file, line, key, value, plain, blank.problems)


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else "one value"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
