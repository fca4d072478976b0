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


def test_a_simulation_alone_has_room_for_the_accuracy_of_what_was_in_time(capsys):
    """Right in time, wrong in time, right but late: half of what was in time was right."""
    rows = {
        "lo-priority+aware+sc": [a_row(0, (0.8, 0.2)), a_row(1, (0.8, 0.2)), a_row(0, (0.8, 0.2), late_s=0.5)]
    }
    Console(width=80).print(tables.policies(rows, {}))
    shown = capsys.readouterr().out
    assert "right" in shown
    assert "66.7%  0.500" in shown
    assert "…" not in shown
