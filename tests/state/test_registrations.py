"""Revisions and what is served: kept, rolled back, and whole after a kill. And their files on the shelf."""

import os
import signal
import subprocess
import sys

import pytest

from peekserve.errors import InvalidConfiguration, InvalidRequest, UnknownRevision, WrongState
from peekserve.state.registrations import NOTHING, OWN, Fault, Life, Registration, Registrations
from peekserve.state.shelf import NAME_DIGITS, Shelf, files_below
from peekserve.state.store import Store

ONE = Registration("ecg", "aaa", "aaa000", why="it came", faults=(Fault("application.yaml", 3, "odd"),))
TWO = Registration("ecg", "bbb", "bbb000", made_at=1.0)


def test_what_was_put_is_there_after_reopening_beside_the_profiles(tmp_path):
    path = tmp_path / "state.sqlite"
    with Registrations(path) as kept, Store(path) as store:
        kept.put(ONE, b"compiled")
        store.register("ecg", "cnn", "sha", 1.0)
    with Registrations(path) as kept, Store(path) as store:
        assert kept.find("ecg", "aaa") == ONE
        assert kept.of() == kept.of("ecg") == (ONE,)
        assert kept.compiled("ecg", "aaa") == b"compiled"
        kept.put(ONE)
        assert kept.compiled("ecg", "aaa") == b"compiled"
        assert kept.compiled("ecg", "bbb") is None
        assert store.revisions("ecg", "cnn") == (("sha", 1.0),)
        with pytest.raises(UnknownRevision, match="it has aaa"):
            kept.find("ecg", "ccc")


def test_a_state_file_of_the_schema_before_has_room_for_revisions(tmp_path):
    path = tmp_path / "state.sqlite"
    with Store(path) as store:
        store.register("ecg", "cnn", "sha", 1.0)
        store._opened().executescript("DROP TABLE registrations; DROP TABLE served; PRAGMA user_version = 2")
    with Registrations(path) as kept:
        kept.put(ONE)
        assert kept.find("ecg", "aaa") == ONE


def test_rolling_back_takes_off_what_was_put_on(tmp_path):
    with Registrations(tmp_path / "s") as kept:
        kept.put(ONE)
        kept.put(TWO)
        with pytest.raises(WrongState, match="no way back"):
            kept.rolled_back("ecg", 5.0)
        for before, after in ((OWN, "aaa"), ("aaa", "bbb"), ("bbb", NOTHING)):
            kept.swapped("ecg", after, before, 6.0)
        assert kept.serving() == {"ecg": NOTHING}
        assert [one.state for one in kept.of("ecg")] == [Life.RETIRED, Life.RETIRED]
        assert [kept.rolled_back("ecg", 7.0) for _ in range(3)] == ["bbb", "aaa", OWN]
        assert kept.before("ecg") is None
        with pytest.raises(WrongState):
            kept.rolled_back("ecg", 8.0)


def test_one_is_active_and_what_was_before_is_retired(tmp_path):
    with Registrations(tmp_path / "s") as kept:
        kept.put(ONE)
        kept.put(TWO)
        kept.swapped("ecg", "aaa", OWN, 6.0)
        assert [one.state for one in kept.of("ecg")] == [Life.ACTIVE, Life.UPLOADED]
        kept.swapped("ecg", "bbb", "aaa", 7.0)
        assert [one.state for one in kept.of("ecg")] == [Life.RETIRED, Life.ACTIVE]
        assert kept.find("ecg", "aaa").why == "it was served, and another is now"
        kept.swapped("ecg", NOTHING, "bbb", 8.0)
        assert kept.find("ecg", "bbb").why == "it was served, and nothing is under this name now"


def test_what_is_served_is_not_forgotten_and_nobody_goes_back_to_what_was(tmp_path):
    with Registrations(tmp_path / "s") as kept:
        kept.put(ONE)
        kept.put(TWO)
        for before, after in ((OWN, "aaa"), ("aaa", "bbb"), ("bbb", "aaa"), ("aaa", "bbb")):
            kept.swapped("ecg", after, before, 6.0)
        with pytest.raises(WrongState, match="served"):
            kept.forget("ecg", "bbb")
        kept.forget("ecg", "aaa")
        assert kept.of("ecg") == (kept.find("ecg", "bbb"),)
        assert kept.before("ecg") == OWN


def test_what_cannot_be_read_is_said_to_be_unreadable(tmp_path):
    with Registrations(tmp_path / "s") as kept:
        kept.put(ONE)
        kept._opened().execute("UPDATE registrations SET value = '{'")
        with pytest.raises(InvalidConfiguration, match="cannot be read"):
            kept.of()


SWAPPING = """
import sys
from pathlib import Path
from peekserve.state.registrations import NOTHING, OWN, Registration, Registrations
with Registrations(Path(sys.argv[1])) as kept:
    kept.put(Registration("ecg", "aaa", "aaa"))
    kept.put(Registration("ecg", "bbb", "bbb"))
    before = OWN
    while True:
        for name in ("aaa", "bbb"):
            kept.swapped("ecg", name, before, 1.0)
            before = name
            print(name, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 7, 20])
def test_what_was_told_is_served_after_a_kill(tmp_path, lines):
    path = tmp_path / "state.sqlite"
    command = [sys.executable, "-c", SWAPPING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().split()
    with Registrations(path) as kept:
        served = kept.serving()["ecg"]
        # The last one that was told, or the one that was being written.
        assert served in (told[-1], {"aaa": "bbb", "bbb": "aaa"}[told[-1]])
        states = {one.revision: one.state for one in kept.of("ecg")}
        assert states[served] is Life.ACTIVE
        assert Life.ACTIVE not in [state for name, state in states.items() if name != served]


# ---- the shelf ---------------------------------------------------------------------------------------------------


def a_folder(place, **files):
    for name, text in files.items():
        path = place / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place


def test_a_file_is_kept_once_and_a_revision_is_named_after_what_it_holds(tmp_path):
    shelf = Shelf(tmp_path / "state")
    first, sha = shelf.put("ecg", a_folder(shelf.desk(), yaml="a", cnn__model="m"))
    second, _ = shelf.put("ecg", a_folder(shelf.desk(), yaml="b", cnn__model="m"))
    again, _ = shelf.put("ecg", a_folder(shelf.desk(), yaml="a", cnn__model="m"))
    assert (first, len(first)) == (again, NAME_DIGITS)
    assert sha.startswith(first)
    assert first != second
    found = {name: path.read_text() for name, path in files_below(shelf.folder("ecg", first))}
    assert found == {"cnn/model": "m", "yaml": "a"}
    models = list((tmp_path / "state" / "models").iterdir())
    assert len(models) == 3
    assert all(not os.stat(model).st_mode & 0o222 for model in models)
    shelf.forget("ecg", first)
    assert len(list((tmp_path / "state" / "models").iterdir())) == 2
    assert not shelf.root("ecg", first).exists()


def test_what_somebody_took_away_is_there_again_when_it_is_sent_again(tmp_path):
    shelf = Shelf(tmp_path / "state")
    first, _ = shelf.put("ecg", a_folder(shelf.desk(), yaml="a", cnn__model="m"))
    (shelf.folder("ecg", first) / "cnn/model").unlink()
    desk = shelf.desk()
    shelf.copy(shelf.folder("ecg", first), desk)
    again, _ = shelf.put("ecg", a_folder(desk, cnn__model="m"))
    assert again == first
    assert (shelf.folder("ecg", first) / "cnn/model").read_text() == "m"
    assert (shelf.folder("ecg", first) / "yaml").read_text() == "a"


def test_a_revision_made_of_another_shares_its_files(tmp_path):
    shelf = Shelf(tmp_path / "state")
    first, _ = shelf.put("ecg", a_folder(shelf.desk(), yaml="a", cnn__model="m"))
    desk = shelf.desk()
    shelf.copy(shelf.folder("ecg", first), desk)
    (desk / "yaml").unlink()
    a_folder(desk, yaml="b")
    second, _ = shelf.put("ecg", desk)
    inodes = [os.stat(shelf.folder("ecg", one) / "cnn/model").st_ino for one in (first, second)]
    assert inodes[0] == inodes[1]


def test_what_could_not_be_laid_leaves_no_bytes_behind(tmp_path):
    shelf = Shelf(tmp_path / "state")
    a_folder(tmp_path / "state", applications__ecg="a file, where its folder should be")
    desk = a_folder(shelf.desk(), yaml="a", cnn__model="m")
    with pytest.raises(OSError, match="exists"):
        shelf.put("ecg", desk)
    assert list((tmp_path / "state" / "uploads").iterdir()) == [desk]
    assert not list((tmp_path / "state" / "models").iterdir())


def test_two_that_begin_alike_have_longer_names(tmp_path):
    shelf = Shelf(tmp_path / "state")
    first, sha = shelf.put("ecg", a_folder(shelf.desk(), yaml="a"))
    (shelf.root("ecg", first) / ".sha").write_text("of another")
    second, _ = shelf.put("ecg", a_folder(shelf.desk(), yaml="a"))
    assert second == sha[: NAME_DIGITS + 1]


def test_what_nobody_knows_is_cleared_away(tmp_path):
    shelf = Shelf(tmp_path / "state")
    known, _ = shelf.put("ecg", a_folder(shelf.desk(), yaml="a"))
    stray, _ = shelf.put("ecg", a_folder(shelf.desk(), yaml="b"))
    a_folder(shelf.desk(), half="done")
    shelf.tidy([("ecg", known)])
    assert shelf.root("ecg", known).exists()
    assert not shelf.root("ecg", stray).exists()
    assert not (tmp_path / "state" / "uploads").exists()
    assert len(list((tmp_path / "state" / "models").iterdir())) == 1


def test_links_are_no_files(tmp_path):
    place = a_folder(tmp_path / "x", yaml="a")
    (place / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidRequest, match="link"):
        list(files_below(place))
