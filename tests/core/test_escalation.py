"""Short stories: a model answered, and then?"""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.core.planning import Rolling, Window
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, OnMiss, Score
from peekserve.domain.messages import (
    Acknowledge,
    Answer,
    Arrived,
    Batch,
    BatchDone,
    BatchFailed,
    Cancelled,
    Confirmed,
    Peeked,
    Plan,
    RunBatch,
    WakeAt,
    Woke,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.profile import Calibration, Quality
from peekserve.domain.request import Outcome, Source
from peekserve.errors import InvalidConfiguration
from peekserve.policies.base import Switches
from tests.core.stories import a_peek, a_request, a_scheduler, an_application, of_kind, takes

pytestmark = pytest.mark.core

EVEN = Calibration(
    votes=((0.7, 0.3), (0.3, 0.7)),
    temperature=0.5,
    most=5.0,
    edges=(),
    frequencies=(0.5, 0.5),
    fitted_on=100,
    loss_before=0.6,
    loss=0.5,
    fusion=0.5,
)


def measured(seconds: float, name: str, right: int):
    """A variant that was right on so many of 100 validation samples of either class."""
    quality = Quality.from_confusion(np.array([[right, 100 - right], [100 - right, right]]))
    return replace(takes(seconds, name), quality=quality)


def a_family(on_miss: OnMiss = OnMiss.REJECT, **kwargs) -> Application:
    """A quick model and a better one that takes ten times as long, and a calibrated peek."""
    variants = kwargs.pop("variants", None) or (measured(0.01, "quick", 75), measured(0.1, "good", 97))
    peek = replace(a_peek(0.6), calibration=EVEN)
    return an_application(*variants, peek=peek, on_miss=on_miss, prior_learns=None, **kwargs)


class Stepwise:
    """New rows run the first variant; rows with an answer in hand run the best of those that could still gain, unless
    `lets_go`. Everything runs alone, on the first worker."""

    def __init__(self, lets_go: bool = False) -> None:
        self.lets_go = lets_go

    def plan(self, view):
        batches, instant = [], []
        for row in range(view.size):
            first = bool(view.allowed[row, 0])
            best = int(np.where(view.allowed[row], view.accuracy[row], -1.0).argmax())
            if not first and self.lets_go:
                instant.append(row)
            else:
                batches.append(Batch(0, int(view.lane[row]), 0 if first else best, (row,)))
        return Plan(batches, instant)


def stepping(app=None, policy=None, **options):
    options.setdefault("escalate", True)
    return a_scheduler(
        app or a_family(), policy=policy or Stepwise(), beliefs="calibrated", peek=False, **options
    )


def woken(scheduler, now):
    commands = scheduler.handle(Woke(), now)
    scheduler.check()
    return commands


def ran(scheduler, now):
    """What is run when it wakes now: one batch."""
    [batch] = of_kind(woken(scheduler, now), RunBatch)
    return batch


def done(batch, now, label=0):
    scores = np.zeros((len(batch.rows), 2))
    scores[:, label] = 1.0
    return BatchDone(batch.batch_id, scores, now - batch.predicted_s, now)


def told(scheduler, event, now):
    commands = scheduler.handle(event, now)
    scheduler.check()
    return of_kind(commands, Answer)


def escalated(scheduler, due_at=1.0, label=0, **request):
    """A request whose first answer is in hand at 0.01, and whose second batch has just begun."""
    scheduler.handle(Arrived(a_request(due_at=due_at, **request)), 0.0)
    assert not told(scheduler, done(ran(scheduler, 0.0), 0.01, label), 0.01)
    return ran(scheduler, 0.01)


def test_a_row_that_could_gain_is_run_again_and_answered_by_all_that_was_said():
    scheduler = stepping()
    again = escalated(scheduler)
    assert again.variant == "good"
    [answer] = told(scheduler, done(again, 0.11, label=1), 0.11)
    [row] = answer.rows
    assert (answer.outcome, row.source, row.variant, row.batch_id) == (
        Outcome.ANSWERED,
        Source.FUSED,
        "good",
        again.batch_id,
    )
    # The better model in full, 97.5 : 3.5 for class 1; the quick one by half for class 0.
    odds = (97.5 / 3.5) / (75.5 / 25.5) ** 0.5
    assert (row.label, row.scores[1]) == (1, pytest.approx(odds / (1.0 + odds)))
    assert sum(row.scores) == pytest.approx(1.0)
    assert row.expected_accuracy == pytest.approx(row.scores[1])
    assert scheduler.open_requests == 0


def test_with_nothing_more_to_gain_it_is_answered_at_once():
    scheduler = stepping(a_family(variants=(measured(0.01, "quick", 97), measured(0.1, "worse", 60))))
    scheduler.handle(Arrived(a_request()), 0.0)
    [answer] = told(scheduler, done(ran(scheduler, 0.0), 0.01), 0.01)
    assert (answer.rows[0].source, answer.rows[0].variant) == (Source.FUSED, "quick")


def test_a_gain_that_is_smaller_than_asked_for_is_none():
    for gain, answers in ((0.1, 0), (0.3, 1)):  # the good model is expected to add 0.97 - 0.75
        scheduler = stepping(escalate_gain=gain)
        scheduler.handle(Arrived(a_request()), 0.0)
        assert len(told(scheduler, done(ran(scheduler, 0.0), 0.01), 0.01)) == answers


def test_what_the_plan_leaves_out_is_answered_in_that_turn():
    scheduler = stepping(policy=Stepwise(lets_go=True))
    scheduler.handle(Arrived(a_request()), 0.0)
    assert not told(scheduler, done(ran(scheduler, 0.0), 0.01), 0.01)
    [answer] = of_kind(woken(scheduler, 0.01), Answer)
    assert (answer.rows[0].variant, answer.rows[0].source) == ("quick", Source.FUSED)


def test_when_no_worker_could_take_it_in_time_it_does_not_wait_for_a_plan():
    scheduler = stepping()
    scheduler.handle(Arrived(a_request(due_at=0.1)), 0.0)  # 0.01 + 0.1 is past it
    [answer] = told(scheduler, done(ran(scheduler, 0.0), 0.01), 0.01)
    assert answer.outcome is Outcome.ANSWERED


def test_a_busy_worker_counts_until_it_should_be_free():
    scheduler = stepping()
    scheduler.handle(WorkerUp("other", "cpu", 1000), 0.0)
    scheduler.handle(Arrived(a_request(due_at=0.2)), 0.0)
    batch = ran(scheduler, 0.0)
    scheduler.handle(WorkerDown("other", "gone"), 0.005)
    assert not told(scheduler, done(batch, 0.05), 0.05)  # the one that ran it is free: 0.05 + 0.1 will do
    assert ran(scheduler, 0.05).variant == "good"


@pytest.mark.parametrize("on_miss", list(OnMiss))
def test_when_its_slack_runs_out_it_is_answered_with_what_it_has_in_time(on_miss):
    """Its worker dies before it is planned again: the last instant at which the good model would do is waited for."""
    scheduler = stepping(a_family(on_miss), margin_s=0.004)
    scheduler.handle(Arrived(a_request("r1", due_at=0.2)), 0.0)
    assert not told(scheduler, done(ran(scheduler, 0.0), 0.01), 0.01)
    [wake] = of_kind(scheduler.handle(WorkerDown("w", "signal 9"), 0.01), WakeAt)
    assert wake.at == pytest.approx(0.2 - 0.004 - 0.1)
    [answer] = of_kind(woken(scheduler, wake.at), Answer)
    assert (answer.outcome, answer.rows[0].variant) == (Outcome.ANSWERED, "quick")


@pytest.mark.parametrize("on_miss", list(OnMiss))
def test_a_second_batch_that_takes_too_long_costs_only_its_own_answer(on_miss):
    scheduler = stepping(a_family(on_miss), margin_s=0.004)
    again = escalated(scheduler, due_at=0.2)
    # The whole margin is left for the way back: there is an answer, and no need to risk it for a better one.
    [answer] = of_kind(woken(scheduler, 0.196), Answer)
    assert (answer.outcome, answer.rows[0].variant) == (Outcome.ANSWERED, "quick")
    assert not told(scheduler, done(again, 0.25), 0.25)


def test_a_worker_that_dies_with_it_costs_only_the_second_answer():
    scheduler = stepping(attempts=1)
    escalated(scheduler)
    [answer] = told(scheduler, WorkerDown("w", "signal 9"), 0.05)
    assert (answer.outcome, answer.rows[0].variant) == (Outcome.ANSWERED, "quick")


def test_a_second_batch_that_fails_costs_only_the_second_answer():
    scheduler = stepping()
    again = escalated(scheduler)
    [answer] = told(scheduler, BatchFailed(again.batch_id, "boom"), 0.05)
    assert (answer.outcome, answer.rows[0].variant) == (Outcome.ANSWERED, "quick")


def test_it_is_cancelled_like_any_other():
    scheduler = stepping()
    again = escalated(scheduler)
    [answer] = told(scheduler, Cancelled("r1"), 0.02)
    assert answer.outcome is Outcome.CANCELLED
    assert not told(scheduler, done(again, 0.11), 0.11)
    assert scheduler.open_rows == 0


def test_who_names_a_variant_gets_its_own_answer():
    scheduler = stepping()
    scheduler.handle(Arrived(a_request(pinned="quick")), 0.0)
    [answer] = told(scheduler, done(ran(scheduler, 0.0), 0.01, label=1), 0.01)
    assert (answer.rows[0].source, answer.rows[0].scores) == (Source.MODEL, (0.0, 1.0))


def test_an_application_whose_fusion_was_not_measured_or_found_no_better_gets_plain_answers():
    plain = a_family()
    bare = replace(plain, peek=replace(plain.peek, calibration=None))
    uncounted = replace(plain, variants=(takes(0.01, "quick"), plain.variants[1]))
    no_better = replace(plain, peek=replace(plain.peek, calibration=replace(EVEN, fusion=0.0)))
    for app in (bare, uncounted, no_better, replace(plain, score=Score.WEIGHTED_F1)):
        scheduler = stepping(app)
        scheduler.handle(Arrived(a_request()), 0.0)
        [answer] = told(scheduler, done(ran(scheduler, 0.0), 0.01), 0.01)
        assert answer.rows[0].source is Source.MODEL


@pytest.mark.parametrize(("shown", "again"), [(True, True), (False, False), (None, False)])
def test_unless_it_is_asked_for_rows_run_again_only_where_that_is_shown_to_help(shown, again):
    plain = a_family()
    app = replace(plain, peek=replace(plain.peek, calibration=replace(EVEN, escalates=shown)))
    for anyway in (False, True):
        scheduler = stepping(app, escalate_anyway=anyway)
        scheduler.handle(Arrived(a_request()), 0.0)
        answers = told(scheduler, done(ran(scheduler, 0.0), 0.01), 0.01)
        assert bool(answers) != (again or anyway)
        # What the model said is still taken together with the prior.
        assert all(row.source is Source.FUSED for answer in answers for row in answer.rows)


def test_a_request_waits_for_the_one_of_its_rows_that_runs_again():
    scheduler = stepping(escalate_gain=0.1)
    # Five votes and the quick model agree on the second row: the good one would add 0.07 there, and 0.22 to the first.
    scheduler.handle(Arrived(a_request(rows=2, counts=((0.0, 0.0), (5.0, 0.0)), due_at=5.0)), 0.0)
    assert not told(scheduler, done(ran(scheduler, 0.0), 0.01), 0.01)
    again = ran(scheduler, 0.01)
    assert (again.variant, again.rows[0].row) == ("good", 0)
    assert not told(scheduler, done(again, 0.11), 0.11)
    other = ran(scheduler, 0.11)
    assert (other.variant, other.rows[0].row) == ("quick", 1)
    [answer] = told(scheduler, done(other, 0.12), 0.12)
    assert [(row.source, row.variant) for row in answer.rows] == [
        (Source.FUSED, "good"),
        (Source.FUSED, "quick"),
    ]


def test_a_peek_that_comes_after_the_models_answer_changes_nothing():
    scheduler = a_scheduler(
        a_family(), policy=Stepwise(), beliefs="calibrated", escalate=True, patience_s=0.005
    )
    scheduler.handle(Arrived(a_request()), 0.0)
    batch = ran(scheduler, 0.005)
    assert not told(scheduler, done(batch, 0.02), 0.02)
    scheduler.handle(Peeked("r1", np.array([[0.0, 5.0]])), 0.02)
    scheduler.check()
    [answer] = told(scheduler, done(ran(scheduler, 0.02), 0.12), 0.12)
    assert answer.rows[0].label == 0


def test_where_whole_plans_are_carried_out_nothing_runs_again():
    scheduler = stepping(planning=Window(0.1))
    scheduler.handle(Arrived(a_request()), 0.0)
    [answer] = told(scheduler, done(ran(scheduler, 0.1), 0.11), 0.11)
    assert answer.rows[0].source is Source.MODEL


@pytest.mark.parametrize(
    ("spec", "escalates"),
    [
        (SchedulerSpec("horizon"), True),
        (SchedulerSpec("horizon", beliefs="dirichlet"), False),
        (SchedulerSpec("horizon", switches=Switches(aware=True)), False),
        (SchedulerSpec("horizon", escalate=False), False),
        (SchedulerSpec("sneakpeek"), False),
        (SchedulerSpec("sneakpeek", beliefs="calibrated"), False),
        (SchedulerSpec("sneakpeek", beliefs="calibrated", escalate=True), True),
    ],
)
def test_it_goes_with_our_policy_and_with_others_that_are_told_to(spec, escalates):
    assert spec.escalates is escalates


def test_a_policy_that_cannot_weigh_an_answer_in_hand_may_not_escalate():
    with pytest.raises(InvalidConfiguration, match="aware"):
        SchedulerSpec("lo-edf", escalate=True).build(())


def with_a_busy_worker(policy=None, **options):
    """A row whose first answer is in hand at 0.01, while its worker has begun the batch that it was given ahead."""
    scheduler = stepping(policy=policy, planning=Rolling(lead_s=0.005), **options)
    scheduler.handle(Arrived(a_request()), 0.0)
    [first] = of_kind(woken(scheduler, 0.0), RunBatch)
    scheduler.handle(Arrived(a_request("r2")), 0.006)
    assert of_kind(woken(scheduler, 0.006), RunBatch)
    commands = scheduler.handle(done(first, 0.01), 0.01)
    scheduler.check()
    assert not of_kind(commands, Answer)
    assert WakeAt(0.01) in commands
    return scheduler


def test_what_no_plan_has_a_place_for_does_not_wait_for_a_busy_worker():
    scheduler = with_a_busy_worker(Stepwise(lets_go=True))
    [answer] = of_kind(woken(scheduler, 0.01), Answer)
    assert (answer.request_id, answer.outcome) == ("r1", Outcome.ANSWERED)


def test_what_a_plan_has_a_place_for_waits_for_a_busy_worker():
    scheduler = with_a_busy_worker()
    commands = woken(scheduler, 0.01)
    assert not of_kind(commands, Answer)
    assert all(c.at > 0.01 for c in of_kind(commands, WakeAt))
    [again] = of_kind(woken(scheduler, 0.015), RunBatch)  # 0.005 before that worker should be free
    assert ([ref.request_id for ref in again.rows], again.variant) == (["r1"], "good")


def test_of_several_models_the_true_class_judges_the_one_that_was_asked_first():
    """The others were asked because of what it said: their rows are the hard ones."""
    scheduler = stepping()
    again = escalated(scheduler, label=0)
    [answer] = told(scheduler, done(again, 0.11, label=1), 0.11)
    assert (answer.rows[0].variant, answer.rows[0].label) == ("good", 1)
    [acknowledged] = of_kind(scheduler.handle(Confirmed("r1", (1,)), 0.2), Acknowledge)
    [lesson] = acknowledged.lessons
    assert (lesson.variant, lesson.own, lesson.said, lesson.label) == ("quick", 0, 1, 1)


def test_a_peek_without_a_single_vote_has_not_spoken():
    """By its profile it is the stronger voice, which would leave the model only a share of what it says."""
    weak = a_family(variants=(measured(0.01, "weak", 58),))
    scheduler = stepping(weak)
    scheduler.handle(Arrived(a_request(counts=((0.0, 0.0),))), 0.0)
    [answer] = told(scheduler, done(ran(scheduler, 0.0), 0.01, label=1), 0.01)
    assert answer.rows[0].scores[1] == pytest.approx(58.5 / 101)
