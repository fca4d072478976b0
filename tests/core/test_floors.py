"""What may answer a request that asks for at least so much accuracy."""

import numpy as np
import pytest

from peekserve.core.beliefs import make
from peekserve.core.catalogue import Catalogue
from peekserve.core.floors import good_enough
from peekserve.domain.application import OnMiss
from peekserve.domain.messages import Answer, Arrived, Peek, Peeked, RunBatch, Woke
from peekserve.domain.request import Outcome, Reason, Source
from peekserve.errors import ConstraintInfeasible, InvalidRequest
from peekserve.sim.setting import applications
from tests.core.stories import RunAll, a_peek, a_request, a_scheduler, an_application, of_kind, takes

pytestmark = pytest.mark.core


def two_variants(**kwargs):
    return an_application(
        takes(0.01, "quick", (0.7, 0.7)), takes(0.1, "right", (0.9, 0.9)), peek=a_peek(0.8), **kwargs
    )


def test_only_variants_that_are_profiled_at_the_floor_run():
    scheduler = a_scheduler(two_variants(), policy=RunAll(variant=0), peek=False)
    scheduler.handle(Arrived(a_request("any", min_accuracy=0.7)), 0.0)
    scheduler.handle(Arrived(a_request("good", min_accuracy=0.71)), 0.0)
    assert [[r.request_id for r in b.rows] for b in of_kind(scheduler.handle(Woke(), 0.0), RunBatch)] == [
        ["any"]
    ]
    assert scheduler._backlog.allowed[scheduler._ledger.open["good"].slots[0]].tolist() == [False, True]


def test_a_floor_that_nothing_reaches_is_not_taken_in():
    scheduler = a_scheduler(two_variants())
    for wrong in (a_request(min_accuracy=0.91), a_request(min_accuracy=0.8, pinned="quick")):
        with pytest.raises(ConstraintInfeasible, match="profiled at an accuracy of"):
            scheduler.handle(Arrived(wrong), 0.0)
    assert scheduler.open_requests == 0
    scheduler.check()
    with pytest.raises(InvalidRequest, match="a floor of 1"):
        a_request(min_accuracy=1.5)


def test_a_deadline_that_only_the_peek_could_keep_is_refused_where_it_is_not_worth_enough():
    for floor, outcome in ((0.8, None), (0.85, Outcome.REFUSED)):
        scheduler = a_scheduler(two_variants(on_miss=OnMiss.DEGRADE))
        commands = scheduler.handle(Arrived(a_request(due_at=0.005, min_accuracy=floor)), 0.0)
        assert [a.outcome for a in of_kind(commands, Answer)] == ([outcome] if outcome else [])
        assert bool(of_kind(commands, Peek)) == (outcome is None)


def test_at_the_last_instant_the_peek_answers_only_if_it_is_worth_enough():
    for floor, outcome in ((0.0, Outcome.ANSWERED), (0.8, Outcome.ANSWERED), (0.85, Outcome.EXPIRED)):
        scheduler = a_scheduler(two_variants(on_miss=OnMiss.DEGRADE), policy=RunAll(variant=0))
        scheduler.handle(Arrived(a_request("long", due_at=9.0, pinned="right")), 0.0)
        scheduler._turns._levels.policy = RunAll(variant=1)
        scheduler.handle(Woke(), 0.0)
        scheduler.handle(Arrived(a_request(due_at=0.15, min_accuracy=floor)), 0.0)
        scheduler.handle(Peeked("r1", np.array([[3.0, 0.0]])), 0.001)
        [answer] = of_kind(scheduler.handle(Woke(), 0.14), Answer)
        assert answer.outcome is outcome, floor
        assert [row.source for row in answer.rows] == [Source.PEEK] * (outcome is Outcome.ANSWERED)
        assert answer.reason in (Reason.OK, Reason.DEADLINE_EXCEEDED)
        scheduler.check()


def test_a_belief_that_judges_itself_decides_row_by_row():
    catalogue = Catalogue(applications(OnMiss.DEGRADE, OnMiss.REJECT))
    belief, _ = make("calibrated", catalogue)
    worth = belief.believe(np.array([[9.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])).instant
    floor = float(worth.mean())
    assert good_enough(catalogue, 0, belief, worth, 0.0).tolist() == worth.tolist()
    assert np.isnan(good_enough(catalogue, 0, belief, worth, floor)).tolist() == [False, True]
    assert np.isnan(good_enough(catalogue, 0, belief, worth, 1.0)).all()
