"""Beliefs alone: what is told of them, and that a small run can be judged."""

import numpy as np
import pytest

from peekserve.experiments.horizon import beliefs
from peekserve.experiments.run import run
from tests.experiments.stand_ins import a_lab, a_recording

pytestmark = pytest.mark.core


def test_a_belief_that_is_always_right_and_knows_it_has_no_calibration_error():
    assert beliefs._calibration(np.ones(20), np.ones(20, dtype=bool)) == 0.0
    # Held to be 90% sure and right on half: of those that stand together, 0.4 too much.
    half = np.arange(20) % 2 == 0
    assert beliefs._calibration(np.full(20, 0.9), half) == pytest.approx(0.4)


def test_what_is_told_of_a_belief_by_hand():
    base, drawn = a_recording("falls"), np.array([0, 1, 3])
    labels = base.labels[drawn]
    theta = np.full((3, 2), 0.2)
    theta[np.arange(3), labels] = 0.8
    recall = np.array([base.quality(v).recall for v in base.variants])
    found = beliefs._told(theta, theta @ recall.T, (np.full(3, 0.9), 1 - labels), base, drawn)
    assert found["loss"] == pytest.approx(-np.log(0.8))
    assert found["apart"] == pytest.approx(0.9)  # the peek's own answers are all wrong here
    known = np.eye(2)[labels]
    assert beliefs._told(np.maximum(known, 1e-9), known @ recall.T, None, base, drawn)["error"] < 1e-6


def test_a_small_run_tells_of_every_kind_of_belief_and_is_the_same_again():
    [experiment] = beliefs.EXPERIMENTS
    [job] = experiment.jobs(a_lab(windows=2))
    rows = job(0)
    assert {(row["application"], row["by"]) for row in rows} == {
        (app, by) for app in beliefs.APPLICATIONS for by in beliefs.KINDS
    }
    assert rows == job(0)
    losses = {row["by"]: row["loss"] for row in rows if row["application"] == "keywords"}
    assert losses[beliefs.LEARNT] < losses[beliefs.PROFILE]  # votes say something


def test_a_small_run_is_judged():
    [experiment] = beliefs.EXPERIMENTS
    result = run(experiment, a_lab(windows=1), seeds=2, small=True)
    assert result.findings
    assert all(np.isfinite(finding.interval.measured) for finding in result.findings)
