"""Short stories: plans in the project's own simulator, with the real scheduler."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from peekserve.core.catalogue import Catalogue
from peekserve.core.options import Options
from peekserve.core.scheduler import Scheduler
from peekserve.domain.application import OnMiss
from peekserve.domain.gears import GearPlan
from peekserve.domain.messages import BatchDone, RunBatch
from peekserve.domain.request import Outcome, Request, TensorRef
from peekserve.planner.loop import plan
from peekserve.planner.simulated import Simulated, run, simulate
from peekserve.policies.base import Switches
from peekserve.policies.gears import Gears
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.faults import Chances, Faults
from peekserve.sim.world import RecordedWorld
from tests.planner.worlds import a_problem, a_recording, an_application


def simulated(**more) -> Simulated:
    return Simulated(an_application(), a_recording(), requests=more.pop("requests", 500), **more)


@cache
def a_cascade_plan() -> GearPlan:
    """One gear of three stages."""
    made = plan(a_problem("p95=300ms", highest=200.0, ranges=1))
    assert isinstance(made, GearPlan)
    assert len(made.gears[0].stages) == 3
    return made


def waits(settled) -> np.ndarray:
    return np.array([one.at - one.request.arrived_at for one in settled])


def right(how: Simulated, settled) -> float:
    labels = how.recorded.labels
    return float(np.mean([s.answer.rows[0].label == labels[int(s.request.payload.key)] for s in settled]))


def by(settled, variant: str) -> float:
    return float(np.mean([one.answer.rows[0].variant == variant for one in settled]))


def test_every_request_is_answered_as_its_cascade_would():
    how, made = simulated(requests=1200), a_cascade_plan()
    settled = run(how, made, rate=20.0)
    expected = made.gears[0].expected
    assert right(how, settled) == pytest.approx(expected.accuracy, abs=0.02)
    reach = expected.reach
    assert by(settled, "tiny") == pytest.approx(reach[0] - reach[1], abs=0.03)
    assert by(settled, "large") == pytest.approx(reach[2], abs=0.03)


def test_with_nobody_else_a_request_takes_its_stages_time():
    """Tiny 2 ms, then small 5 ms, then large 20 ms, as far as it has to go."""
    how, made = simulated(), a_cascade_plan()
    settled = simulate(how, made, [float(i) for i in range(50)], list(range(50)))
    took = {
        one.answer.rows[0].variant: round(w * 1e3, 6) for one, w in zip(settled, waits(settled), strict=True)
    }
    assert took == {"tiny": 2.0, "small": 7.0, "large": 27.0}


def test_without_the_guard_too_much_load_is_late_and_with_it_it_is_less_accurate():
    made = a_cascade_plan()
    late, guarded = simulated(), simulated(guard=True)
    without, with_ = run(late, made, rate=400.0), run(guarded, made, rate=400.0)
    in_time = np.mean([one.answer.outcome is Outcome.ANSWERED for one in without])
    in_time_guarded = np.mean([one.answer.outcome is Outcome.ANSWERED for one in with_])
    assert in_time < 0.8
    assert in_time_guarded > 0.99
    assert right(guarded, with_) < right(late, without)


def test_at_the_load_that_it_was_planned_for_a_plan_holds_without_the_guard():
    how = simulated(requests=400)
    made = plan(a_problem(ranges=2, highest=200.0), how)
    assert isinstance(made, GearPlan)
    for gear in made.gears:
        settled = run(how, replace(made, gears=(replace(gear, low=0.0),)), rate=gear.high)
        assert np.quantile(waits(settled), 0.95) <= 0.2
        assert right(how, settled) == pytest.approx(gear.expected.accuracy, abs=0.03)


def test_the_whole_plan_changes_gear_as_the_load_does():
    how, rng = simulated(guard=True), np.random.default_rng(5)
    made = plan(a_problem(ranges=3, highest=300.0))
    assert isinstance(made, GearPlan)
    calm, rush = np.cumsum(rng.exponential(1 / 40, 120)), np.cumsum(rng.exponential(1 / 290, 600))
    instants = [*calm.tolist(), *(calm[-1] + rush).tolist()]
    settled = simulate(how, made, instants, (np.arange(720) % 2000).tolist())
    assert np.mean([one.answer.outcome is Outcome.ANSWERED for one in settled]) > 0.99
    assert right(how, settled[:120]) > right(how, settled[300:])


def test_the_same_seed_the_same_answers():
    made = a_cascade_plan()
    assert run(simulated(requests=100), made) == run(simulated(requests=100), made)


def test_bursts_make_a_plan_slower():
    made = a_cascade_plan()
    calm, wild = run(simulated(), made), run(simulated(burstiness=8.0), made)
    assert np.quantile(waits(wild), 0.95) > np.quantile(waits(calm), 0.95)


@pytest.mark.parametrize("guard", [0.0, 1.0])
@pytest.mark.parametrize("on_miss", [OnMiss.REJECT, OnMiss.LATE])
def test_every_invariant_holds_when_workers_fail(guard, on_miss):
    """With faults on, every core object's check() after each event: each request has one outcome."""
    app = replace(an_application(), on_miss=on_miss)
    policy = Gears(Switches(), {"app": a_cascade_plan()}, guard=guard)
    scheduler = Scheduler(policy, Catalogue([app]), Options(peek=False))
    world = RecordedWorld({"app": app}, {"app": a_recording()}, jitter=True)
    faults = Faults(chances=Chances(fails=0.05, lost=0.01, slow=0.05, twice=0.05))
    seen: list[str] = []

    def observe(event, now, commands) -> None:
        seen.extend(type(one).__name__ for one in (event, *commands) if isinstance(one, BatchDone | RunBatch))

    instants = 1.0 + np.cumsum(np.random.default_rng(7).exponential(1 / 150, 300))
    requests = [
        Request(f"r{i}", "app", at, at + 0.2, rows=1 + i % 2, payload=TensorRef(str(i)))
        for i, at in enumerate(instants.tolist())
    ]
    workers = [SimWorker("cpu:0", "cpu", resident=("sha-tiny", "sha-small", "sha-large"))]
    settled = Simulation(scheduler, workers, world, 3, faults, check=True, observe=observe).run(requests)
    assert len(settled) == 300
    assert {"BatchDone", "RunBatch"} <= set(seen)
    assert scheduler.open_rows == 0
