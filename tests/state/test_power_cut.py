"""Whatever was acknowledged is there after a kill at any moment; whatever a power cut tore is told, not guessed at."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.domain.messages import Woke
from peekserve.errors import JournalDamaged
from peekserve.state.history import History
from peekserve.state.journal import JournalReader, JournalWriter
from peekserve.state.keys import Keys
from peekserve.state.store import Store
from tests.state.dying import EDITIONS, lesson_of, name_of

ROOT = Path(__file__).parents[2]
LIVES = 8


def read_all(path):
    """(steps that are whole, was there a broken frame)."""
    steps = []
    try:
        for step in JournalReader(path):
            steps.append(step.now)
    except JournalDamaged as error:
        assert "everything before it is good" in str(error)  # noqa: PT017
        return steps, True
    return steps, False


def sound(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def lived(folder, life, acknowledgements):
    """One life, ended by SIGKILL as soon as so many writes were acknowledged: how many of each kind, at the least."""
    told = {"state": 0, "keys": 0, "history": 0, "journal": 0}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.state.dying", str(folder), str(life)], stdout=subprocess.PIPE, cwd=ROOT
    ) as child:
        for _ in range(acknowledgements):
            kind, _, index = child.stdout.readline().decode().partition(" ")
            told[kind] = int(index) + 1
        child.kill()
        # What was acknowledged before the kill and not read yet counts, too.
        for line in child.stdout.read().splitlines():
            kind, _, index = line.decode().partition(" ")
            told[kind] = int(index) + 1
    return told


def test_what_was_acknowledged_outlives_a_kill_at_any_moment(tmp_path):
    rng = np.random.default_rng(7)
    told = [lived(tmp_path, life, int(rng.integers(1, 120))) for life in range(LIVES)]
    for name in ("state", "keys", "history"):
        assert sound(tmp_path / f"{name}.sqlite")
    with Store(tmp_path / "state.sqlite") as store, Keys(tmp_path / "keys.sqlite") as keys:
        names = {key.name for key in keys.all().values()}
        with History(tmp_path / "history.sqlite", EDITIONS) as history:
            lessons = history.lessons()
        for life, many in enumerate(told):
            assert all(store.revisions("ward", name_of(life, i)) for i in range(many["state"]))
            assert names >= {name_of(life, i) for i in range(many["keys"])}
            mine = [lesson for lesson in lessons if lesson.expected == life]
            assert mine[: many["history"]] == [lesson_of(life, i) for i in range(many["history"])]
            if many["journal"]:
                steps, broken = read_all(tmp_path / f"{life}.journal")
                assert not broken
                assert steps[: many["journal"]] == list(range(many["journal"]))


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """A journal of eight steps, and where each of its frames ends."""
    path, ends = tmp_path_factory.mktemp("journal") / "run.journal", []
    with JournalWriter(path, {}, ()) as writer:
        ends.append(path.stat().st_size)
        for step in range(8):
            writer.step(Woke(), float(step), ())
            writer.flush()
            ends.append(path.stat().st_size)
    return path, ends


def test_a_journal_cut_at_any_byte_is_read_up_to_there(frames, tmp_path):
    path, ends = frames
    data, cut = path.read_bytes(), tmp_path / "cut.journal"
    for at in range(ends[0], len(data) + 1):
        cut.write_bytes(data[:at])
        whole = sum(end <= at for end in ends[1:])
        assert read_all(cut) == (list(range(whole)), at not in ends)


@given(st.integers(0, 7), st.integers(1, 300), st.binary(max_size=64))
@settings(max_examples=60)
def test_zeros_or_anything_else_where_frames_were_to_be_is_a_broken_frame(frames, whole, zeros, noise):
    path, ends = frames
    torn = path.with_name("torn.journal")
    torn.write_bytes(path.read_bytes()[: ends[whole]] + bytes(zeros) + noise)
    assert read_all(torn) == (list(range(whole)), True)


def test_a_journal_has_its_name_only_once_it_is_one(tmp_path):
    path = tmp_path / "run.journal"
    # A front that was killed while it began: nothing under the name, and the next one is not kept from beginning.
    path.with_name("run.journal.begun").write_bytes(b"\0" * 100)
    with JournalWriter(path, {}, ()) as writer:
        writer.step(Woke(), 1.0, ())
    assert read_all(path) == ([1.0], False)
    assert [each.name for each in tmp_path.iterdir()] == ["run.journal"]


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A store with its write-ahead log, as they lay on the disk while it was open, and how long the log was after each
    of thirty registrations."""
    folder = tmp_path_factory.mktemp("wal")
    wal, lengths = folder / "state.sqlite-wal", []
    with Store(folder / "state.sqlite") as store:
        store.revisions("ward", "nobody")  # makes the tables
        lengths.append(wal.stat().st_size)
        for index in range(30):
            store.register("ward", name_of(0, index), "sha-1", 0.0)
            lengths.append(wal.stat().st_size)
        kept = tmp_path_factory.mktemp("kept")
        for name in ("state.sqlite", "state.sqlite-wal"):
            shutil.copy(folder / name, kept / name)
    return kept, lengths


@given(st.data())
@settings(max_examples=40)
def test_a_write_ahead_log_that_is_cut_off_keeps_all_that_was_whole(logged, tmp_path_factory, data):
    kept, lengths = logged
    at = data.draw(st.integers(lengths[0], lengths[-1]))
    noise = data.draw(st.binary(max_size=200))
    folder = tmp_path_factory.mktemp("cut")
    shutil.copy(kept / "state.sqlite", folder)
    (folder / "state.sqlite-wal").write_bytes((kept / "state.sqlite-wal").read_bytes()[:at] + noise)
    whole = sum(length <= at for length in lengths[1:])
    with Store(folder / "state.sqlite") as store:
        found = [bool(store.revisions("ward", name_of(0, index))) for index in range(30)]
    assert found[:whole] == [True] * whole
    assert not any(found[whole + 1 :])
    assert sound(folder / "state.sqlite")
