"""The kernel against the domain, against plain enumeration, and against its own interpreted twin."""

from itertools import pairwise
from math import inf

import numpy as np
import pytest

from peekserve import kernel
from peekserve.domain.utility import Penalty, PenaltyTables
from peekserve.policies import placing
from peekserve.policies.base import Switches
from peekserve.policies.groups import families, grouped, log_priority, one_by_one
from peekserve.policies.placing import Items, Outlook, look, problem
from tests.kernel.plainly import Plainly
from tests.policies.views import a_lane, a_random_view, a_row, a_view, a_worker, takes

loops = kernel.loops
EVERYTHING = 1e18

PENALTIES = [
    Penalty.step(),
    Penalty.linear(),
    Penalty.linear(0.05),
    Penalty.sigmoid(),
    Penalty.sigmoid(0.02),
    Penalty.constant(0.0),
    Penalty.constant(0.4),
    Penalty.table([(0.0, 0.0), (0.01, 0.25), (0.02, 0.25), (0.2, 0.9)]),
]


@pytest.mark.parametrize("form", ["in use", "interpreted"])
def test_a_penalty_is_the_same_here_as_in_the_domain(form):
    module = loops if form == "in use" else kernel.interpreted()
    owners = [p for p in PENALTIES if p.points]
    tables = PenaltyTables.of(owners)
    start = tables.start.astype(np.int64)
    for penalty in PENALTIES:
        width = float(owners.index(penalty)) if penalty.points else penalty.width_s(0.15)
        for late in [-inf, -0.1, 0.0, 1e-9, 0.01, 0.015, 0.02, 0.05, 0.1, 0.149, 0.15, 0.2, 3.0, inf]:
            here = module.penalty(int(penalty.kind), width, late, tables.x, tables.p, start)
            assert here == pytest.approx(penalty.at(late, 0.15), abs=1e-15), (penalty, late)


def test_nothing_is_left_of_an_answer_that_was_due_on_arrival():
    empty = PenaltyTables.of([])
    for kind in (1, 2):
        assert loops.penalty(kind, 0.0, 1e-6, empty.x, empty.p, empty.start.astype(np.int64)) == 1.0


# ---- random cases ------------------------------------------------------------------------------------------


def a_case(seed: int, lanes: int = 3, rows: int = 7, workers: int = 1) -> tuple[Outlook, Items, bool]:
    """A few groups of random rows under random switches; lanes are sometimes split, so that neighbours can
    merge."""
    rng = np.random.default_rng([seed, 1])
    drop, short_circuit, merge, aware, rescue, split = (bool(b) for b in rng.random(6) < 0.5)
    view = a_random_view(seed, rows=int(rng.integers(1, rows + 1)), lanes=lanes, workers=workers)
    outlook = look(view, Switches(aware, short_circuit, drop, merge))
    keys = families(outlook)
    if split:
        keys = 2 * keys + (view.likely[outlook.open] > 0)
    return outlook, grouped(outlook, keys, log_priority(outlook, 1.0)), rescue


def small_cases(count: int, most: int = 3):
    seed = 0
    while count:
        outlook, items, rescue = a_case(seed)
        seed += 1
        if 0 < items.size <= most:
            count -= 1
            yield seed - 1, outlook, items, rescue


def test_the_search_finds_what_plain_enumeration_finds():
    seen = 0
    for seed, outlook, items, rescue in small_cases(400):
        exact = problem(outlook, items, rescue=rescue, by_accuracy=False, search_items=items.size)
        utility, proven = exact.search(EVERYTHING, 10**9)
        assert proven
        assert utility == pytest.approx(Plainly(outlook, items, rescue=rescue).best(), abs=1e-8), (
            f"seed {seed}"
        )
        seen += items.size > 1
    assert seen > 150


def test_the_search_finds_it_among_four_and_five_groups_too():
    done = 0
    for seed in range(10_000, 12_000):
        outlook, items, rescue = a_case(seed, lanes=3, rows=8)
        plainly = Plainly(outlook, items, rescue=rescue)
        size = np.prod([len(plainly.choices(k)) or 1 for k in range(items.size)])
        if items.size not in (4, 5) or size > (60 if items.size == 4 else 12):
            continue
        exact = problem(outlook, items, rescue=rescue, by_accuracy=False, search_items=5)
        assert exact.search(EVERYTHING, 10**9) == (pytest.approx(plainly.best(), abs=1e-8), True), (
            f"seed {seed}"
        )
        done += 1
        if done == 20:
            return
    pytest.fail(f"only {done} cases")


def test_the_search_is_never_worse_than_greedy_and_more_work_never_makes_it_worse():
    for seed, outlook, items, rescue in small_cases(300, most=5):
        greedy = problem(outlook, items, rescue=rescue, by_accuracy=False, search_items=0).greedy()
        reached = [
            problem(outlook, items, rescue=rescue, by_accuracy=False, search_items=5).search(
                EVERYTHING, work
            )[0]
            for work in (0, 30, 100, 300, 10**9)
        ]
        assert all(b >= a for a, b in pairwise([greedy - 1e-9, *(r + 1e-12 for r in reached)])), (
            f"seed {seed}"
        )


def test_a_search_that_ran_out_of_work_says_so():
    outlook, items, rescue = next((o, i, r) for _, o, i, r in small_cases(99, most=5) if i.size == 5)
    exact = problem(outlook, items, rescue=rescue, by_accuracy=False, search_items=5)
    assert exact.search(EVERYTHING, 0)[1] is False
    assert exact.search(EVERYTHING, 10**9)[1] is True


def test_too_many_candidates_or_groups_are_left_to_greedy():
    outlook, items, rescue = next((o, i, r) for _, o, i, r in small_cases(99, most=5) if i.size == 5)
    greedy = problem(outlook, items, rescue=rescue, by_accuracy=False, search_items=0).greedy()
    few = problem(outlook, items, rescue=rescue, by_accuracy=False, search_items=5)
    assert few.candidates() >= 120
    assert few.search(119.0, 10**9) == (greedy, False)
    assert problem(outlook, items, rescue=rescue, by_accuracy=False, search_items=4).search(1e9, 10**9) == (
        greedy,
        False,
    )


# ---- compiled and interpreted ------------------------------------------------------------------------------


def test_compiled_and_interpreted_plans_are_the_same_to_the_last_bit(monkeypatch):
    """Both forms side by side on 300 random cases: groups and single rows, one worker and three."""
    if not kernel.COMPILED:
        pytest.skip("the kernel is not compiled here")
    plain = kernel.interpreted()
    assert plain is not loops
    for seed in range(300):
        outlook, items, rescue = a_case(seed + 50_000, rows=12, workers=1 + 2 * (seed % 3 == 0))
        if seed % 2:
            items = one_by_one(outlook, -outlook.due_s)
        answers = []
        for module in (loops, plain):
            # The module is what `problem` was written against; it is handed the other one for a moment.
            monkeypatch.setattr(placing, "loops", module)
            made = problem(outlook, items, rescue=rescue, by_accuracy=seed % 5 == 0, search_items=5)
            alone = made.alone().tolist()
            greedy = (made.greedy(), [a.tolist() for a in made.plan()], [a.tolist() for a in made.choices()])
            searched = (made.search(EVERYTHING, 20_000), [a.tolist() for a in made.plan()])
            answers.append((alone, greedy, searched, made.candidates()))
        assert answers[0] == answers[1], f"seed {seed}"
        assert [type(a) for a in answers[0][2][0]] == [float, bool]


# ---- stories -----------------------------------------------------------------------------------------------


def placed(view, switches=None, *, rescue=False, groups=True, by_accuracy=False):
    outlook = look(view, switches or Switches())
    priority = -outlook.due_s
    items = grouped(outlook, families(outlook), priority) if groups else one_by_one(outlook, priority)
    made = problem(outlook, items, rescue=rescue, by_accuracy=by_accuracy, search_items=5)
    return made, outlook


def test_weights_come_and_go_by_a_byte_budget():
    lanes = [a_lane(takes(0.1, 0.9, load_s=0.5, size=2)) for _ in range(3)]
    rows = [a_row(lane, due=10.0 + lane) for lane in (0, 1, 2, 0)]
    roomy = a_view(lanes, rows, [a_worker(resident=("0/0.1s",), budget=6)])
    made, outlook = placed(roomy, Switches(merge=False), groups=False)
    made.greedy()
    # Due at 10, 10, 11, 12: lane 0 is resident, lanes 1 and 2 are loaded once each: 0.1 + 0.1 + 0.6 + 0.6.
    assert outlook.due_s.tolist() == [10.0, 11.0, 12.0, 10.0]
    assert placing.to_plan(outlook, made).batches[-1].lane == 2


def test_a_model_larger_than_the_budget_is_never_used():
    lane = a_lane(takes(0.01, 0.5, size=1), takes(0.02, 0.9, size=5))
    made, outlook = placed(a_view([lane], [a_row()], [a_worker(budget=4)]))
    made.greedy()
    assert [b.variant for b in placing.to_plan(outlook, made).batches] == [0]


def test_a_long_group_runs_in_chunks_of_the_largest_batch():
    lane = a_lane(takes(0.01, 0.9, max_batch=3))
    made, outlook = placed(a_view([lane], [a_row() for _ in range(7)]))
    made.greedy()
    plan = placing.to_plan(outlook, made)
    assert [(len(b.rows), b.closed) for b in plan.batches] == [(3, "full"), (3, "full"), (1, "policy")]


def test_a_neighbour_joins_the_last_batch_only_if_no_one_aboard_is_made_late():
    lane = a_lane(takes(0.1, 0.9, each_s=0.1, max_batch=8))
    view = a_view([lane], [a_row(due=0.25), a_row(due=0.3), a_row(due=0.6)])
    made, outlook = placed(view, groups=False)
    made.greedy()
    plan = placing.to_plan(outlook, made)
    assert [(tuple(b.rows), b.closed) for b in plan.batches] == [((0, 1), "deadline"), ((2,), "policy")]


def test_a_batch_is_as_large_as_it_can_be_without_making_its_rows_late():
    lane = a_lane(takes(0.1, 0.9, each_s=0.1))
    # All three would end at 0.3, too late for each of them; two end at 0.2.
    made, outlook = placed(a_view([lane], [a_row(due=0.25), a_row(due=0.25), a_row(due=0.25)]))
    assert made.greedy() == pytest.approx(1.8)
    plan = placing.to_plan(outlook, made)
    assert [(tuple(b.rows), b.closed) for b in plan.batches] == [((0, 1), "deadline")]


def test_a_row_that_would_be_late_and_worthless_makes_room_for_the_others():
    lane = a_lane(takes(0.1, 0.9, each_s=0.1))
    rows = [a_row(due=0.15), a_row(due=0.21), a_row(due=0.21)]
    for drop, batches in ((True, [(1, 2)]), (False, [(0, 1, 2)])):
        made, outlook = placed(a_view([lane], rows), Switches(drop=drop))
        made.greedy()
        assert [tuple(b.rows) for b in placing.to_plan(outlook, made).batches] == batches


def test_rescue_gives_the_peeks_answer_to_the_one_row_that_it_serves_better():
    lane = a_lane(takes(0.1, 0.9, each_s=0.0))
    rows = [a_row(due=0.2, instant=0.5), a_row(due=0.2, instant=0.95), a_row(due=0.2, instant=0.5)]
    for rescue, instant in ((True, (1,)), (False, ())):
        made, outlook = placed(a_view([lane], rows), Switches(short_circuit=True), rescue=rescue)
        made.greedy()
        assert placing.to_plan(outlook, made).instant == instant


def test_ties_go_to_the_quicker_then_the_first_variant():
    twins = a_lane(takes(0.02, 0.8, name="b"), takes(0.01, 0.8, name="a"), takes(0.01, 0.8, name="c"))
    made, outlook = placed(a_view([twins], [a_row()]))
    made.greedy()
    assert placing.to_plan(outlook, made).batches[0].variant == 1
