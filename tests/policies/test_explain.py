"""Why a row is answered as it is: told by hand, and against whole plans valued anew."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.domain.messages import Batch, Plan
from peekserve.domain.utility import Penalty
from peekserve.errors import InvariantBroken
from peekserve.policies import POLICIES, YARDSTICKS, Switches, make
from peekserve.policies.base import View
from peekserve.policies.explain import EPSILON, Choice, Explained, Kind, Why, explain
from peekserve.policies.moves import Work
from peekserve.policies.worth import evaluate
from tests.policies.views import a_lane, a_random_view, a_row, a_view, a_worker, takes

FULL = Switches(aware=True, short_circuit=True)


def of(told: Explained, name: str) -> Choice:
    """The alternative of this variant, or of the peek, or none."""
    [found] = [c for c in told.alternatives if name in (c.variant, c.kind.value)]
    return found


# ---- by hand ---------------------------------------------------------------------------------------------------


def two_rows() -> View:
    """One worker; a quick variant of 10 ms and 0.7, a good one of 40 ms and 0.9 whose weights take 20 ms to load. Row 0
    is due at 100 ms, row 1 at 30 ms."""
    lane = a_lane(
        takes(0.010, 0.7, each_s=0.005, name="quick"),
        takes(0.040, 0.9, each_s=0.01, load_s=0.02, name="good"),
    )
    return a_view([lane], [a_row(due=0.1, instant=0.6), a_row(due=0.03)], [a_worker(resident=("0/quick",))])


def test_what_was_chosen_and_what_else_could_have_been_by_hand():
    plan = Plan([Batch(0, 0, 0, (1,)), Batch(0, 0, 1, (0,))])  # 1 by quick at 10 ms, 0 by good at 70 ms
    first, second = explain(two_rows(), plan, FULL, [0, 1])

    chosen = first.chosen
    assert (first.row, first.lane, chosen.kind, chosen.variant, chosen.why) == (
        0, "lane0", Kind.MODEL, "good", Why.CHOSEN,
    )  # fmt: skip
    assert (chosen.worker, chosen.position, chosen.beside, chosen.loss) == ("cpu:0", 1, (), 0.0)
    assert (chosen.value, chosen.penalty, chosen.utility) == (0.9, 0.0, 0.9)
    assert (chosen.finish_s, chosen.load_s) == (pytest.approx(0.07), 0.02)

    # Beside row 1 in the batch of quick: 15 ms, nobody is late; 0.2 less for itself.
    quick = of(first, "quick")
    assert (quick.loss, quick.own, quick.others) == (pytest.approx(0.2), pytest.approx(-0.2), 0.0)
    assert (quick.why, quick.beside, quick.finish_s) == (Why.LESS_ACCURATE, (1,), pytest.approx(0.015))
    assert (of(first, "peek").loss, of(first, "peek").why) == (pytest.approx(0.3), Why.LESS_ACCURATE)
    assert (of(first, "nothing").loss, of(first, "nothing").why) == (pytest.approx(0.9), Why.NO_ANSWER)
    # The same variant before the other row: that one would then end at 70 ms, too late; 0.7 lost by others.
    again = of(first, "good")
    assert (again.position, again.own, again.others) == (0, 0.0, pytest.approx(-0.7))
    assert again.why is Why.DELAYS_OTHERS
    assert [c.loss for c in first.alternatives] == sorted(c.loss for c in first.alternatives)

    # Row 1 with good: beside row 0, or first: 60 ms with its load, 40 ms without, both past its 30.
    assert (of(second, "good").why, of(second, "good").loss) == (Why.TOO_LATE, pytest.approx(0.7))
    assert (of(second, "peek").why, of(second, "peek").loss) == (Why.NO_EVIDENCE, None)
    assert second.alternatives[-1].kind is Kind.PEEK  # what cannot be comes last


def test_a_load_is_named_where_it_alone_makes_the_difference():
    lane = a_lane(takes(0.010, 0.7, name="quick"), takes(0.010, 0.9, load_s=0.05, name="good"))
    view = a_view([lane], [a_row(due=0.03)], [a_worker(resident=("0/quick",))])
    [told] = explain(view, Plan([Batch(0, 0, 0, (0,))]), FULL, [0])
    assert (of(told, "good").why, of(told, "good").load_s) == (Why.LOADS_WEIGHTS, 0.05)
    assert of(told, "good").loss == pytest.approx(0.7)


def test_a_choice_that_costs_others_says_so_and_how_much():
    """Two rows by one variant in a batch of 15 ms; the better variant for row 0 pushes the rest past its deadline."""
    lane = a_lane(takes(0.010, 0.7, each_s=0.005, name="quick"), takes(0.020, 0.9, name="good"))
    view = a_view([lane], [a_row(due=0.022), a_row(due=0.022)])
    [told] = explain(view, Plan([Batch(0, 0, 0, (0, 1))]), FULL, [0])
    good = of(told, "good")
    # First, it is right at 20 ms and row 1 ends at 30; second, it ends at 30 itself. First loses less.
    assert (good.position, good.own, good.others) == (0, pytest.approx(0.2), pytest.approx(-0.7))
    assert (good.loss, good.why) == (pytest.approx(0.5), Why.DELAYS_OTHERS)


def test_what_cannot_be_says_why():
    lane = a_lane(
        takes(0.010, 0.7, name="quick"),
        takes(0.010, 0.9, name="big", size=9.0),
        takes(0.01, 0.8, name="other"),
    )
    view = a_view([lane], [a_row(allowed=(True, True, False), instant=0.6)], [a_worker(budget=3.0)])
    plan = Plan([Batch(0, 0, 0, (0,))])
    [told] = explain(view, plan, replace(FULL, short_circuit=False), [0])
    assert {(c.variant, c.why) for c in told.alternatives if c.loss is None} == {
        ("big", Why.DOES_NOT_FIT),
        ("other", Why.NOT_ALLOWED),
        (None, Why.NOT_ALLOWED),  # the peek, which may not answer
    }
    # Alone on an idle worker there is no second place for it.
    assert "quick" not in {c.variant for c in told.alternatives}
    [few] = explain(view, plan, FULL, [0], Work(0))
    assert of(few, "big").why is Why.DOES_NOT_FIT


def test_a_plan_that_is_beaten_is_told_so():
    view = a_view(
        [a_lane(takes(0.01, 0.7, name="quick"), takes(0.02, 0.9, name="good"))], [a_row(instant=0.5)]
    )
    [told] = explain(view, Plan([Batch(0, 0, 0, (0,))]), FULL, [0])
    assert (told.alternatives[0].variant, told.alternatives[0].why) == ("good", Why.BETTER)
    assert told.alternatives[0].loss == pytest.approx(-0.2)
    for plan, kind in ((Plan(instant=[0]), Kind.PEEK), (Plan(refuse=[0]), Kind.NOTHING)):
        [told] = explain(view, plan, FULL, [0])
        assert (told.chosen.kind, told.chosen.loss) == (kind, 0.0)
        assert [c.variant for c in told.alternatives[:2]] == ["good", "quick"]
        assert kind.value not in {c.kind.value for c in told.alternatives}


def test_a_row_that_nothing_can_save_has_only_what_is_too_late():
    view = a_view([a_lane(takes(0.05, 0.7))], [a_row(due=0.01)])
    [told] = explain(view, Plan(refuse=[0]), FULL, [0])
    assert [(c.why, c.loss) for c in told.alternatives] == [(Why.TOO_LATE, 0.0), (Why.NO_EVIDENCE, None)]


def test_lateness_that_costs_a_part_is_shown_as_that_part():
    row = a_row(due=0.02, penalty=Penalty.linear(0.1))
    [told] = explain(a_view([a_lane(takes(0.05, 0.8, name="slow"))], [row]), Plan(), FULL, [0])
    slow = of(told, "slow")
    assert (slow.penalty, slow.utility, slow.why) == (pytest.approx(0.3), pytest.approx(0.56), Why.BETTER)


def test_who_is_not_aware_is_explained_by_the_profile():
    view = a_view(
        [a_lane(takes(0.01, 0.7, name="a"), takes(0.01, 0.9, name="b"))], [a_row(accuracy=(0.8, 0.1))]
    )
    plan = Plan([Batch(0, 0, 0, (0,))])
    [told] = explain(view, plan, Switches(aware=False), [0])
    assert of(told, "b").loss == pytest.approx(-0.2)
    [told] = explain(view, plan, FULL, [0])
    assert of(told, "b").loss == pytest.approx(0.7)


def test_the_work_is_bounded_by_a_count_of_plans():
    view = a_random_view(3, rows=12, workers=2)
    plan = make("lo-edf", FULL).plan(view)
    rows = range(view.size)
    whole = explain(view, plan, FULL, rows)
    few = explain(view, plan, FULL, rows, Work(40))
    assert few[0] == whole[0]
    unseen = [c for told in few for c in told.alternatives if c.why is Why.NOT_LOOKED_AT]
    assert unseen
    assert all(c.loss is None for c in unseen)


def test_a_row_that_is_not_there_is_a_bug():
    with pytest.raises(InvariantBroken, match="a view of 2 rows has no rows \\[2\\]"):
        explain(two_rows(), Plan(), FULL, [0, 2])


def test_the_json_has_what_is_known_and_no_names_of_other_rows():
    plan = Plan([Batch(0, 0, 0, (0, 1))])
    [told] = explain(two_rows(), plan, FULL, [1])
    written = told.as_json()
    assert json.loads(json.dumps(written)) == written
    assert written["chosen"] == {
        "kind": "model", "why": "chosen", "variant": "quick", "worker": "cpu:0", "position": 0, "loss": 0.0,
        "own": 0.0, "others": 0.0, "value": 0.7, "penalty": 0.0, "utility": 0.7, "finish_s": 0.015,
        "load_s": 0.0, "rows_beside": 1,
    }  # fmt: skip
    assert {"kind": "peek", "why": "no evidence"} in written["alternatives"]


# ---- against whole plans ---------------------------------------------------------------------------------------


def moved(view: View, plan: Plan, told: Explained, choice: Choice) -> Plan:
    """The whole plan with this row treated so, written down afresh."""
    row = told.row
    queues = [[b for b in plan.batches if b.worker == w] for w in range(len(view.workers))]
    queues = [
        [replace(b, rows=kept) for b in queue if (kept := tuple(r for r in b.rows if r != row))]
        for queue in queues
    ]
    instant = [r for r in plan.instant if r != row] + ([row] if choice.kind is Kind.PEEK else [])
    if choice.worker is not None:
        w = [worker.name for worker in view.workers].index(choice.worker)
        variant = view.lanes[int(view.lane[row])].variants.index(choice.variant)
        if choice.beside:
            batch = queues[w][choice.position]
            assert set(batch.rows) == set(choice.beside)
            assert batch.variant == variant
            queues[w][choice.position] = replace(batch, rows=(*batch.rows, row))
        else:
            queues[w].insert(choice.position, Batch(w, int(view.lane[row]), variant, (row,)))
    return Plan([b for queue in queues for b in queue], instant, [r for r in plan.refuse if r != row])


def every_other(view: View, plan: Plan, row: int) -> list[Plan]:
    """Every plan that differs in this row alone."""
    found, lane = [], int(view.lane[row])
    bare = moved(
        view, plan, Explained(row, "", Choice(Kind.NOTHING, Why.CHOSEN), ()), Choice(Kind.NOTHING, Why.CHOSEN)
    )
    for w, worker in enumerate(view.workers):
        queue = [b for b in bare.batches if b.worker == w]
        rest = [b for b in bare.batches if b.worker != w]
        for v in range(len(view.lanes[lane].variants)):
            if not view.allowed[row, v] or worker.bytes[view.lanes[lane].weights[v]] > worker.budget:
                continue
            for at in range(len(queue) + 1):
                found.append(Plan([*rest, *queue[:at], Batch(w, lane, v, (row,)), *queue[at:]], bare.instant))
            for at, b in enumerate(queue):
                if (b.lane, b.variant) == (lane, v) and len(b.rows) < view.lanes[lane].max_batch[v]:
                    joined = replace(b, rows=(*b.rows, row))
                    found.append(Plan([*rest, *queue[:at], joined, *queue[at + 1 :]], bare.instant))
    return found


def check_losses(seed: int, policy: str, workers: int) -> None:
    view = a_random_view(seed, rows=6, workers=workers)
    plan = make(policy, FULL).plan(view)
    before = evaluate(view, plan, FULL)[0]
    for told in explain(view, plan, FULL, range(view.size)):
        assert told.chosen.loss == 0.0
        assert told.chosen.utility == before[told.row]
        known = [c for c in told.alternatives if c.loss is not None]
        assert [c.loss for c in known] == sorted(c.loss for c in known) or np.allclose(
            [c.loss for c in known], sorted(c.loss for c in known), atol=1e-11
        )
        for choice in known:
            after, finish = evaluate(view, moved(view, plan, told, choice), FULL)
            assert choice.loss == pytest.approx(float(before.sum() - after.sum()), abs=EPSILON)
            assert choice.own == pytest.approx(float(after[told.row] - before[told.row]), abs=EPSILON)
            assert choice.loss == pytest.approx(-(choice.own + choice.others), abs=EPSILON)
            assert choice.utility == pytest.approx(float(after[told.row]), abs=EPSILON)
            if choice.finish_s is not None:
                assert choice.finish_s == pytest.approx(float(finish[told.row]), abs=EPSILON)
                assert choice.utility == pytest.approx(choice.value * (1.0 - choice.penalty), abs=EPSILON)
        best = max(
            (float(evaluate(view, p, FULL)[0].sum()) for p in every_other(view, plan, told.row)), default=None
        )
        models = [c.loss for c in known if c.kind is Kind.MODEL]
        if best is not None and (models or told.chosen.kind is not Kind.MODEL):
            # The plan itself is among `every_other` where a model was chosen.
            here = [0.0] if told.chosen.kind is Kind.MODEL else []
            assert min(models + here) == pytest.approx(float(before.sum()) - best, abs=EPSILON)


@settings(max_examples=150)
@given(st.integers(0, 2**31), st.sampled_from(sorted(set(POLICIES) - YARDSTICKS)), st.integers(1, 2))
def test_a_loss_is_what_the_whole_changed_plan_is_worth_less(seed, policy, workers):
    check_losses(seed, policy, workers)


@settings(max_examples=150)
@given(st.integers(0, 2**31), st.integers(1, 2))
def test_nothing_is_better_than_the_optimum(seed, workers):
    # Without `drop`: with it, late rows that are worth a little still are given up, as the policies do.
    switches = replace(FULL, drop=False)
    view = a_random_view(seed, rows=4, workers=workers)
    plan = make("optimal", switches).plan(view)
    for told in explain(view, plan, switches, range(view.size)):
        for choice in told.alternatives:
            assert choice.why is not Why.BETTER
            assert choice.loss is None or choice.loss >= -1e-8
