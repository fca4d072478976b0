"""The slot search against what a plan is worth, against its own interpreted twin, and against its budget."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from peekserve import kernel
from peekserve.policies import horizon, make
from peekserve.policies.base import Switches, View
from peekserve.policies.groups import by_label, families, grouped, log_priority
from peekserve.policies.horizon import Horizon
from peekserve.policies.placing import look, problem
from peekserve.policies.worth import evaluate
from tests.policies.views import a_lane, a_random_view, a_row, a_view, a_worker, takes

EVERY_SWITCH = [Switches(*switches) for switches in product((False, True), repeat=4)]


def a_case(seed: int) -> tuple[View, Switches]:
    view = a_random_view(seed, rows=seed % 13, lanes=1 + seed % 3, workers=1 + seed % 2)
    return view, EVERY_SWITCH[seed * 7 % 16]


def worth(view: View, policy: Horizon) -> float:
    return float(evaluate(view, policy.plan(view), policy.switches)[0].sum())


def test_compiled_and_interpreted_plans_are_the_same_to_the_last_bit(monkeypatch):
    """Both forms side by side on 240 random cases, one worker and two, some with bunches and with a price."""
    if not kernel.COMPILED:
        pytest.skip("the kernel is not compiled here")
    plain = kernel.interpreted("search")
    assert plain is not kernel.search
    monkeypatch.setattr(horizon, "ONE_BY_ONE", 9)
    monkeypatch.setattr(horizon, "CLUSTERS", 6)
    for seed in range(240):
        view, switches = a_case(seed)
        policy = Horizon(switches, budget=700, price_per_s=float(seed % 5 == 0))
        plans = []
        for module in (kernel.search, plain):
            # The module is what the policy was written against; it is handed the other one for a moment.
            monkeypatch.setattr(horizon, "search", module)
            plans.append((policy.plan(view), policy.looked_at))
        assert plans[0] == plans[1], f"seed {seed}"


def test_so_are_priorities_and_groups():
    if not kernel.COMPILED:
        pytest.skip("the kernel is not compiled here")
    plain = kernel.interpreted("grouping")
    for seed in range(150):
        view = a_random_view(seed, rows=seed % 30, lanes=3)
        outlook = look(view, Switches(aware=True))
        rows, lane = outlook.open, view.lane[outlook.open].astype(np.int64)
        whole = families(outlook)
        parts, most = by_label(outlook, whole), np.full(3, 1 + seed % 7)
        priority = log_priority(outlook, 0.2)
        given = (outlook.accuracy, view.lane, outlook.lanes[0], outlook.due_s, 0.2)
        assert priority.tolist() == plain.log_priority(*given).tolist()
        for name, args in (
            ("grouped", (parts, priority[rows], rows, lane, most)),
            ("bunched", (parts, outlook.due_s[rows], 3)),
        ):
            here = [a.tolist() for a in getattr(kernel.grouping, name)(*args)]
            assert here == [a.tolist() for a in getattr(plain, name)(*args)], f"seed {seed}"


def test_parts_are_put_together_alike_by_both_forms():
    if not kernel.COMPILED:
        pytest.skip("the kernel is not compiled here")
    plain = kernel.interpreted("grouping")
    for seed in range(60):
        view = a_random_view(seed, rows=3 + seed % 20, lanes=2)
        outlook = look(view, Switches(aware=True))
        rows, lane = outlook.open, view.lane[outlook.open].astype(np.int64)
        if not len(rows):
            continue
        whole, priority = families(outlook), log_priority(outlook, 1.0)
        parts = by_label(outlook, whole)
        items = grouped(outlook, whole, priority)
        made = problem(outlook, items, rescue=False, by_accuracy=False, search_items=0)
        given = (whole, parts, priority[rows], rows, lane, np.full(2, 99))
        here = kernel.grouping.agreeing(made, *given).tolist()
        assert here == plain.agreeing(made, *given).tolist(), f"seed {seed}"


def test_the_kernel_values_a_plan_as_everybody_does_to_the_last_bit(monkeypatch):
    seen = []

    class Watched(kernel.search.Search):  # type: ignore[name-defined, misc]
        def utilities(self):
            utility = super().utilities()
            seen.append(utility.copy())
            return utility

    monkeypatch.setattr(horizon.search, "Search", Watched)
    for seed in range(200):
        view, switches = a_case(seed)
        seen.clear()
        plan = make("horizon", switches).plan(view)
        if not seen:
            continue
        utility, _ = evaluate(view, plan, switches)
        outlook = look(view, switches)
        for mine in seen:
            mine[outlook.instant] = outlook.worth[outlook.instant]
        assert any(mine.tolist() == utility.tolist() for mine in seen), f"seed {seed}"


def test_work_is_counted_and_ends():
    """However small the budget, a plan comes out; a budget is overstepped by no more than a last move takes."""
    view = a_random_view(5, rows=40, lanes=3, workers=2)
    for budget in (0, 1, 100, 1_000, 10_000):
        policy = make("horizon", budget=budget)
        policy.plan(view)
        assert policy.looked_at < budget + 5_000


def test_ten_times_the_budget_is_worth_more_over_many_windows():
    few, many = make("horizon", budget=300), make("horizon", budget=30_000)
    views = [a_random_view(seed, rows=12, lanes=3) for seed in range(40)]
    assert sum(worth(view, many) for view in views) > sum(worth(view, few) for view in views) + 0.01


def test_bunches_that_straddle_a_batch_lose_no_row(monkeypatch):
    monkeypatch.setattr(horizon, "ONE_BY_ONE", 4)
    monkeypatch.setattr(horizon, "CLUSTERS", 2)
    for seed in range(60):
        view = a_random_view(seed, rows=20, lanes=2, workers=1 + seed % 2)
        for switches in (Switches(aware=True, drop=False), Switches(True, True)):
            plan = make("horizon", switches).plan(view)
            utility, finish = evaluate(view, plan, switches)
            assert utility.sum() >= evaluate(view, make("sneakpeek", switches).plan(view), switches)[0].sum()
            if not switches.drop:
                served = ~np.isnan(finish)
                # As many as SneakPeek, which leaves only those that nothing can run.
                other = evaluate(view, make("sneakpeek", switches).plan(view), switches)[1]
                assert served.tolist() == (~np.isnan(other)).tolist(), f"seed {seed}"


def test_weights_of_unlike_sizes_make_room_for_one_another():
    """A large model evicts two small ones, which costs two loads: it runs last although its row is due first."""
    lanes = [
        a_lane(takes(0.02, 0.9, load_s=0.05, size=1.0, name="a")),
        a_lane(takes(0.02, 0.9, load_s=0.05, size=1.0, name="b")),
        a_lane(takes(0.02, 0.9, load_s=0.02, size=2.0, name="c")),
    ]
    rows = [a_row(0, due=0.09), a_row(1, due=0.09), a_row(2, due=0.085)]
    view = a_view(lanes, rows, [a_worker(resident=("0/a", "1/b"), budget=2.0)])
    plan = make("horizon").plan(view)
    assert [b.lane for b in plan.batches][-1] == 2
    assert len(plan.batches) == 3


def test_a_batch_of_more_gain_goes_first_where_that_costs_nothing():
    lanes = [a_lane(takes(0.02, 0.5)), a_lane(takes(0.02, 0.9))]
    view = a_view(lanes, [a_row(0), a_row(1)])
    assert [b.lane for b in make("horizon").plan(view).batches] == [1, 0]
    urgent = replace(view, due_at=view.now + np.array([0.03, 1.0]))
    assert [b.lane for b in make("horizon").plan(urgent).batches] == [0, 1]
