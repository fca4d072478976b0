"""The family's checks over those that carry out a gear plan; stories about static, model-switching and dynba."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise, product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.domain.gears import Expected, Gear, GearPlan, Holding, Planned, Share
from peekserve.domain.messages import Plan
from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidConfiguration
from peekserve.policies import PLANNED, POLICIES, REMEMBERING, Switches, carrying_out, make
from peekserve.policies.base import Policy, View
from tests.policies.test_gears import SMALL, a_gear, a_plan
from tests.policies.test_policies import (
    check_batches_within_max,
    check_instant_only_with_an_answer,
    check_never_runs_twice,
    check_no_row_lost,
    check_only_allowed_variants,
)
from tests.policies.views import NOW, a_lane, a_random_view, a_row, a_view, a_worker, takes

GUARDS = (0.0, 1.0)
EXPECTED = Expected((1.0,), 0.9, 0.01, 0.88, 0.2, 0.5)
FAMILY = [pytest.param(name, guard, id=f"{name}-{guard:g}") for name, guard in product(PLANNED, GUARDS)]


def plans_for(view: View, seed: int, stages: int) -> dict[str, GearPlan]:
    """For each lane of a view a plan that was drawn: cascades of up to so many stages, on some of the workers."""
    rng = np.random.default_rng(seed)
    names = [worker.name for worker in view.workers]
    plans = {}
    for lane in view.lanes:
        edges, gears = [0.0, 30.0, 90.0, 1e6], []
        for low, high in pairwise(edges):
            of = int(rng.integers(1, min(stages, len(lane.variants)) + 1))
            chosen = tuple(
                lane.variants[v] for v in sorted(rng.permutation(len(lane.variants))[:of].tolist())
            )
            hosts = [[n for n in names if rng.random() < 0.6] or names for _ in range(of)]
            shares = tuple(tuple(Share(name, 1.0 / len(on)) for name in on) for on in hosts)
            queues = tuple(int(queue) for queue in rng.integers(1, 4, of))
            gears.append(Gear(low, high, chosen, (0.5,) * (of - 1), queues, shares, EXPECTED))
        models = tuple(Planned(v, v, f"{lane.name}/{v}") for v in lane.variants)
        held = tuple(Holding(name, "cpu", 1 << 40, tuple(m.weights for m in models)) for name in names)
        plans[lane.name] = GearPlan(lane.name, "margin", "p95=1s", "here", models, held, tuple(gears))
    return plans


def carried(name: str, view: View, seed: int, guard: float) -> tuple[Policy, Mapping[str, GearPlan]]:
    plans = plans_for(view, seed, 1 if name == "model-switching" else 3)
    return carrying_out(name, plans, guard=guard), plans


# ---- the checks of the family ----


@pytest.mark.parametrize(("name", "guard"), FAMILY)
@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(0, 14),
    lanes=st.integers(1, 4),
    workers=st.integers(1, 3),
)
def test_every_policy_with_a_plan(name: str, guard: float, seed: int, rows: int, lanes: int, workers: int):
    view = a_random_view(seed, rows=rows, lanes=lanes, workers=workers)
    # What a plan places on a device fits there.
    view = replace(view, workers=tuple(replace(worker, budget=inf) for worker in view.workers))
    policy, plans = carried(name, view, seed, guard)
    plan = policy.plan(view)
    check_never_runs_twice(view, plan)
    check_no_row_lost(view, plan, Switches(drop=False))
    check_only_allowed_variants(view, plan)
    check_batches_within_max(view, plan)
    check_instant_only_with_an_answer(view, plan, Switches())
    assert carrying_out(name, plans, guard=guard).plan(view) == plan
    twin = replace(view, accuracy=view.accuracy.copy(order="F"), due_at=view.due_at.copy())
    assert carrying_out(name, plans, guard=guard).plan(twin) == plan


@pytest.mark.parametrize(("name", "guard"), FAMILY)
def test_every_policy_with_a_plan_uses_free_workers(name: str, guard: float):
    """check_uses_free_workers: twelve rows, time for one batch of six each, two workers."""
    lane = a_lane(takes(0.05, 0.9, each_s=0.01, max_batch=6, name="small"))
    view = a_view([lane], [a_row(due=0.101) for _ in range(12)], [a_worker(), a_worker()])
    on = ("cpu:0", "cpu:1")
    policy = carrying_out(name, {"lane0": a_plan(a_gear(stages=("small",), on=on), on=on)}, guard=guard)
    plan = policy.plan(view)
    assert {batch.worker for batch in plan.batches} == {0, 1}
    assert sum(len(batch.rows) for batch in plan.batches) == 12


@pytest.mark.parametrize(("name", "guard"), FAMILY)
def test_nobody_waits_or_nobody_works(name: str, guard: float):
    policy = carrying_out(name, {"lane0": a_plan(a_gear(stages=("small",)))}, guard=guard)
    lane = a_lane(SMALL)
    assert policy.plan(a_view([lane])) == Plan()
    assert policy.plan(a_view([lane], [a_row(), a_row(due=-1.0)], workers=[])) == Plan()


@pytest.mark.parametrize("name", PLANNED)
def test_without_a_plan_it_says_where_plans_are_run(name: str):
    with pytest.raises(InvalidConfiguration, match=f"{name}' carries out a gear plan: .*peekserve simulate"):
        make(name)
    assert name in REMEMBERING
    assert name not in POLICIES


# ---- what sets each apart ----

SURE = takes(0.1, 0.95, name="large")
LANE = a_lane(SMALL, SURE)
LOW, HIGH = a_gear(0.0, 50.0, ("large",)), a_gear(50.0, inf, ("small",))


def ran(policy: Policy, view: View) -> list[tuple[int, str, int]]:
    """(worker, variant, rows) of each batch."""
    return [
        (b.worker, view.lanes[b.lane].variants[b.variant], len(b.rows)) for b in policy.plan(view).batches
    ]


def under_load(policy: Policy, rate: float, seconds: float = 1.0) -> list[tuple[int, str, int]]:
    """What runs after so much of a steady load."""
    found: list[tuple[int, str, int]] = []
    for i in range(int(rate * seconds)):
        found = ran(policy, a_view([LANE], [a_row()], now=NOW + i / rate))
    return found


def test_model_switching_takes_another_model_when_the_load_is_another():
    policy = carrying_out("model-switching", {"lane0": a_plan(LOW, HIGH)})
    assert under_load(policy, 20.0) == [(0, "large", 1)]
    policy = carrying_out("model-switching", {"lane0": a_plan(LOW, HIGH)})
    assert under_load(policy, 100.0) == [(0, "small", 1)]


def test_model_switching_refuses_a_cascade():
    with pytest.raises(InvalidConfiguration, match="'lane0' has the cascade small -> large: plan for single"):
        carrying_out("model-switching", {"lane0": a_plan()})


@pytest.mark.parametrize(("gear", "model"), [(0.0, "large"), (1.0, "small")])
@pytest.mark.parametrize("rate", [20.0, 100.0])
def test_a_static_gear_stays_whatever_the_load(gear, model, rate):
    policy = carrying_out("static", {"lane0": a_plan(LOW, HIGH)}, gear=gear)
    assert under_load(policy, rate) == [(0, model, 1)]


def test_a_static_gear_is_one_that_the_plan_has():
    plans = {"lane0": a_plan(LOW, HIGH)}
    with pytest.raises(InvalidConfiguration, match="'lane0' has gears 0 to 1, and no gear 2"):
        carrying_out("static", plans, gear=2.0)
    with pytest.raises(InvalidConfiguration, match=r"counted from 0; not 0\.5"):
        carrying_out("static", plans, gear=0.5)
    with pytest.raises(InvalidConfiguration, match="no policy option 'period_s' here"):
        carrying_out("static", plans, period_s=0.1)


def test_dynba_runs_the_most_accurate_model_or_the_one_that_was_stated():
    view = a_view([LANE], [a_row(), a_row()])
    assert ran(make("dynba"), view) == [(0, "large", 2)]
    assert ran(make("dynba", model=0.0), view) == [(0, "small", 2)]
    assert ran(make("dynba", model=7.0), view) == [(0, "large", 2)]


def test_dynba_waits_for_a_batch_or_for_so_long():
    policy = make("dynba", model=0.0, batch=4.0, wait_s=0.02)
    view = a_view([LANE], [a_row()] * 3)
    plan = policy.plan(view)
    assert not plan.batches
    assert plan.again_at == pytest.approx(float(view.arrived_at[0]) + 0.02)
    assert ran(policy, replace(view, now=plan.again_at)) == [(0, "small", 3)]
    assert ran(policy, a_view([LANE], [a_row()] * 4)) == [(0, "small", 4)]


def test_dynba_does_not_wait_until_its_first_row_is_late():
    policy = make("dynba", model=0.0, batch=4.0, wait_s=10.0)
    plan = policy.plan(a_view([LANE], [a_row(due=0.2)]))
    assert plan.again_at == pytest.approx(NOW + 0.2 - 0.01)


def test_dynba_takes_the_best_model_that_has_room_and_a_better_one_once_there_is_room():
    lane = a_lane(SMALL, takes(0.1, 0.95, name="large", size=4.0))
    policy = make("dynba")
    cramped, roomy = a_worker(budget=2.0), a_worker(budget=8.0)
    assert ran(policy, a_view([lane], [a_row()], [cramped])) == [(0, "small", 1)]
    assert ran(policy, a_view([lane], [a_row()], [cramped, roomy], now=NOW + 1)) == [(1, "large", 1)]
    assert ran(policy, a_view([lane], [a_row()], [cramped], now=NOW + 2)) == []


def test_who_may_not_have_the_model_gets_what_they_may():
    assert ran(make("dynba"), a_view([LANE], [a_row(allowed=(True, False))])) == [(0, "small", 1)]


@pytest.mark.parametrize("option", [{"model": 0.5}, {"batch": 2.5}])
def test_dynba_counts_in_whole_numbers(option):
    with pytest.raises(InvalidConfiguration, match="is a whole number"):
        make("dynba", **option)


# ---- the guard where nothing is forwarded ----


def test_with_the_guard_a_row_that_the_model_would_answer_too_late_keeps_no_other_waiting():
    """The large model takes 0.1 s alone and 0.13 s with a second row. The small one could still answer the first row,
    but nobody asks it here."""
    rows = [a_row(due=0.05), a_row(due=0.12)]
    assert ran(make("dynba"), a_view([LANE], rows)) == [(0, "large", 1)]
    assert ran(make("dynba", guard=0.0), a_view([LANE], rows)) == [(0, "large", 2)]
    # It is asked about again when its time is over.
    assert make("dynba").plan(a_view([LANE], rows)).again_at == pytest.approx(NOW + 0.05)


def test_a_row_that_gains_by_a_late_answer_runs_and_so_does_one_that_is_late_already():
    lenient = a_row(due=0.05, penalty=Penalty.linear())
    assert ran(make("dynba"), a_view([LANE], [lenient])) == [(0, "large", 1)]
    assert ran(make("dynba"), a_view([LANE], [a_row(due=-0.01)])) == [(0, "large", 1)]


def test_with_the_guard_a_batch_is_no_longer_than_its_rows_can_wait():
    """Six rows of the large model take 0.25 s: without the first, which has 0.2 s, the others are in time."""
    rows = [a_row(due=0.2), *[a_row(due=0.3)] * 5]
    (batch,) = make("dynba").plan(a_view([LANE], rows)).batches
    assert batch.rows == (1, 2, 3, 4, 5)
    (batch,) = make("dynba", guard=0.0).plan(a_view([LANE], rows)).batches
    assert batch.rows == (0, 1, 2, 3, 4, 5)
