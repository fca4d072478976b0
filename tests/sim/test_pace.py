"""A worker that runs slow for a while: what it costs who plans by the profile, and who notices."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.core.pace import Pace
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import OnMiss
from peekserve.domain.request import Outcome, Request, TensorRef
from peekserve.sim.campaign import campaign, drawn
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.faults import Faults, Slow
from peekserve.sim.planted import instead
from peekserve.sim.setting import SAMPLES, applications, recorded
from peekserve.sim.world import RecordedWorld

WORKERS = (SimWorker("w0"), SimWorker("w1"))
HOT = (Slow("w1", at=1.0, seconds=2.0, factor=2.0),)


def requests(seed, seconds=4.0, rate=150.0, deadline_s=0.05):
    rng = np.random.default_rng([seed, 77])
    at = np.sort(rng.uniform(0.0, seconds, int(rate * seconds)))
    return [
        Request(f"r{i}", "x", t, t + deadline_s, payload=TensorRef(str(rng.integers(SAMPLES))))
        for i, t in enumerate(at.tolist())
    ]


def run(seed, follow_pace, slows=HOT, policy="sneakpeek"):
    apps = applications(OnMiss.REJECT, OnMiss.REJECT)
    spec = SchedulerSpec(policy, follow_pace=follow_pace, lead_s=0.001)
    world = RecordedWorld({app.name: app for app in apps}, recorded(), jitter=True)
    scheduler = spec.build(apps)
    settled = Simulation(scheduler, WORKERS, world, seed, Faults(slows=slows)).run(requests(seed))
    return settled, scheduler


def in_time(settled):
    return np.mean([one.answer.outcome is Outcome.ANSWERED for one in settled])


def test_who_notices_that_a_worker_runs_slow_answers_more_in_time():
    for policy, factor in (("sneakpeek", 2.0), ("horizon", 3.0)):
        hot = tuple(replace(one, factor=factor) for one in HOT)
        with_it, without = (
            np.mean([in_time(run(seed, follow, hot, policy)[0]) for seed in range(2)])
            for follow in (True, False)
        )
        assert with_it > without


def test_where_nothing_is_slow_nothing_changes():
    with_it, scheduler = run(0, True, slows=())
    without, _ = run(0, False, slows=())
    assert with_it == without
    assert set(scheduler.paces().values()) == {1.0}


def test_when_it_is_over_the_profiles_count_again():
    _, scheduler = run(0, True)
    assert set(scheduler.paces().values()) == {1.0}


def test_stories_with_slow_workers_are_drawn_and_paces_are_followed_in_some():
    stories = [drawn(seed) for seed in range(60)]
    assert {story.spec.follow_pace for story in stories} == {True, False}
    assert any(story.slows for story in stories)


def stale(scheduler):
    """The tables of a worker are not made anew when its pace changes."""
    first = {}
    paces = scheduler._fleet.paces
    instead(
        paces, "table", lambda kept, worker, base: first.setdefault((worker, id(base)), kept(worker, base))
    )


def unmoved(scheduler):
    """A batch is counted, and what is planned with stays as it was."""

    class Unmoved(Pace):
        def _planned_with(self, changed):
            return False

    def came(kept, worker, device, now):
        kept(worker, device, now)
        paces = scheduler._fleet.paces
        if worker in paces._of:
            paces._of[worker] = device, Unmoved()

    instead(scheduler._fleet.paces, "came", came)


@pytest.mark.parametrize("plant", [stale, unmoved])
def test_planted_bugs_are_found(plant):
    found = next(one for one in campaign(range(100), plant) if one is not None)
    assert "planned with" in found.failure.told or "plans do not say so" in found.failure.told
