from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.core.catalogue import Catalogue
from peekserve.core.fleet import Fleet
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, QueryType, Score
from peekserve.domain.messages import Arrived, RunBatch, Woke, WorkerUp
from peekserve.domain.profile import Quality
from tests.core.stories import a_peek, a_request, an_application, of_kind, takes

RECALLS = st.lists(st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0)), min_size=1, max_size=5)


@given(RECALLS, RECALLS)
def test_normalised_values_keep_the_order_within_an_application(weak, strong):
    apps = [
        an_application(*(takes(0.1, f"{name}{i}", r) for i, r in enumerate(recalls)), name=name)
        for name, recalls in (("weak", weak), ("strong", strong))
    ]
    plain, scaled = Catalogue(apps), Catalogue(apps, normalise=True)
    for a in range(2):
        assert scaled.lanes[a].profiled.max() == pytest.approx(1.0)
        assert np.array_equal(
            np.argsort(scaled.lanes[a].profiled, kind="stable"),
            np.argsort(plain.lanes[a].profiled, kind="stable"),
        )
        assert scaled.recall[a] == pytest.approx(plain.recall[a] / plain.lanes[a].profiled.max())
    assert plain.scale == (1.0, 1.0)


def test_the_peeks_answer_is_normalised_too():
    app = an_application(takes(0.1, "half", (0.5, 0.5)), peek=a_peek(0.4))
    assert Catalogue([app]).instant == pytest.approx((0.4,))
    assert Catalogue([app], normalise=True).instant == pytest.approx((0.8,))


def test_an_application_that_nothing_is_known_of_counts_fully_when_normalised():
    unknown = an_application(takes(0.1, "new"))
    unknown = Application(
        "app", ("a", "b"), tuple(type(v)(v.name, "", v.name) for v in unknown.variants), (0.5, 0.5)
    )
    assert Catalogue([unknown], normalise=True).lanes[0].profiled.tolist() == [1.0]


def test_loads_are_planned_with_as_cautiously_as_batches():
    sure, unsure = takes(0.1, "sure", load_s=0.2), takes(0.1, "unsure", load_s=0.2)
    timing = {"cpu": replace(unsure.timing["cpu"], load_p95_s=0.3)}
    catalogue = Catalogue([an_application(sure, replace(unsure, timing=timing))])
    table = catalogue.device("cpu")
    assert table.load_s.tolist() == [0.2, 0.2]
    assert table.cautious_load_s.tolist() == [0.2, 0.3]
    fleet = Fleet(catalogue, hang_s=1.0)
    fleet.up("w", "cpu", 1000, 0.0)
    [worker] = fleet.view(["w"], 0.0)
    assert worker.load_s.tolist() == [0.2, 0.3]


def test_who_wants_a_score_is_served_by_what_is_good_at_it():
    # `sharp` is right more often; `calm` has the better class scores.
    sharp = takes(0.1, "sharp", (0.9, 0.9))
    calm = takes(0.1, "calm", (0.8, 0.8))
    graded = [
        type(v)(
            v.name,
            v.revision,
            v.weights,
            quality=Quality(q.recall, q.frequencies, quadratic=(s, s)),
            timing=v.timing,
        )
        for v, s in ((sharp, 0.7), (calm, 0.85))
        if (q := v.quality) is not None
    ]

    def ran(score: Score) -> str:
        app = an_application(*graded, score=score)
        scheduler = SchedulerSpec("maxacc-edf", peek=False).build([app])
        scheduler.handle(WorkerUp("w", "cpu", 1000), now=0.0)
        scheduler.handle(Arrived(a_request(due_at=9.0)), now=0.0)
        (batch,) = of_kind(scheduler.handle(Woke(), now=0.0), RunBatch)
        return batch.variant

    assert ran(Score.ACCURACY) == "sharp"
    assert ran(Score.QUADRATIC) == "calm"


def test_literally_a_batch_takes_as_long_as_its_rows_one_by_one():
    app = an_application(takes(0.1, grows=2.0))
    spec = SchedulerSpec(literal=True)
    table = spec.catalogue([app]).device("cpu").latency_s[0]
    assert table[0, :4] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert SchedulerSpec().catalogue([app]).device("cpu").latency_s[0][0, 32] == pytest.approx(0.2)
    assert app.literal().literal() == app.literal()


def test_each_query_type_has_its_own_penalty_table():
    from peekserve.domain.utility import Penalty

    gentle, harsh = (Penalty.table([(0.0, 0.0), (x, 1.0)]) for x in (1.0, 0.1))
    app = Application(
        "app",
        ("a", "b"),
        (takes(0.1),),
        (0.5, 0.5),
        queries=(("default", QueryType(1.0, gentle)), ("urgent", QueryType(0.2, harsh))),
    )
    catalogue = Catalogue([app])
    assert [catalogue.penalty(app.query(name).penalty, 1.0)[1] for name in ("default", "urgent")] == [
        0.0,
        1.0,
    ]
    assert catalogue.tables.x.tolist() == [0.0, 1.0, 0.0, 0.1]
