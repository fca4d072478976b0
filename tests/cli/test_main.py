"""What the console script says of what went wrong."""

import sys
from pathlib import Path

import numpy as np
import pytest

from peekserve.cli.main import main


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["peekserve", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().err


def test_a_file_that_is_not_there_is_named_without_numbers(monkeypatch, capsys, tmp_path: Path):
    absent = str(tmp_path / "absent.json")
    assert told(monkeypatch, capsys, "schedule", absent) == (
        1,
        f"peekserve: {absent}: No such file or directory\n",
    )


def test_a_row_is_not_read_from_another_kind_of_file(monkeypatch, capsys, tmp_path: Path):
    (tmp_path / "text.npz").write_text("policy: sneakpeek\n")
    np.savez(tmp_path / "objects.npz", image=np.array([object()]))
    for name in ("text.npz", "objects.npz"):
        code, said = told(monkeypatch, capsys, "infer", "127.0.0.1:1", "digits", str(tmp_path / name))
        assert code == 3
        assert said.endswith("(npz): it is another kind of file, or holds Python objects\n")
