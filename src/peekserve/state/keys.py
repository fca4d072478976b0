"""API keys: who may do what. One SQLite file that holds digests, never keys.

A key is `pk_ID_SECRET`: eight characters to find it by, and 256 random bits. The digest is SHA-256 without salt or
stretching: these slow down guessing at what people choose, and nobody guesses at 256 random bits. The file is readable
by its owner alone.
"""

import hashlib
import os
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from peekserve.errors import InvalidConfiguration
from peekserve.state.database import Database

VERSION = 1
FILE = "keys.sqlite"
_PREFIX = "pk"
_LONGEST_NAME = 64

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest TEXT NOT NULL, scopes TEXT NOT NULL,
    made_at REAL NOT NULL) WITHOUT ROWID;
"""


class Scope(StrEnum):
    """What a key is good for. ADMIN includes the others."""

    INFER = "infer"
    FEEDBACK = "feedback"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept. `digest`: SHA-256 of the secret, in hexadecimal. `made_at`: seconds since the epoch."""

    id: str
    name: str
    digest: str
    scopes: frozenset[Scope]
    made_at: float

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


class Keys(Database):
    """Opens its file on first use, in the thread that uses it; `with` closes it.

    Every method raises InvalidConfiguration where the file is none of ours, is of a newer peekserve, or cannot be read
    or written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA, VERSION, "FULL")

    def add(self, name: str, scopes: Sequence[Scope], made_at: float) -> str:
        """A new key, told this once. Raises InvalidConfiguration for a name that is taken or no name."""
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise InvalidConfiguration(
                f"a key's name has 1 to {_LONGEST_NAME} printable characters, not {name!r}"
            )
        if not scopes:
            raise InvalidConfiguration(
                f"the key {name!r} would be good for nothing; scopes are {', '.join(Scope)}"
            )
        number, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        words = ",".join(scope for scope in Scope if scope in scopes)
        try:
            with self._opened() as connection:
                connection.execute(
                    "INSERT INTO keys VALUES (?, ?, ?, ?, ?)", (number, name, digest(secret), words, made_at)
                )
        except sqlite3.IntegrityError:
            raise InvalidConfiguration(
                f"there is a key {name!r} already: revoke it first, or choose another name"
            ) from None
        except sqlite3.Error as error:
            raise InvalidConfiguration(f"{self.path}: {error}") from error
        return f"{_PREFIX}_{number}_{secret}"

    def revoke(self, name: str) -> None:
        """From now on it is good for nothing. Raises InvalidConfiguration where there is no such key."""
        try:
            with self._opened() as connection:
                gone = connection.execute("DELETE FROM keys WHERE name = ?", (name,)).rowcount
        except sqlite3.Error as error:
            raise InvalidConfiguration(f"{self.path}: {error}") from error
        if not gone:
            known = ", ".join(sorted(key.name for key in self.all().values())) or "none"
            raise InvalidConfiguration(f"there is no key {name!r}; there are {known}")

    def all(self) -> Mapping[str, Key]:
        """By id."""
        try:
            rows = self._opened().execute(
                "SELECT id, name, digest, scopes, made_at FROM keys ORDER BY made_at, id"
            )
            return {
                number: Key(number, name, kept, frozenset(Scope(word) for word in words.split(",")), made_at)
                for number, name, kept, words, made_at in rows
            }
        except (sqlite3.Error, ValueError) as error:
            raise InvalidConfiguration(f"{self.path}: {error}") from error

    def edition(self) -> int:
        """Another number once another process has written to the file."""
        try:
            return int(self._opened().execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise InvalidConfiguration(f"{self.path}: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None and not self.path.exists():
            # Before SQLite makes it: its files beside this one get the same permissions.
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
            except OSError as error:
                raise InvalidConfiguration(f"{self.path}: cannot be made: {error.strerror}") from error
        return super()._opened()


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def parts(key: str) -> tuple[str, str] | None:
    """(id, secret) of a key as clients send it; None for what cannot be one."""
    prefix, _, rest = key.partition("_")
    number, _, secret = rest.partition("_")
    return (number, secret) if prefix == _PREFIX and number and secret else None
