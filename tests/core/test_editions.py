"""Applications that join a running scheduler, and variants that are loaded and unloaded by hand."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.core.catalogue import Catalogue
from peekserve.core.options import Options
from peekserve.core.scheduler import Scheduler
from peekserve.domain.messages import (
    Answer,
    Arrived,
    BatchDone,
    Load,
    Loaded,
    LoadFailed,
    Offered,
    Registered,
    RunBatch,
    Unload,
    Woke,
    WorkerUp,
)
from peekserve.domain.request import Outcome, Reason, Request
from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidConfiguration, UnknownApplication, UnknownVariant
from peekserve.policies import make
from tests.core.stories import RunAll, an_application, takes

BUDGET = 10


def a_scheduler(*applications, preload=True, policy=None):
    return Scheduler(policy or RunAll(), Catalogue(applications), Options(preload=preload))


def up(scheduler, now=0.0, worker="w0"):
    return scheduler.handle(WorkerUp(worker, "cpu", BUDGET), now)


def asks(scheduler, name="r1", application="app", now=0.0, **kwargs):
    commands = scheduler.handle(Arrived(Request(name, application, now, now + 1.0, **kwargs)), now)
    return commands + scheduler.handle(Woke(), now)


def of(kind, commands):
    return [c for c in commands if isinstance(c, kind)]


def done(scheduler, batch, now, classes=2):
    scores = np.full((len(batch.rows), classes), 1 / classes)
    commands = scheduler.handle(BatchDone(batch.batch_id, scores, now - 0.01, now), now)
    scheduler.check()
    return commands


def test_an_application_that_joins_is_served_beside_those_that_were_there():
    scheduler = a_scheduler(an_application(takes(0.1)))
    up(scheduler)
    [first] = of(RunBatch, asks(scheduler))
    assert scheduler.handle(Registered(an_application(takes(0.2, "other"), name="new")), 0.01) == []
    scheduler.check()
    done(scheduler, first, 0.1)
    commands = asks(scheduler, "r2", "new", now=0.2)
    assert [c.weights for c in of(Load, commands)] == ["sha-other"]
    assert [(c.application, c.variant) for c in of(RunBatch, commands)] == [("new", "other")]


def test_one_with_more_classes_and_variants_than_any_before_widens_everything_that_rows_stand_in():
    scheduler = a_scheduler(an_application(takes(0.1)))
    up(scheduler)
    [batch] = of(RunBatch, asks(scheduler, rows=3))
    three = [takes(0.1, name, (0.9,) * 5) for name in ("a", "b", "c")]
    scheduler.handle(Registered(an_application(*three, name="wide", classes=tuple("vwxyz"))), 0.01)
    scheduler.check()
    assert [a.outcome for a in of(Answer, done(scheduler, batch, 0.1))] == [Outcome.ANSWERED]
    [batch] = of(RunBatch, asks(scheduler, "r2", "wide", now=0.2))
    [answer] = of(Answer, done(scheduler, batch, 0.3, classes=5))
    assert len(answer.rows[0].scores) == 5


def test_two_editions_of_one_application_are_served_side_by_side_and_share_what_is_the_same():
    old = an_application(takes(0.1))
    scheduler = a_scheduler(old)
    up(scheduler)
    scheduler.handle(Registered(replace(old, edition="3f9a")), 0.0)
    [batch] = of(RunBatch, asks(scheduler, application="app@3f9a"))
    assert batch.application == "app@3f9a"
    assert not of(Load, asks(scheduler, "r2", "app", now=0.01))  # the same weights: loaded once
    done(scheduler, batch, 0.1)


def test_a_key_is_registered_once():
    scheduler = a_scheduler(an_application())
    with pytest.raises(InvalidConfiguration, match="there already"):
        scheduler.handle(Registered(an_application()), 0.0)
    scheduler.check()


def test_what_is_unloaded_takes_no_new_requests_and_finishes_the_old_ones_before_its_weights_go():
    scheduler = a_scheduler(an_application(takes(0.1)))
    up(scheduler)
    [batch] = of(RunBatch, asks(scheduler))
    waiting = asks(scheduler, "r2", now=0.01)
    assert not of(RunBatch, waiting)
    assert not of(Unload, scheduler.handle(Offered("app", ()), 0.02))
    [refused] = of(Answer, asks(scheduler, "r3", now=0.03))
    assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.NOT_READY)
    assert "load it again" in refused.detail
    assert not of(Unload, done(scheduler, batch, 0.1))  # r2 still may use it
    [batch] = of(RunBatch, scheduler.handle(Woke(), 0.1))
    commands = done(scheduler, batch, 0.2)
    assert [a.outcome for a in of(Answer, commands)] == [Outcome.ANSWERED]
    assert [c.weights for c in of(Unload, commands)] == ["sha-only"]


def test_weights_that_another_application_uses_stay():
    shared = takes(0.1)
    scheduler = a_scheduler(an_application(shared), an_application(shared, name="other"))
    up(scheduler)
    assert not of(Unload, scheduler.handle(Offered("app", ()), 0.0))
    assert [c.weights for c in of(Unload, scheduler.handle(Offered("other", ()), 0.0))] == ["sha-only"]
    scheduler.check()


def test_a_variant_alone_is_unloaded_and_the_others_answer():
    scheduler = a_scheduler(an_application(takes(0.1, "a"), takes(0.1, "b")), policy=RunAll(1))
    up(scheduler)
    scheduler.handle(Offered("app", ("b",)), 0.0)
    [refused] = of(Answer, asks(scheduler, pinned="a"))
    assert refused.reason is Reason.NOT_READY
    [batch] = of(RunBatch, asks(scheduler, "r2"))
    assert batch.variant == "b"


def test_what_is_offered_again_is_loaded_where_it_fits_and_nothing_makes_room_for_it():
    scheduler = a_scheduler(
        an_application(takes(0.1, "small", size=4)), an_application(takes(0.1, "big", size=8), name="other")
    )
    assert [c.weights for c in of(Load, up(scheduler))] == ["sha-small"]
    assert scheduler.handle(Offered("app", ()), 0.0) == [Unload("w0", "sha-small")]
    [load] = of(Load, scheduler.handle(Offered("app", ("small",)), 0.0))
    assert (load.worker, load.weights, load.warm) == ("w0", "sha-small", True)
    assert not of(Load, scheduler.handle(Offered("other", ()), 0.0))
    assert not of(Load, scheduler.handle(Offered("other", ("big",)), 0.0))
    scheduler.check()


def test_a_load_by_hand_forgets_that_the_last_one_failed():
    scheduler = a_scheduler(an_application(takes(0.1)))
    up(scheduler)
    scheduler.handle(LoadFailed("w0", "sha-only", "out of memory"), 0.0)
    assert of(Answer, asks(scheduler))[0].reason is Reason.NOT_READY
    assert [c.weights for c in of(Load, scheduler.handle(Offered("app", ("only",)), 0.1))] == ["sha-only"]
    assert of(RunBatch, asks(scheduler, "r2", now=0.2))


def test_a_load_by_hand_loads_what_may_be_used_already_and_is_not_there():
    """Found in review: a revision that had just joined was said to be loaded, and no worker had been asked."""
    scheduler = a_scheduler(an_application(takes(0.1, size=4)))
    up(scheduler)
    scheduler.handle(Registered(an_application(takes(0.1, "new", size=4), edition="v2")), 0.0)
    [load] = of(Load, scheduler.handle(Offered("app@v2", ("new",)), 0.0))
    assert (load.application, load.weights, load.warm) == ("app@v2", "sha-new", True)
    assert not of(Load, scheduler.handle(Offered("app@v2", ("new",)), 0.1))
    scheduler.check()


def test_who_loads_by_hand_behind_a_batch_is_not_free_when_that_ends():
    """Found in review: requests were taken in for a worker that had still to load."""
    slow = takes(0.1, "slow", load_s=1.0, size=4)
    apps = [an_application(takes(0.1, size=4)), an_application(slow, name="other")]
    scheduler = Scheduler(make("horizon"), Catalogue(apps), Options(admit=True))
    up(scheduler)
    [first] = of(RunBatch, asks(scheduler))
    assert of(Load, scheduler.handle(Offered("other", ("slow",)), 0.05))
    done(scheduler, first, 0.1)
    [refused] = of(Answer, asks(scheduler, "r2", now=0.1))
    assert refused.reason is Reason.DEADLINE_INFEASIBLE
    scheduler.handle(Loaded("w0", "sha-slow", 0.5, 4), 0.55)
    assert of(RunBatch, asks(scheduler, "r3", now=0.55))


def test_a_worker_that_comes_up_is_not_given_what_is_unloaded():
    scheduler = a_scheduler(an_application(takes(0.1)))
    scheduler.handle(Offered("app", ()), 0.0)
    assert not of(Load, up(scheduler))


def test_names_that_are_not_there_change_nothing():
    scheduler = a_scheduler(an_application(takes(0.1)))
    up(scheduler)
    with pytest.raises(UnknownApplication):
        scheduler.handle(Offered("nobody", ()), 0.0)
    with pytest.raises(UnknownVariant):
        scheduler.handle(Offered("app", ("none",)), 0.0)
    assert of(RunBatch, asks(scheduler))


def test_penalty_tables_keep_their_numbers_when_more_of_them_come():
    early, late = (Penalty.table(((0.0, 0.0), (at, 1.0))) for at in (0.1, 0.2))
    app = an_application(takes(0.1))
    query = app.query()
    catalogue = Catalogue(
        [
            replace(app, name="a", queries=(("default", replace(query, penalty=early)),)),
            replace(app, name="b", queries=(("default", replace(query, penalty=early)),)),
            replace(app, name="c", queries=(("default", replace(query, penalty=late)),)),
        ]
    )
    before = [catalogue.penalty(p, 1.0)[1] for p in (early, late)]
    assert [float(catalogue.tables.x[int(catalogue.tables.start[int(i)]) + 1]) for i in before] == [0.1, 0.2]
    more = Penalty.table(((0.0, 0.0), (0.3, 1.0)))
    catalogue.add(replace(app, name="d", queries=(("default", replace(query, penalty=more)),)))
    assert [catalogue.penalty(p, 1.0)[1] for p in (early, late)] == before
