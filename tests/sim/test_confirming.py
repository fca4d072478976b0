"""Simulations in which true classes come back."""

import numpy as np
import pytest

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.feedback import Verdict
from peekserve.domain.messages import Acknowledge, Confirmed, Recalled
from peekserve.errors import InvalidConfiguration
from peekserve.live.journalling import replay
from peekserve.sim.confirming import Confirming, truth_of
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.state.journal import JournalReader, JournalWriter
from tests.sim.runs import a_trace, applications, world
from tests.sim.test_beliefs import APPS as CALIBRATED

APPS = applications()
WORLD = world(APPS)
SPEC = SchedulerSpec(lead_s=0.002)


class Run:
    def __init__(self, confirm=None, seed=0, spec=SPEC, writer=None, applications=APPS):
        self.events, self.acknowledged, self.steps = [], [], []
        self._writer = writer
        self.scheduler = spec.build(applications)
        simulation = Simulation(
            self.scheduler, [SimWorker("w0", "cpu", 1000)], WORLD, seed, None, True, self.note, confirm
        )
        self.settled = simulation.run(a_trace(APPS, rate=200, seconds=0.7, rows=3))

    def note(self, event, now, commands):
        self.events.append((now, event))
        self.acknowledged += [c for c in commands if isinstance(c, Acknowledge)]
        if self._writer is not None:
            self._writer.step(event, now, commands)

    @property
    def answers(self):
        return [(s.request.id, s.answer, s.at) for s in self.settled]


def confirming(**kwargs):
    return Confirming(truth_of(WORLD.recorded), **kwargs)


def test_every_answered_request_is_confirmed_after_its_delay():
    run = Run(confirming(delay_s=0.5))
    answered = {s.request.id: s.at for s in run.settled if s.answer.rows}
    confirmed = {event.request_id: now for now, event in run.events if isinstance(event, Confirmed)}
    assert confirmed == {name: pytest.approx(at + 0.5) for name, at in answered.items()}
    assert {a.verdict for a in run.acknowledged} == {Verdict.ACCEPTED}


def test_the_labels_are_those_of_the_world():
    run = Run(confirming())
    requests = {s.request.id: s.request for s in run.settled}
    for acknowledge in run.acknowledged:
        request = requests[acknowledge.request_id]
        known = WORLD.recorded[request.application]
        want = [int(known.labels[known.sample(request, row)]) for row in range(request.rows)]
        assert [lesson.label for lesson in acknowledge.lessons] == want


def test_a_part_comes_back_and_the_same_part_each_time():
    all_of_them, some, again, other = (
        [a.request_id for a in Run(confirming(chance=chance), seed).acknowledged]
        for chance, seed in ((1.0, 0), (0.3, 0), (0.3, 0), (0.3, 5))
    )
    assert some == again != other
    assert 0.15 < len(some) / len(all_of_them) < 0.45


def test_labels_that_teach_nothing_change_nothing():
    # SneakPeek's beliefs learn nothing: with and without labels everything else happens alike.
    assert Run(confirming()).answers == Run().answers


def test_what_is_said_of_a_stream_as_it_was_profiled_is_that_it_is_usual():
    run = Run(confirming())
    for a, app in enumerate(APPS):
        drift = run.scheduler.feedback.drift(a)
        own = [a for a in run.acknowledged if a.application == app.name]
        assert drift.confirmed == sum(len(one.lessons) for one in own) > 50
        right = [lesson.said == lesson.label for one in own for lesson in one.lessons]
        assert abs(drift.right - np.mean(right)) < 0.1
        assert drift.votes < 3.0 > drift.labels


def test_a_run_with_feedback_replays_to_the_same_commands(tmp_path):
    path = tmp_path / "run.journal"
    with JournalWriter(path, SPEC, APPS) as writer:
        Run(confirming(chance=0.7, delay_s=0.05), writer=writer)
    replayed = replay(JournalReader(path))
    assert replayed.difference is None
    assert replayed.steps > 200


@pytest.mark.parametrize("wrong", [{"chance": 1.5}, {"chance": -0.1}, {"delay_s": -1.0}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidConfiguration):
        confirming(**wrong)


def test_what_a_stream_taught_is_there_again_in_another_scheduler():
    spec = SchedulerSpec(beliefs="calibrated")
    run = Run(Confirming(lambda request: (0,) * request.rows), spec=spec, applications=CALIBRATED)
    lessons = tuple(lesson for one in run.acknowledged for lesson in one.lessons)
    fresh = spec.build(CALIBRATED)
    before = [fresh.feedback.drift(a).prior[0] for a in range(2)]
    fresh.handle(Recalled(lessons), 0.0)
    for a in range(2):
        live, again = run.scheduler.feedback.drift(a), fresh.feedback.drift(a)
        assert again.prior[0] > before[a] + 0.2
        assert again.prior[0] == pytest.approx(live.prior[0], abs=0.1)
        assert (again.confirmed, again.right, again.believed) == (live.confirmed, live.right, live.believed)
