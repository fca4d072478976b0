"""Whole runs with answers in hand, faults on, and every invariant checked after every event."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.awareness.calibrate import fit
from peekserve.core.columns import WAITING
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import OnMiss
from peekserve.domain.messages import RunBatch, Woke
from peekserve.domain.profile import Quality
from peekserve.domain.request import Outcome, Source
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.faults import Faults
from tests.sim.runs import a_trace, applications, world

ROLLING = SchedulerSpec(policy="sneakpeek", beliefs="calibrated", escalate=True, preload=False)


def measured():
    """The applications with what validation would say of them: here, of the very samples of the world."""
    plain = applications()
    recorded = world(plain).recorded
    made = []
    for app in plain:
        seen, classes = recorded[app.name], len(app.classes)
        variants = []
        for variant in app.variants:
            confusion = np.zeros((classes, classes), np.int64)
            np.add.at(confusion, (seen.labels, seen.scores[variant.name].argmax(axis=1)), 1)
            variants.append(replace(variant, quality=Quality.from_confusion(confusion)))
        calibration = fit(seen.counts, seen.labels, None, app.prior)
        peek = replace(app.peek, calibration=calibration)
        made.append(replace(app, variants=tuple(variants), peek=peek))
    return made


def run(spec, trace, seed=0, workers=1, faults=None, cancels=(), budget=4000):
    """The outcomes, and how many rows were run for each row that any model ran for."""
    apps, ran = measured(), []

    def observe(event, now, commands):
        ran.extend(ref for c in commands if isinstance(c, RunBatch) for ref in c.rows)

    fleet = [SimWorker(f"w{i}", "cpu", budget) for i in range(workers)]
    simulation = Simulation(spec.build(apps), fleet, world(apps), seed, faults, check=True, observe=observe)
    return simulation.run(trace, cancels), len(ran) / max(len(set(ran)), 1)


@pytest.mark.parametrize("seed", range(8))
def test_faults_lose_nothing_that_a_model_has_answered(seed):
    rng = np.random.default_rng(seed)
    spec = replace(
        ROLLING,
        policy=("sneakpeek", "horizon")[seed % 2],
        lead_s=(0.0, 0.002)[seed // 2 % 2],
        margin_s=(0.0, 0.002)[seed // 4 % 2],
        on_miss=(None, OnMiss.REJECT, OnMiss.LATE)[seed % 3],
        escalate_gain=0.0,
    )
    trace = a_trace(applications(), rate=60 + 80 * (seed % 3), seconds=0.8, seed=seed, rows=3)
    faults = Faults.drawn(["w0", "w1"], 0.8, kills=4, rng=rng)
    cancels = [(r.arrived_at + 0.01, r.id) for r in trace[::17]]
    settled, _ = run(spec, trace, seed, workers=2, faults=faults, cancels=cancels)
    assert len(settled) == len(trace)  # exactly one each: the simulation raises otherwise
    for s in settled:
        if s.answer.outcome is Outcome.ANSWERED:
            assert s.at <= s.request.due_at
            assert all(sum(row.scores) == pytest.approx(1.0) for row in s.answer.rows)


def test_rows_run_again_where_there_is_time_and_less_under_load():
    again = []
    for rate in (30, 300):
        trace = a_trace(applications(), rate=rate, seconds=1.0)
        settled, runs = run(replace(ROLLING, policy="horizon"), trace)
        sources = {row.source for s in settled for row in s.answer.rows}
        assert Source.FUSED in sources
        assert Source.MODEL not in sources
        again.append(runs)
    assert again[0] >= again[1]


def test_the_same_seed_escalates_the_same():
    trace = a_trace(applications(), rate=100, seconds=0.5)
    first, second = (run(ROLLING, trace, seed=3)[0] for _ in range(2))
    assert repr(first) == repr(second)


class Noting:
    """The same plans; which rows the last one had batches for."""

    def __init__(self, policy):
        self.policy, self.backlog, self.placed = policy, None, set()

    def plan(self, view):
        plan, slots = self.policy.plan(view), self.backlog.waiting()
        self.placed = {int(slots[row]) for batch in plan.batches for row in batch.rows}
        return plan


def kept_for_later(lead_s, seed):
    """How often a row waited with an answer in hand, summed over all turns of a run; each time a plan had a place for
    it."""
    apps, kept = measured(), []
    spec = replace(ROLLING, policy="horizon", lead_s=lead_s, escalate_gain=0.0)
    policy = Noting(spec.made())
    scheduler = spec.over(spec.catalogue(apps), policy)
    policy.backlog = backlog = scheduler._backlog

    def observe(event, now, commands):
        # All that happens at one instant is planned at its end: till then nothing is decided.
        if (
            isinstance(event, Woke)
            and scheduler._turns._wake_at > now
            and scheduler._fleet.available(now, np.inf)
        ):
            kept.append(set(np.flatnonzero(backlog.in_hand & (backlog.state == WAITING)).tolist()))
            assert kept[-1] <= policy.placed, (seed, now)

    trace = a_trace(apps, rate=150, seconds=0.6, seed=seed, rows=2)
    faults = Faults.drawn(["w0", "w1"], 0.6, kills=2, rng=np.random.default_rng(seed))
    fleet = [SimWorker(f"w{i}", "cpu", 4000) for i in range(2)]
    Simulation(scheduler, fleet, world(apps), seed, faults, check=True, observe=observe).run(trace)
    return sum(map(len, kept))


@pytest.mark.parametrize("lead_s", [0.0, 0.003, 0.02])
def test_an_answer_in_hand_waits_only_for_what_a_plan_has_a_place_for(lead_s):
    assert sum(kept_for_later(lead_s, seed) for seed in range(4)) > 0
