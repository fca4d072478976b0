"""Rows that nothing is left for: they end at once, and do not wait for what no worker can do."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.domain.application import OnMiss
from peekserve.domain.messages import (
    Answer,
    Arrived,
    BatchFailed,
    LoadFailed,
    Peeked,
    RunBatch,
    Woke,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.request import Outcome, Reason, Source
from peekserve.policies import make
from tests.core.stories import a_peek, a_request, a_scheduler, an_application, of_kind, takes


def a_story(on_miss: OnMiss, elsewhere: bool):
    """A request that may have a or b, on a worker that can run only a; b where `elsewhere` is a worker for it."""
    b = takes(0.1, "b")
    app = an_application(takes(0.1, "a"), replace(b, timing={"gpu": b.timing["cpu"]}), on_miss=on_miss)
    scheduler = a_scheduler(app)
    if elsewhere:
        scheduler.handle(WorkerUp("other", "gpu", 1000), now=0.0)
    scheduler.handle(Arrived(a_request()), now=0.0)
    (batch,) = of_kind(scheduler.handle(Woke(), now=0.0), RunBatch)
    return scheduler, batch.batch_id


@pytest.mark.parametrize("on_miss", [OnMiss.REJECT, OnMiss.LATE])
@pytest.mark.parametrize("loads", [False, True])
def test_a_row_whose_other_variants_no_worker_can_run_fails_with_the_last_that_one_could(on_miss, loads):
    """Found by a fault campaign: who does not mind being late would have waited for ever."""
    scheduler, batch = a_story(on_miss, elsewhere=False)
    if loads:
        assert not of_kind(scheduler.handle(LoadFailed("w", "sha-a", "no room"), now=0.1), Answer)
    (answer,) = of_kind(scheduler.handle(BatchFailed(batch, "no weights"), now=0.2), Answer)
    assert (answer.outcome, answer.detail) == (Outcome.FAILED, "no weights")
    scheduler.check()
    assert scheduler.open_requests == 0


def test_a_row_that_another_worker_can_run_waits_for_that_one():
    scheduler, batch = a_story(OnMiss.LATE, elsewhere=True)
    assert not of_kind(scheduler.handle(BatchFailed(batch, "no weights"), now=0.2), Answer)
    scheduler.check()
    assert scheduler.open_requests == 1


def test_a_row_whose_peek_is_still_expected_waits_for_that():
    scheduler = a_scheduler(an_application(takes(0.1), peek=a_peek(), on_miss=OnMiss.DEGRADE))
    scheduler.handle(Arrived(a_request()), now=0.0)
    assert not of_kind(scheduler.handle(LoadFailed("w", "sha-only", "no room"), now=0.005), Answer)
    scheduler.check()
    heard = scheduler.handle(Peeked("r1", np.array([[5.0, 0.0]])), now=0.006)
    (answer,) = of_kind([*heard, *scheduler.handle(Woke(), now=0.9)], Answer)
    assert (answer.outcome, answer.rows[0].source) == (Outcome.ANSWERED, Source.PEEK)


def two_workers():
    """One request of one variant, which runs on w; beside it `other`, which can run it, too."""
    scheduler = a_scheduler(an_application(takes(0.1), on_miss=OnMiss.LATE), policy=make("lo-edf"))
    scheduler.handle(WorkerUp("other", "cpu", 1000), now=0.0)
    scheduler.handle(Arrived(a_request()), now=0.0)
    (batch,) = of_kind(scheduler.handle(Woke(), now=0.0), RunBatch)
    assert batch.worker == "w"
    return scheduler, batch.batch_id


def test_a_row_that_loses_its_worker_fails_if_no_other_could_load_its_variant():
    """Found by a fault campaign: it runs on one worker while another cannot load the weights, and its own comes back
    and cannot either."""
    scheduler, _ = two_workers()
    assert not of_kind(scheduler.handle(LoadFailed("other", "sha-only", "no room"), now=0.01), Answer)
    assert not of_kind(scheduler.handle(WorkerDown("w", "killed"), now=0.02), Answer)
    scheduler.check()
    scheduler.handle(WorkerUp("w", "cpu", 1000), now=0.03)
    assert [b.worker for b in of_kind(scheduler.handle(Woke(), now=0.03), RunBatch)] == ["w"]
    scheduler.handle(LoadFailed("w", "sha-only", "no room"), now=0.04)
    (answer,) = of_kind(scheduler.handle(WorkerDown("w", "killed"), now=0.05), Answer)
    assert (answer.outcome, answer.detail) == (Outcome.FAILED, "killed")
    scheduler.check()


def test_what_one_worker_cannot_load_another_runs_and_the_row_does_not_suffer():
    scheduler, batch = two_workers()
    scheduler.handle(LoadFailed("w", "sha-only", "no room"), now=0.01)
    assert not of_kind(scheduler.handle(BatchFailed(batch, "no weights"), now=0.02), Answer)
    (again,) = of_kind(scheduler.handle(Woke(), now=0.02), RunBatch)
    assert again.worker == "other"
    scheduler.check()


def test_a_worker_that_could_not_load_it_may_when_it_comes_up_again():
    scheduler = a_scheduler(policy=make("lo-edf"))
    scheduler.handle(LoadFailed("w", "sha-only", "no room"), now=0.0)
    (answer,) = of_kind(scheduler.handle(Arrived(a_request()), now=0.01), Answer)
    assert answer.reason is Reason.NOT_READY
    scheduler.handle(WorkerDown("w", "restarted"), now=0.02)
    scheduler.handle(WorkerUp("w", "cpu", 1000), now=0.03)
    scheduler.handle(Arrived(a_request("r2")), now=0.04)
    assert of_kind(scheduler.handle(Woke(), now=0.04), RunBatch)
