"""Stories about how long batches really take: what is believed after each, and what is planned with it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.core.catalogue import Catalogue
from peekserve.core.pace import BACK, DOUBT_S, KNOWN, LAST, LEAVE, MOST, Pace
from peekserve.core.paces import Paces
from peekserve.domain.messages import Answer, Arrived, BatchDone, Loaded, RunBatch, Woke, WorkerDown, WorkerUp
from peekserve.domain.request import Outcome, Reason
from tests.core.stories import RunAll, a_request, a_scheduler, an_application, of_kind, takes

pytestmark = pytest.mark.core


class Seen:
    """A pace and what it was told, a batch every 10 ms."""

    def __init__(self):
        self.pace, self.now = Pace(), 0.0

    def batches(self, *ratios, variant=0, spread=1.0):
        for ratio in ratios:
            self.now += 0.01
            self.pace.took(0, variant, ratio, spread, self.now)

    def turns(self, rounds, **by_variant):
        """Each variant in turn: a=2.0 is variant 0 at twice its profile."""
        for _ in range(rounds):
            for name, ratio in by_variant.items():
                self.batches(ratio, variant="abcdef".index(name))

    def ratios(self, variants=3):
        return [round(self.pace.ratio(0, v), 1) for v in range(variants)]


def test_a_device_that_slows_down_is_believed_after_three_batches_whichever_variants_ran():
    for running in (["a"], ["a", "b", "c"]):
        seen = Seen()
        seen.turns(5, **dict.fromkeys(running, 1.0))
        seen.batches(2.0)
        seen.batches(2.0, variant=len(running) // 2)
        assert seen.ratios() == [1.0, 1.0, 1.0]
        seen.batches(2.0, variant=len(running) - 1)
        assert seen.ratios() == [1.9, 1.9, 1.9], "also of what never ran"
        assert seen.pace.of_worker == 2.0


def test_and_its_recovery_after_three():
    seen = Seen()
    seen.turns(5, a=1.0, b=1.0)
    seen.turns(5, a=2.0, b=2.0)
    assert seen.ratios() == [1.9, 1.9, 1.9]
    seen.turns(1, a=1.0, b=1.0)
    seen.batches(1.0)
    assert seen.ratios() == [1.0, 1.0, 1.0]


def test_an_outlier_moves_nothing_and_neither_do_two():
    seen = Seen()
    seen.turns(5, a=1.0, b=1.0)
    for _ in range(10):
        seen.batches(30.0, 1.0, 1.0, 8.0, 1.0, 1.0, 1.0)
        assert seen.ratios() == [1.0, 1.0, 1.0]
        assert seen.pace.edition == 0


def test_a_profile_that_was_wrong_from_the_start_is_corrected_for_its_variant_alone():
    seen = Seen()
    seen.turns(20, a=3.0, b=1.0, c=1.0)
    assert seen.ratios() == [3.1, 1.0, 1.0]
    seen = Seen()
    seen.batches(*[3.0] * 20)  # nothing else runs there
    assert seen.ratios() == [3.1, 1.0, 1.0]


def test_both_at_once_are_told_apart_and_recovery_leaves_the_wrong_profile_wrong():
    seen = Seen()
    seen.turns(5, a=3.0, b=1.0, c=1.0)
    seen.turns(5, a=6.0, b=2.0, c=2.0)
    assert seen.ratios() == [6.1, 1.9, 1.9]
    seen.turns(5, a=3.0, b=1.0, c=1.0)
    assert seen.ratios() == [3.1, 1.0, 1.0]


def test_a_worker_is_cleared_by_the_first_batch_of_another_variant_that_keeps_to_its_profile():
    seen = Seen()
    seen.turns(KNOWN, b=1.0)
    seen.batches(*[1.0] * 5, *[2.0] * 5)
    assert seen.ratios() == [1.9, 1.9, 1.9], "who else could it be?"
    seen.batches(1.0, variant=1)
    assert seen.ratios() == [1.9, 1.0, 1.0]


def test_quick_is_believed_when_five_agree_and_no_longer_when_one_does_not():
    seen = Seen()
    seen.batches(*[0.5] * (LAST - 1))
    assert seen.ratios(2) == [1.0, 1.0]
    seen.batches(0.5)
    assert seen.ratios(2) == [0.5, 1.0]
    seen.batches(1.0)
    assert seen.ratios(2) == [1.0, 1.0]


def test_what_its_profile_calls_chance_is_no_pace():
    seen = Seen()
    seen.batches(*[1.4] * 10, spread=1.5)
    assert seen.ratios(1) == [1.0]
    seen.batches(*[1.6] * 10, spread=1.5)
    assert seen.ratios(1) == [1.6]
    seen.batches(*[1.4] * 10, spread=1.5)
    assert seen.ratios(1) == [1.5], "once outside, it goes back by the inner edge"
    seen.batches(*[1.05] * 10, spread=1.5)
    assert seen.pace.ratio(0, 0) == 1.0


def test_a_ratio_that_is_not_seen_again_is_doubted_and_one_batch_restores_it():
    seen = Seen()
    seen.batches(*[3.0] * 10)
    assert not seen.pace.doubt(seen.now + DOUBT_S - 1.0)
    assert seen.pace.doubt(seen.now + DOUBT_S)
    assert seen.ratios(1) == [1.0]
    seen.now += DOUBT_S
    seen.batches(3.0)
    assert seen.ratios(1) == [3.1]
    assert not seen.pace.doubt(seen.now + 1.5 * DOUBT_S), "who was right is believed for longer"
    assert seen.pace.doubt(seen.now + 2.0 * DOUBT_S)
    seen.now += 2.0 * DOUBT_S
    seen.batches(1.0)
    assert seen.ratios(1) == [1.0]


def test_times_that_no_clock_can_have_told_say_nothing():
    seen = Seen()
    seen.batches(*[0.0, -1.0, float("nan"), float("inf")] * 5)
    assert seen.ratios(1) == [1.0]
    assert list(seen.pace.ratios()) == []


def test_a_table_is_the_device_s_own_until_something_is_off_and_then_one_object_until_it_changes():
    base = Catalogue([an_application(takes(0.1, "small"), takes(0.4, "large"))]).device("cpu")
    seen = Seen()
    assert seen.pace.table(base) is base
    seen.turns(5, a=2.0, b=1.0)
    slowed = seen.pace.table(base)
    assert seen.pace.table(base) is slowed
    ratio = seen.pace.ratio(0, 0)
    for name in ("latency_s", "cautious_s"):
        assert np.array_equal(getattr(slowed, name)[0][0], getattr(base, name)[0][0] * ratio)
        assert np.array_equal(getattr(slowed, name)[0][1], getattr(base, name)[0][1])
    assert slowed.fastest_s[0].tolist() == slowed.cautious_s[0][:, 1].tolist()
    assert slowed.load_s is base.load_s
    seen.turns(5, a=1.0, b=1.0)
    assert seen.pace.table(base) is base


def test_what_cannot_be_run_on_a_device_is_not_run_at_any_pace():
    elsewhere = Catalogue([an_application(takes(0.1))]).device("tpu")
    seen = Seen()
    seen.batches(*[2.0] * 8)
    assert np.isinf(seen.pace.table(elsewhere).latency_s[0][:, 1:]).all()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(1e-3, 1e3), st.floats(0.0, 60.0)), max_size=120),
    st.floats(1.0, 2.0),
)
def test_ratios_are_bounded_and_the_same_batches_give_the_same(batches, spread):
    one, other, now = Pace(), Pace(), 0.0
    for variant, ratio, after_s in batches:
        now += after_s
        for pace in (one, other):
            pace.doubt(now)
            pace.took(0, variant, ratio, spread, now)
        for v in range(5):
            assert 1.0 / (BACK * MOST) <= one.ratio(0, v) <= BACK * MOST
        assert 1.0 <= one.of_worker <= MOST
    assert list(one.ratios()) == list(other.ratios())
    assert one.edition == other.edition


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0.05, 20.0)), max_size=60),
    st.floats(0.1, 16.0),
    st.integers(1, 4),
)
def test_a_constant_factor_is_found_whatever_was_before(before, factor, variants):
    seen = Seen()
    for variant, ratio in before:
        seen.batches(ratio, variant=variant)
    for _ in range(4 * LAST):
        for variant in range(variants):
            seen.batches(factor, variant=variant)
    for variant in range(variants):
        found = seen.pace.ratio(0, variant)
        if 1.0 / LEAVE <= factor <= LEAVE:
            assert 1.0 / (BACK * LEAVE) <= found <= BACK * LEAVE
        else:
            assert 1.0 / BACK <= found / factor <= BACK


@given(st.permutations([1.0] * 3 + [0.02, 30.0]), st.permutations([1.0] * 3 + [0.02, 30.0]))
def test_two_outliers_in_five_move_nothing_wherever_they_stand(first, second):
    seen = Seen()
    seen.turns(LAST, a=1.0)
    seen.batches(*first, *[1.0] * 3, *second)
    assert seen.pace.edition == 0


# ---- with a scheduler ----


def ran(scheduler, number, factor, at):
    """A request comes, runs alone, and takes `factor` times as long as its profile of 100 ms says."""
    scheduler.handle(Arrived(a_request(f"r{number}", due_at=at + 9.0, arrived_at=at)), at)
    (batch,) = of_kind(scheduler.handle(Woke(), at), RunBatch)
    end_at = at + 0.1 * factor
    scheduler.handle(BatchDone(batch.batch_id, np.array([[1.0, 0.0]]), at, end_at), end_at)
    return batch


def slowed(factor=2.0, batches=10, **options):
    scheduler = a_scheduler(an_application(takes(0.1)), policy=RunAll(), **options)
    for number in range(batches):
        ran(scheduler, number, factor, at=10.0 * number)
        scheduler.handle(Loaded("w", "sha-only", 0.0, 0), 10.0 * number + 9.0)
    return scheduler, 10.0 * batches


def test_a_batch_is_predicted_by_what_the_last_ones_took():
    scheduler, at = slowed(follow_pace=True)
    assert ran(scheduler, "next", 2.0, at).predicted_s == pytest.approx(0.195, abs=0.001)
    assert scheduler.paces() == {("w", "", ""): 1.0, ("w", "app", "only"): pytest.approx(1.95, abs=0.01)}


def test_and_by_its_profile_where_nobody_wants_to_know():
    scheduler, at = slowed(follow_pace=False)
    assert ran(scheduler, "next", 2.0, at).predicted_s == 0.1
    assert scheduler.paces() == {}


@pytest.mark.parametrize(("follow", "outcomes"), [(True, [Outcome.REFUSED]), (False, [])])
def test_who_cannot_be_in_time_at_that_pace_is_refused_on_arrival(follow, outcomes):
    scheduler, at = slowed(follow_pace=follow)
    commands = scheduler.handle(Arrived(a_request("tight", due_at=at + 0.15, arrived_at=at)), at)
    answers = of_kind(commands, Answer)
    assert [a.outcome for a in answers] == outcomes
    assert all(a.reason is Reason.DEADLINE_INFEASIBLE for a in answers)


def test_and_is_tried_again_when_nothing_has_run_for_long():
    scheduler, at = slowed(follow_pace=True)
    at += DOUBT_S
    commands = scheduler.handle(Arrived(a_request("tight", due_at=at + 0.15, arrived_at=at)), at)
    assert of_kind(commands, Answer) == []


def test_a_slow_worker_is_given_longer_before_it_is_said_to_hang():
    def restarted_at(scheduler, at):
        scheduler.handle(Arrived(a_request("last", due_at=at + 900.0, arrived_at=at)), at)
        scheduler.handle(Woke(), at)
        return scheduler._fleet.next_overdue_at() - at

    # Twenty times its length, after it should have ended.
    assert restarted_at(*slowed(8.0, follow_pace=False)) == pytest.approx(21 * 0.1)
    assert restarted_at(*slowed(8.0, follow_pace=True)) == pytest.approx(21 * 0.1 * 8.0, rel=0.05)


def test_a_worker_that_comes_up_again_is_given_the_benefit_of_the_doubt():
    scheduler, at = slowed(follow_pace=True)
    scheduler.handle(WorkerDown("w", "killed"), at)
    scheduler.handle(WorkerUp("w", "cpu", 1000), at)
    assert ran(scheduler, "next", 2.0, at).predicted_s == 0.1
    assert ran(scheduler, "and next", 2.0, at + 5.0).predicted_s == pytest.approx(0.195, abs=0.001)


def test_paces_are_told_as_one_object_until_something_changes():
    catalogue, paces = Catalogue([an_application(takes(0.1))]), Paces(follow=True)
    paces.came("w", "cpu", 0.0)
    first = paces.told(catalogue)
    assert paces.told(catalogue) is first
    paces.took("w", 0, 0, 0.1, 0.1, 0.1, now=1.0)
    assert paces.told(catalogue) == {("w", "", ""): 1.0, ("w", "app", "only"): 1.0}
    paces.took("nobody", 0, 0, 0.1, 0.1, 0.1, now=1.0)
    assert len(paces.told(catalogue)) == 2
