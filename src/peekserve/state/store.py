"""One SQLite file for what must survive a power cut: revisions and measured profiles.

Every write is one transaction, synced before it returns (WAL, synchronous=FULL). Quality is kept by the
digests of a model and of the data it was measured on, and is good on any machine; timing by a model's digest
and the fingerprint of a device, and is good on that device alone. The digests are those of
registry/profiled.py. Values are JSON, so that a file can be read with `sqlite3` by hand.
"""

import sqlite3
from pathlib import Path
from typing import TypeVar

import msgspec

from peekserve.domain.profile import Calibration, LatencyCurve, Quality, Timing
from peekserve.errors import InvalidConfiguration, PeekserveError
from peekserve.state.database import Database

T = TypeVar("T")
Recalls = tuple[tuple[float, ...], ...]

FILE = "state.sqlite"
VERSION = 3

SCHEMA = """
CREATE TABLE IF NOT EXISTS revisions (
    application TEXT NOT NULL, variant TEXT NOT NULL, revision TEXT NOT NULL, first_seen REAL NOT NULL,
    PRIMARY KEY (application, variant, revision)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quality (
    model TEXT NOT NULL, validation TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (model, validation)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS timing (
    model TEXT NOT NULL, fingerprint TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (model, fingerprint)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS peek_quality (
    peek TEXT NOT NULL, validation TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (peek, validation)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS peek_latency (
    peek TEXT NOT NULL, fingerprint TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (peek, fingerprint)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calibration (
    peek TEXT NOT NULL, validation TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (peek, validation)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS agreement (
    model TEXT NOT NULL, votes TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (model, votes)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS registrations (
    application TEXT NOT NULL, revision TEXT NOT NULL, sha TEXT NOT NULL, state TEXT NOT NULL, value TEXT NOT NULL,
    compiled BLOB, made_at REAL NOT NULL, changed_at REAL NOT NULL,
    PRIMARY KEY (application, revision)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS served (
    number INTEGER PRIMARY KEY AUTOINCREMENT, application TEXT NOT NULL, revision TEXT NOT NULL, since REAL NOT NULL);
"""


class Store(Database):
    """Opens its file on first use, in the thread that uses it; `with` closes it.

    Every method raises InvalidConfiguration where the file is none of ours, is of a newer peekserve, or
    cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA, VERSION, "FULL")

    # ---- revisions

    def register(self, application: str, variant: str, revision: str, seen_at: float) -> bool:
        """Note a revision of a variant; true when it is new. `seen_at`: seconds since the epoch, kept from
        the first.
        """
        return self._write(
            "INSERT OR IGNORE INTO revisions VALUES (?, ?, ?, ?)", (application, variant, revision, seen_at)
        )

    def revisions(self, application: str, variant: str) -> tuple[tuple[str, float], ...]:
        """(revision, first seen) of a variant, the oldest first."""
        rows = self._rows(
            "SELECT revision, first_seen FROM revisions WHERE application = ? AND variant = ? "
            "ORDER BY first_seen, revision",
            (application, variant),
        )
        return tuple((str(revision), float(seen)) for revision, seen in rows)

    # ---- profiles of models

    def quality(self, model_sha: str, validation_sha: str) -> Quality | None:
        return self._value("quality", "validation", (model_sha, validation_sha), Quality)

    def put_quality(self, model_sha: str, validation_sha: str, quality: Quality) -> None:
        self._put("quality", (model_sha, validation_sha), quality)

    def timing(self, model_sha: str, fingerprint: str) -> Timing | None:
        return self._value("timing", "fingerprint", (model_sha, fingerprint), Timing)

    def put_timing(self, model_sha: str, fingerprint: str, timing: Timing) -> None:
        self._put("timing", (model_sha, fingerprint), timing)

    def timings_elsewhere(self, model_sha: str) -> tuple[str, ...]:
        """Fingerprints of all devices that this model was timed on: why a profile that is there does not
        fit.
        """
        rows = self._rows("SELECT fingerprint FROM timing WHERE model = ? ORDER BY fingerprint", (model_sha,))
        return tuple(str(fingerprint) for (fingerprint,) in rows)

    # ---- profiles of peeks

    def peek_quality(self, peek_sha: str, validation_sha: str) -> Quality | None:
        return self._peek_value("peek_quality", "validation", (peek_sha, validation_sha), Quality)

    def put_peek_quality(self, peek_sha: str, validation_sha: str, quality: Quality) -> None:
        self._put("peek_quality", (peek_sha, validation_sha), quality)

    def peek_latency(self, peek_sha: str, fingerprint: str) -> LatencyCurve | None:
        return self._peek_value("peek_latency", "fingerprint", (peek_sha, fingerprint), LatencyCurve)

    def put_peek_latency(self, peek_sha: str, fingerprint: str, latency: LatencyCurve) -> None:
        self._put("peek_latency", (peek_sha, fingerprint), latency)

    def calibration(self, peek_sha: str, validation_sha: str) -> Calibration | None:
        return self._peek_value("calibration", "validation", (peek_sha, validation_sha), Calibration)

    def put_calibration(self, peek_sha: str, validation_sha: str, calibration: Calibration) -> None:
        self._put("calibration", (peek_sha, validation_sha), calibration)

    # ---- what a model is worth beside a peek

    def agreement(self, model_sha: str, votes_sha: str) -> Recalls | None:
        """[B][C]: recalls by agreement with these votes (Quality.by_agreement)."""
        return self._value("agreement", "votes", (model_sha, votes_sha), Recalls)

    def put_agreement(self, model_sha: str, votes_sha: str, recalls: Recalls) -> None:
        self._put("agreement", (model_sha, votes_sha), recalls)

    # ---- the file

    def _value(
        self, table: str, second: str, key: tuple[str, str], kind: type[T], first: str = "model"
    ) -> T | None:
        # Table and column names are this file's own words; values go in as parameters.
        rows = self._rows(f"SELECT value FROM {table} WHERE {first} = ? AND {second} = ?", key)
        if not rows:
            return None
        try:
            return msgspec.json.decode(str(rows[0][0]), type=kind)
        except (msgspec.DecodeError, PeekserveError) as error:
            raise InvalidConfiguration(
                f"{self.path}: the {table} of {key[0][:12]} cannot be read: {error}"
            ) from None

    def _peek_value(self, table: str, second: str, key: tuple[str, str], kind: type[T]) -> T | None:
        return self._value(table, second, key, kind, first="peek")

    def _put(
        self, table: str, key: tuple[str, str], value: Quality | Timing | LatencyCurve | Calibration | Recalls
    ) -> None:
        text = msgspec.json.encode(value).decode()
        self._write(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", (*key, text))

    def _write(self, statement: str, values: tuple[str | float, ...]) -> bool:
        try:
            with self._opened() as connection:
                return connection.execute(statement, values).rowcount > 0
        except sqlite3.Error as error:
            raise InvalidConfiguration(f"{self.path}: cannot be written: {error}") from error

    def _rows(self, statement: str, values: tuple[str, ...]) -> list[tuple[str | float, ...]]:
        try:
            return self._opened().execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise InvalidConfiguration(f"{self.path}: cannot be read: {error}") from error
