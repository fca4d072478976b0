"""The README's lines are run, and their output is what it shows."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_twelve_lines_print_what_the_readme_shows():
    text = README.read_text()
    code = re.search(r"```python\n(from peekserve import.*?)```", text, re.S)
    shown = re.search(r"tests/test_readme.py.*?```\n(.*?)```", text, re.S)
    assert code is not None
    assert shown is not None
    done = subprocess.run([sys.executable, "-c", code[1]], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == shown[1].strip()
    assert sum(bool(line.strip()) for line in code[1].splitlines()) <= 12


def test_the_two_commands_are_named():
    text = README.read_text()
    assert "make demo" in text
    assert "make test" in text
