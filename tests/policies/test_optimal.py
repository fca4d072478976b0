"""The yardstick against plain enumeration; nobody beats it; what it does when it cannot say."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from peekserve.domain.messages import Batch, Plan
from peekserve.errors import InvalidConfiguration, InvariantBroken, TooLarge
from peekserve.policies import POLICIES, SWITCHES, YARDSTICKS, Switches, make
from peekserve.policies.base import View
from peekserve.policies.placing import look
from peekserve.policies.worth import evaluate
from tests.policies.plain_optimum import a_tiny_view, best_of_all
from tests.policies.test_policies import (
    check_batches_within_max,
    check_instant_only_with_an_answer,
    check_never_runs_twice,
    check_no_row_lost,
    check_only_allowed_variants,
)
from tests.policies.views import a_lane, a_random_view, a_row, a_view, a_worker, carried_out, takes

EVERY_SWITCH = [Switches(*switches) for switches in product((False, True), repeat=4)]
OTHERS = sorted(set(POLICIES) - YARDSTICKS)
# Starts what will be late where that is worth something, whatever the switches say.
RUN_LATE = {"dynba"}


def worth(view: View, plan: Plan, switches: Switches) -> float:
    return float(evaluate(view, plan, switches)[0].sum())


def check_against_all(seed: int, workers: int) -> float:
    """Equal to enumeration, and no policy is worth more; by how much SneakPeek is worth less."""
    view, switches = a_tiny_view(seed, workers)
    plan = make("optimal", switches).plan(view)
    best = worth(view, plan, switches)
    assert best == pytest.approx(best_of_all(view, switches), abs=1e-8), f"seed {seed}"
    others = {name: worth(view, make(name, switches).plan(view), switches) for name in OTHERS}
    late = replace(switches, drop=False)
    best_late = worth(view, make("optimal", late).plan(view), late)
    for name, other in others.items():
        bound = best_late if name in RUN_LATE else best
        assert other <= bound + 1e-9, f"seed {seed}: {name} beats the optimum"
    return best - others["sneakpeek"]


def test_it_finds_what_enumeration_finds_and_nobody_beats_it():
    ahead = [check_against_all(seed, workers=1) > 1e-6 for seed in range(500)]
    # Windows on which every policy is optimal would prove little.
    assert sum(ahead) > 50


def test_so_it_does_on_two_and_three_workers():
    ahead = [check_against_all(seed, workers=2 + seed % 7 // 6) > 1e-6 for seed in range(120)]
    assert sum(ahead) > 5


def test_nobody_beats_it_on_larger_windows_either():
    for seed in range(25):
        view = a_random_view(seed, rows=7, lanes=3)
        for switches in (SWITCHES["optimal"], Switches(aware=True), Switches(drop=False)):
            best = worth(view, make("optimal", switches).plan(view), switches)
            for name in OTHERS:
                assert worth(view, make(name, switches).plan(view), switches) <= best + 1e-9, (seed, name)


@pytest.mark.parametrize("switches", EVERY_SWITCH, ids=str)
def test_its_plans_keep_the_rules_of_the_family(switches: Switches):
    for seed in range(12):
        view = a_random_view(seed, rows=seed % 6, lanes=2, workers=1 + seed % 2)
        plan = make("optimal", switches).plan(view)
        check_never_runs_twice(view, plan)
        check_no_row_lost(view, plan, switches)
        check_only_allowed_variants(view, plan)
        check_batches_within_max(view, plan)
        check_instant_only_with_an_answer(view, plan, switches)
        assert make("optimal", switches).plan(view) == plan


def test_it_runs_a_row_for_nothing_where_that_keeps_weights_from_eviction():
    """The cheap subnet's batch costs its row 0.1, and spares the dear one the load that it has no time for."""
    shared = a_lane(takes(0.001, 0.5, weights="net"), takes(0.05, 0.9, weights="net", load_s=0.1))
    other = a_lane(takes(0.01, 0.9, load_s=0.01, name="b"))
    spare = a_lane(takes(0.01, 0.9, name="c"))
    rows = [
        a_row(0, due=1.0, instant=0.6, allowed=(True, False)),
        a_row(0, due=0.1, allowed=(False, True)),
        a_row(1, due=0.03),
    ]
    view = a_view([shared, other, spare], rows, [a_worker(resident=("net", "2/c"), budget=2.0)])
    plan = make("optimal").plan(view)
    assert [tuple(b.rows) for b in plan.batches] == [(0,), (2,), (1,)]
    assert worth(view, plan, SWITCHES["optimal"]) == pytest.approx(best_of_all(view, SWITCHES["optimal"]))


def test_it_splits_a_lane_between_unlike_workers():
    lane = a_lane(takes(0.05, 0.9, each_s=0.05))
    rows = [a_row(due=0.11) for _ in range(3)]
    view = a_view([lane], rows, [a_worker(), a_worker(slower=2.0)])
    plan = make("optimal").plan(view)
    assert sorted((b.worker, len(b.rows)) for b in plan.batches) == [(0, 2), (1, 1)]


def test_when_the_labels_run_out_it_says_so():
    view = a_random_view(22, rows=12, lanes=2)
    with pytest.raises(TooLarge, match=r"\d+ rows on 1 worker is not proven after max_labels=20"):
        make("optimal", max_labels=20).plan(view)


def test_it_may_be_asked_for_the_best_plan_known_and_counts_that():
    view = a_random_view(22, rows=12, lanes=2)
    optimal = make("optimal", max_labels=20, strict=0)
    plan = optimal.plan(view)
    assert (optimal.exhausted, optimal.labels) == (1, 21)
    assert worth(view, plan, SWITCHES["optimal"]) >= max(
        worth(view, make(name, SWITCHES["optimal"]).plan(view), SWITCHES["optimal"])
        for name in ("grouped", "sneakpeek", "lo-edf")
    )
    optimal.plan(a_view([a_lane(takes(0.1, 0.9))], [a_row()]))
    assert optimal.exhausted == 1


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(InvalidConfiguration, match="nearest is 'max_labels'"):
        make("optimal", labels=3)
    with pytest.raises(InvalidConfiguration, match="'max_labels' is a number of 0 or more"):
        make("optimal", max_labels=-1)


# ---- what a plan is worth --------------------------------------------------------------------------------------


def test_a_plan_is_worth_what_carrying_it_out_gives():
    for seed in range(60):
        view = a_random_view(seed, rows=8, lanes=3, workers=1 + seed % 3)
        for name, switches in product(("lo-edf", "grouped", "sneakpeek"), EVERY_SWITCH[::3]):
            plan = make(name, switches).plan(view)
            outlook = look(view, switches)
            utility, finish = evaluate(view, plan, switches)
            assert utility.sum() == pytest.approx(carried_out(view, plan, outlook.accuracy), abs=1e-9)
            served = {row for batch in plan.batches for row in batch.rows} | set(plan.instant)
            assert set(np.flatnonzero(~np.isnan(finish)).tolist()) == served
            assert not utility[np.isnan(finish)].any()


def test_a_plan_that_cannot_be_carried_out_has_no_worth():
    lane = a_lane(takes(0.1, 0.9, max_batch=2), takes(0.2, 0.95, size=5.0))
    rows = [a_row(), a_row(), a_row(allowed=(False, True))]
    view = a_view([lane, lane], rows, [a_worker(budget=3.0)])
    good = Plan((Batch(0, 0, 0, (0, 1)),))
    utility, finish = evaluate(view, good, Switches())
    assert utility.tolist() == [0.9, 0.9, 0.0]
    assert finish[:2].tolist() == pytest.approx([0.13, 0.13])
    for batches, instant, why in (
        ((Batch(0, 0, 0, (0, 1)), Batch(0, 0, 0, (1,))), (), r"rows \[1\] twice"),
        ((Batch(0, 0, 0, (0, 1, 2)),), (), "a batch of 3 rows"),
        ((Batch(0, 0, 0, (2,)),), (), r"rows \[2\] may not use lane0/0.1s"),
        ((Batch(0, 1, 0, (0,)),), (), r"rows \[0\] may not use lane1"),
        ((Batch(0, 0, 1, (0,)),), (), "needs 5 bytes of the 3 on cpu:0"),
        ((), (0,), "row 0 is answered by a peek that has no answer"),
    ):
        with pytest.raises(InvariantBroken, match=why):
            evaluate(view, replace(good, batches=batches, instant=instant), SWITCHES["optimal"])
