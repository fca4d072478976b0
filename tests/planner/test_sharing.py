"""A share of a device is a slower device with less memory."""

from dataclasses import replace

import pytest

from peekserve.domain.gears import GearPlan
from peekserve.errors import InvalidConfiguration
from peekserve.planner.loop import plan
from peekserve.planner.problem import Device, models
from peekserve.planner.sharing import part_of, part_of_device
from peekserve.sim.quick import application, variant
from tests.planner.worlds import a_problem

pytestmark = pytest.mark.core

APP = application("app", ["a", "b"], [variant("small", (0.9, 0.8), {1: 0.01, 8: 0.03})], 0.1)


def test_half_of_a_device_takes_twice_as_long_and_holds_half():
    (whole,), (half,) = models(APP, ["cpu"]), models(part_of(APP, 0.5), ["cpu"])
    for batch in (1, 4, 16):
        assert half.curves["cpu"].seconds(batch) == pytest.approx(2.0 * whole.curves["cpu"].seconds(batch))
        assert half.curves["cpu"].cautious_s(batch) == pytest.approx(
            2.0 * whole.curves["cpu"].cautious_s(batch)
        )
    assert half.bytes == whole.bytes
    assert part_of_device(Device("cpu:0", "cpu", 1000), 0.25).budget_bytes == 250
    assert part_of(APP, 1.0) == APP


def test_a_plan_for_a_share_is_no_more_accurate_than_one_for_all():
    problem = a_problem(ranges=2)
    slow = tuple(
        replace(
            m,
            curves={
                kind: replace(c, median_s=tuple(2.0 * s for s in c.median_s), p95_s=())
                for kind, c in m.curves.items()
            },
        )
        for m in problem.models
    )
    whole, half = plan(problem), plan(replace(problem, models=slow))
    assert isinstance(whole, GearPlan)
    assert not isinstance(half, GearPlan) or half.accuracy <= whole.accuracy


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(InvalidConfiguration, match="above 0 and up to 1"):
        part_of(APP, share)
