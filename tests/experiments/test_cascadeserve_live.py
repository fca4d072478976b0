"""Gear plans in real time: a small piece of what `cascadeserve-live` runs."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.domain.gears import Expected, Gear, GearPlan, Holding, Planned, Share
from peekserve.domain.request import Outcome
from peekserve.experiments.cascadeserve.lab import DEVICE, zoo
from peekserve.experiments.cascadeserve.live import (
    ASKED,
    CHEAPEST_S,
    EXPERIMENTS,
    HIGHEST,
    Made,
    as_it_was,
    best_model,
    live,
    made,
    planned_for,
    played,
    trace,
)
from peekserve.experiments.cascadeserve.playing import LIVE, PLANNED_FOR, up_and_down
from peekserve.experiments.realtime import slowed
from peekserve.experiments.table import Table
from peekserve.sim.world import Service

SHORT_S = 0.5


def a_cascade(application="ecg"):
    """Made by hand: a cascade over two devices, whatever is recorded and whatever a planner would make of it."""
    own = zoo(application)
    first, last = own.application.variants[0], own.application.variants[-1]
    devices = [f"{DEVICE}:{i}" for i in range(2)]
    shares = tuple(tuple(Share(d, 0.5) for d in devices) for _ in range(2))
    expected = Expected((1.0, 0.3), 0.9, 0.01, 0.88, 0.2, 0.5)
    stages = (first.name, last.name)
    gears = (
        Gear(0.0, 40.0, stages, (0.9,), (1, 1), shares, expected, 0.5),
        Gear(40.0, 80.0, stages, (0.5,), (2, 1), shares, expected, 0.5),
    )
    models = tuple(Planned(v.name, v.revision, v.weights) for v in (first, last))
    held = tuple(Holding(d, DEVICE, 1 << 40, (first.weights, last.weights)) for d in devices)
    plan = GearPlan(application, "margin", "p95=30000ms", "", models, held, gears)
    return Made(own, slowed(own.application, DEVICE, 3.0), plan)


def said_of(settled):
    return [(one.answer.rows[0].variant, one.answer.rows[0].label) for one in settled]


def always(made_):
    """Its first gear alone, so that no instant decides which thresholds hold."""
    only = replace(made_.plan.gears[0], high=80.0)
    return replace(made_, plan=replace(made_.plan, gears=(only,)))


@pytest.mark.parametrize("application", ["ecg", "digits"])
def test_in_real_time_every_request_is_answered_by_the_stage_that_the_recordings_say(application):
    what = always(a_cascade(application))
    asked = trace(what, SHORT_S, np.random.default_rng(0))
    settled = live(what, asked)
    assert [one.request.id for one in settled] == [one.id for one in asked]
    assert {one.answer.outcome for one in settled} <= {Outcome.ANSWERED, Outcome.LATE}
    # Scores came through the workers in full: who answers, and what, is what the planner's simulator says.
    came = [one.request for one in settled]
    assert said_of(settled) == said_of(planned_for(what, came)) == said_of(as_it_was(what, came, Service()))
    assert len({variant for variant, _ in said_of(settled)}) == 2


def test_the_scheduler_that_is_served_is_the_one_that_the_planner_simulates():
    what = a_cascade()
    asked = trace(what, 10.0, np.random.default_rng(1))
    ours, planners = as_it_was(what, asked, Service()), planned_for(what, asked)
    assert said_of(ours) == said_of(planners)
    assert [one.at for one in ours] == pytest.approx([one.at for one in planners])


def test_a_row_stands_for_each_world_of_a_plan():
    rows = played(a_cascade(), SHORT_S, [0, 5])
    assert [row["world"] for row in rows] == ["live", "planned for", "as it was", "other arrivals"]
    assert {row["seed"] for row in rows} == {5}
    assert all(row["answered"] == 1.0 for row in rows)
    same = [row["requests"] for row in rows]
    assert same[0] == same[1] == same[2]


def test_the_load_goes_up_through_all_gears_and_down_again():
    plan = a_cascade().plan
    at = up_and_down(plan, 300.0, np.random.default_rng(2))
    counts, _ = np.histogram(at, 3, (0.0, 300.0))
    # Nine tenths of what each range ends with, within five standard errors.
    assert counts == pytest.approx(100.0 * 0.9 * np.array([40.0, 80.0, 40.0]), rel=5.0 / np.sqrt(3600.0))


def test_the_error_is_that_of_the_worst_plan_in_shares_of_what_was_live():
    def a_row(plan, world, p95_ms, accuracy, kind="paced"):
        return {
            "plan": plan, "kind": kind, "world": world, "seed": 0, "requests": 10,
            "p95_ms": p95_ms, "accuracy": accuracy, "answered": 1.0,
        }  # fmt: skip

    rows = [
        a_row("one", LIVE, 100.0, 0.9),
        a_row("one", PLANNED_FOR, 90.0, 0.9),
        a_row("one", "as it was", 99.0, 0.9),
        a_row("two", LIVE, 200.0, 0.8),
        a_row("two", PLANNED_FOR, 190.0, 0.804),
        a_row("two", "as it was", 196.0, 0.8),
        a_row("three", LIVE, 5.0, 0.8, kind="real"),
        a_row("three", PLANNED_FOR, 1.0, 0.8, kind="real"),
    ]
    found = {name: values[0] for name, values in EXPERIMENTS[0].measure(Table(rows)).items()}
    assert found == {
        "gears-live-plans": 2.0,
        "gears-live-p95": pytest.approx(0.1),
        "gears-live-p95-as-it-was": pytest.approx(0.02),
        "gears-live-accuracy": pytest.approx(0.004),
        "gears-live-answered": 1.0,
    }, "real models are beside them, without a limit"


def test_what_is_planned_is_slow_enough_for_one_front():
    what = made(zoo("ecg"), ASKED[0])
    assert what is not None
    cheapest = min(v.timing[DEVICE].curve(0).seconds(1) for v in what.app.variants)
    assert cheapest >= CHEAPEST_S - 1e-9
    assert what.plan.highest <= HIGHEST + 0.1
    # The goal is in shares of what the most accurate model takes, slowed down alike.
    one = best_model(what.app).timing[DEVICE].curve(0).seconds(1)
    assert what.app.query().deadline_s == pytest.approx(ASKED[0].times * one, abs=1e-3)
