"""`peekserve simulate --faults`, as people and machines see it."""

import json

import msgspec
import pytest
from typer.testing import CliRunner

from peekserve.cli import faults
from peekserve.cli.main import app
from peekserve.errors import InvalidData
from peekserve.sim.campaign import drawn
from peekserve.sim.planted import PLANTED


def run(*words: str):
    return CliRunner().invoke(app, ["simulate", *words])


def test_seeds_in_which_nothing_is_wrong_are_counted():
    said = run("--faults", "--seeds", "6", "--seed", "0", "--json")
    assert said.exit_code == 0
    told = json.loads(said.stdout)
    assert (told["seeds"], told["first"], told["broken"]) == (6, 0, [])
    assert "6 seeds from 0 on: 0 broke a rule" in run("--faults", "--seeds", "6", "--seed", "0").stdout


def test_what_goes_wrong_is_told_shortly_and_written_down(tmp_path, capsys):
    """A bug is planted for the campaign alone: its short story, lived by the scheduler as it is, has nothing wrong."""
    assert faults.look_for(range(1), tmp_path, False, PLANTED["rows-mixed-up"]) == 1
    said, path = capsys.readouterr().out, tmp_path / "fault-0.json"
    assert "1 broke a rule" in said
    assert "has the scores of another row" in said
    assert f"--story {path}" in said
    assert faults.read_story(path).size < drawn(0).size
    again = run("--faults", "--story", str(path))
    assert again.exit_code == 0
    assert again.stdout.rstrip().endswith("nothing is wrong with it")


def test_a_story_in_a_file_is_lived_again(tmp_path):
    path = tmp_path / "story.json"
    path.write_bytes(msgspec.json.encode(drawn(3)))
    assert json.loads(run("--faults", "--story", str(path), "--json").stdout) == {"broken": None}
    path.write_text("{}")
    with pytest.raises(InvalidData, match="no fault story"):
        faults.read_story(path)


def test_planted_bugs_are_a_table_with_the_seed_of_each(capsys):
    assert faults.plant_each(range(20), False, {"rows-mixed-up": PLANTED["rows-mixed-up"]}) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| planted bug | found at seed |")
    assert lines[2].startswith("| `rows-mixed-up`: scores of a batch are taken in the wrong order | ")


def test_a_planted_bug_that_no_seed_finds_is_a_failure(capsys):
    assert faults.plant_each(range(3), False, {"rows-mixed-up": lambda scheduler: None}) == 1
    assert "| not found |" in capsys.readouterr().out


def test_without_faults_a_repository_is_needed():
    said = run()
    assert said.exit_code == 2
    assert "a folder of applications is needed, or --faults" in said.output
