"""`peekserve schedule`, and the outputs that docs/windows.md shows. `python tests/cli/test_schedule.py` writes them
anew."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from peekserve.cli.main import app
from peekserve.cli.schedule import planned, view_of
from peekserve.errors import InvalidConfiguration, TooLarge
from peekserve.policies import POLICIES
from peekserve.registry.window import parse_window, read_window

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "windows.md"
EXAMPLES = sorted((ROOT / "docs" / "windows").glob("*.json"))
SHOWN = re.compile(r"^    \$ peekserve schedule (docs/windows/\S+) --policy (.+)\n((?:    .*\n)+)", re.M)


def output(*arguments: str, columns: int = 150) -> str:
    done = CliRunner().invoke(app, ["schedule", *arguments], env={"COLUMNS": str(columns)})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def block(example: str, policy: str) -> str:
    """What stands below this command; `policy` is all that follows `--policy`."""
    text = output(str(ROOT / example), "--policy", *policy.split())
    return "".join(f"    {line}".rstrip() + "\n" for line in text.rstrip().splitlines())


def without_times(text: str) -> list[str]:
    """Times to decide have two decimals, planned ones have one. How wide a column is hangs on what stands in it."""
    return re.sub(r"[ ━─]+", " ", re.sub(r"\d+\.\d\d ms", "ms", text)).splitlines()


def test_the_page_shows_what_the_commands_print():
    shown = SHOWN.findall(PAGE.read_text())
    assert {example for example, _, _ in shown} == {f"docs/windows/{path.name}" for path in EXAMPLES}
    assert len(EXAMPLES) == 3
    for example, policy, text in shown:
        assert without_times(block(example, policy)) == without_times(text), f"{example} {policy}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_nobody_beats_the_optimum_of_an_example(path: Path):
    found = json.loads(output(str(path), "--policy", "all", "--json"))["policies"]
    assert [one["policy"] for one in found] == list(POLICIES)
    best = found[-1]
    assert best["proven"]
    for one in found:
        assert one["utility"] <= best["utility"] + 1e-9
        assert one["utility"] == pytest.approx(sum(row["utility"] for row in one["rows"]), abs=1e-7)
        assert one["decision_s"] > 0.0
        outcomes = [row["outcome"] for row in one["rows"]]
        batched = sorted(row for batch in one["batches"] for row in batch["rows"])
        assert batched == [i for i, outcome in enumerate(outcomes) if outcome == "batch"]
        assert one["refused"] == [i for i, outcome in enumerate(outcomes) if outcome == "refused"]
        for batch in one["batches"]:
            assert all(one["rows"][row]["finish_s"] == batch["finish_s"] for row in batch["rows"])


# ---- the view --------------------------------------------------------------------------------------------------

WINDOW = {
    "applications": {
        "ecg": {
            "classes": ["normal", "other"],
            "frequencies": [0.75, 0.25],
            "prior": {"strong": {"normal": 3, "other": 1}},
            "peek": {"recalls": [0.8, 0.4]},
            "variants": {
                "cnn": {"recalls": [0.9, 0.5], "latency_s": 0.01, "load_s": 0.002, "bytes": 10},
                "wide": {"recalls": [0.8, 0.9], "latency_s": 0.02, "bytes": 20},
            },
        }
    },
    "budget_bytes": 20,
    "resident": ["ecg/cnn"],
    "free_s": 0.005,
    "rows": [
        {"application": "ecg", "deadline_s": 0.1, "waited_s": 0.02, "theta": [0.3, 0.7], "penalty": "linear"},
        {"application": "ecg", "deadline_s": 0.1, "counts": [1, 3]},
        {"application": "ecg", "deadline_s": 0.1, "pinned": "wide"},
    ],
}


def test_the_view_is_what_the_file_says():
    view = view_of(parse_window(json.dumps(WINDOW).encode(), "w.json"))
    assert view.accuracy[0].tolist() == pytest.approx(
        [0.3 * 0.9 + 0.7 * 0.5, 0.3 * 0.8 + 0.7 * 0.9], abs=1e-15
    )
    assert view.accuracy[1].tolist() == pytest.approx([0.5 * (0.9 + 0.5), 0.5 * (0.8 + 0.9)])
    assert view.accuracy[2].tolist() == pytest.approx([0.75 * 0.9 + 0.25 * 0.5, 0.75 * 0.8 + 0.25 * 0.9])
    assert view.likely.tolist() == [1, -1, -1]
    assert view.instant[:2].tolist() == pytest.approx([0.7, 0.7])
    assert np.isnan(view.instant[2])
    assert view.deadline_s.tolist() == pytest.approx([0.12, 0.1, 0.1])
    assert view.penalty.tolist() == [1, 0, 0]
    assert view.allowed.tolist() == [[True, True], [True, True], [False, True]]
    [worker] = view.workers
    assert (worker.free_at, worker.resident, worker.budget) == (0.005, (0,), 20.0)
    assert view.lanes[0].profiled.tolist() == pytest.approx([0.8, 0.825])


def test_a_switch_of_the_file_overrides_the_policys_own():
    window = parse_window(json.dumps({**WINDOW, "switches": {"short_circuit": True}}).encode(), "w.json")
    found = planned(window, view_of(window), "lo-edf", {})
    assert (found.switches.short_circuit, found.switches.aware) == (True, False)


def test_a_long_window_is_planned_to_its_end_by_policies_that_serve_a_few_batches_at_a_time():
    row = {"application": "ecg", "deadline_s": 90.0, "counts": [1, 3]}
    window = parse_window(json.dumps({**WINDOW, "rows": [row] * 200}).encode(), "w.json")
    for name in ("slackfit", "infaas"):
        assert not planned(window, view_of(window), name, {}).left, name
        assert planned(window, view_of(window), name, {"ahead": 2.0}).left, name


# ---- why -------------------------------------------------------------------------------------------------------


def test_every_row_is_explained_or_those_that_are_named():
    example = str(next(path for path in EXAMPLES if path.stem == "two-workers"))
    found = json.loads(output(example, "--policy", "optimal", "--explain", "--json"))
    assert [row["row"] for row in found["explained"]] == [0, 1, 2, 3, 4]
    for row, plain in zip(found["explained"], found["rows"], strict=True):
        assert row["chosen"]["utility"] == plain["utility"]
        assert row["chosen"].get("variant") == plain["variant"]
        losses = [c["loss"] for c in row["alternatives"] if "loss" in c]
        assert losses == sorted(losses)
        assert min(losses) >= 0.0  # nobody beats the optimum
    some = json.loads(output(example, "--json", "--explain", "3", "1"))
    assert [row["row"] for row in some["explained"]] == [3, 1]
    assert "explained" not in output(example).lower()
    assert json.loads(output(example, "--json"))["explained"] is None


def test_people_are_shown_what_was_considered_and_by_how_much_it_lost():
    example = str(next(path for path in EXAMPLES if path.stem == "no-evidence"))
    text = output(example, "--policy", "grouped", "--explain", "3", columns=100)
    assert "Row 3 (keywords): mobile" in text
    assert re.search(r"lstm .* -0\.0262 .* better", text)
    assert re.search(r"peek .* no evidence", text)
    assert max(map(len, output(example, "--explain", columns=80).splitlines())) <= 80
    both = output(example, "--policy", "grouped,optimal", "--explain", "3")
    assert "grouped. Row 3 (keywords): mobile" in both
    assert "optimal. Row 3 (keywords): lstm" in both


def test_rows_that_cannot_be_explained_are_named(tmp_path: Path):
    example = str(EXAMPLES[0])
    with pytest.raises(InvalidConfiguration, match="--explain 9: the window has rows 0 to 4"):
        output(example, "--explain", "9")
    done = CliRunner().invoke(app, ["schedule", example, "1"])
    assert done.exit_code == 2
    assert "only with --explain" in done.output
    crowd = tmp_path / "crowd.json"
    crowd.write_text(json.dumps({**WINDOW, "rows": [WINDOW["rows"][1]] * 65}))
    with pytest.raises(InvalidConfiguration, match="--explain of 65 rows: name at most 64"):
        output(str(crowd), "--explain")
    assert len(json.loads(output(str(crowd), "--explain", "64", "--json"))["explained"]) == 1


# ---- what goes wrong -------------------------------------------------------------------------------------------


def test_options_reach_the_policy_they_belong_to():
    example = str(EXAMPLES[0])
    found = json.loads(output(example, "--policy", "sneakpeek", "--option", "tau_s=0.5", "--json"))
    assert found["options"] == {"tau_s": 0.5}
    both = ("--policy", "grouped,optimal", "--option", "optimal.max_labels=3e5", "--json")
    assert [p["options"] for p in json.loads(output(example, *both))["policies"]] == [{}, {"max_labels": 3e5}]
    for bad, why in (
        ("tau_s", "is not NAME=NUMBER"),
        ("tau_s=fast", "is not NAME=NUMBER"),
        ("taus=1", "nearest is 'tau"),
        ("grouped.tau_s=1", "POLICY one of sneakpeek"),
    ):
        with pytest.raises(InvalidConfiguration, match=why):
            output(example, "--policy", "sneakpeek", "--option", bad)


def test_an_optimum_that_cannot_be_proven_is_never_shown_as_one():
    example = next(str(path) for path in EXAMPLES if path.stem == "one-model-at-a-time")
    with pytest.raises(TooLarge, match="not proven after max_labels=5"):
        output(example, "--policy", "optimal", "--option", "max_labels=5")
    few = ("--option", "optimal.max_labels=5")
    assert "not proven after max_labels=5" in output(example, "--policy", "grouped,optimal", *few)
    inexact = output(example, "--policy", "optimal", *few, "--option", "optimal.strict=0")
    assert "NOT proven" in inexact


def test_a_table_of_policies_fits_eighty_columns_with_its_names_whole():
    example = next(str(path) for path in EXAMPLES if path.stem == "one-model-at-a-time")
    lines = output(example, "--policy", "all", columns=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert [name for name in POLICIES if not any(name in line for line in lines)] == []
    assert not any("…" in line for line in lines)


def test_where_no_policy_has_a_plan_the_reason_stands_below_the_table():
    example = next(str(path) for path in EXAMPLES if path.stem == "one-model-at-a-time")
    with pytest.raises(TooLarge):
        output(example, "--policy", "optimal,optimal", "--option", "max_labels=1")  # named twice, asked once
    told = output(example, "--policy", "optimal,grouped", "--option", "optimal.max_labels=1").splitlines()
    assert told[-1].startswith("optimal: the optimum of 6 rows on 1 worker is not proven after max_labels=1")


def test_a_policy_whose_extra_is_missing_is_left_out_unless_it_was_named():
    code = """
import sys
sys.modules["scipy"] = sys.modules["scipy.optimize"] = None
from peekserve.cli.main import main
main()
"""

    def scheduled(policy: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, "schedule", str(EXAMPLES[0]), "--policy", policy, "--json"]
        return subprocess.run(command, capture_output=True, text=True)

    every = scheduled("all")
    assert every.returncode == 0, every.stderr
    assert [one["policy"] for one in json.loads(every.stdout)["policies"]] == [
        p for p in POLICIES if p != "proteus"
    ]
    assert every.stderr.startswith("proteus is left out: ")
    assert "pip install 'peekserve[peers]'" in every.stderr
    named = scheduled("lo-edf,proteus")
    assert (named.returncode, named.stdout) == (1, "")
    assert "pip install 'peekserve[peers]'" in named.stderr


def test_an_unknown_policy_names_the_nearest():
    with pytest.raises(InvalidConfiguration, match="nearest is 'optimal'"):
        output(str(EXAMPLES[0]), "--policy", "optimum")


def test_a_bad_file_is_said_with_its_place(tmp_path: Path):
    path = tmp_path / "w.json"
    path.write_text(EXAMPLES[0].read_text().replace('"deadline_s"', '"deadline"', 1))
    with pytest.raises(InvalidConfiguration, match=r"w\.json:\d+: rows\[0\]: unknown key 'deadline'"):
        read_window(path)


if __name__ == "__main__":
    PAGE.write_text(
        SHOWN.sub(
            lambda m: f"    $ peekserve schedule {m[1]} --policy {m[2]}\n{block(m[1], m[2])}",
            PAGE.read_text(),
        )
    )
