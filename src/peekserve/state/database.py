"""SQLite files of ours: opened, or refused with a sentence that says what they are instead."""

import sqlite3
from pathlib import Path

from peekserve.errors import InvalidConfiguration

BUSY_S = 5.0


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
