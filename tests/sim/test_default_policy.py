"""The default policy on repositories that lack what it goes with: it serves them, and no worse than SneakPeek's."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.awareness.estimate import leading
from peekserve.awareness.posterior import posterior_mean
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import OnMiss
from peekserve.domain.profile import Quality
from peekserve.domain.request import Outcome, Source
from peekserve.results import row, summary
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.world import RecordedWorld
from tests.core.stories import an_application, takes
from tests.sim.runs import a_trace, applications, world

WORLD = world(applications())
DEFAULT, SNEAKPEEK = SchedulerSpec(), SchedulerSpec(policy="sneakpeek")


def with_a_true_peek(app):
    """Its peek's profile as it really is here. Who believes less of it than it is worth, and plans the better for it,
    does worse."""
    known = WORLD.recorded[app.name]
    confusion = np.zeros((len(app.classes), len(app.classes)), np.int64)
    np.add.at(confusion, (known.labels, leading(posterior_mean(app.prior, known.counts))), 1)
    return replace(app, peek=replace(app.peek, quality=Quality.from_confusion(confusion)))


def without_peek(app):
    return replace(app, peek=None, on_miss=OnMiss.REJECT)


def without_labels(app):
    """No validation data: nothing is known of a variant but its times."""
    variants = tuple(replace(v, quality=None) for v in app.variants)
    return replace(app, variants=variants, peek=replace(app.peek, quality=None))


def of_one_variant(app):
    return replace(app, variants=app.variants[-1:])


LACKING = {
    "stated profile": [with_a_true_peek(app) for app in applications()],
    "no peek": [without_peek(app) for app in applications()],
    "no labels": [without_labels(app) for app in applications()],
    "no peek, no labels": [without_peek(without_labels(app)) for app in applications()],
    "one variant": [of_one_variant(app) for app in applications()],
    "one variant, no peek": [of_one_variant(without_peek(app)) for app in applications()],
}


def served(spec, apps, rate, rows=1, seed=0, **asked):
    trace = [replace(r, **asked) for r in a_trace(apps, rate, seconds=1.0, seed=seed, rows=rows)]
    settled = Simulation(spec.build(apps), [SimWorker("w", "cpu", 1000)], WORLD, seed, check=True).run(trace)
    assert [s.request.id for s in settled] == [r.id for r in trace]
    return settled


def realised(settled, apps):
    """Their rows, as every report counts them."""
    by_name = {app.name: app for app in apps}
    rows = []
    for s in settled:
        known = WORLD.recorded[s.request.application]
        labels = [int(known.labels[known.sample(s.request, i)]) for i in range(s.request.rows)]
        answer = s.answer
        app = by_name[s.request.application]
        rows.append(row(s.request, app, labels, answer.outcome, answer.reason, answer.rows, s.at))
    return summary(rows)


def test_it_is_horizon_with_calibrated_beliefs_and_escalation():
    assert DEFAULT.policy == "horizon"
    assert DEFAULT.escalates


@pytest.mark.parametrize("lacking", LACKING)
def test_under_little_load_everything_is_answered_in_time(lacking):
    apps = LACKING[lacking]
    for s in served(DEFAULT, apps, rate=10):
        if s.request.deadline_s > 0.05:
            assert s.answer.outcome is Outcome.ANSWERED
            assert all(r.source in (Source.MODEL, Source.PEEK) for r in s.answer.rows)


@pytest.mark.parametrize("lacking", LACKING)
def test_under_overload_it_is_worth_what_sneakpeek_is(lacking):
    apps = LACKING[lacking]
    ours, theirs = (realised(served(spec, apps, rate=500), apps) for spec in (DEFAULT, SNEAKPEEK))
    assert ours.requests == theirs.requests > 400
    # Realised, with other models than SneakPeek would run: right or wrong is partly luck.
    assert ours.utility > theirs.utility - 0.02, (ours, theirs)


@pytest.mark.parametrize("lacking", LACKING)
def test_a_pinned_request_gets_that_variants_own_answer(lacking):
    apps = LACKING[lacking]
    name = apps[0].variants[-1].name
    only = [app for app in apps if name in [v.name for v in app.variants]]
    settled = served(DEFAULT, only, rate=20, rows=3, pinned=name)
    answered = [s for s in settled if s.answer.rows]
    assert len(answered) > len(settled) / 2
    for s in answered:
        assert {(r.source, r.variant) for r in s.answer.rows} == {(Source.MODEL, name)}


def test_one_variant_of_which_nothing_is_known_is_a_queue():
    app = an_application(replace(takes(0.01), quality=None), name="x", classes=tuple("abcd"))
    known = WORLD.recorded["x"]
    recorded = {"x": replace(known, scores={"only": np.eye(4)[known.labels]}, counts=None)}
    trace = [replace(r, due_at=r.arrived_at + 1.0) for r in a_trace([app], rate=50, seconds=1.0)]
    worker, alone = SimWorker("w", "cpu", 1000), RecordedWorld({"x": app}, recorded)
    settled = Simulation(DEFAULT.build([app]), [worker], alone, check=True).run(trace)
    assert {s.answer.outcome for s in settled} == {Outcome.ANSWERED}
    assert {r.expected_accuracy for s in settled for r in s.answer.rows} == {None}
