"""Who is turned away when not all fit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.domain.application import OnMiss
from peekserve.domain.messages import Answer, Arrived, BatchDone, Cancelled, Peeked, RunBatch, Woke
from peekserve.domain.request import Outcome, Reason, Source
from tests.core.stories import RunAll, a_peek, a_request, a_scheduler, an_application, of_kind, takes
from tests.core.test_scheduler import done

pytestmark = pytest.mark.core


def ask(scheduler, name: str, now: float = 0.0, **kwargs) -> list[Answer]:
    """The outcomes that follow when this one comes."""
    request = a_request(name, due_at=kwargs.pop("due_at", 99.0), arrived_at=now, **kwargs)
    answers = of_kind(scheduler.handle(Arrived(request), now), Answer)
    scheduler.check()
    return answers


def gone(answers: list[Answer]) -> list[str]:
    assert all((a.outcome, a.reason) == (Outcome.REFUSED, Reason.OVERLOADED) for a in answers)
    return [a.request_id for a in answers]


def test_of_equals_the_newest_goes():
    scheduler = a_scheduler(max_rows=2)
    assert not ask(scheduler, "r1") + ask(scheduler, "r2")
    [answer] = ask(scheduler, "r3")
    assert answer.detail == "2 rows wait or run and 1 came; the limit is 2"
    assert gone([answer]) == ["r3"]


def test_the_lowest_priority_goes_first_and_of_these_the_newest():
    scheduler = a_scheduler(max_rows=3)
    for name, priority in (("low", 9), ("lower", 10), ("newer", 10)):
        ask(scheduler, name, priority=priority)
    [answer] = ask(scheduler, "plain")
    assert gone([answer]) == ["newer"]
    assert "3 rows" not in answer.detail  # the newcomer stands among them
    assert "4 rows wait or run; the limit is 3" in answer.detail
    assert [gone(ask(scheduler, f"r{i}", priority=9)) for i in range(2)] == [["lower"], ["r1"]]


def test_what_was_begun_stays_whoever_comes():
    scheduler = a_scheduler(max_rows=1)
    ask(scheduler, "runs", priority=9)
    scheduler.handle(Woke(), 0.0)
    assert gone(ask(scheduler, "high", priority=1)) == ["high"]


def test_a_request_of_which_one_row_runs_stays_as_a_whole():
    scheduler = a_scheduler(policy=RunAll(max_batch=1), max_rows=3)
    ask(scheduler, "partly", rows=2, priority=9)
    scheduler.handle(Woke(), 0.0)
    ask(scheduler, "waits", priority=8)
    assert gone(ask(scheduler, "high", priority=1)) == ["waits"]


def test_the_least_utility_for_its_time_goes():
    """Both hold much of the queue, so that what they are worth decides."""
    quick = an_application(takes(0.01, "quick"), name="quick")
    slow = an_application(takes(0.1, "slow"), name="slow")
    scheduler = a_scheduler(quick, slow, max_rows=4)
    for i, name in enumerate(("slow", "quick", "slow", "quick")):
        ask(scheduler, f"r{i}", application=name)
    assert gone(ask(scheduler, "next", application="quick")) == ["r2"]
    assert gone(ask(scheduler, "slow one", application="slow")) == ["slow one"]


def test_a_row_that_can_only_be_late_is_worth_least():
    app = an_application(takes(0.1), on_miss=OnMiss.LATE)
    scheduler = a_scheduler(app, max_rows=2)
    ask(scheduler, "hopeless", due_at=0.15)
    ask(scheduler, "easy")
    assert gone(ask(scheduler, "next", now=0.1)) == ["hopeless"]


def test_no_flood_takes_the_places_of_a_modest_application():
    quick = an_application(takes(0.01, "quick"), name="quick")
    slow = an_application(takes(0.1, "slow"), name="slow")
    scheduler = a_scheduler(quick, slow, max_rows=8)
    for i in range(20):
        ask(scheduler, f"flood{i}", application="quick")
    assert gone(ask(scheduler, "a", application="slow")) == ["flood7"]
    assert gone(ask(scheduler, "b", application="slow")) == ["flood6"]
    assert gone(ask(scheduler, "c", application="slow")) == [
        "c"
    ]  # beyond half of an equal share, values decide
    assert gone(ask(scheduler, "again", application="quick")) == ["again"]


def test_bytes_are_bounded_too_and_only_who_has_some_makes_room():
    scheduler = a_scheduler(max_bytes=100)
    ask(scheduler, "small", bytes=0, priority=9)
    ask(scheduler, "large", bytes=60, priority=8)
    assert gone(ask(scheduler, "next", bytes=41, priority=8)) == ["next"]
    assert gone(ask(scheduler, "high", bytes=50, priority=1)) == ["large"]
    [answer] = ask(scheduler, "huge", bytes=101)
    assert answer.detail == "101 bytes of inputs came at once; the limit is 100"
    assert scheduler.handle(Cancelled("high"), 0.0)
    assert not ask(scheduler, "fits", bytes=100)


def test_no_more_go_than_must():
    scheduler = a_scheduler(max_rows=5)
    ask(scheduler, "three", rows=3, priority=9)
    ask(scheduler, "one", priority=9)
    ask(scheduler, "other", priority=9)
    assert gone(ask(scheduler, "high", rows=3, priority=1)) == ["three"]
    assert gone(ask(scheduler, "higher", rows=2, priority=1)) == ["other", "one"]
    assert gone(ask(scheduler, "too much", rows=6, priority=1)) == ["too much"]
    assert gone(ask(scheduler, "last", rows=5, priority=2)) == ["last"]


def test_who_has_the_peeks_answer_gets_it_instead_of_a_refusal():
    app = an_application(takes(0.1), peek=a_peek(0.8), on_miss=OnMiss.DEGRADE)
    scheduler = a_scheduler(app, max_rows=2)
    ask(scheduler, "seen")
    ask(scheduler, "unseen")
    scheduler.handle(Peeked("seen", np.array([[3.0, 0.0]])), 0.0)
    [answer] = ask(scheduler, "next")
    assert (answer.request_id, answer.outcome, answer.rows[0].source) == (
        "seen",
        Outcome.ANSWERED,
        Source.PEEK,
    )


def test_a_hopeless_newcomer_turns_nobody_away():
    scheduler = a_scheduler(max_rows=1)
    ask(scheduler, "low", priority=9)
    [answer] = ask(scheduler, "hopeless", due_at=0.05, priority=1)
    assert (answer.request_id, answer.reason) == ("hopeless", Reason.DEADLINE_INFEASIBLE)


A_NEWCOMER = st.tuples(
    st.sampled_from(["quick", "slow"]), st.integers(0, 10), st.integers(1, 5), st.integers(0, 40),
    st.sampled_from(["nothing", "plan", "end", "cancel", "peek"]),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(A_NEWCOMER, max_size=40), st.integers(1, 12), st.integers(0, 120))
def test_every_request_has_one_outcome_and_the_bounds_hold(asked, max_rows, max_bytes):
    quick = an_application(takes(0.01, "quick"), name="quick", peek=a_peek(), on_miss=OnMiss.DEGRADE)
    slow = an_application(takes(0.1, "slow"), takes(0.2, "best", (0.95, 0.95)), name="slow")
    scheduler = a_scheduler(
        quick, slow, policy=RunAll(max_batch=3), max_rows=max_rows, max_bytes=max_bytes, patience_s=9.0
    )
    outcomes: dict[str, Outcome] = {}
    requests, batches, begun = {}, [], set()

    def handle(event, now: float) -> list[Answer]:
        commands = scheduler.handle(event, now)
        scheduler.check()
        for batch in of_kind(commands, RunBatch):
            batches.append(batch)
            begun.update(ref.request_id for ref in batch.rows)
        answers = of_kind(commands, Answer)
        for answer in answers:
            assert answer.request_id not in outcomes
            outcomes[answer.request_id] = answer.outcome
        held = requests.keys() - outcomes.keys()
        assert scheduler.open_rows <= max_rows
        assert sum(requests[name].bytes for name in held) == scheduler._ledger.bytes <= max_bytes
        return answers

    now = 0.0
    for i, (app, priority, rows, size, then) in enumerate(asked):
        name, now = f"r{i}", now + 0.01
        requests[name] = a_request(
            name, due_at=1e6, arrived_at=now, application=app, priority=priority, rows=rows, bytes=size
        )
        for answer in handle(Arrived(requests[name]), now):
            if answer.request_id != name:
                assert answer.request_id not in begun
                assert requests[answer.request_id].level >= requests[name].level
        if then == "plan":
            handle(Woke(), now)
        elif then == "end" and batches:
            batch = batches.pop()
            handle(BatchDone(batch.batch_id, done(batch, now).scores, now, now), now)
        elif then == "cancel":
            handle(Cancelled(f"r{i // 2}"), now)
        elif then == "peek":
            handle(Peeked(name, np.ones((rows, 2))), now)
    for name in list(requests.keys() - outcomes.keys()):
        handle(Cancelled(name), now)
    assert outcomes.keys() == requests.keys()
    assert scheduler.open_rows == scheduler._ledger.bytes == 0


@given(
    st.lists(st.tuples(st.integers(0, 10), st.floats(0.0, 1.0)), min_size=2, max_size=12), st.integers(0, 3)
)
def test_a_change_of_the_least_worthy_changes_nobody_elses_fate(waiting, more):
    """Those that stay are worth no less than those that went, by level and then by value."""
    scheduler = a_scheduler(
        an_application(takes(0.1), peek=a_peek(), on_miss=OnMiss.REJECT), max_rows=len(waiting)
    )
    for i, (priority, share) in enumerate(waiting):
        ask(scheduler, f"r{i}", priority=priority, counts=((10 * share, 10 * (1 - share)),))
    level = {f"r{i}": a_request(priority=priority).level for i, (priority, _) in enumerate(waiting)}
    went = [name for i in range(more) for name in gone(ask(scheduler, f"n{i}", priority=5))]
    stayed = set(scheduler._ledger.open)
    for name in went:
        assert all(level.get(name, 5) >= level.get(other, 5) for other in stayed)
    assert len(stayed) == len(waiting)
    assert len(set(went)) == more


def test_a_request_is_worth_the_sum_of_its_rows_over_the_sum_of_their_times():
    """A large one is not worth less for being large: of equals it is the newest that goes."""
    scheduler = a_scheduler(max_rows=6)
    ask(scheduler, "four", rows=4)
    ask(scheduler, "one")
    assert gone(ask(scheduler, "two", rows=2)) == ["two"]
    assert gone(ask(scheduler, "high", rows=2, priority=1)) == ["one"]
    assert replace(a_request(rows=4), bytes=5).bytes == 5
