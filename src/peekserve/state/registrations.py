"""Revisions of applications that came while a server ran, and which of them is served: two tables of state.sqlite.

What is served is a stack for each application: the last entry is served now, and to roll back is to take it off. An
application that was never registered has no entry, and the repository's own folder is served. Every write is one
transaction, synced before it returns: whatever was told to a client is there after a power cut.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from peekserve.errors import InvalidConfiguration, UnknownRevision, WrongState
from peekserve.state.database import Database
from peekserve.state.store import SCHEMA, VERSION

# The revision that lies in the repository itself, and what stands in its place once an application was withdrawn.
OWN, NOTHING = "repository", ""


class Life(StrEnum):
    """Where a revision stands.

    uploaded -> checking -> profiling -> shadowing -> ready -> active -> retired
                    |           |            |
                 invalid      failed      rejected
    """

    UPLOADED = "uploaded"
    CHECKING = "checking"
    INVALID = "invalid"
    PROFILING = "profiling"
    FAILED = "failed"
    SHADOWING = "shadowing"
    REJECTED = "rejected"
    READY = "ready"
    ACTIVE = "active"
    RETIRED = "retired"


UNDER_WAY = frozenset((Life.UPLOADED, Life.CHECKING, Life.PROFILING, Life.SHADOWING))
USABLE = frozenset((Life.READY, Life.ACTIVE, Life.RETIRED))


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a revision, where in its folder, and what would be right. `line`: 0 where there is none."""

    file: str
    line: int
    what: str
    hint: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.what}" + (f"; {self.hint}" if self.hint else "")


@dataclass(frozen=True, slots=True)
class Registration:
    """One revision of one application.

    `sha`: of all its files, whose beginning is the revision's name. `by_hand`: it waits for somebody to swap it in.
    `shadow_rows`: so many rows of live traffic it is tried on, 0 for none. `parent`: the revision that was served when
    it came. `why`: one sentence on where it stands. `profile`: by variant, in short. `report`: what the shadow saw.
    `made_at`, `changed_at`: seconds since the epoch.
    """

    application: str
    revision: str
    sha: str
    state: Life = Life.UPLOADED
    by_hand: bool = False
    shadow_rows: int = 100
    parent: str = NOTHING
    why: str = ""
    faults: tuple[Fault, ...] = ()
    profile: dict[str, Any] | None = None
    report: dict[str, Any] | None = None
    made_at: float = 0.0
    changed_at: float = 0.0


class Registrations(Database):
    """Opens its file on first use, in the thread that uses it; `with` closes it.

    Every method raises InvalidConfiguration where the file is none of ours, is of a newer peekserve, or cannot be read
    or written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA, VERSION, "FULL")

    # ---- revisions

    def put(self, registration: Registration, compiled: bytes | None = None) -> None:
        """Keep a revision as it is now. `compiled`: the application as it was read from its folder, for those who must
        not look into its models; None keeps what there is."""
        one = registration
        value = msgspec.json.encode(one).decode()
        row = (one.application, one.revision, one.sha, one.state.value, value, compiled)
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO registrations VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (application, revision) DO "
                "UPDATE SET state = excluded.state, value = excluded.value, changed_at = excluded.changed_at, "
                "compiled = coalesce(excluded.compiled, compiled)",
                (*row, one.made_at, one.changed_at),
            )

    def find(self, application: str, revision: str) -> Registration:
        """Raises UnknownRevision."""
        rows = self._rows(
            "SELECT value FROM registrations WHERE application = ? AND revision = ?", (application, revision)
        )
        if not rows:
            known = ", ".join(one.revision for one in self.of(application)) or "none"
            raise UnknownRevision(
                f"application {application!r} has no registered revision {revision[:80]!r}; it has {known}"
            )
        return self._read(rows[0][0])

    def of(self, application: str = "") -> tuple[Registration, ...]:
        """All revisions of an application, or of all of them, the oldest first."""
        where, values = ("WHERE application = ? ", (application,)) if application else ("", ())
        rows = self._rows(
            f"SELECT value FROM registrations {where}ORDER BY application, made_at, revision", values
        )
        return tuple(self._read(value) for (value,) in rows)

    def compiled(self, application: str, revision: str) -> bytes | None:
        rows = self._rows(
            "SELECT compiled FROM registrations WHERE application = ? AND revision = ?",
            (application, revision),
        )
        return bytes(rows[0][0]) if rows and rows[0][0] is not None else None

    def forget(self, application: str, revision: str) -> None:
        """Raises WrongState where it is served."""
        if self.serving().get(application) == revision:
            raise WrongState(
                f"revision {revision} of {application!r} is served; swap or roll back to another first"
            )
        with self._writing() as connection:
            key = (application, revision)
            connection.execute("DELETE FROM registrations WHERE application = ? AND revision = ?", key)
            connection.execute("DELETE FROM served WHERE application = ? AND revision = ?", key)

    # ---- what is served

    def serving(self) -> dict[str, str]:
        """By application, the revision that is served now: of those that something was ever registered for, or that
        were withdrawn (NOTHING)."""
        rows = self._rows(
            "SELECT application, revision FROM served WHERE number IN "
            "(SELECT max(number) FROM served GROUP BY application) ORDER BY application",
            (),
        )
        return {str(application): str(revision) for application, revision in rows}

    def before(self, application: str) -> str | None:
        """What was served before what is served now; None where there is nothing to roll back to."""
        found = self._before(application)
        return None if found is None else found[1]

    def swapped(self, application: str, revision: str, before: str, at: float) -> None:
        """From now on `revision` is served (NOTHING: the application is withdrawn), and `before` was until now: one
        transaction, with the states of both. `at`: seconds since the epoch."""
        with self._writing() as connection:
            first = not self._rows("SELECT 1 FROM served WHERE application = ?", (application,))
            if first and before != NOTHING:
                connection.execute(
                    "INSERT INTO served (application, revision, since) VALUES (?, ?, ?)",
                    (application, before, at),
                )
            connection.execute(
                "INSERT INTO served (application, revision, since) VALUES (?, ?, ?)",
                (application, revision, at),
            )
            self._settle(connection, application, revision, at)

    def rolled_back(self, application: str, at: float) -> str:
        """Take the last swap back: the revision that is served again. Raises WrongState where there was none."""
        found = self._before(application)
        if found is None:
            raise WrongState(
                f"nothing was served before what {application!r} is now: there is no way back; "
                f"DELETE /api/v1/admin/applications/{application} withdraws it"
            )
        with self._writing() as connection:
            connection.execute(
                "DELETE FROM served WHERE application = ? AND number > ?", (application, found[0])
            )
            self._settle(connection, application, found[1], at)
        return found[1]

    def _before(self, application: str) -> tuple[int, str] | None:
        """The newest entry of another revision than the one that is served."""
        rows = self._rows(
            "SELECT number, revision FROM served WHERE application = ? AND revision != "
            "(SELECT revision FROM served WHERE application = ? ORDER BY number DESC LIMIT 1) "
            "ORDER BY number DESC LIMIT 1",
            (application, application),
        )
        return (int(rows[0][0]), str(rows[0][1])) if rows else None

    def _settle(self, connection: sqlite3.Connection, application: str, revision: str, at: float) -> None:
        """One revision is active, and whichever was before is retired."""
        for one in self.of(application):
            state = Life.ACTIVE if one.revision == revision else _without_it(one.state)
            if state is not one.state:
                now = "nothing is under this name now" if revision == NOTHING else "another is now"
                why = "it is served" if state is Life.ACTIVE else f"it was served, and {now}"
                value = msgspec.json.encode(replace(one, state=state, why=why, changed_at=at)).decode()
                connection.execute(
                    "UPDATE registrations SET state = ?, value = ?, changed_at = ? "
                    "WHERE application = ? AND revision = ?",
                    (state.value, value, at, application, one.revision),
                )

    # ---- the file

    def _read(self, value: object) -> Registration:
        try:
            return msgspec.json.decode(str(value), type=Registration)
        except msgspec.MsgspecError as error:
            raise InvalidConfiguration(f"{self.path}: a registration cannot be read: {error}") from None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it, or on an error nothing."""
        try:
            with self._opened() as connection:
                yield connection
        except sqlite3.Error as error:
            raise InvalidConfiguration(f"{self.path}: cannot be written: {error}") from error

    def _rows(self, statement: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._opened().execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise InvalidConfiguration(f"{self.path}: cannot be read: {error}") from error


def _without_it(state: Life) -> Life:
    """What becomes of a revision when another one is active."""
    return Life.RETIRED if state is Life.ACTIVE else state
