"""Whole simulations with calibrated beliefs."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.awareness.calibrate import fit
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.request import Source
from peekserve.live.journalling import replay
from peekserve.sim.confirming import Confirming, truth_of
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.state.journal import JournalReader, JournalWriter
from tests.sim.runs import a_trace, applications, world

WORLD = world(applications())
MEASURED = world(applications(), samples=400, seed=9)  # other samples of the same kind


def calibrated(app):
    known = MEASURED.recorded[app.name]
    calibration = fit(known.counts, known.labels, None, app.prior)
    return replace(app, peek=replace(app.peek, calibration=calibration))


APPS = [calibrated(app) for app in applications()]


def run(spec, apps=APPS, writer=None, confirm=None, rate=400.0):
    def note(event, now, commands):
        if writer is not None:
            writer.step(event, now, commands)

    simulation = Simulation(
        spec.build(apps), [SimWorker("w0", "cpu", 1000)], WORLD, 0, None, True, note, confirm
    )
    return simulation.run(a_trace(APPS, rate=rate, seconds=0.8, rows=3))


def answers(settled):
    return [(s.request.id, s.answer, s.at) for s in settled]


@pytest.mark.parametrize("beliefs", ["calibrated", "dirichlet", ""])
def test_a_journal_replays_with_the_beliefs_that_it_was_written_with(tmp_path, beliefs):
    path, spec = tmp_path / "run.journal", SchedulerSpec(beliefs=beliefs)
    confirm = Confirming(truth_of(WORLD.recorded), chance=0.5, delay_s=0.1)
    with JournalWriter(path, spec, APPS) as writer:
        run(spec, writer=writer, confirm=confirm)
    reader = JournalReader(path)
    assert [app.peek.calibration for app in reader.header.applications] == [a.peek.calibration for a in APPS]
    replayed = replay(reader)
    assert replayed.difference is None
    assert replayed.steps > 300


def test_the_beliefs_make_the_difference_and_calibrations_alone_make_none():
    ours, theirs = run(SchedulerSpec(beliefs="calibrated")), run(SchedulerSpec(beliefs="dirichlet"))
    assert answers(ours) != answers(theirs)
    assert answers(theirs) == answers(run(SchedulerSpec(), applications()))


def test_what_a_peek_says_of_its_own_answer_is_what_comes_of_it():
    settled = run(SchedulerSpec(beliefs="calibrated"), rate=2000.0)
    believed, right = [], []
    for one in settled:
        known = WORLD.recorded[one.request.application]
        for row, answer in enumerate(one.answer.rows):
            if answer.source is Source.PEEK:
                believed.append(answer.expected_accuracy)
                right.append(answer.label == known.labels[known.sample(one.request, row)])
    assert len(right) > 500
    assert np.mean(believed) == pytest.approx(np.mean(right), abs=0.03)
