"""docs/supernets.md: its commands are typed, and print what it shows but for the figures of another machine."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from peekserve.cli.main import app
from peekserve.errors import PeekserveError

pytest.importorskip("torch")

pytestmark = pytest.mark.whole
PAGE = Path(__file__).parents[2] / "docs" / "supernets.md"
FIGURES = re.compile(r"[\d.,]+")


def blocks(language: str) -> list[str]:
    every = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    return [text for kind, text in every if kind == language]


def shown() -> list[tuple[str, list[str]]]:
    """Every command behind a `$`, and the lines below it; of tables, which have figures alone, the heading."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(block for block in blocks("") if block.startswith("$ ")).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif not line.startswith(("┏", "┡", "└", "│")):
            found[-1][1].append(plain(line))
    return found


def plain(line: str) -> str:
    """Without figures, and without the widths that follow from them."""
    return " ".join(FIGURES.sub("#", line).split())


def typed(line: str) -> str:
    program, *arguments = shlex.split(line)
    if program == "python":
        subprocess.run([sys.executable, *arguments], check=True)
        return ""
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "118"})
    if isinstance(done.exception, PeekserveError):
        return f"{done.output}\npeekserve: {done.exception}"  # as cli.main.main says it
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


def test_every_command_prints_what_stands_below_it(tmp_path, monkeypatch):
    script, _ = blocks("python")
    declaration, recipe = blocks("yaml")
    place = tmp_path / "repo" / "valves"
    place.mkdir(parents=True)
    (tmp_path / "make_valves.py").write_text(script)
    (place / "application.yaml").write_text(declaration)
    (place / "wide.yaml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    commands = [line for line, _ in shown()]
    assert len(commands) >= 10
    for line, below in shown():
        output = {plain(one) for one in typed(line).splitlines()}
        assert set(below) <= output, line
    assert not (tmp_path / "wide.checkpoint").exists()


def test_the_network_of_the_page_is_sliced_or_refused_as_it_says():
    _, network = blocks("python")
    done = subprocess.run([sys.executable, "-c", network], capture_output=True, text=True, check=True)
    assert done.stdout in blocks("")
