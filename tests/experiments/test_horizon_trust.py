"""Trust, shift, weights: what the experiments are made of, and that a small run of each can be judged."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.core.catalogue import Catalogue
from peekserve.experiments.horizon import shift, trust, weights
from peekserve.experiments.horizon.realised import HORIZON
from peekserve.experiments.horizon.told import CLAIRVOYANT, Told, labelled, told
from peekserve.experiments.horizon.worlds import of_the_paper
from peekserve.experiments.run import laboratory, run
from peekserve.experiments.sneakpeek.lab import Lab, Setting
from peekserve.sim.world import Recorded


@pytest.fixture(scope="module")
def lab() -> Lab:
    return replace(laboratory(small=True), windows=1)


def test_labels_stand_beside_the_votes():
    known = Recorded(np.array([1, 0]), {}, np.array([[3.0, 2.0], [5.0, 0.0]]))
    np.testing.assert_array_equal(labelled(known), [[3.0, 1002.0], [1005.0, 0.0]])


def test_who_is_told_knows_whether_the_peek_is_right(lab: Lab):
    scene = of_the_paper(lab, Setting(), seed=0)
    falls = [app.name for app in scene.applications].index("falls")
    belief = Told(Catalogue(scene.applications), falls)
    seen = belief.believe(np.array([[1003.0, 2.0], [3.0, 1002.0], [0.0, 1005.0]]))
    np.testing.assert_array_equal(belief.answer(seen.theta), [0, 0, 1])  # the votes' answer, not the label
    np.testing.assert_array_equal(seen.instant, [1.0, 0.0, 1.0])
    recall = [v.quality.recall[1] for v in scene.applications[falls].variants]
    np.testing.assert_allclose(seen.accuracy[1], recall)


def test_what_is_told_is_never_answered_wrongly_by_the_peek(lab: Lab):
    got = [one for window in told(of_the_paper(lab, Setting(), seed=0)).play(CLAIRVOYANT) for one in window]
    assert any(one.row.by_peek for one in got)
    assert all(one.row.correct == 1.0 for one in got if one.row.by_peek)


def test_the_second_half_of_a_stream_has_its_own_mix(lab: Lab):
    both = shift.halves(replace(lab, windows=40), Setting(), seed=3)
    before, after = both.before.recorded["falls"].labels, both.after.recorded["falls"].labels
    assert (before == 0).mean() > 0.85
    assert 0.4 < (after == 0).mean() < 0.6
    joined = both.joined()
    assert len(joined.windows) == 2 * len(both.before.windows)
    last = joined.windows[-1][0]
    own = both.after.windows[-1][0]
    name = last.application
    assert joined.recorded[name].labels[last.sample] == both.after.recorded[name].labels[own.sample]


def test_a_weight_changes_what_is_wanted_and_not_what_is_counted(lab: Lab):
    scene = weights._weighed(of_the_paper(replace(lab, windows=6), Setting(), seed=1), 19.0)
    app = next(app for app in scene.applications if app.name == weights.APPLICATION)
    for one in (one for window in scene.play(HORIZON) for one in window):
        if one.row.application == app.name:
            plain = weights._unweighed(one, app)
            assert plain == pytest.approx(one.row.utility / (1.9 if one.label == weights.FALL else 0.1))
            assert 0.0 <= plain <= 1.0


@pytest.mark.parametrize("family", [trust, shift, weights])
def test_a_small_run_is_judged(family, lab: Lab):
    [experiment] = family.EXPERIMENTS
    tiny = replace(lab, windows=2 if family is weights else 1)
    result = run(experiment, tiny, seeds=1, small=True)
    assert result.findings
    assert all(np.isfinite(finding.interval.measured) for finding in result.findings)
    assert result.summary["tables"]


def test_the_same_seed_gives_the_same_rows(lab: Lab):
    [experiment] = shift.EXPERIMENTS
    first, again = (run(experiment, lab, seeds=1, small=True) for _ in range(2))
    assert first.table.rows == again.table.rows
