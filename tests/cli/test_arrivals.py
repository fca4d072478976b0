"""`--arrivals`, `--trace`, `--slot`, and the command that shows what they make."""

import json
from pathlib import Path

import numpy as np
import pytest

from peekserve.cli.arrivals import arrivals_of, show, source_of
from peekserve.cli.simulate import simulate
from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.loadgen.processes import Gamma, Poisson
from peekserve.loadgen.traces import Counts, Played, Requests, play

ROWS = {"digits": 5, "watch": 3}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_flags_make_one_source(tmp_path: Path):
    (tmp_path / "trace").write_text("1\n2\n")
    assert source_of(None, None, None) == Poisson()
    assert source_of("gamma:cv2=2", None, None) == Gamma(2.0)
    assert isinstance(source_of(None, tmp_path / "trace", None), Requests)
    read = source_of(None, tmp_path / "trace", "500ms")
    assert isinstance(read, Counts)
    assert (read.counts.tolist(), read.slot_s) == ([1, 2], 0.5)


def test_a_recorded_trace_is_found_among_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PEEKSERVE_DATA", str(tmp_path))
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "mine.csv").write_text("at\n0\n1\n")
    assert isinstance(source_of(None, Path("mine.csv"), None), Requests)
    with pytest.raises(FileNotFoundError):
        source_of(None, Path("other.csv"), None)


@pytest.mark.parametrize(
    ("arrivals", "trace", "slot", "message"),
    [
        ("poisson", Path("x"), None, "give one of them"),
        (None, None, "1s", "there is no --trace"),
        (None, Path("x"), "1", "--slot: 1 has no unit"),
        (None, Path("x"), "0s", "--slot: 0s is not above zero"),
    ],
)
def test_flags_that_do_not_go_together(
    arrivals: str | None, trace: Path | None, slot: str | None, message: str
):
    with pytest.raises(InvalidConfiguration, match=message):
        source_of(arrivals, trace, slot)


def test_a_trace_that_names_applications_and_samples_is_followed():
    trace = Requests(np.array([0.0, 1.0, 2.0]), ["watch", "digits", "watch"], [2, -1, 0])
    found = arrivals_of(play(trace, None, None, rng()), ROWS, rng())
    assert [(one.at, one.application) for one in found] == [(0.0, "watch"), (1.0, "digits"), (2.0, "watch")]
    assert (found[0].sample, found[2].sample) == (2, 0)


def test_samples_alone_do_for_one_application():
    played = Played(np.array([0.0, 1.0]), 2.0, None, [2, 1])
    assert [one.sample for one in arrivals_of(played, {"watch": 3}, rng())] == [2, 1]


@pytest.mark.parametrize(
    ("applications", "samples", "message"),
    [
        (["watsh", "watch"], None, "'watsh'; did you mean 'watch'"),
        (["watch", "watch"], [0, 3], "sample 3 of watch, which has 0 to 2"),
        (None, [0, 1], "add a column application"),
    ],
)
def test_what_a_trace_may_not_ask_for(
    applications: list[str] | None, samples: list[int] | None, message: str
):
    with pytest.raises(InvalidData, match=message):
        arrivals_of(Played(np.array([0.0, 1.0]), 2.0, applications, samples), ROWS, rng())


def test_the_command_shows_each_in_numbers_and_as_a_picture(tmp_path: Path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "counts").write_text("30\n0\n60\n")
    picture = tmp_path / "arrivals.svg"
    assert show(["gamma:cv2=4"], [tmp_path / "counts"], "1s", None, None, 1, picture, True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"]["requests"] == 90
    assert told["counts"]["peak"] == 60
    assert told["gamma:cv2=4"]["seconds"] == 20.0
    assert "gamma:cv2=4" in picture.read_text()
    assert show(["poisson"], [], None, 50.0, 4.0, 1, None, False) == 0
    assert "poisson" in capsys.readouterr().out


def test_traces_of_one_name_are_both_shown(tmp_path: Path, capsys):
    paths = [tmp_path / "one" / "t.csv", tmp_path / "two" / "t.csv"]
    for many, path in enumerate(paths, 2):
        path.parent.mkdir()
        path.write_text("".join(f"{i}\n" for i in range(many)))
    assert show([], paths, None, None, None, 1, None, True) == 0
    assert [one["requests"] for one in json.loads(capsys.readouterr().out).values()] == [2, 3]


@pytest.mark.parametrize(
    ("words", "slot", "picture", "message"),
    [
        ([], None, None, "nothing to show"),
        (["poisson"], "1s", None, "there is no --trace"),
        (["poisson"], None, "a.foo", r"a\.foo: a picture is \.svg or \.png"),
    ],
)
def test_what_cannot_be_shown_is_said(words: list[str], slot: str | None, picture: str | None, message: str):
    with pytest.raises(InvalidConfiguration, match=message):
        show(words, [], slot, None, None, 1, Path(picture) if picture else None, False)


def test_a_policy_that_is_none_is_named_before_anything_runs(tmp_path: Path):
    with pytest.raises(InvalidConfiguration, match="no policy 'slckfit'; the nearest is 'slackfit'"):
        simulate(tmp_path, ["infaas", "slckfit"], None, None, 1, False)
