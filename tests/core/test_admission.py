"""Who is let in has a place in a plan; who has none is told so at once."""

from dataclasses import replace

import pytest

from peekserve.domain.application import OnMiss
from peekserve.domain.messages import Answer, Arrived, RunBatch, Woke, WorkerDown, WorkerUp
from peekserve.domain.request import Outcome, Reason
from peekserve.policies import make
from tests.core.stories import a_peek, a_request, a_scheduler, an_application, of_kind, takes

pytestmark = pytest.mark.core


def fifty(on_miss=OnMiss.REJECT, max_batch=1, workers=1, **options):
    app = an_application(takes(0.05, max_batch=max_batch), on_miss=on_miss)
    return a_scheduler(app, policy=make("horizon"), admit=True, **options)


def test_of_three_that_one_worker_can_answer_one_two_hear_so_on_arrival():
    scheduler = fifty()
    for i in range(3):
        scheduler.handle(Arrived(a_request(f"r{i}", due_at=0.06)), now=0.0)
    commands = scheduler.handle(Woke(), now=0.0)
    assert len(of_kind(commands, RunBatch)) == 1
    refused = of_kind(commands, Answer)
    assert [(a.outcome, a.reason) for a in refused] == [(Outcome.REFUSED, Reason.DEADLINE_INFEASIBLE)] * 2
    assert "needs 50.0 ms" in refused[0].detail
    assert "60.0 ms are left" in refused[0].detail


def test_who_comes_while_the_worker_is_busy_hears_it_on_arrival_too():
    scheduler = fifty()
    scheduler.handle(Arrived(a_request("r0", due_at=0.06)), now=0.0)
    scheduler.handle(Woke(), now=0.0)
    scheduler.handle(Arrived(a_request("r1", arrived_at=0.01, due_at=0.09)), now=0.01)
    [refused] = of_kind(scheduler.handle(Woke(), now=0.01), Answer)
    assert (refused.request_id, refused.reason) == ("r1", Reason.DEADLINE_INFEASIBLE)


def test_who_has_a_place_behind_the_running_batch_waits_for_it():
    scheduler = fifty()
    scheduler.handle(Arrived(a_request("r0", due_at=0.06)), now=0.0)
    scheduler.handle(Woke(), now=0.0)
    scheduler.handle(Arrived(a_request("r1", arrived_at=0.01, due_at=0.12)), now=0.01)
    assert not of_kind(scheduler.handle(Woke(), now=0.01), Answer)
    assert scheduler.open_requests == 2


def test_an_application_that_answers_late_or_by_its_peek_refuses_nobody_for_want_of_a_place():
    scheduler = fifty(on_miss=OnMiss.LATE)
    for i in range(3):
        scheduler.handle(Arrived(a_request(f"r{i}", due_at=0.06)), now=0.0)
    assert not of_kind(scheduler.handle(Woke(), now=0.0), Answer)


def test_who_is_doomed_before_any_plan_was_made_was_never_accepted():
    scheduler = fifty()
    scheduler.handle(Arrived(a_request("r0", due_at=0.06)), now=0.0)
    [refused] = of_kind(scheduler.handle(Woke(), now=0.02), Answer)
    assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.DEADLINE_INFEASIBLE)
    assert "40.0 ms are left" in refused.detail


def test_who_waited_for_a_peek_that_did_not_come_hears_it_then():
    """Found in review: such a row waited for its doom."""
    app = an_application(takes(0.05, max_batch=1), peek=a_peek())
    scheduler = a_scheduler(app, policy=make("horizon"), admit=True, patience_s=0.01)
    scheduler.handle(Arrived(a_request("r0", due_at=0.06, counts=((1.0, 1.0),))), now=0.0)
    scheduler.handle(Woke(), now=0.0)
    scheduler.handle(Arrived(a_request("r1", due_at=0.08)), now=0.0)
    [refused] = of_kind(scheduler.handle(Woke(), now=0.01), Answer)
    assert (refused.request_id, refused.reason) == ("r1", Reason.DEADLINE_INFEASIBLE)


def test_what_only_a_worker_can_run_that_is_down_waits_until_it_is_back():
    """Found in review: it was refused because nobody who was up could run it."""
    small, large = takes(0.05, "small"), takes(0.05, "large")
    app = an_application(small, replace(large, timing={"gpu": large.timing["cpu"]}))
    scheduler = a_scheduler(app, policy=make("horizon"), admit=True)
    scheduler.handle(WorkerUp("gpu-0", "gpu", 1000), now=0.0)
    scheduler.handle(WorkerDown("gpu-0", "killed"), now=0.1)
    scheduler.handle(Arrived(a_request(arrived_at=0.1, due_at=5.0, pinned="large")), now=0.1)
    assert not of_kind(scheduler.handle(Woke(), now=0.1), Answer)
    scheduler.handle(WorkerUp("gpu-0", "gpu", 1000), now=1.0)
    assert of_kind(scheduler.handle(Woke(), now=1.0), RunBatch)[0].variant == "large"


def test_who_had_a_place_and_lost_it_with_the_time_was_accepted():
    scheduler = fifty()
    for i, due_at in enumerate((0.06, 0.12)):
        scheduler.handle(Arrived(a_request(f"r{i}", due_at=due_at)), now=0.0)
    scheduler.handle(Woke(), now=0.0)
    commands = scheduler.handle(Woke(), now=0.08)  # its turn never came: the batch before it hangs
    answers = of_kind(commands, Answer)
    assert {a.request_id: a.outcome for a in answers} == dict.fromkeys(("r0", "r1"), Outcome.EXPIRED)
