"""What `peekserve plan` shows, and how it ends."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from peekserve.cli.plan import compared, gears, panels
from peekserve.domain.gears import GearPlan
from peekserve.planner.loop import plan
from peekserve.planner.whatif import what_if
from tests.cli.test_main import told
from tests.planner.worlds import a_problem


def shown(table) -> str:
    console = Console(width=110)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_gears_are_lines_from_little_load_to_much():
    made = plan(a_problem(ranges=2))
    assert isinstance(made, GearPlan)
    text = shown(gears(made))
    assert "Gears of app for p95=200ms" in text
    assert text.index("0-200") < text.index("200-400")
    assert "tiny, below" in text
    assert f"{made.accuracy:.4f}. cpu:0 holds 3" in text


def test_the_picture_has_a_step_for_each_range():
    made = plan(a_problem(ranges=2))
    assert isinstance(made, GearPlan)
    right, slow = panels(made)
    assert list(right.series[0].x) == [0.0, 200.0, 200.0, 400.0]
    assert len(slow.series[0].values) == 4


def test_what_if_sets_single_models_beside():
    problem = a_problem(highest=5000.0, ranges=1)
    text = shown(compared(problem, what_if(problem, 3)))
    one, two, three = (line.split() for line in text.splitlines() if line.strip()[:1] in {"1", "2", "3"})
    assert one[1:] == two[1:] == ["-"] * 4
    assert float(three[1]) >= float(three[2]) >= float(three[3]) > 0.7


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--slo", "fast", "--qps-max", "10"), "a goal is written like"),
        (
            ("--slo", "p95=1s", "--qps-max", "10", "--devices", "two"),
            "devices are written like|no such folder",
        ),
        (("--slo", "p95=1s", "--qps-max", "10", "--devices", "2 cpu"), "devices are written like"),
        (("--slo", "p95=1s", "--qps-max", "10", "--load", "often"), "loads are 'zipf'"),
        (("--slo", "p95=1s", "--qps-max", "10"), "there is no such folder"),
    ],
)
def test_what_cannot_be_read_is_said_before_anything_runs(monkeypatch, capsys, tmp_path: Path, words, why):
    code, error = told(monkeypatch, capsys, "plan", str(tmp_path / "none"), "app", *words)
    assert code == 3
    assert re.search(why, error)
