"""Short stories: some things happened, these commands followed."""

import numpy as np
import pytest

from peekserve.core.planning import Rolling, Window
from peekserve.core.spec import SchedulerSpec, windowed
from peekserve.domain.application import OnMiss
from peekserve.domain.messages import (
    Answer,
    Arrived,
    BatchDone,
    BatchFailed,
    Cancelled,
    Load,
    Loaded,
    LoadFailed,
    Peek,
    Peeked,
    Restart,
    RunBatch,
    Unload,
    WakeAt,
    Woke,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.request import Outcome, Reason, RowRef, Source
from peekserve.policies import make
from tests.core.stories import (
    AnswerAll,
    RunAll,
    a_peek,
    a_request,
    a_scheduler,
    an_application,
    of_kind,
    takes,
)

pytestmark = pytest.mark.core


def run_until_idle_batch(scheduler, now=0.0):
    return of_kind(scheduler.handle(Woke(), now), RunBatch)


def done(batch, now, label=0, classes=2):
    scores = np.zeros((len(batch.rows), classes))
    scores[:, label] = 1.0
    return BatchDone(batch.batch_id, scores, now - batch.predicted_s, now)


def test_a_request_is_planned_at_once_when_a_worker_is_idle():
    scheduler = a_scheduler()
    assert scheduler.handle(Arrived(a_request()), now=0.0) == [WakeAt(0.0)]
    commands = scheduler.handle(Woke(), now=0.0)
    assert commands[:2] == [
        Load("w", "sha-only", "app", "only"),
        RunBatch(1, "w", "app", "only", 0, (RowRef("r1", 0),), 0.1, "idle"),
    ]
    [answer] = of_kind(scheduler.handle(done(commands[1], now=0.1, label=1), now=0.1), Answer)
    assert (answer.outcome, answer.rows[0].label, answer.rows[0].source) == (
        Outcome.ANSWERED,
        1,
        Source.MODEL,
    )
    assert answer.rows[0].expected_accuracy == pytest.approx(0.9)
    assert scheduler.open_requests == 0


def test_ten_arrivals_of_one_instant_are_one_batch():
    scheduler = a_scheduler()
    for i in range(10):
        scheduler.handle(Arrived(a_request(f"r{i}")), now=0.0)
    [batch] = run_until_idle_batch(scheduler)
    assert len(batch.rows) == 10


def test_a_hopeless_request_is_turned_away_at_once_with_the_numbers():
    scheduler = a_scheduler(an_application(takes(0.5)))
    [answer] = scheduler.handle(Arrived(a_request(due_at=0.1)), now=0.0)
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.DEADLINE_INFEASIBLE)
    assert "500.0 ms" in answer.detail
    assert "100.0 ms are left" in answer.detail


def test_a_hopeless_request_with_a_peek_is_answered_by_it():
    scheduler = a_scheduler(an_application(takes(0.5), peek=a_peek(), on_miss=OnMiss.DEGRADE))
    commands = scheduler.handle(Arrived(a_request(due_at=0.1)), now=0.0)
    assert Peek("r1") in commands
    commands = scheduler.handle(Peeked("r1", np.array([[0.0, 5.0]])), now=0.005)
    [wake] = of_kind(commands, WakeAt)
    [answer] = of_kind(scheduler.handle(Woke(), now=wake.at), Answer)
    assert (answer.outcome, answer.rows[0].source, answer.rows[0].label) == (Outcome.ANSWERED, Source.PEEK, 1)
    assert wake.at < 0.1


def test_while_a_worker_is_busy_requests_wait_and_are_doomed_in_time():
    scheduler = a_scheduler(an_application(takes(0.3)))
    scheduler.handle(Arrived(a_request("r1", due_at=1.0)), now=0.0)
    run_until_idle_batch(scheduler)
    commands = scheduler.handle(Arrived(a_request("r2", due_at=0.35)), now=0.0)
    assert commands == [WakeAt(pytest.approx(0.05))]  # the last instant at which 0.3 s would still do
    [answer] = of_kind(scheduler.handle(Woke(), now=0.05), Answer)
    assert (answer.request_id, answer.outcome) == ("r2", Outcome.EXPIRED)


def test_a_late_peek_means_the_prior():
    scheduler = a_scheduler(an_application(takes(0.1), peek=a_peek()), patience_s=0.02)
    commands = scheduler.handle(Arrived(a_request()), now=0.0)
    assert commands == [Peek("r1"), WakeAt(0.02)]
    assert of_kind(scheduler.handle(Woke(), now=0.02), RunBatch)
    # It comes after all: too late for the choice, and no harm.
    scheduler.handle(Peeked("r1", np.array([[5.0, 0.0]])), now=0.03)
    scheduler.check()


def test_a_peek_that_fails_means_the_prior_at_once():
    scheduler = a_scheduler(an_application(takes(0.1), peek=a_peek()))
    scheduler.handle(Arrived(a_request()), now=0.0)
    assert WakeAt(0.001) in scheduler.handle(Peeked("r1", None), now=0.001)
    assert of_kind(scheduler.handle(Woke(), now=0.001), RunBatch)


def test_evidence_that_the_client_brings_needs_no_peek():
    scheduler = a_scheduler(an_application(takes(0.1), peek=a_peek()), policy=AnswerAll())
    commands = scheduler.handle(Arrived(a_request(counts=((0.0, 9.0),))), now=0.0)
    assert not of_kind(commands, Peek)
    [answer] = of_kind(scheduler.handle(Woke(), now=0.0), Answer)
    assert answer.rows[0].label == 1
    assert answer.rows[0].scores == pytest.approx((0.05, 0.95))


def test_answers_by_the_peek_are_held_back_while_the_worker_is_busy():
    apps = an_application(takes(0.3), peek=a_peek()), an_application(takes(0.3), name="other")
    policy = RunAll()
    scheduler = a_scheduler(*apps, policy=policy)
    scheduler.handle(Arrived(a_request("busy", application="other")), now=0.0)
    run_until_idle_batch(scheduler)
    scheduler._turns._levels.policy = AnswerAll()
    scheduler.handle(Arrived(a_request("r1", due_at=1.0, counts=((5.0, 0.0),))), now=0.0)
    commands = scheduler.handle(Woke(), now=0.0)
    assert not of_kind(commands, Answer)  # the worker is not available: nothing is planned
    scheduler.handle(Woke(), now=0.7)
    scheduler.check()


def test_a_request_of_many_rows_has_one_outcome():
    scheduler = a_scheduler(policy=RunAll(max_batch=2))
    scheduler.handle(Arrived(a_request(rows=3)), now=0.0)
    [first] = run_until_idle_batch(scheduler)
    commands = scheduler.handle(done(first, 0.1), now=0.1)
    assert not of_kind(commands, Answer)
    [second] = run_until_idle_batch(scheduler, now=0.1)
    assert [r.row for r in first.rows + second.rows] == [0, 1, 2]
    [answer] = of_kind(scheduler.handle(done(second, 0.2), now=0.2), Answer)
    assert len(answer.rows) == 3


def test_at_its_deadline_a_running_request_is_told_and_its_result_thrown_away():
    scheduler = a_scheduler(an_application(takes(0.5)))
    scheduler.handle(Arrived(a_request(due_at=0.6)), now=0.0)
    [batch] = run_until_idle_batch(scheduler)
    [answer] = of_kind(scheduler.handle(Woke(), now=0.6), Answer)
    assert (answer.outcome, answer.reason) == (Outcome.EXPIRED, Reason.DEADLINE_EXCEEDED)
    assert not of_kind(scheduler.handle(done(batch, 0.7), now=0.7), Answer)
    scheduler.check()


def test_with_on_miss_late_it_is_answered_late():
    scheduler = a_scheduler(an_application(takes(0.5), on_miss=OnMiss.LATE))
    scheduler.handle(Arrived(a_request(due_at=0.1)), now=0.0)
    [batch] = run_until_idle_batch(scheduler)
    [answer] = of_kind(scheduler.handle(done(batch, 0.5), now=0.5), Answer)
    assert answer.outcome is Outcome.LATE


def test_a_killed_worker_loses_nothing():
    scheduler = a_scheduler()
    scheduler.handle(Arrived(a_request(due_at=5.0)), now=0.0)
    [batch] = run_until_idle_batch(scheduler)
    scheduler.handle(WorkerDown("w", "signal 9"), now=0.05)
    scheduler.handle(
        done(batch, 0.06), now=0.06
    )  # what it said last is too late: the batch is not its own any more
    scheduler.check()
    scheduler.handle(WorkerUp("w", "cpu", 1000), now=0.2)
    [again] = run_until_idle_batch(scheduler, now=0.2)
    assert again.rows == batch.rows
    assert again.batch_id != batch.batch_id
    [answer] = of_kind(scheduler.handle(done(again, 0.3), now=0.3), Answer)
    assert answer.outcome is Outcome.ANSWERED


def test_a_row_that_kills_every_worker_fails_after_three():
    scheduler = a_scheduler()
    scheduler.handle(Arrived(a_request(due_at=50.0)), now=0.0)
    for t in range(3):
        run_until_idle_batch(scheduler, now=float(t))
        answers = of_kind(scheduler.handle(WorkerDown("w", "signal 11"), now=t + 0.05), Answer)
        scheduler.handle(WorkerUp("w", "cpu", 1000), now=t + 0.5)
    assert [a.outcome for a in answers] == [Outcome.FAILED]
    assert "signal 11" in answers[0].detail


def test_when_a_variant_fails_another_is_tried_and_then_it_fails():
    app = an_application(takes(0.1, "one"), takes(0.1, "two"))
    scheduler = a_scheduler(app)
    scheduler.handle(Arrived(a_request(due_at=5.0)), now=0.0)
    [batch] = run_until_idle_batch(scheduler)
    scheduler.handle(BatchFailed(batch.batch_id, "boom"), now=0.1)
    scheduler._turns._levels.policy = RunAll(variant=1)
    [other] = run_until_idle_batch(scheduler, now=0.1)
    assert other.variant == "two"
    [answer] = of_kind(scheduler.handle(BatchFailed(other.batch_id, "boom again"), now=0.2), Answer)
    assert (answer.outcome, answer.detail) == (Outcome.FAILED, "boom again")


def test_least_recently_used_weights_make_room():
    variants = [takes(0.1, name, size=400) for name in ("a", "b", "c")]
    scheduler = a_scheduler(an_application(*variants))
    for i, variant in enumerate((0, 1, 0, 2)):
        scheduler._turns._levels.policy = RunAll(variant=variant)
        scheduler.handle(Arrived(a_request(f"r{i}", arrived_at=float(i), due_at=i + 0.9)), now=float(i))
        commands = scheduler.handle(Woke(), now=float(i))
        scheduler.handle(done(of_kind(commands, RunBatch)[0], i + 0.1), now=i + 0.1)
        scheduler.check()
    assert of_kind(commands, Unload) == [Unload("w", "sha-b")]
    assert of_kind(commands, Load) == [Load("w", "sha-c", "app", "c")]


def test_weights_that_cannot_be_loaded_are_not_asked_for_again():
    scheduler = a_scheduler(an_application(takes(0.1, "one"), takes(0.1, "two")))
    scheduler.handle(LoadFailed("w", "sha-one", "not a model"), now=0.0)
    scheduler.handle(Arrived(a_request()), now=0.0)
    assert not run_until_idle_batch(
        scheduler
    )  # RunAll insists on the first variant, which is not allowed now
    scheduler._turns._levels.policy = RunAll(variant=1)
    scheduler.handle(Arrived(a_request("r2")), now=0.0)
    [batch] = run_until_idle_batch(scheduler)
    assert batch.variant == "two"


def test_a_cancelled_request_runs_no_more():
    scheduler = a_scheduler()
    scheduler.handle(Arrived(a_request()), now=0.0)
    [answer] = of_kind(scheduler.handle(Cancelled("r1"), now=0.0), Answer)
    assert answer.outcome is Outcome.CANCELLED
    assert not run_until_idle_batch(scheduler)
    assert scheduler.handle(Cancelled("r1"), now=0.0) == []


def test_a_pinned_request_gets_its_variant_or_none():
    scheduler = a_scheduler(an_application(takes(0.1, "one"), takes(0.1, "two")), policy=RunAll(variant=1))
    scheduler.handle(Arrived(a_request("r1", pinned="two")), now=0.0)
    scheduler.handle(Arrived(a_request("r2", pinned="one")), now=0.0)
    [batch] = run_until_idle_batch(scheduler)
    assert [r.request_id for r in batch.rows] == ["r1"]


def test_a_pinned_request_is_never_answered_by_the_peek():
    app = an_application(takes(0.5, "one"), peek=a_peek(), on_miss=OnMiss.DEGRADE)
    scheduler = a_scheduler(app)
    [answer] = scheduler.handle(Arrived(a_request(due_at=0.1, pinned="one")), now=0.0)
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.DEADLINE_INFEASIBLE)
    commands = scheduler.handle(Arrived(a_request("r2", due_at=5.0, pinned="one")), now=0.0)
    assert not of_kind(commands, Peek)


def test_a_request_without_the_input_that_the_peek_looks_at_is_not_peeked_at():
    scheduler = a_scheduler(an_application(takes(0.1), peek=a_peek()))
    assert not of_kind(scheduler.handle(Arrived(a_request(inputs=("y",))), now=0.0), Peek)
    assert of_kind(scheduler.handle(Arrived(a_request("r2", inputs=("x",))), now=0.0), Peek)


def test_in_windows_everything_waits_for_the_end_and_then_all_is_committed():
    scheduler = a_scheduler(policy=RunAll(max_batch=1), planning=Window(0.1))
    assert scheduler.handle(Arrived(a_request("r1", due_at=2.0)), now=0.03) == [WakeAt(0.1)]
    assert scheduler.handle(Arrived(a_request("r2", due_at=2.0)), now=0.05) == []
    assert len(run_until_idle_batch(scheduler, now=0.1)) == 2


def test_too_many_rows_are_refused_as_overload():
    scheduler = a_scheduler(max_rows=2)
    scheduler.handle(Arrived(a_request("r1", rows=2)), now=0.0)
    [answer] = scheduler.handle(Arrived(a_request("r2")), now=0.0)
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.OVERLOADED)


def test_a_worker_that_hangs_is_restarted():
    scheduler = a_scheduler(an_application(takes(0.1), on_miss=OnMiss.LATE), hang_s=1.0)
    scheduler.handle(Arrived(a_request()), now=0.0)
    run_until_idle_batch(scheduler)
    scheduler.handle(Loaded("w", "sha-only", 0.0, 1), now=0.0)
    assert Restart("w", "its batch is long overdue") in scheduler.handle(Woke(), now=2.2)
    assert not of_kind(scheduler.handle(Woke(), now=2.3), Restart)


def test_scores_of_the_wrong_shape_are_a_failure_not_a_crash():
    scheduler = a_scheduler()
    scheduler.handle(Arrived(a_request()), now=0.0)
    [batch] = run_until_idle_batch(scheduler)
    [answer] = of_kind(
        scheduler.handle(BatchDone(batch.batch_id, np.zeros((1, 7)), 0.0, 0.1), now=0.1), Answer
    )
    assert answer.outcome is Outcome.FAILED
    assert "(1, 7)" in answer.detail


def test_a_worker_that_still_loads_is_given_time():
    scheduler = a_scheduler(an_application(takes(0.1), on_miss=OnMiss.LATE), hang_s=1.0)
    scheduler.handle(Arrived(a_request()), now=0.0)
    run_until_idle_batch(scheduler)
    assert not of_kind(scheduler.handle(Woke(), now=5.0), Restart)


def test_when_nothing_is_left_that_could_run_it_is_told_at_once():
    scheduler = a_scheduler(an_application(takes(0.1, "one"), takes(0.1, "two")))
    scheduler.handle(LoadFailed("w", "sha-two", "gone"), now=0.0)
    scheduler.handle(Arrived(a_request(due_at=30.0)), now=0.0)
    run_until_idle_batch(scheduler)
    [answer] = of_kind(scheduler.handle(LoadFailed("w", "sha-one", "gone too"), now=0.1), Answer) or [None]
    assert answer is None  # it runs: its batch will say
    [answer] = of_kind(scheduler.handle(BatchFailed(1, "no weights"), now=0.2), Answer)
    assert (answer.outcome, answer.detail) == (Outcome.FAILED, "no weights")
    [refused] = of_kind(scheduler.handle(Arrived(a_request("r2", due_at=30.0)), now=0.3), Answer)
    assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.NOT_READY)


@pytest.mark.parametrize("name", ["lo-edf", "maxacc-edf", "grouped", "sneakpeek"])
def test_what_may_be_late_runs_late_under_every_policy(name):
    scheduler = a_scheduler(an_application(takes(0.5), on_miss=OnMiss.LATE), policy=make(name))
    scheduler.handle(Arrived(a_request(due_at=0.1)), now=0.0)
    scheduler.handle(Woke(), now=0.0)
    [batch] = run_until_idle_batch(scheduler)
    [answer] = of_kind(scheduler.handle(done(batch, 0.5), now=0.5), Answer)
    assert answer.outcome is Outcome.LATE


def test_a_second_batch_is_committed_when_the_first_is_nearly_done():
    from peekserve.core.planning import Rolling

    scheduler = a_scheduler(planning=Rolling(lead_s=0.01))
    scheduler.handle(Arrived(a_request("r1", due_at=5.0)), now=0.0)
    run_until_idle_batch(scheduler)
    commands = scheduler.handle(Arrived(a_request("r2", due_at=5.0)), now=0.02)
    assert commands == [WakeAt(pytest.approx(0.09))]
    [batch] = run_until_idle_batch(scheduler, now=0.0901)
    assert batch.rows[0].request_id == "r2"


def test_a_load_that_ended_is_not_waited_for_again():
    """What follows a batch that had to load is planned for when that batch will end, not a load later."""
    app = an_application(takes(0.010, load_s=0.050))
    scheduler = a_scheduler(app, planning=Rolling(lead_s=0.002))
    scheduler.handle(Arrived(a_request("r1")), now=0.0)
    assert len(run_until_idle_batch(scheduler)) == 1
    scheduler.handle(Loaded("w", "sha-only", 0.050, 1), now=0.050)
    [wake] = of_kind(scheduler.handle(Arrived(a_request("r2", arrived_at=0.051)), now=0.051), WakeAt)
    assert wake.at == pytest.approx(0.058)  # a lead before the batch should end
    assert len(run_until_idle_batch(scheduler, now=wake.at)) == 1


@pytest.mark.parametrize(("length_s", "rebalance_s"), [(0.1, 0.02), (3600.0, 1e-8), (0.1234567, 0.0)])
def test_planning_that_was_written_down_is_read_as_it_was_meant(length_s, rebalance_s):
    spec = SchedulerSpec(planning=windowed(length_s, rebalance_s))
    spec.build(())
    assert float(spec.planning[7:].partition("ms")[0]) == pytest.approx(length_s * 1e3, rel=1e-9)
