"""One list of checks for the whole family, run over every policy and every switch; then what sets each
apart."""

from dataclasses import replace
from itertools import product
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.domain.messages import Plan
from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidConfiguration
from peekserve.kernel import grouping
from peekserve.policies import POLICIES, SWITCHES, YARDSTICKS, Switches, make
from peekserve.policies.base import Policy, View
from peekserve.policies.groups import by_label, families, grouped, log_priority
from peekserve.policies.placing import look, problem
from tests.policies.views import a_lane, a_random_view, a_row, a_view, a_worker, carried_out, takes

EVERY_SWITCH = [Switches(*switches) for switches in product((False, True), repeat=4)]
FAMILY = [
    pytest.param(name, switches, id=f"{name}-{switches}")
    for name in POLICIES
    if name not in YARDSTICKS
    for switches in EVERY_SWITCH
]

# One variant is stated, or the cheapest is taken: there is nothing for awareness to choose.
CHOOSE_NOTHING = {"clipper", "dynba", "infaas"}

random_views = st.builds(
    a_random_view,
    seed=st.integers(0, 10**6),
    rows=st.integers(0, 14),
    lanes=st.integers(1, 4),
    workers=st.integers(1, 3),
)


# ---- the checks --------------------------------------------------------------------------------------------


def check_never_runs_twice(view: View, plan: Plan) -> None:
    everywhere = [row for batch in plan.batches for row in batch.rows] + [*plan.instant, *plan.refuse]
    assert len(everywhere) == len(set(everywhere)), "a row is planned twice"


def check_no_row_lost(view: View, plan: Plan, switches: Switches) -> None:
    """Each row is in a batch, answered at once, refused, or stays; it stays or is refused only for a
    reason: a policy may let rows wait if it says until when."""
    everywhere = {row for batch in plan.batches for row in batch.rows} | {*plan.instant, *plan.refuse}
    assert everywhere <= set(range(view.size)), "a row that is not in the view"
    assert plan.again_at > view.now
    if not switches.drop:
        assert not plan.refuse
    if not switches.drop and plan.again_at == inf:
        fleet = [(worker.bytes <= worker.budget, worker) for worker in view.workers]
        for row in set(range(view.size)) - everywhere:
            lane = view.lanes[view.lane[row]]
            able = [
                v
                for v in range(len(lane.variants))
                if view.allowed[row, v] and any(fits[lane.weights[v]] for fits, _ in fleet)
            ]
            assert not able, f"row {row} stays although variants {able} could run it"


def check_only_allowed_variants(view: View, plan: Plan) -> None:
    for batch in plan.batches:
        assert 0 <= batch.variant < len(view.lanes[batch.lane].variants)
        assert all(view.lane[row] == batch.lane for row in batch.rows), "rows of another lane"
        assert all(view.allowed[row, batch.variant] for row in batch.rows), "a variant that a row may not use"


def check_batches_within_max(view: View, plan: Plan) -> None:
    for batch in plan.batches:
        most = int(view.lanes[batch.lane].max_batch[batch.variant])
        assert 1 <= len(batch.rows) <= most
        assert batch.closed in ("full", "deadline", "policy")
        assert (batch.closed == "full") == (len(batch.rows) == most)


def check_instant_only_with_an_answer(view: View, plan: Plan, switches: Switches) -> None:
    assert switches.short_circuit or not plan.instant
    assert not np.isnan(view.instant[list(plan.instant)]).any()


def check_same_view_same_plan(name: str, switches: Switches, view: View, plan: Plan) -> None:
    assert make(name, switches).plan(view) == plan
    twin = replace(view, accuracy=view.accuracy.copy(order="F"), due_at=view.due_at.copy())
    assert make(name, switches).plan(twin) == plan


@pytest.mark.parametrize(("name", "switches"), FAMILY)
@settings(max_examples=15)
@given(view=random_views)
def test_every_policy_under_every_switch(name: str, switches: Switches, view: View):
    plan = make(name, switches).plan(view)
    check_never_runs_twice(view, plan)
    check_no_row_lost(view, plan, switches)
    check_only_allowed_variants(view, plan)
    check_batches_within_max(view, plan)
    check_instant_only_with_an_answer(view, plan, switches)
    check_same_view_same_plan(name, switches, view, plan)


@pytest.mark.parametrize(("name", "switches"), FAMILY)
def test_every_policy_uses_free_workers(name: str, switches: Switches):
    """check_uses_free_workers: twelve rows, time for one batch of six each, two workers."""
    lane = a_lane(takes(0.05, 0.9, each_s=0.01, max_batch=6))
    view = a_view([lane], [a_row(due=0.101, instant=0.3) for _ in range(12)], [a_worker(), a_worker()])
    plan = make(name, switches).plan(view)
    assert {batch.worker for batch in plan.batches} == {0, 1}
    if switches.merge or name in ("grouped", "sneakpeek"):
        assert sum(len(batch.rows) for batch in plan.batches) == 12


@pytest.mark.parametrize("name", POLICIES)
def test_nobody_waits_or_nobody_works(name: str):
    lane = a_lane(takes(0.05, 0.9))
    assert make(name).plan(a_view([lane])) == Plan()
    assert make(name).plan(a_view([lane], [a_row(), a_row(due=-1.0)], workers=[])) == Plan()


@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(0, 12),
    name=st.sampled_from(["grouped", "sneakpeek", "lo-edf"]),
)
def test_a_plan_carried_out_is_worth_what_was_believed(seed: int, rows: int, name: str):
    view = a_random_view(seed, rows=rows, lanes=3)
    for switches in EVERY_SWITCH:
        policy = make(name, switches)
        outlook = look(view, switches)
        plan = policy.plan(view)
        planned = replace(plan, instant=tuple(set(plan.instant) - set(outlook.instant.tolist())))
        if name == "lo-edf":
            believed = policy.placed(outlook).value()
        else:
            believed = policy.best(outlook, log_priority(outlook, 1.0)).value()
        assert carried_out(view, planned, outlook.accuracy) == pytest.approx(believed, abs=1e-9)


# ---- what sets each apart ----------------------------------------------------------------------------------


def choices(plan: Plan) -> list[tuple[int, tuple[int, ...]]]:
    return [(batch.variant, tuple(batch.rows)) for batch in plan.batches]


def after_waiting(policy: Policy, view: View) -> Plan:
    """The plan of a view in which nothing changes, once the policy makes nothing wait any more."""
    while (plan := policy.plan(view)).again_at < inf:
        at = plan.again_at
        workers = tuple(replace(worker, free_at=max(worker.free_at, at)) for worker in view.workers)
        view = replace(view, now=at, workers=workers)
    return plan


def test_maxacc_edf_takes_the_best_model_whatever_the_time():
    lane = a_lane(takes(0.01, 0.7), takes(0.2, 0.9))
    view = a_view([lane], [a_row(due=0.1)])
    assert choices(make("maxacc-edf", Switches(drop=False)).plan(view)) == [(1, (0,))]
    assert choices(make("lo-edf", Switches(drop=False)).plan(view)) == [(0, (0,))]


@given(seed=st.integers(0, 10**6))
def test_maxacc_edf_never_short_circuits_what_a_model_could_do_in_time(seed: int):
    view = a_random_view(seed, rows=10)
    for drop in (False, True):
        switches = Switches(aware=True, short_circuit=True, drop=drop)
        plan = make("maxacc-edf", switches).plan(view)
        assert set(plan.instant) <= set(look(view, switches).instant.tolist())
        assert drop or not plan.instant


def test_lo_priority_serves_the_row_with_more_to_choose_before_the_slightly_more_urgent_one():
    dull, rich = a_lane(takes(0.01, 0.8), takes(0.02, 0.8)), a_lane(takes(0.01, 0.5), takes(0.02, 1.0))
    view = a_view([dull, rich], [a_row(0, due=0.50), a_row(1, due=0.54)])
    assert [b.lane for b in make("lo-edf").plan(view).batches] == [0, 1]
    assert [b.lane for b in make("lo-priority").plan(view).batches] == [1, 0]  # ln 1.0625 is worth 61 ms
    assert [b.lane for b in make("lo-priority", tau_s=1e-3).plan(view).batches] == [0, 1]


def test_overdue_rows_do_not_overtake_those_that_can_be_saved():
    lane = a_lane(takes(0.01, 0.8))
    view = a_view([lane], [a_row(due=-5.0), a_row(due=-1.0), a_row(due=0.0)])
    assert log_priority(look(view, Switches(drop=False)), 1.0).tolist() == [0.0, 0.0, 0.0]


def test_a_groups_priority_is_the_mean_of_its_rows_also_far_from_their_deadlines():
    lanes = [a_lane(takes(0.01, 0.5), takes(0.02, 0.9)), a_lane(takes(0.01, 0.8))]
    rows = [a_row(0, due=2000.0), a_row(0, due=2001.0), a_row(1, due=2000.3), a_row(1, due=2000.4)]
    outlook = look(a_view(lanes, rows), Switches())
    # (1 + 0.04) (1 + e^-1) / 2 = 0.71 against (e^-0.3 + e^-0.4) / 2 = 0.705, times e^-2000, which is no
    # number.
    items = grouped(outlook, families(outlook), log_priority(outlook, 1.0))
    assert items.lane.tolist() == [0, 1]
    assert items.rows.tolist() == [0, 1, 2, 3]


def test_grouped_orders_few_groups_exactly_where_greedy_goes_wrong():
    """The urgent group's best model leaves no time for the other; the exact plan takes its smaller one."""
    first = a_lane(takes(0.01, 0.80), takes(0.09, 0.85))
    second = a_lane(takes(0.05, 0.90))
    view = a_view([first, second], [a_row(0, due=0.09), a_row(1, due=0.10)])
    assert [(b.lane, b.variant) for b in make("grouped", tau=0).plan(view).batches] == [(0, 1)]
    assert sorted((b.lane, b.variant) for b in make("grouped").plan(view).batches) == [(0, 0), (1, 0)]


def test_rows_that_may_use_different_variants_are_different_groups():
    lane = a_lane(takes(0.01, 0.7), takes(0.02, 0.9))
    rows = [a_row(), a_row(allowed=(True, False)), a_row(), a_row(allowed=(True, False))]
    plan = make("grouped").plan(a_view([lane], rows))
    assert sorted(choices(plan)) == [(0, (1, 3)), (1, (0, 2))]


def test_awareness_believes_the_row_and_not_the_profile():
    lane = a_lane(takes(0.01, 0.7), takes(0.02, 0.9))
    view = a_view([lane], [a_row(accuracy=(0.95, 0.6))])
    for name in sorted(set(POLICIES) - CHOOSE_NOTHING):
        assert choices(after_waiting(make(name, Switches(aware=False)), view)) == [(1, (0,))]
        assert choices(after_waiting(make(name, Switches(aware=True)), view)) == [(0, (0,))]
    for name in sorted(CHOOSE_NOTHING):
        plans = [make(name, Switches(aware=aware)).plan(view) for aware in (False, True)]
        assert plans[0] == plans[1]


def test_sneakpeek_gives_each_label_the_model_that_is_good_at_it():
    """Two variants, each with a high recall on one class: one batch for each class, not one for the
    application."""
    lane = a_lane(takes(0.02, 0.8), takes(0.021, 0.8))
    rows = [
        a_row(accuracy=(0.95, 0.5) if likely else (0.5, 0.95), likely=likely, due=0.2)
        for likely in (0, 1, 0, 1, 1)
    ]
    view = a_view([lane], rows)
    aware = Switches(aware=True)
    assert sorted(choices(make("sneakpeek", aware).plan(view))) == [(0, (1, 3, 4)), (1, (0, 2))]
    assert len(make("sneakpeek", aware, split=0).plan(view).batches) == 1
    assert len(make("grouped", aware).plan(view).batches) == 1


def test_parts_that_would_use_the_same_model_stay_together():
    lane = a_lane(takes(0.02, 0.8), takes(0.021, 0.8))
    rows = [a_row(accuracy=(0.9, 0.5), likely=likely) for likely in (-1, 0, 1, 2)]
    outlook = look(a_view([lane], rows), Switches(aware=True))
    whole = families(outlook)
    parts = by_label(outlook, whole)
    assert len(set(parts.tolist())) == 4
    priority = log_priority(outlook, 1.0)
    made = problem(
        outlook, grouped(outlook, whole, priority), rescue=False, by_accuracy=False, search_items=0
    )
    opened, own = outlook.open, outlook.view.lane[outlook.open].astype(np.int64)
    together = grouping.agreeing(made, whole, parts, priority[opened], opened, own, np.full(1, 99))
    assert len(set(together.tolist())) == 1
    # Paper's way, told to keep them apart and not to merge neighbours.
    apart = make("sneakpeek", Switches(aware=True, merge=False), min_gain=-1.0)
    assert len(apart.plan(a_view([lane], rows)).batches) == 4


def test_a_split_that_costs_more_than_it_gains_is_not_made():
    """Each class has its own best model, but there is no time to load and run both."""
    lane = a_lane(takes(0.05, 0.8, load_s=0.05), takes(0.051, 0.8, load_s=0.05))
    rows = [
        a_row(accuracy=((0.95, 0.7), (0.7, 0.95))[likely], likely=likely, due=0.18) for likely in (0, 1, 0, 1)
    ]
    view = a_view([lane], rows)
    assert [len(b.rows) for b in make("sneakpeek", Switches(aware=True)).plan(view).batches] == [4]


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 16), workers=st.integers(1, 2))
def test_sneakpeek_never_believes_itself_worse_than_grouped_with_the_same_beliefs(
    seed: int, rows: int, workers: int
):
    view = a_random_view(seed, rows=rows, lanes=3, workers=workers)
    for switches in (Switches(aware=True), SWITCHES["sneakpeek"]):
        outlook = look(view, switches)
        priority = log_priority(outlook, 1.0)
        split = make("sneakpeek", switches, work=10**7).best(outlook, priority).value()
        assert split >= make("grouped", switches, work=10**7).best(outlook, priority).value() - 1e-8


def test_the_peek_answers_when_no_model_can_and_never_for_more_than_its_profile():
    lane = a_lane(takes(0.5, 0.9))
    rows = [
        a_row(due=0.1, instant=0.7),
        a_row(due=0.1),
        a_row(due=2.0, instant=0.95),
        a_row(due=2.0, instant=0.5),
    ]
    for name in ("lo-edf", "lo-priority", "grouped", "sneakpeek"):
        plan = make(name, Switches(short_circuit=True)).plan(a_view([lane], rows))
        assert plan.instant == (0, 2)
        assert plan.refuse == (1,)
        assert [tuple(b.rows) for b in plan.batches] == [(3,)]


def test_doomed_work_is_refused_only_if_it_is_dropped_and_a_constant_penalty_is_never_doomed():
    lane = a_lane(takes(0.5, 0.9))
    rows = [a_row(due=0.1), a_row(due=0.1, penalty=Penalty.constant(0.1)), a_row(due=1.0)]
    view = a_view([lane], rows)
    assert make("lo-edf").plan(view).refuse == (0,)
    plan = make("lo-edf", Switches(drop=False)).plan(view)
    assert plan.refuse == ()
    assert sorted(row for b in plan.batches for row in b.rows) == [0, 1, 2]


def test_loading_counts_when_a_row_is_judged_doomed():
    lane = a_lane(takes(0.05, 0.9, load_s=0.1, name="m"))
    assert make("lo-edf").plan(a_view([lane], [a_row(due=0.1)])).refuse == (0,)
    assert make("lo-edf").plan(a_view([lane], [a_row(due=0.1)], [a_worker(resident=["0/m"])])).refuse == ()


def test_neighbours_of_one_model_share_a_batch_where_merging_is_on():
    lane = a_lane(takes(0.05, 0.9))
    view = a_view([lane], [a_row(due=1.0), a_row(due=1.1), a_row(due=1.2)])
    assert choices(make("lo-edf").plan(view)) == [(0, (0, 1, 2))]
    assert choices(make("lo-edf", Switches(merge=False)).plan(view)) == [(0, (0,)), (0, (1,)), (0, (2,))]


def test_lanes_of_one_application_never_share_a_batch():
    small, large = (a_lane(takes(0.05, 0.9), application=0, bucket=b) for b in (0, 1))
    plan = make("grouped").plan(a_view([small, large], [a_row(0), a_row(1), a_row(0), a_row(1)]))
    assert sorted((b.lane, tuple(b.rows)) for b in plan.batches) == [(0, (0, 2)), (1, (1, 3))]


def test_a_row_without_a_peek_is_never_answered_by_one():
    lane = a_lane(takes(0.5, 0.6))
    rows = [a_row(due=2.0, instant=0.9), a_row(due=2.0, instant=nan)]
    plan = make("sneakpeek").plan(a_view([lane], rows))
    assert plan.instant == (0,)
    assert [tuple(b.rows) for b in plan.batches] == [(1,)]


# ---- the table of names ------------------------------------------------------------------------------------


def test_an_unknown_policy_names_the_nearest():
    with pytest.raises(InvalidConfiguration, match="nearest is 'sneakpeek'"):
        make("sneekpeak")


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(InvalidConfiguration, match="nearest is 'min_gain'"):
        make("sneakpeek", mingain=0.1)
    with pytest.raises(InvalidConfiguration, match="'split'"):
        make("grouped", split=1)
    with pytest.raises(InvalidConfiguration, match="'tau_s'"):
        make("lo-priority", tau_s=0.0)


def test_sneakpeek_is_aware_and_short_circuits_unless_told_otherwise():
    assert SWITCHES["sneakpeek"] == Switches(aware=True, short_circuit=True)
    assert make("sneakpeek").switches == SWITCHES["sneakpeek"]
    assert make("grouped").switches == Switches()
