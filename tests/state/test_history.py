"""What was confirmed outlives its server, for the models that it was learnt of and no others."""

import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from peekserve.domain.feedback import Lesson
from peekserve.errors import InvalidConfiguration
from peekserve.state.history import Edition, History

EDITIONS = {"ward": Edition(("walk", "fall"), {None: "peek-1", "small": "sha-1"})}
LESSON = Lesson("ward", "small", 0, 0, 1, 0.875, (0.75, 0.25), (4.0, 1.0))
BY_PEEK = Lesson("ward", None, 1, 1, 1, None, (0.1, 0.9))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "history.sqlite"


def test_what_goes_in_comes_out_in_order(path):
    with History(path, EDITIONS) as history:
        history.add([LESSON], confirmed_at=1.0)
        history.add([BY_PEEK, LESSON], confirmed_at=2.0)
    with History(path, EDITIONS) as history:
        assert history.lessons() == (LESSON, BY_PEEK, LESSON)


def test_a_new_file_holds_nothing(path):
    with History(path, EDITIONS) as history:
        assert history.lessons() == ()


def test_another_model_has_nothing_to_learn_from_the_one_before(path):
    with History(path, EDITIONS) as history:
        history.add([LESSON, BY_PEEK], 1.0)
    newer = replace(EDITIONS["ward"], revisions={None: "peek-1", "small": "sha-2"})
    with History(path, {"ward": newer}) as history:
        assert history.lessons() == (BY_PEEK,)
    with History(path, {"ward": replace(newer, revisions={"small": "sha-1"})}) as history:
        assert history.lessons() == (LESSON,)
    with History(path, {}) as history:
        assert history.lessons() == ()


def test_classes_are_known_by_their_names(path):
    with History(path, EDITIONS) as history:
        history.add([LESSON], 1.0)
    turned = replace(EDITIONS["ward"], classes=("fall", "walk"))
    with History(path, {"ward": turned}) as history:
        [lesson] = history.lessons()
    assert (lesson.said, lesson.own, lesson.label) == (1, 1, 0)
    assert (lesson.theta, lesson.counts) == ((0.25, 0.75), (1.0, 4.0))
    with History(path, {"ward": replace(turned, classes=("fall", "run"))}) as history:
        assert history.lessons() == ()


def test_each_application_keeps_its_newest(path):
    editions = {**EDITIONS, "shop": EDITIONS["ward"]}
    with History(path, editions, keep_rows=3) as history:
        history.add([replace(LESSON, application="shop")], 0.0)
        for number in range(10):
            history.add([replace(LESSON, expected=number / 16)] * 2, float(number))
        kept = history.lessons()
    assert [lesson.expected for lesson in kept if lesson.application == "ward"] == [8 / 16, 9 / 16, 9 / 16]
    assert len(kept) == 4


def test_a_process_that_is_killed_loses_nothing_that_was_written(path):
    code = f"""
import os, signal
from pathlib import Path
from peekserve.domain.feedback import Lesson
from peekserve.state.history import Edition, History
history = History(Path({str(path)!r}), {{"ward": Edition(("walk", "fall"), {{None: "peek-1", "small": "sha-1"}})}})
for _ in range(5):
    history.add([Lesson("ward", "small", 0, 0, 1, 0.875, (0.75, 0.25), (4.0, 1.0))] * 3, 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with History(path, EDITIONS) as history:
        assert history.lessons() == (LESSON,) * 15


def test_a_file_that_is_none_of_ours_is_said_to_be_that(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database, and long enough to be told apart from an empty one" * 20)
    with (
        pytest.raises(InvalidConfiguration, match=r"no state file of peekserve.*move it away"),
        History(path, EDITIONS) as history,
    ):
        history.lessons()


def test_a_file_that_was_damaged_is_told_with_what_to_do(path):
    with History(path, EDITIONS) as history:
        history.add([LESSON] * 500, 1.0)
    content = bytearray(path.read_bytes())
    content[4096 * 4 :] = b"\xff" * (len(content) - 4096 * 4)
    path.write_bytes(content)
    with pytest.raises(InvalidConfiguration, match="move it away"), History(path, EDITIONS) as history:
        history.lessons()


def test_a_folder_that_cannot_be_written_is_not_called_a_foreign_file(path):
    path.mkdir(parents=True)
    with pytest.raises(InvalidConfiguration) as told, History(path, EDITIONS) as history:
        history.lessons()
    assert "cannot be opened: unable to open database file" in str(told.value)
    assert "no state file" not in str(told.value)
    assert "move it away" not in str(told.value)


def test_a_lesson_that_was_spoiled_by_hand_is_named(path):
    with History(path, EDITIONS) as history:
        history.add([LESSON], 1.0)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE lessons SET theta = '{'")
    connection.close()
    with (
        pytest.raises(InvalidConfiguration, match=r"cannot be read.*move it away"),
        History(path, EDITIONS) as history,
    ):
        history.lessons()
