"""Who is compared with whom, and that a contender is the same one live and simulated."""

from dataclasses import replace

import pytest

from peekserve.cli.assembly import scheduler_spec
from peekserve.cli.demo import IN_EVERY_PASS, POLICIES, SHOWN
from peekserve.experiments.comparison import PAIRS, contenders
from peekserve.registry.settings import ServerSettings, read_settings

EVERYONE = contenders(POLICIES)


def test_each_name_stands_once_and_what_is_shown_and_compared_is_among_them():
    names = [one.name for one in EVERYONE]
    assert len(set(names)) == len(names)
    assert {SHOWN, *IN_EVERY_PASS} <= set(names)
    assert {name for pair in PAIRS for name in pair[:2]} <= set(names)


@pytest.mark.parametrize("one", EVERYONE, ids=lambda one: one.name)
def test_a_server_and_a_simulation_get_the_same_scheduler(tmp_path, one):
    live, _ = read_settings(tmp_path, {}, one.settings())
    simulated = one.spec(scheduler_spec(ServerSettings()))
    assert scheduler_spec(live) == simulated


def test_horizon_is_whole_without_escalation_and_its_beliefs_alone():
    by_name = {one.name: one.spec(scheduler_spec(ServerSettings())) for one in EVERYONE}
    assert by_name["horizon"].escalates
    assert not by_name["horizon-escalate"].escalates
    assert replace(by_name["horizon-escalate"], escalate=None) == by_name["horizon"]
    alike = replace(by_name["sneakpeek+calibrated"], beliefs="")
    assert alike == by_name["sneakpeek"]
    assert not by_name["sneakpeek+calibrated"].escalates
