"""`peekserve experiment`: list, run, report."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from peekserve.cli import experiment as command
from peekserve.domain.tensors import TensorSpec
from peekserve.errors import InvalidConfiguration
from peekserve.experiments.plot import draw
from peekserve.experiments.report import markdown, read_summaries
from peekserve.experiments.run import EXPERIMENTS
from peekserve.experiments.separation import pairs
from peekserve.experiments.sneakpeek.record import NEAREST, nearest
from peekserve.experiments.sneakpeek.recording import votes
from peekserve.experiments.spec import Panel, Series
from peekserve.peeking.neighbours import Neighbours
from peekserve.peeking.peek import Peek
from peekserve.registry.labelled import Labelled
from peekserve.sim.quick import application, variant
from tests.experiments.stand_ins import write_recordings

pytestmark = pytest.mark.core
DOCS = Path(__file__).parents[2] / "docs"


def test_the_list_has_every_figure(capsys):
    assert command.listed(as_json=True) == 0
    told = json.loads(capsys.readouterr().out)["experiments"]
    wanted = {f"sneakpeek-fig{n}" for n in range(3, 17)} | {
        f"sneakpeek-{which}" for which in ("optima", "setting", "live")
    }
    wanted |= {
        f"horizon-{which}"
        for which in (
            *("gap", "remains", "guard", "deciding", "realised", "events", "awareness", "beliefs"),
            *("escalation", "trust", "shift", "weights", "splits", "live"),
        )
    }
    wanted |= {
        f"superserve-{which}"
        for which in (
            *("front", "properties", "norm", "memory", "switching", "actuation-delay", "functions", "bursty"),
            *("ramps", "policies", "faults", "scaling", "oracle", "horizon", "live"),
        )
    }
    wanted |= {
        f"cascadeserve-{which}"
        for which in ("cost", "exhaustive", "devices", "traces", "ablations", "horizon", "live")
    }
    wanted |= {f"trust-{which}" for which in ("deadlines", "overload", "kills", "cycles", "soak", "pace")}
    assert {one["name"] for one in told} == wanted
    assert all(one["claims"] for one in told)


def test_a_run_prints_its_summary_and_a_report_its_claims(tmp_path, capsys):
    write_recordings(tmp_path)
    out = tmp_path / "out"
    assert command.experiment("sneakpeek-fig7", True, 2, out, "paper", tmp_path, as_json=True) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((out / "summary.json").read_text())
    assert command.report(tmp_path) == 0
    told = capsys.readouterr().out
    assert all(claim["paper"] in told for claim in summary["claims"])


def test_for_people_a_run_prints_a_table(tmp_path, capsys):
    write_recordings(tmp_path)
    assert command.experiment("sneakpeek-fig3", True, None, tmp_path / "out", "paper", tmp_path, False) == 0
    assert "fig3-deadline" in capsys.readouterr().out


@pytest.mark.parametrize("many", [2, 12])
def test_a_panel_becomes_a_picture_that_is_the_same_every_time(tmp_path, many):
    pytest.importorskip("matplotlib")
    values = [np.array([0.5, 0.4, 0.6])] * many
    bars = Panel("bars", "", "y", [Series("a", range(many), values)], [f"case {i}" for i in range(many)])
    lines = Panel("lines", "x", "y", [Series("grouped", range(many), values)])
    for name in ("one", "two"):
        assert draw([bars, lines], "title", [tmp_path / f"{name}.svg", tmp_path / f"{name}.png"])
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "case 1" in (tmp_path / "one.svg").read_text()


def test_curves_are_separated_where_their_paired_difference_leaves_out_zero():
    low, high = (
        np.array([1.0, 0.5, 1.5]),
        np.array([1.2, 0.7, 1.7]),
    )  # apart in every resample, though they overlap
    panel = Panel("p", "x", "y", [Series("a", [0, 1], [low, low]), Series("b", [0, 1], [high, low])])
    (pair,) = pairs([panel])
    assert (pair.first, pair.second, pair.separated, pair.points) == ("a", "b", 1, 2)


def test_recorded_neighbours_vote_as_the_peek_does():
    rng = np.random.default_rng(0)
    known, asked = rng.normal(size=(60, 4)).astype(np.float32), rng.normal(size=(30, 4)).astype(np.float32)
    labels = rng.integers(0, 3, 60)

    class AsTheyAre:
        def transform(self, inputs, lengths=None):
            return inputs["x"]

    app = application("app", "abc", [variant("v", (0.5, 0.5, 0.5), {1: 0.1})], 1.0)
    app = replace(app, inputs=(TensorSpec("x", "FP32", (4,)),))
    reference = Labelled({"x": known}, labels, {})
    samples = Labelled({"x": asked}, np.zeros(30, np.int64), {})
    peek = Peek(AsTheyAre(), Neighbours(known, labels, 3, 5))
    found = nearest(peek, app, reference, samples)
    assert found.shape == (30, NEAREST)
    for k in (1, 5, 15):
        assert (votes(found, k, 3) == Neighbours(known, labels, 3, k).counts(asked)).all()


@pytest.mark.parametrize("where", ["paper", "here"])
def test_the_page_shows_what_was_measured(where):
    """docs/sneakpeek.md holds the report of the summaries beside it, word for word."""
    folder = DOCS / "sneakpeek" / where
    if not list(folder.rglob("summary.json")):
        pytest.skip(f"no summaries in {folder}")
    summaries = read_summaries(folder)
    papers = [name for name in EXPERIMENTS if name.startswith("sneakpeek-")]
    assert where != "paper" or [s["name"] for s in summaries] == papers
    assert markdown(summaries) in (DOCS / "sneakpeek.md").read_text()


@pytest.mark.parametrize("family", ["horizon", "superserve", "cascadeserve", "trust"])
def test_so_do_the_other_pages(family):
    assert markdown(read_summaries(DOCS / family)) in (DOCS / f"{family}.md").read_text()


def test_where_nothing_can_be_written_nothing_is_measured(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        InvalidConfiguration, match=r"--out .*file/here: .*; name a folder that can be written"
    ):
        command.experiment("sneakpeek-fig5", True, 1, tmp_path / "file" / "here", "paper", None, as_json=True)
