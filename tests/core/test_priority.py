"""Who is planned before whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.core.planning import Window
from peekserve.domain.messages import Arrived, Batch, BatchDone, Plan, RunBatch, Woke, WorkerUp
from peekserve.domain.request import LOWEST, MIDDLE, SHADOW
from peekserve.errors import InvalidRequest
from peekserve.policies.base import View
from tests.core.stories import RunAll, a_request, a_scheduler, of_kind
from tests.core.test_scheduler import done

pytestmark = pytest.mark.core


def ran(commands) -> list[list[str]]:
    """The requests of each batch that was given away."""
    return [[ref.request_id for ref in batch.rows] for batch in of_kind(commands, RunBatch)]


def came(scheduler, now: float = 0.0, **priorities: int) -> None:
    for name, priority in priorities.items():
        scheduler.handle(Arrived(a_request(name, due_at=99.0, arrived_at=now, priority=priority)), now)


def until_done(scheduler, commands, now: float) -> list[list[str]]:
    """What runs, batch after batch, when every batch ends before the next turn."""
    order = []
    while batches := of_kind(commands, RunBatch):
        order += ran(commands)
        for batch in batches:
            now += 0.2
            scheduler.handle(done(batch, now), now)
            scheduler.check()
        commands = scheduler.handle(Woke(), now)
    return order


def test_no_number_is_the_middle_and_every_number_has_a_level():
    assert [a_request(priority=p).level for p in (0, 1, 7, 9, LOWEST, SHADOW, 10**12)] == [
        MIDDLE, 1, 7, 9, LOWEST, SHADOW, SHADOW,
    ]  # fmt: skip
    assert LOWEST < SHADOW
    with pytest.raises(InvalidRequest, match="priority -1"):
        a_request(priority=-1)


def test_the_highest_is_planned_first_whenever_it_came():
    scheduler = a_scheduler()
    came(scheduler, low=9, plain=0, high=1, higher_than_plain=7, copy=SHADOW, as_plain=8)
    order = until_done(scheduler, scheduler.handle(Woke(), 0.0), 0.0)
    assert order == [["high"], ["higher_than_plain"], ["plain", "as_plain"], ["low"], ["copy"]]


def test_what_runs_is_not_interrupted():
    scheduler = a_scheduler()
    came(scheduler, low=9)
    [batch] = of_kind(scheduler.handle(Woke(), 0.0), RunBatch)
    came(scheduler, now=0.05, high=1, other=9)
    assert not of_kind(scheduler.handle(Woke(), 0.05), RunBatch)
    answered = scheduler.handle(done(batch, 0.1), 0.1)
    assert [a.request_id for a in answered if hasattr(a, "outcome")] == ["low"]
    assert ran(scheduler.handle(Woke(), 0.1)) == [["high"]]


def test_workers_that_the_higher_ones_leave_free_are_for_the_next():
    scheduler = a_scheduler()
    scheduler.handle(WorkerUp("other", "cpu", 1000), 0.0)
    came(scheduler, low=9, plain=0, high=1)
    batches = of_kind(scheduler.handle(Woke(), 0.0), RunBatch)
    assert [(b.worker, b.rows[0].request_id) for b in batches] == [("w", "high"), ("other", "plain")]


def test_a_window_gives_every_worker_the_highest_first():
    scheduler = a_scheduler(planning=Window(0.1))
    came(scheduler, low=9, plain=0, high=1)
    assert ran(scheduler.handle(Woke(), 0.1)) == [["high"], ["plain"], ["low"]]
    scheduler.check()


class Latest:
    """One batch for each row, on the worker that is free first; notes when that was."""

    def __init__(self) -> None:
        self.free_at: list[float] = []

    def plan(self, view: View) -> Plan:
        worker = min(range(len(view.workers)), key=lambda w: view.workers[w].free_at)
        self.free_at.append(view.workers[worker].free_at)
        return Plan([Batch(worker, int(view.lane[row]), 0, (row,)) for row in range(view.size)])


def test_within_a_plan_the_lower_ones_find_workers_as_the_higher_ones_leave_them():
    policy = Latest()
    scheduler = a_scheduler(policy=policy, planning=Window(0.1, lead_s=0.001, rebalance_s=0.02))
    came(scheduler, low=9, high=1, also_high=1)
    assert ran(scheduler.handle(Woke(), 0.1)) == [["high"]]
    assert policy.free_at == pytest.approx([0.1, 0.3])


def test_what_is_held_of_a_plan_is_planned_anew_behind_a_higher_priority():
    scheduler = a_scheduler(policy=Latest(), planning=Window(0.1, lead_s=0.001, rebalance_s=0.02))
    came(scheduler, one=0, two=0)
    [first] = of_kind(scheduler.handle(Woke(), 0.1), RunBatch)
    came(scheduler, now=0.11, high=1)
    assert not of_kind(scheduler.handle(Woke(), 0.12), RunBatch)
    # The window ends a moment before the worker is free: that is when it is given its next batch.
    assert first.rows[0].request_id == "one"
    assert ran(scheduler.handle(Woke(), 0.2)) == [["high"]]
    scheduler.check()


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 3), st.integers(0, 3)), max_size=25),
    st.integers(1, 4),
)
def test_nothing_lower_is_begun_while_anything_higher_waits(asked, max_batch):
    """One worker, which is asked to run whatever it is shown; requests of some rows, and how many batches end before
    each comes."""
    scheduler = a_scheduler(policy=RunAll(max_batch=max_batch))
    requests, running, seen = {}, [], []
    waiting: dict[str, int] = {}

    def turn(now: float) -> None:
        for batch in of_kind(scheduler.handle(Woke(), now), RunBatch):
            running.append(batch)
            levels = {requests[ref.request_id].level for ref in batch.rows}
            assert levels == {min(requests[name].level for name, rows in waiting.items() if rows)}
            for ref in batch.rows:
                waiting[ref.request_id] -= 1
                seen.append(ref)

    def end_one(now: float) -> None:
        batch = running.pop()
        scheduler.handle(BatchDone(batch.batch_id, done(batch, now).scores, now - 0.1, now), now)

    now = 0.0
    for i, (priority, rows, ends) in enumerate(asked):
        name = f"r{i}"
        requests[name] = a_request(name, due_at=1e6, arrived_at=now, rows=rows, priority=priority)
        waiting[name] = rows
        scheduler.handle(Arrived(requests[name]), now)
        for _ in range(ends):
            now += 0.1
            turn(now)
            if running:
                end_one(now)
        scheduler.check()
    while scheduler.open_requests:
        now += 0.1
        turn(now)
        end_one(now)
    assert len(seen) == len(set(seen)) == sum(rows for _, rows, _ in asked)
