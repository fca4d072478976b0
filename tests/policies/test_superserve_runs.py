"""SlackFit and what it is compared with, through the whole scheduler in pretended time: bursts over one supernet.

Everything is compared with margin, and the same holds for seeds that are not here.
"""

from functools import cache

import numpy as np
import pytest

from peekserve.sim.faults import Faults, Kill
from tests.policies.supernet import Got, bursts, serve

FORMS = {"": {}, "paper": {"raise": 0.0}, "drain": {"drain": 0.5}}


@cache
def got(policy: str, form: str, load: float, cv2: float, seed: int, workers: int = 1) -> Got:
    return serve(policy, bursts(load * workers, cv2, seed, seconds=0.3), fleet=workers, **FORMS[form])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("cv2", [2.0, 8.0])
@pytest.mark.parametrize("load", [0.3, 0.85])
def test_drain_keeps_what_the_smallest_subnet_can_carry(load: float, cv2: float, seed: int):
    smallest, drain = got("infaas", "", load, cv2, seed), got("slackfit", "drain", load, cv2, seed)
    assert smallest.attained >= 0.999
    assert drain.attained >= 0.999
    assert drain.accuracy > smallest.accuracy + 0.001


def test_drain_keeps_it_on_several_workers_too():
    for seed in range(2):
        assert got("slackfit", "drain", 0.85, 8.0, seed, workers=2).attained >= 0.999


def test_told_how_many_share_the_queue_drain_is_more_accurate_even_when_half_of_them_die():
    """Four workers at 45 % of what they carry; then two, which carry it with smaller subnets alone."""
    instants = bursts(4 * 0.45, 8.0, 3, seconds=0.2)
    dying = Faults(kills=tuple(Kill(f"w{i}", 1.1, back_s=9.0) for i in (0, 1)))
    alone, sharing = (
        serve("slackfit", instants, fleet=4, faults=dying, drain=0.5, workers=workers) for workers in (0, 4)
    )
    assert min(alone.attained, sharing.attained) >= 0.99
    assert sharing.accuracy > alone.accuracy + 0.002


@pytest.mark.parametrize("seed", range(2))
def test_spending_all_slack_of_the_head_is_paid_by_what_comes_after(seed: int):
    """At 85 % of what the smallest subnet can carry, paper mode loses a tenth and more of what drain answers."""
    paper, drain = got("slackfit", "paper", 0.85, 8.0, seed), got("slackfit", "drain", 0.85, 8.0, seed)
    assert paper.attained < drain.attained - 0.05


@pytest.mark.parametrize("seed", range(2))
def test_slackfit_keeps_more_deadlines_than_accuracy_first_and_more_accuracy_than_the_cheapest(seed: int):
    slackfit = got("slackfit", "", 0.3, 2.0, seed)
    assert slackfit.attained > got("maxacc", "", 0.3, 2.0, seed).attained + 0.1
    assert slackfit.attained > got("clipper", "", 0.3, 2.0, seed).attained + 0.3
    assert slackfit.accuracy > got("infaas", "", 0.3, 2.0, seed).accuracy + 0.02


def test_batches_grow_and_subnets_shrink_with_the_load():
    low, high = got("slackfit", "", 0.1, 2.0, 0), got("slackfit", "", 0.7, 2.0, 0)
    assert np.mean(high.sizes) > 1.5 * np.mean(low.sizes)
    assert low.accuracy > high.accuracy + 0.02


def test_what_a_switch_of_models_costs_is_why_subnets_are_switched_in_place():
    """The same six as models of their own, one at a time in memory, 10 ms for each swap."""
    instants = bursts(0.3, 2.0, 0, seconds=0.3)
    swapped = serve("slackfit", instants, load_s=0.01)
    assert swapped.utility < got("slackfit", "", 0.3, 2.0, 0).utility - 1.0


@pytest.mark.parametrize("planning", ["window(20ms)", "window(20ms, rebalance=5ms)"])
def test_windows_carry_the_whole_plan_out(planning: str):
    calm = serve("slackfit", bursts(0.1, 2.0, 0, seconds=0.3), planning=planning)
    assert calm.attained > 0.95
    assert max(calm.sizes) > 1
