import sqlite3
import subprocess
import sys

import pytest

from peekserve.domain.profile import Calibration, LatencyCurve, Quality, Timing
from peekserve.errors import InvalidConfiguration
from peekserve.state.store import Store

QUALITY = Quality((0.75, 0.5), (0.9, 0.1), ((3, 1), (0, 0)), (1,))
TIMING = Timing((LatencyCurve((1, 8), (0.001, 0.004), (0.002, 0.005), (0.003, 0.006)),), 0.04, 1 << 40, "ort")
CALIBRATION = Calibration(((0.7, 0.3), (0.2, 0.8)), 0.4, 5.0, (0.1, 0.5, 0.9), (0.5, 0.5), 90, 0.7, 0.5, 0.6)


def test_what_was_put_is_there_after_reopening(tmp_path):
    path = tmp_path / "state" / "peekserve.db"
    with Store(path) as store:
        store.put_quality("m", "v", QUALITY)
        store.put_timing("m", "box", TIMING)
        store.put_peek_quality("p", "v", QUALITY)
        store.put_peek_latency("p", "box", TIMING.curves[0])
        store.put_calibration("p", "v", CALIBRATION)
        store.put_agreement("m", "votes", ((0.5, 0.25), (1.0, 0.75)))
        assert store.register("ecg", "cnn", "abc", seen_at=5.0)
    with Store(path) as store:
        assert store.quality("m", "v") == QUALITY
        assert store.timing("m", "box") == TIMING
        assert store.peek_quality("p", "v") == QUALITY
        assert store.peek_latency("p", "box") == TIMING.curves[0]
        assert store.calibration("p", "v") == CALIBRATION
        assert store.agreement("m", "votes") == ((0.5, 0.25), (1.0, 0.75))
        assert (store.calibration("p", "w"), store.agreement("m", "other votes")) == (None, None)
        assert store.revisions("ecg", "cnn") == (("abc", 5.0),)


def test_what_was_never_put_is_absent(tmp_path):
    with Store(tmp_path / "s.db") as store:
        store.put_timing("m", "box", TIMING)
        assert store.quality("m", "v") is None
        assert store.timing("m", "other box") is None
        assert store.timings_elsewhere("m") == ("box",)
        assert store.peek_latency("m", "box") is None


def test_the_newest_profile_wins_and_the_first_sight_of_a_revision_stays(tmp_path):
    with Store(tmp_path / "s.db") as store:
        store.put_quality("m", "v", QUALITY)
        store.put_quality("m", "v", Quality((1.0, 1.0), (0.5, 0.5)))
        assert store.quality("m", "v") == Quality((1.0, 1.0), (0.5, 0.5))
        assert store.register("ecg", "cnn", "new", seen_at=7.0)
        assert store.register("ecg", "cnn", "old", seen_at=3.0)
        assert not store.register("ecg", "cnn", "old", seen_at=9.0)
        assert store.revisions("ecg", "cnn") == (("old", 3.0), ("new", 7.0))


def test_two_processes_may_have_it_open(tmp_path):
    with Store(tmp_path / "s.db") as one, Store(tmp_path / "s.db") as two:
        one.put_quality("m", "v", QUALITY)
        assert two.quality("m", "v") == QUALITY


def test_writes_are_synced(tmp_path):
    with Store(tmp_path / "s.db") as store:
        store.put_quality("m", "v", QUALITY)
        connection = store._opened()
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_of_an_older_version_is_kept_and_takes_what_is_new(tmp_path):
    """Calibrations came with the second version of the file."""
    path = tmp_path / "s.db"
    with Store(path) as store:
        store.put_quality("m", "v", QUALITY)
    with sqlite3.connect(path) as connection:
        connection.executescript("DROP TABLE calibration; DROP TABLE agreement; PRAGMA user_version = 1;")
    with Store(path) as store:
        assert store.quality("m", "v") == QUALITY
        assert store.calibration("p", "v") is None
        store.put_calibration("p", "v", CALIBRATION)
        assert store.calibration("p", "v") == CALIBRATION


def test_a_file_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    before = path.read_bytes()
    with pytest.raises(
        InvalidConfiguration, match=r"written by a newer peekserve \(schema 9; this one knows 3\)"
    ):
        Store(path).quality("m", "v")
    assert path.read_bytes() == before


def test_a_file_that_is_none_of_ours_is_named(tmp_path):
    path = tmp_path / "s.db"
    path.write_text("no database at all, " * 100)
    with pytest.raises(InvalidConfiguration, match=r"s\.db is no state file of peekserve"):
        Store(path).quality("m", "v")


def test_a_damaged_value_is_named(tmp_path):
    path = tmp_path / "s.db"
    with Store(path) as store:
        store.put_quality("m", "v", QUALITY)
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE quality SET value = '{}'")
        with pytest.raises(InvalidConfiguration, match="the quality of m cannot be read"):
            store.quality("m", "v")


def test_a_full_disk_is_not_taken_for_a_foreign_file(tmp_path):
    path = tmp_path / "s.db"
    with Store(path) as store:
        store.put_quality("m", "v", QUALITY)
    code = f"""
import resource
from pathlib import Path
from peekserve.state.database import open_database
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
open_database(Path({str(path)!r}), "CREATE TABLE t (a);", 3, "FULL")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "cannot be opened or written" in done.stderr
    assert "no state file" not in done.stderr
