"""The tables of `peekserve demo` and `peekserve simulate`."""

import pytest
from rich.console import Console

from peekserve.cli import tables
from tests.test_results import a_row


@pytest.mark.parametrize("both", [False, True])
def test_what_was_only_simulated_has_no_simulation_beside_it(capsys, both: bool):
    rows = {"maxacc-edf": [a_row(0, (0.8, 0.1, 0.1))]}
    Console(width=80).print(tables.policies(rows, rows if both else {}))
    shown = capsys.readouterr().out
    assert "maxacc-edf" in shown
    assert ".." in shown
    assert ("live." in shown) is both
