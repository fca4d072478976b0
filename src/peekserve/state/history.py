"""A second SQLite file: rows whose true class was confirmed, so that what was learnt outlives the server.

A lesson is good for the model that was judged by it, so each is kept with the revision of its variant (or with the
key of the peek, where the peek answered). Classes are kept by name: their order may change. Losing the last second of
this in a power cut does no harm, so nothing waits for the disk here (WAL, synchronous=NORMAL); what was committed
survives the end of the process, however it ends. Each application keeps its newest rows and no more.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from peekserve.domain.application import public
from peekserve.domain.feedback import Lesson
from peekserve.errors import InvalidConfiguration
from peekserve.state.database import Database

VERSION = 1
# Of each application. Older ones would weigh next to nothing, and all are learnt again at each start.
KEEP_ROWS = 3000
_ANEW = "; move it away, and what feedback teaches begins anew"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lessons (
    number INTEGER PRIMARY KEY AUTOINCREMENT, application TEXT NOT NULL, variant TEXT NOT NULL,
    revision TEXT NOT NULL, said TEXT NOT NULL, own TEXT NOT NULL, label TEXT NOT NULL, expected REAL,
    theta TEXT NOT NULL, counts TEXT, confirmed_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS lessons_of ON lessons (application, number);
"""


@dataclass(frozen=True, slots=True)
class Edition:
    """What an application is. `revisions`: variant name -> revision, and None -> what stands for its peek."""

    classes: tuple[str, ...]
    revisions: Mapping[str | None, str]


class History(Database):
    """Opens its file on first use, in the thread that uses it; `with` closes it. `editions`: by application key;
    looked into at each use, so that one which joins later is kept, too. Under a name, the lessons of all its editions
    are kept: each of them learns from those that were about its own models.

    Every method raises InvalidConfiguration where the file is none of ours, is of a newer peekserve, or cannot be read
    or written.
    """

    def __init__(self, path: Path, editions: Mapping[str, Edition], keep_rows: int = KEEP_ROWS) -> None:
        super().__init__(path, _SCHEMA, VERSION, "NORMAL")
        self._editions = editions
        self._keep_rows = keep_rows

    def _opened(self) -> sqlite3.Connection:
        try:
            return super()._opened()
        except InvalidConfiguration as error:
            raise InvalidConfiguration(f"{error}{_remedy(error.__cause__)}") from error

    def add(self, lessons: Sequence[Lesson], confirmed_at: float) -> None:
        """Keep these, and forget the oldest beyond what is kept: one transaction. `confirmed_at`: seconds since the
        epoch."""
        rows = [self._row(lesson, confirmed_at) for lesson in lessons]
        try:
            with self._opened() as connection:
                connection.executemany(
                    "INSERT INTO lessons (application, variant, revision, said, own, label, expected, theta, counts, "
                    "confirmed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    rows,
                )
                for application in sorted({public(lesson.application) for lesson in lessons}):
                    connection.execute(
                        "DELETE FROM lessons WHERE application = ? AND number <= (SELECT number FROM lessons "
                        "WHERE application = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                        (application, application, self._keep_rows),
                    )
        except sqlite3.Error as error:
            raise InvalidConfiguration(f"{self.path}: cannot be written: {error}") from error

    def lessons(self) -> tuple[Lesson, ...]:
        """All that hold for the applications as they are now, the oldest first."""
        try:
            rows = (
                self._opened()
                .execute(
                    "SELECT application, variant, revision, said, own, label, expected, theta, counts FROM lessons "
                    "ORDER BY number"
                )
                .fetchall()
            )
        except sqlite3.Error as error:
            raise InvalidConfiguration(f"{self.path}: cannot be read: {error}{_remedy(error)}") from error
        try:
            return tuple(lesson for row in rows for lesson in self._lessons(*row))
        except (msgspec.MsgspecError, KeyError, ValueError) as error:
            why = f"a lesson that cannot be read: {error}{_ANEW}"
            raise InvalidConfiguration(f"{self.path}: {why}") from None

    def _row(self, lesson: Lesson, confirmed_at: float) -> tuple[str | float | None, ...]:
        edition = self._editions[lesson.application]
        encode = msgspec.json.encode
        return (
            public(lesson.application),
            lesson.variant or "",
            edition.revisions[lesson.variant],
            edition.classes[lesson.said],
            edition.classes[lesson.own],
            edition.classes[lesson.label],
            lesson.expected,
            encode(dict(zip(edition.classes, lesson.theta, strict=True))).decode(),
            None
            if lesson.counts is None
            else encode(dict(zip(edition.classes, lesson.counts, strict=True))).decode(),
            confirmed_at,
        )

    def _lessons(
        self,
        application: str,
        variant: str,
        revision: str,
        said: str,
        own: str,
        label: str,
        expected: float | None,
        theta: str,
        counts: str | None,
    ) -> Iterator[Lesson]:
        """One for each edition that it is about."""
        about = [
            (key, edition)
            for key, edition in self._editions.items()
            if public(key) == application and edition.revisions.get(variant or None) == revision
        ]
        if not about:
            return
        beliefs = msgspec.json.decode(theta, type=dict[str, float])
        seen = None if counts is None else msgspec.json.decode(counts, type=dict[str, float])
        for key, edition in about:
            if set(beliefs) == set(edition.classes):
                yield Lesson(
                    key,
                    variant or None,
                    edition.classes.index(said),
                    edition.classes.index(own),
                    edition.classes.index(label),
                    expected,
                    tuple(beliefs[name] for name in edition.classes),
                    None if seen is None else tuple(seen[name] for name in edition.classes),
                )


def _remedy(error: BaseException | None) -> str:
    """What helps against this: nothing here, where the file itself may be whole."""
    spoiled = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    return _ANEW if spoiled else ""
