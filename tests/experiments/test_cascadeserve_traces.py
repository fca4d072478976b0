"""Gear plans on traces: the grid, who is best in hindsight, and what a run tells."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.cascades.cascade import Answers
from peekserve.domain.application import Application, QueryType, Variant
from peekserve.domain.gears import Expected, Gear, GearPlan, Holding, Planned, Share
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.experiments.cascadeserve import ablations, traces, versus
from peekserve.experiments.cascadeserve.days import CELLS, DAY
from peekserve.experiments.cascadeserve.lab import DEVICE, CascadeLab, Zoo
from peekserve.experiments.cascadeserve.planned import Plans, model_number
from peekserve.experiments.cascadeserve.serving import (
    HINDSIGHT,
    Entrant,
    in_hindsight,
    play,
    requests,
    static,
)
from peekserve.experiments.claims import judge
from peekserve.experiments.table import Table
from peekserve.sim.world import Recorded

pytestmark = pytest.mark.core
MODELS = {"quick": (0.010, 0.75), "sure": (0.040, 0.95)}
DEADLINE_S = 0.4
SAMPLES = 200


def said(right: float, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Scores [SAMPLES, 2]: so many are right, and those that are not are unsure of it."""
    rng = np.random.default_rng(seed)
    ok = rng.random(SAMPLES) < right
    own = np.where(ok, 0.95, 0.6)
    label = np.where(ok, np.arange(SAMPLES) % 2, 1 - np.arange(SAMPLES) % 2)
    scores = np.zeros((SAMPLES, 2))
    scores[np.arange(SAMPLES), label] = own
    scores[np.arange(SAMPLES), 1 - label] = 1.0 - own
    return scores


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    labels = np.arange(SAMPLES) % 2
    # Threshold 0.5: the quick model's wrong answers have a margin of 0.2 and go on.
    scores = {name: said(right, n) for n, (name, (_, right)) in enumerate(MODELS.items())}
    variants = []
    for name, (one_s, _) in MODELS.items():
        curve = LatencyCurve((1, 8), (one_s, 3.0 * one_s), (1.1 * one_s, 3.3 * one_s))
        confusion = np.zeros((2, 2), np.int64)
        np.add.at(confusion, (labels, scores[name].argmax(axis=1)), 1)
        variants.append(
            Variant(
                name,
                name,
                name,
                max_batch=8,
                quality=Quality.from_confusion(confusion),
                timing={DEVICE: Timing((curve,), 0.0, 1)},
            )
        )
    app = Application(
        "beats",
        ("a", "b"),
        tuple(variants),
        prior=(1.0, 1.0),
        queries=(("default", QueryType(DEADLINE_S)),),
    )
    recorded, groups = Recorded(labels, scores), np.arange(SAMPLES) // 10
    answers = Answers.recorded(scores, labels, groups)
    return Zoo("beats", app, answers, recorded, recorded, tuple(groups.tolist()), tuple(MODELS), 1.0)


def gear(low: float, high: float, stages: tuple[str, ...], thresholds: tuple[float, ...] = ()) -> Gear:
    shares = tuple((Share(f"{DEVICE}:0", 0.5), Share(f"{DEVICE}:1", 0.5)) for _ in stages)
    expected = Expected((1.0,) * len(stages), 0.9, 0.0, 0.9, 0.1, 0.5)
    return Gear(low, high, stages, thresholds, (1,) * len(stages), shares, expected)


@pytest.fixture(scope="module")
def plans() -> Plans:
    """By hand: the sure model at night, a cascade by day, the quick one at noon."""
    gears = (
        gear(0.0, 60.0, ("sure",)),
        gear(60.0, 200.0, ("quick", "sure"), (0.5,)),
        gear(200.0, 400.0, ("quick",)),
    )
    models = tuple(Planned(name, name, name) for name in MODELS)
    held = tuple(Holding(f"{DEVICE}:{i}", DEVICE, 1 << 40, tuple(MODELS)) for i in range(2))
    whole = GearPlan("beats", "margin", "p95=300ms", "", models, held, gears)
    return Plans(whole, whole.only(1), whole, whole.only(2), whole)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_trace_is_the_same_for_its_seed_and_fits_its_time(cell):
    first, again = (cell.instants(300.0, 0.5, np.random.default_rng(3)) for _ in range(2))
    assert first.tolist() == again.tolist()
    assert np.all(np.diff(first) >= 0.0)
    assert first[0] >= 0.0
    assert first[-1] <= cell.seconds * 0.5


def test_a_day_has_night_and_noon_however_fast_it_is():
    for share in (1.0, 0.25):
        at = DAY.instants(4000.0, share, np.random.default_rng(0))
        hours = np.histogram(at, 24, (0.0, DAY.seconds * share))[0]
        assert hours[:5].max() * 3 < hours[8:20].min()
        rate = hours * 24 / (DAY.seconds * share) / 4000.0
        assert rate.max() == pytest.approx(DAY.load, rel=0.2)


def a_row(policy: str, attainment: float, utility: float, guard: int = 1) -> dict[str, float | int | str]:
    return {"policy": policy, "attainment": attainment, "utility": utility, "guard": guard, "which": ""}


def test_the_hindsight_gear_carries_the_trace_and_is_right_most_often():
    rows = [a_row("gear 0", 0.9, 0.89), a_row("gear 1", 1.0, 0.88), a_row("gear 2", 0.9995, 0.86)]
    (best,) = in_hindsight(rows)
    assert (best["policy"], best["which"]) == (HINDSIGHT, "gear 1")
    (least_bad,) = in_hindsight([*rows[:1], a_row("gear 3", 0.95, 0.7)])
    assert least_bad["which"] == "gear 3"
    assert in_hindsight([]) == []


def test_gears_change_over_a_day_and_one_gear_does_not(zoo, plans):
    trace = requests(zoo, DAY.instants(plans.highest, 0.5, np.random.default_rng(1)), seed=1)
    adapting = play(zoo, Entrant("gears", "gears", plans.gears), trace)
    alone = play(zoo, static(plans, 2), trace)
    assert adapting["changes"] >= 3
    assert alone["changes"] == 0
    assert alone["forwarded"] == pytest.approx(0.0)
    assert adapting["forwarded"] > 0.0
    assert adapting["right"] / adapting["attainment"] > alone["right"] / alone["attainment"]


def test_everybody_is_served_with_the_guard_and_without(zoo, plans):
    names = [one.name for one in traces.who(zoo, plans)]
    assert len(names) == len(set(names))
    guarded = [one for one in traces.who(zoo, plans) if one.guarded]
    assert names[len(guarded) :] == [one.name + traces.BARE for one in guarded]
    assert {"gear 0", "gear 1", "gear 2"} < set(names)
    assert model_number(zoo, "quick") == 0


def test_the_guard_keeps_deadlines_that_forwarding_would_miss(zoo, plans):
    """All that is unsure goes on to the sure model, at a load that it cannot carry."""
    cascade = Entrant("gear 1", "static", plans.gears, (("gear", 1.0),))
    trace = requests(zoo, np.arange(0.0, 8.0, 1.0 / 300.0), seed=0)
    with_guard, without = play(zoo, cascade, trace), play(zoo, cascade.unguarded(), trace)
    assert with_guard["attainment"] > without["attainment"]
    assert with_guard["forwarded"] < without["forwarded"]


def test_a_mute_peek_says_nothing_and_lets_models_speak_together(zoo):
    app = versus.profiled(zoo)
    known = app.peek.calibration
    assert known.fusion is not None
    assert known.escalates is not None
    assert known.temperature == 0.0
    assert versus.forced(app).peek.calibration.fusion != 0.0
    trace = requests(zoo, np.arange(0.0, 2.0, 0.05), seed=0)
    forced = Entrant("forced", "horizon", application=versus.forced(app), escalate=True)
    assert play(zoo, forced, trace)["attainment"] == 1.0


@pytest.mark.parametrize("family", [traces, ablations, versus])
def test_every_claim_is_measured_and_every_table_printed(family, zoo, plans):
    experiment = family.EXPERIMENTS[0]
    names = [one.name for one in family.who(zoo, plans)]
    if family is not versus:
        names += [HINDSIGHT, HINDSIGHT + traces.BARE]
    rng = np.random.default_rng(0)
    rows = [
        {
            "application": app,
            "cell": cell.name,
            "seed": seed,
            "policy": name,
            "which": "gear 1" if name == HINDSIGHT else "",
            "requests": 100,
            "attainment": 1.0,
            "right": float(right),
            "utility": float(right),
            "forwarded": 0.1,
            "changes": 3,
        }
        for app in ("ecg", "digits")
        for cell in (ablations.CELLS if family is ablations else CELLS)
        for seed in range(2)
        for name, right in zip(names, rng.uniform(0.8, 0.9, len(names)), strict=True)
    ]
    table = Table(rows, draws=20)
    assert judge(experiment.name, experiment.measure(table))
    for told in experiment.tables(table):
        assert len({len(line) for line in told}) == 1
    assert experiment.panels(table)


def test_jobs_are_one_for_each_zoo_and_trace(zoo):
    lab = CascadeLab({"beats": zoo, "more": replace(zoo, name="more")}, {}, {}, "nobody's")
    assert len(traces.EXPERIMENTS[0].jobs(lab)) == 2 * len(CELLS)
    assert len(ablations.EXPERIMENTS[0].jobs(lab)) == 2 * len(ablations.CELLS)
