"""The planner beside every plan there is, and the spreads that it tries on the way."""

from collections import Counter

import pytest

from peekserve.cascades.cascade import Cascade
from peekserve.domain.gears import GearPlan
from peekserve.errors import InvalidConfiguration
from peekserve.planner.estimate import Analytic
from peekserve.planner.exhaustive import Times, everything, placements
from peekserve.planner.faults import Fault, Part, Remedy
from peekserve.planner.loads import Loads
from peekserve.planner.loop import cascades, plan
from peekserve.planner.placement import place
from peekserve.planner.problem import Slo, devices
from peekserve.planner.spreads import alike, others
from tests.planner.worlds import a_problem


def small(slo: str = "p95=200ms", **more):
    return a_problem(slo, highest=600.0, ranges=2, on=more.pop("on", "2xcpu"), steps=2, stages=2, **more)


def scored(problem, made: GearPlan) -> float:
    return sum(
        g.weight * Cascade(g.stages, g.thresholds).judged(problem.answers, problem.seconds(), "large").score
        for g in made.gears
    )


def test_every_candidate_is_there_once():
    problem = small()
    found = everything(problem)
    assert len({one.cascade for one in found}) == len(found)
    assert {one.cascade.stages for one in found if not one.cascade.thresholds} == {
        ("tiny",),
        ("small",),
        ("large",),
    }
    assert len([one for one in found if one.cascade.stages == ("tiny", "large")]) == 2


def test_devices_are_filled_and_like_ones_not_told_apart():
    assert placements(small()) == [
        frozenset((f"sha-{m}", f"cpu:{d}") for m in ("tiny", "small", "large") for d in (0, 1))
    ]
    pairs = placements(small(on="2xcpu=2MiB", mebibytes=1))
    assert len(pairs) == 6  # two of three on each, in any order of the devices
    assert all(len(replicas) == 4 for replicas in pairs)


def test_no_plan_is_better_than_the_best_of_all_and_the_planner_comes_near():
    problem = small()
    times = Times(problem, Analytic(), lengths=(1, 4, 16))
    shares = []
    for goal in ("p95=20ms", "p95=50ms", "p95=100ms", "p95=400ms"):
        best, made = times.best(Slo.parse(goal)), plan(small(goal))
        assert best is not None
        assert isinstance(made, GearPlan)
        shares.append(scored(problem, made) / best.score)
    assert min(shares) > 0.98
    assert shares[-1] > 0.999
    assert times.asked > 100


def test_what_nothing_meets_neither_of_them_meets():
    assert Times(small(), Analytic(), lengths=(1,)).best(Slo(0.0001)) is None
    assert isinstance(plan(small("p95=1ms")), Fault)
    assert Times(small(), Analytic(), lengths=(1,)).best(Slo(accuracy=0.9999)) is None


def test_with_a_goal_of_accuracy_the_best_is_the_quickest_that_meets_it():
    times = Times(small(), Analytic(), lengths=(1,))
    low, high = times.best(Slo(accuracy=0.85)), times.best(Slo(accuracy=0.88))
    assert low is not None
    assert high is not None
    assert low.p95_s <= high.p95_s
    assert high.score >= 0.88


def test_the_ladder_keeps_what_costs_more_and_has_fewer_stages():
    """A single model that a cascade beats in cost and score still answers sooner: it waits for one batch."""
    ladder = cascades(a_problem())
    scores = [one.score for one in ladder]
    assert scores == sorted(scores)
    for one in ladder:
        assert not any(
            o.score > one.score and o.cost_s < one.cost_s and len(o.reach) <= len(one.reach) for o in ladder
        )
    assert any(o.score >= one.score and o.cost_s < one.cost_s for one in ladder for o in ladder if o != one)


def test_a_load_can_be_spread_evenly_or_apart():
    problem = a_problem(on="3xcpu")
    one = next(j for j in everything(problem) if j.cascade.stages == ("tiny", "large"))
    placed = place(problem, [one] * problem.loads.ranges)
    even, apart = others(problem, one, 50.0, placed)
    given = [share for shares in even.shares.values() for share in shares.values()]
    assert given == pytest.approx([1 / 3] * 6)
    assert not set(apart.shares["tiny"]) & set(apart.shares["large"])
    assert len(apart.shares["tiny"]) == 1  # the large one has more to do
    assert not alike(even, apart)
    assert alike(even, even)
    assert others(problem, one, 1e6, placed) == []  # nobody keeps up, however it is spread


def test_one_device_has_no_other_spread():
    problem = a_problem(on="cpu")
    one = next(j for j in everything(problem) if len(j.reach) == 2)
    placed = place(problem, [one] * problem.loads.ranges)
    assert all(alike(b, placed.balances[0]) for b in others(problem, one, 10.0, placed))


def test_every_fault_is_heard_with_what_mended_it():
    heard: list[tuple[Part, Remedy]] = []
    made = plan(a_problem("p95=60ms", highest=900.0, on="2xcpu"), back=lambda f, r: heard.append((f.part, r)))
    assert isinstance(made, GearPlan)
    by = Counter(heard)
    assert by[Part.QUEUES, Remedy.SPREAD] > 0
    assert by[Part.PLACEMENT, Remedy.CHEAPER] > 0
    assert all(r is not Remedy.NONE for _, r in heard)
    told: list[Remedy] = []
    tight = a_problem(on="cpu=2MiB", mebibytes=1)
    assert isinstance(plan(tight, back=lambda f, r: told.append(r)), GearPlan)
    assert Remedy.FEWER in told


def test_small_memories_are_written_in_kib_and_named_where_nothing_fits():
    assert devices("cpu=512KiB")[0].budget_bytes == 512 * 1024
    fault = plan(a_problem(on="2xcpu=512KiB", mebibytes=1))
    assert isinstance(fault, Fault)
    assert "the smallest, large, takes 1.0 MiB, and the largest device holds 0.5 MiB" in fault.why


def test_a_file_of_rates_that_is_none_says_where(tmp_path):
    path = tmp_path / "rates.txt"
    path.write_text("10\n30\nmany\n")
    with pytest.raises(InvalidConfiguration, match=r"rates\.txt:3: a rate is a number .* not 'many'"):
        Loads.parse(str(path), 100.0, 2)
    path.write_text("\n")
    with pytest.raises(InvalidConfiguration, match="no rate was measured"):
        Loads.parse(str(path), 100.0, 2)
    with pytest.raises(InvalidConfiguration, match="there is no such file"):
        Loads.parse(str(tmp_path / "absent.txt"), 100.0, 2)
    path.write_text("10\n30\n70\n")
    assert Loads.parse(str(path), 100.0, 2).weights == pytest.approx((2 / 3, 1 / 3))
