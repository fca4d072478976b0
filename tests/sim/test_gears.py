"""Whole simulations of gear plans, as a server would run them: killed workers, journals, what is loaded first."""

import json
from dataclasses import replace

import numpy as np
import pytest

from peekserve.cascades.certainty import margin
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import OnMiss
from peekserve.domain.gears import Expected, Gear, GearPlan, Holding, Planned, Share
from peekserve.domain.messages import Load
from peekserve.domain.request import Outcome, Request, TensorRef
from peekserve.errors import InvalidConfiguration
from peekserve.live.journalling import replay
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.faults import Faults, Kill
from peekserve.sim.world import RecordedWorld
from peekserve.state.journal import JournalReader, JournalWriter
from tests.planner.worlds import a_recording, an_application

EXPECTED = Expected((1.0, 0.4), 0.9, 0.01, 0.88, 0.05, 0.5)
WORKERS = ("w0", "w1")


def a_plan() -> GearPlan:
    """Tiny, and the large model for what it is not sure of; above 80 a second the small one in its place, and only on
    the second worker."""
    both, second = (Share("w0", 0.5), Share("w1", 0.5)), (Share("w1", 1.0),)
    calm = Gear(0.0, 80.0, ("tiny", "large"), (0.6,), (1, 1), (both, both), EXPECTED)
    rush = Gear(80.0, 400.0, ("tiny", "small"), (0.4,), (2, 4), (both, second), EXPECTED)
    models = tuple(Planned(name, f"sha-{name}", f"sha-{name}") for name in ("tiny", "small", "large"))
    held = (
        Holding("w0", "cpu", 1 << 40, ("sha-large", "sha-tiny")),
        Holding("w1", "cpu", 1 << 40, ("sha-tiny", "sha-small", "sha-large")),
    )
    return GearPlan("app", "margin", "p95=200ms", "here", models, held, (calm, rush))


def a_spec(**changed) -> SchedulerSpec:
    return SchedulerSpec(policy="gears", plans={"app": a_plan()}, peek=False, **changed)


def requests(rate: float, count: int, rows: int = 1, pinned: str | None = None) -> list[Request]:
    instants = 1.0 + np.cumsum(np.random.default_rng(7).exponential(1 / rate, count))
    return [
        Request(f"r{i}", "app", at, at + 0.2, rows=1 + i % rows, payload=TensorRef(str(i)), pinned=pinned)
        for i, at in enumerate(instants.tolist())
    ]


def run(spec, trace, faults=None, on_miss=OnMiss.REJECT, observe=None):
    app = replace(an_application(), on_miss=on_miss)
    world = RecordedWorld({"app": app}, {"app": a_recording()}, jitter=True)
    workers = [SimWorker(name, "cpu") for name in WORKERS]
    return Simulation(spec.build([app]), workers, world, 3, faults, check=True, observe=observe).run(trace)


def test_what_the_first_model_is_sure_of_it_answers_and_the_second_the_rest():
    known = a_recording()
    sure = margin(known.scores["tiny"]) >= 0.6
    said = {one.request.id: one.answer.rows[0] for one in run(a_spec(), requests(5.0, 60))}
    assert {row.variant for row in said.values()} == {"tiny", "large"}
    for i, row in enumerate(said[f"r{i}"] for i in range(60)):
        assert row.variant == ("tiny" if sure[i] else "large")
        assert row.label == known.scores[row.variant][i].argmax()


@pytest.mark.parametrize("guard", [0.0, 1.0])
@pytest.mark.parametrize("on_miss", [OnMiss.REJECT, OnMiss.LATE])
@pytest.mark.parametrize("planning", ["rolling", "window(20ms)", "window(20ms, rebalance=5ms)"])
def test_killed_workers_leave_each_request_with_one_outcome(guard, on_miss, planning):
    """Every invariant is looked at after every event; a run in which a request has no outcome, or two, is refused."""
    spec = a_spec(policy_options={"guard": guard}, planning=planning, lead_s=0.002)
    faults = Faults.drawn(WORKERS, 3.0, kills=12, rng=np.random.default_rng(1))
    settled = run(spec, requests(150.0, 300, rows=3), faults, on_miss)
    assert len(settled) == 300
    outcomes = [one.answer.outcome for one in settled]
    assert outcomes.count(Outcome.ANSWERED) > 100
    variants = {row.variant for one in settled for row in one.answer.rows}
    assert {"tiny", "small"} <= variants


def test_a_row_with_an_answer_in_hand_has_that_when_its_worker_dies():
    """Both workers die for good while the large model runs: what tiny said is the answer, and no request expires."""
    known = a_recording()
    unsure = int(np.flatnonzero(margin(known.scores["tiny"]) < 0.6)[0])
    one = Request("r0", "app", 1.0, 1.2, payload=TensorRef(str(unsure)))
    # Tiny is done 2 ms after the arrival, the large model 20 ms later.
    faults = Faults(tuple(Kill(name, 1.01, back_s=60.0) for name in WORKERS))
    (settled,) = run(a_spec(preload=True), [one], faults)
    assert settled.answer.outcome is Outcome.ANSWERED
    assert settled.answer.rows[0].variant == "tiny"
    assert settled.at < 1.2


def test_a_run_with_gears_replays_to_the_same_commands(tmp_path):
    path, spec = tmp_path / "run.journal", a_spec(lead_s=0.002)
    faults = Faults.drawn(WORKERS, 3.0, kills=6, rng=np.random.default_rng(2))
    app = replace(an_application(), on_miss=OnMiss.REJECT)
    with JournalWriter(path, spec, [app]) as writer:
        run(spec, requests(150.0, 200, rows=2), faults, observe=lambda e, now, out: writer.step(e, now, out))
    reader = JournalReader(path)
    replayed = replay(reader)
    assert replayed.difference is None
    assert replayed.steps > 400
    other = JournalReader(path)
    other.header.spec["plans"]["app"]["gears"][0]["thresholds"] = [0.99]
    assert replay(other).difference is not None, "the thresholds are what it was run by"


def test_who_asks_why_is_told():
    asked = [replace(one, explain=True) for one in requests(40.0, 60, rows=2)]
    for one in run(a_spec(), asked):
        told = json.loads(one.answer.explanation)["rows"]
        assert [words["chosen"]["variant"] for words in told] == [row.variant for row in one.answer.rows]


def test_workers_are_filled_with_what_the_plan_places_there():
    loads: list[tuple[str, str]] = []

    def observe(event, now, commands) -> None:
        if now == 0.0:
            loads.extend((one.worker, one.weights) for one in commands if isinstance(one, Load))

    run(a_spec(preload=True), requests(5.0, 1), observe=observe)
    assert [weights for worker, weights in loads if worker == "w0"] == ["sha-large", "sha-tiny"]
    assert [weights for worker, weights in loads if worker == "w1"] == ["sha-tiny", "sha-small", "sha-large"]


@pytest.mark.parametrize("on_miss", [OnMiss.REJECT, OnMiss.LATE])
def test_a_variant_that_the_plan_places_nowhere_is_loaded_for_who_asks_for_it(on_miss):
    plan = a_plan()
    gears = tuple(
        replace(g, stages=("tiny",), thresholds=(), queues=(1,), shares=g.shares[:1]) for g in plan.gears
    )
    held = tuple(replace(h, weights=("sha-tiny",)) for h in plan.placement)
    spec = replace(a_spec(), plans={"app": replace(plan, gears=gears, placement=held)})
    (settled,) = run(spec, requests(5.0, 1, pinned="small"), on_miss=on_miss)
    assert settled.answer.outcome is Outcome.ANSWERED
    assert settled.answer.rows[0].variant == "small"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"plans": {}}, "has no gear plan for app"),
        ({"plans": {"other": a_plan()}}, "has no gear plan for app"),
        ({"escalate": True}, "runs a row again where its gear plan says so"),
        ({"policy_options": {"gard": 1.0}}, "no policy option 'gard' here; the nearest is 'guard'"),
    ],
)
def test_gears_that_cannot_run_are_said_before_anything_starts(changed, why):
    with pytest.raises(InvalidConfiguration, match=why):
        replace(a_spec(), **changed).build([an_application()])
