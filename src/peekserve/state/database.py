"""SQLite files of ours: opened, or refused with a sentence that says what they are instead."""

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

from peekserve.errors import InvalidConfiguration

BUSY_S = 5.0


class Database:
    """Opens its file on first use, in the thread that uses it; `with` closes it. `schema`, `version`, `synchronous`: as
    of `open_database`, whose errors come from the first use."""

    def __init__(self, path: Path, schema: str, version: int, synchronous: str) -> None:
        self.path = path
        self._schema = schema
        self._version = version
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_database(self.path, self._schema, self._version, self._synchronous)
        return self._connection


def open_database(path: Path, schema: str, version: int, synchronous: str) -> sqlite3.Connection:
    """A connection in WAL mode, its tables made where they are not there. `synchronous`: FULL, where nothing that was
    committed may be lost in a power cut, or NORMAL.

    Raises InvalidConfiguration for a file that cannot be opened, is none of ours, or has a newer `version`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_S)
    except (OSError, sqlite3.Error) as error:
        raise InvalidConfiguration(f"{path}: cannot be opened: {error}") from error
    try:
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if found > version:
            raise InvalidConfiguration(
                f"{path} was written by a newer peekserve (schema {found}; this one knows {version}): "
                "use that version, or name another --state folder"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        if found < version:
            # One script, one transaction: a power cut in between leaves version 0 and nothing else.
            connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {version}; COMMIT;")
    except sqlite3.OperationalError as error:
        # A full disk, a folder that may not be written: the file may well be ours.
        connection.close()
        raise InvalidConfiguration(f"{path}: cannot be opened or written: {error}") from error
    except sqlite3.Error as error:
        connection.close()
        raise InvalidConfiguration(f"{path} is no state file of peekserve: {error}") from error
    except InvalidConfiguration:
        connection.close()
        raise
    return connection
