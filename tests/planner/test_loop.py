"""Short stories: the four parts and the faults between them."""

from dataclasses import dataclass, field, replace
from functools import cache
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.cascades.cascade import Cascade
from peekserve.cascades.thresholds import exhaustive
from peekserve.domain.gears import GearPlan
from peekserve.planner.estimate import Analytic, Estimate
from peekserve.planner.faults import Fault, Part
from peekserve.planner.loads import Loads
from peekserve.planner.loop import plan
from peekserve.planner.problem import Slo
from peekserve.planner.whatif import accuracy, needed, what_if
from tests.planner.worlds import a_problem


@dataclass
class Strict:
    """An estimator that lets a cascade pass up to a stated cost per second, and waits to be asked."""

    carries: float
    asked: list[tuple[str, float, tuple[int, ...], str]] = field(default_factory=list)

    def estimate(self, work) -> Estimate:
        spread = str(sorted((s, sorted(d.items())) for s, d in work.balance.shares.items()))
        self.asked.append((work.judged.cascade.name, work.rate, work.queues, spread))
        fits = work.judged.cost_s * work.rate <= self.carries
        return Estimate(0.01 if fits else 9.0, work.judged.cascade.stages[-1])


@cache
def gears() -> GearPlan:
    made = plan(a_problem())
    assert isinstance(made, GearPlan)
    return made


def gears_score() -> float:
    """What the search ranks these gears by, over the expected loads."""
    problem = a_problem()
    return sum(
        gear.weight
        * Cascade(gear.stages, gear.thresholds).judged(problem.answers, problem.seconds(), "large").score
        for gear in gears().gears
    )


def accuracies(made: GearPlan) -> list[float]:
    return [gear.expected.accuracy for gear in made.gears]


def test_more_load_a_cheaper_cascade():
    made = gears()
    assert accuracies(made) == sorted(accuracies(made), reverse=True)
    assert made.gears[0].expected.accuracy > made.gears[-1].expected.accuracy
    assert all(gear.expected.p95_s <= 0.2 for gear in made.gears)


def test_the_estimator_has_the_last_word():
    made = plan(a_problem(ranges=4), Strict(0.3))
    for gear in made.gears:
        cost = sum(
            share * a_problem().seconds()[stage]
            for share, stage in zip(gear.expected.reach, gear.stages, strict=True)
        )
        assert cost * gear.high <= 0.3 + 1e-9


@pytest.mark.parametrize("on", ["cpu", "2xcpu"])
def test_each_range_has_the_best_cascade_that_the_estimator_lets_pass(on):
    """As trying every cascade of the front in every range finds it, with fewer questions."""
    problem, strict = a_problem(ranges=3, on=on), Strict(0.3)
    made = plan(problem, strict)
    front = exhaustive(problem.answers, problem.seconds(), "large")
    best = [max(j.score for j in front if j.cost_s * high <= 0.3) for high in problem.loads.edges[1:]]
    scores = [
        Cascade(gear.stages, gear.thresholds).judged(problem.answers, problem.seconds(), "large").score
        for gear in made.gears
    ]
    assert scores == pytest.approx(best, abs=0.004)
    assert all(score <= most + 1e-12 for score, most in zip(scores, best, strict=True))
    assert len(set(strict.asked)) == len(strict.asked)  # and none twice


def test_a_queue_grows_where_batches_are_needed():
    """One sample at a time is too slow for this estimator, four are not."""

    class Fourth:
        def estimate(self, work) -> Estimate:
            return Estimate(0.1 if work.queues[0] >= 4 else 1.0, work.judged.cascade.stages[0])

    class Willing:
        def estimate(self, work) -> Estimate:
            return Estimate(0.1, "tiny")

    made = plan(a_problem(highest=50.0, ranges=2, stages=1), Fourth())
    assert {gear.queues for gear in made.gears} <= {(4,), (1,)}
    assert any(gear.queues == (4,) for gear in made.gears)
    willing = plan(a_problem(highest=50.0, ranges=2, stages=1), Willing())
    assert {gear.queues for gear in willing.gears} == {(1,)}


def test_an_accuracy_alone_is_met_and_no_more_than_that():
    problem = a_problem("accuracy=0.92", highest=300.0)
    made = plan(problem)
    assert made.accuracy >= 0.92
    assert made.accuracy < 0.945
    assert made.gears[0].expected.accuracy > made.gears[-1].expected.accuracy


def test_both_goals_at_once():
    made = plan(a_problem("p95=200ms,accuracy=0.9"))
    assert made.accuracy >= 0.9
    fault = plan(a_problem("p95=200ms,accuracy=0.94"))
    assert isinstance(fault, Fault)
    assert fault.part is Part.RANGES
    assert "What stands in the way: at 100 requests per second" in fault.why
    assert "and the goal is 200 ms; the bottleneck is" in fault.why
    assert fault.best == pytest.approx(gears_score(), abs=1e-9)


def test_one_cascade_for_every_load_is_less_accurate():
    one = plan(a_problem(switching=False))
    assert len({gear.stages for gear in one.gears}) == 1
    assert one.accuracy < gears().accuracy


def test_single_models_are_less_accurate():
    singles = plan(a_problem(stages=1))
    assert all(len(gear.stages) == 1 for gear in singles.gears)
    assert singles.accuracy < gears().accuracy


def test_loads_that_hardly_come_weigh_little():
    calm = plan(a_problem(loads=Loads.given((0.0, 50.0, 400.0), (99.0, 1.0))))
    rush = plan(a_problem(loads=Loads.given((0.0, 50.0, 400.0), (1.0, 99.0))))
    assert accuracies(calm) == accuracies(rush)
    assert calm.accuracy > rush.accuracy


@settings(max_examples=5)
@given(st.floats(50.0, 900.0), st.integers(1, 3), st.sampled_from([1, 2, 64]))
def test_every_plan_keeps_what_it_promises(highest, many, mebibytes):
    problem = a_problem(highest=highest, ranges=2, on=f"{many}xcpu={mebibytes}MiB")
    made = plan(problem)
    assert isinstance(made, GearPlan)
    assert made.highest == highest
    for held in made.placement:
        assert len(held.weights) * 2**20 <= held.budget_bytes
    holds = {held.device: held.weights for held in made.placement}
    for gear in made.gears:
        assert gear.expected.p95_s <= 0.2
        assert gear.expected.utilisation <= 1.0
        for stage, shares in zip(gear.stages, gear.shares, strict=True):
            assert sum(share.share for share in shares) == pytest.approx(1.0)
            assert all(f"sha-{stage}" in holds[share.device] for share in shares)


def test_the_same_problem_the_same_plan():
    assert plan(a_problem(on="3xcpu=2MiB")) == plan(a_problem(on="3xcpu=2MiB"))


# ---- what cannot be ----


def test_a_latency_that_nothing_meets_says_the_best_that_can_be_had():
    fault = plan(a_problem("p95=1ms"))
    assert fault.part is Part.QUEUES
    assert fault.best == pytest.approx(0.002)
    assert "tiny answers 95% within 2 ms at best, and the goal is 1 ms" in str(fault)


def test_an_accuracy_that_nothing_meets_says_the_best_that_can_be_had():
    fault = plan(a_problem("accuracy=0.99"))
    assert fault.part is Part.RANGES
    assert "the best cascade alone has 0.94" in str(fault)
    assert isinstance(plan(a_problem(f"accuracy={fault.best - 1e-4:.5f}")), GearPlan)
    assert isinstance(plan(a_problem(f"accuracy={fault.best + 1e-4:.5f}")), Fault)


def test_a_load_that_nothing_carries_says_the_most_that_can_be():
    fault = plan(a_problem(highest=5000.0))
    assert (fault.part, fault.best) == (Part.PLACEMENT, pytest.approx(2000.0))
    assert (
        "tiny keeps the busiest of cpu:0 busy 1.25 of the time; it carries 2000 per second at most"
        in fault.why
    )


def test_memory_for_one_model_takes_the_one_that_does_best_alone():
    made = plan(a_problem(on="cpu=1MiB"))
    assert [model.name for model in made.models] == ["small"]


def test_what_was_given_up_for_memory_is_taken_back_if_there_is_no_plan_without_it():
    """One copy of small and one of large do best by their scores, but small alone cannot take 534 per second."""
    made = plan(a_problem(highest=534.0, ranges=2, on="2xcpu=1MiB"))
    assert isinstance(made, GearPlan)
    assert [held.weights for held in made.placement] != [("sha-small",), ("sha-large",)]


def test_no_memory_for_anything():
    fault = plan(a_problem(on="cpu=0.5MiB"))
    assert fault.part is Part.CASCADES
    assert "no variant is left that fits into the memory" in fault.why
    assert "Before that, memory: large takes 1.0 MiB and the largest device holds 0.5 MiB" in fault.why


def test_an_estimator_that_is_never_content():
    class Never:
        def estimate(self, work) -> Estimate:
            return Estimate(inf, work.judged.cascade.stages[-1])

    fault = plan(a_problem(on="2xcpu=2MiB", ranges=2), Never())
    assert fault.part is Part.QUEUES
    assert "does not keep up" in fault.why


# ---- the formula ----


@settings(max_examples=20)
@given(st.floats(20.0, 200.0), st.floats(1.05, 2.0))
def test_by_the_formula_more_load_is_never_quicker(rate, more):
    slow = plan(a_problem("accuracy=0.9", ranges=1, highest=rate * more, stages=1))
    quick = plan(a_problem("accuracy=0.9", ranges=1, highest=rate, stages=1))
    if isinstance(slow, GearPlan) and isinstance(quick, GearPlan):
        assert quick.gears[0].expected.p95_s <= slow.gears[0].expected.p95_s + 1e-9


def test_bursts_make_it_slower():
    calm = plan(a_problem(ranges=2), Analytic(1.0))
    wild = plan(a_problem(ranges=2), Analytic(8.0))
    assert wild.accuracy <= calm.accuracy


# ---- what if ----


def test_cascades_need_fewer_devices_than_single_models():
    lines = what_if(a_problem(highest=600.0, ranges=2), 3)
    cascades, singles = [line.gears for line in lines], [line.singles for line in lines]
    assert accuracy(cascades[0]) > accuracy(singles[0])
    few, many = needed(cascades, 0.93), needed(singles, 0.93)
    assert few is not None
    assert many is None or many > few
    assert [accuracy(made) for made in cascades] == sorted(accuracy(made) for made in cascades)


def test_what_if_nothing_does():
    lines = what_if(replace(a_problem(ranges=1), slo=Slo.parse("p95=1ms")), 2)
    assert [accuracy(line.gears) for line in lines] == [0.0, 0.0]
    assert needed([line.gears for line in lines], 0.5) is None
