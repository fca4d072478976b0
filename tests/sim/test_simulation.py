"""Whole runs of the real scheduler in pretended time, with every invariant checked after every event."""

import numpy as np
import pytest

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import OnMiss
from peekserve.domain.request import Outcome, Source
from peekserve.errors import InvariantBroken
from peekserve.policies import POLICIES, YARDSTICKS
from peekserve.policies.base import Switches
from peekserve.sim.faults import Faults
from tests.sim.runs import a_trace, applications, run

EVERY = [
    SchedulerSpec(
        policy=name, switches=Switches(aware=aware, short_circuit=aware), planning=planning, lead_s=lead
    )
    for name in sorted(set(POLICIES) - YARDSTICKS)
    for aware in (False, True)
    for planning, lead in (
        ("rolling", 0.0),
        ("rolling", 0.002),
        ("window(50ms)", 0.0),
        ("window(50ms, rebalance=10ms)", 0.001),
    )
]


@pytest.mark.parametrize(
    "spec", EVERY, ids=lambda s: f"{s.policy}-{s.switches.aware}-{s.planning}-{s.lead_s}"
)
def test_every_request_gets_one_outcome_under_overload(spec):
    trace = a_trace(applications(), rate=500, seconds=1.0, rows=3)
    settled = run(spec, trace)
    assert len(settled) == len(trace)
    for s in settled:
        if s.answer.outcome is Outcome.ANSWERED:
            assert s.at <= s.request.due_at
            assert len(s.answer.rows) == s.request.rows


@pytest.mark.parametrize("seed", range(20))
def test_faults_lose_nothing(seed):
    rng = np.random.default_rng(seed)
    spec = EVERY[int(rng.integers(len(EVERY)))]
    trace = a_trace(applications(), rate=300, seconds=1.5, seed=seed, rows=2)
    faults = Faults.drawn(["w0", "w1"], 1.5, kills=6, rng=rng)
    cancels = [(r.arrived_at + 0.01, r.id) for r in trace[::17]]
    outcomes = {s.answer.outcome for s in run(spec, trace, seed, workers=2, faults=faults, cancels=cancels)}
    assert Outcome.ANSWERED in outcomes


def test_the_same_seed_is_the_same_run_to_the_last_byte():
    trace = a_trace(applications(), rate=400, seconds=1.0)
    runs = [[] for _ in range(2)]
    for seen in runs:
        run(
            SchedulerSpec(),
            trace,
            seed=3,
            observe=lambda e, t, c, seen=seen: seen.append((t, repr(e), repr(c))),
        )
    assert runs[0] == runs[1]


def test_a_deadline_is_kept_or_told_by_then():
    trace = a_trace(applications(), rate=800, seconds=1.0)
    for s in run(SchedulerSpec(policy="lo-edf", on_miss=OnMiss.REJECT, peek=False), trace):
        assert s.at <= s.request.due_at + 1e-9, s


def test_short_circuit_answers_by_the_peek_what_nothing_else_can():
    trace = a_trace(applications(), rate=1500, seconds=1.0)
    settled = run(SchedulerSpec(policy="sneakpeek"), trace)
    by_peek = [s for s in settled if s.answer.rows and s.answer.rows[0].source is Source.PEEK]
    assert len(by_peek) > len(trace) / 20
    plain = run(
        SchedulerSpec(policy="sneakpeek", switches=Switches(), peek=False, on_miss=OnMiss.REJECT), trace
    )
    met = [sum(s.answer.outcome is Outcome.ANSWERED for s in run_) for run_ in (settled, plain)]
    assert met[0] > met[1]


def test_residency_counts_a_small_budget_is_slower():
    trace = a_trace(applications(), rate=300, seconds=1.0)
    spec = SchedulerSpec(policy="lo-edf", on_miss=OnMiss.REJECT, peek=False)
    roomy, tight = (
        sum(s.answer.outcome is Outcome.ANSWERED for s in run(spec, trace, budget=b)) for b in (4000, 500)
    )
    assert roomy > tight


def test_a_trace_that_runs_backwards_is_refused():
    trace = a_trace(applications(), rate=100, seconds=1.0)
    with pytest.raises(InvariantBroken, match="time runs backwards"):
        run(SchedulerSpec(), trace[::-1])
