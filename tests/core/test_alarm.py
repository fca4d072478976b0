"""The one alarm: whatever comes between, who waits for it is not forgotten."""

from peekserve.core.planning import Rolling
from peekserve.domain.messages import Arrived, Cancelled, Loaded, RunBatch, WakeAt, Woke
from tests.core.stories import RunAll, a_request, a_scheduler, an_application, of_kind, takes


def a_second_request_waits(lead_s: float, load_s: float = 0.0):
    """Both were planned, one by one; the worker has the first, for 125 ms, and can take the second `lead_s` before that
    should end. What followed."""
    app = an_application(takes(0.125, load_s=load_s))
    scheduler = a_scheduler(app, policy=RunAll(max_batch=1), planning=Rolling(lead_s))
    scheduler.handle(Arrived(a_request("r1", due_at=9.0)), now=0.0)
    scheduler.handle(Arrived(a_request("r2", due_at=9.0)), now=0.0)
    heard = scheduler.handle(Woke(), now=0.0)
    assert len(of_kind(heard, RunBatch)) == 1
    return scheduler, of_kind(heard, WakeAt)


def test_an_alarm_that_is_late_is_not_forgotten_when_something_else_comes_first():
    """Found by a fault campaign: the worker stood idle until its batch was told to have ended."""
    scheduler, heard = a_second_request_waits(lead_s=0.03125)
    assert heard == [WakeAt(0.09375)]
    assert scheduler.handle(Cancelled("somebody else"), now=0.1) == [WakeAt(0.1)]
    assert of_kind(scheduler.handle(Woke(), now=0.1), RunBatch)


def test_a_load_that_was_quick_makes_a_worker_nearly_free_at_once():
    """What should be loaded for 1 s is there after a half: the batch behind it ends within the lead."""
    scheduler, heard = a_second_request_waits(lead_s=0.25, load_s=1.0)
    assert heard == [WakeAt(0.875)]
    assert scheduler.handle(Loaded("w", "sha-only", 0.5, 1), now=0.5) == [WakeAt(0.5)]
    assert of_kind(scheduler.handle(Woke(), now=0.5), RunBatch)
