"""The zoos, and what a cascade of their models saves: what is chosen on validation data, and what becomes of it."""

from collections import Counter

import numpy as np
import pytest
import yaml

from peekserve.applications.prepare import HOME
from peekserve.applications.zoo import DECLARED, declared, instead
from peekserve.domain.profile import LatencyCurve
from peekserve.errors import DataUnavailable
from peekserve.experiments.cascadeserve.choice import (
    GROUPS,
    LOOKS,
    RULES,
    answers_of,
    at_best_batch,
    chosen,
    divided,
    joined,
    kept,
    one_by_one,
    resampled,
    some,
)
from peekserve.experiments.cascadeserve.cost import EXPERIMENTS, ZOO, seconds, usual
from peekserve.experiments.cascadeserve.lab import (
    BASE_S,
    DEVICE,
    NAMES,
    SIZES,
    CascadeLab,
    problem,
    zoo,
    zoo_of,
)
from peekserve.experiments.cascadeserve.record import OWN, Part, Said, said, said_by_subnets
from peekserve.experiments.claims import judge
from peekserve.experiments.superserve.lab import Timed
from peekserve.experiments.table import Table
from peekserve.planner.loads import Loads
from peekserve.planner.problem import Slo

pytestmark = pytest.mark.core
RIGHT = dict(zip(SIZES, (0.70, 0.80, 0.86, 0.90, 0.96), strict=True))
MS = dict(zip(SIZES, (0.1, 0.2, 0.4, 1.0, 4.0), strict=True))


def a_part(samples: int, seed: int, groups: int = 20) -> Part:
    """What is hard for one is hard for all, and who is wrong is unsure of it."""
    rng = np.random.default_rng(seed)
    labels, hard = rng.integers(0, 3, samples), rng.random(samples)
    scores = {}
    for size, right in RIGHT.items():
        ok = hard < right
        sure = np.where(ok, rng.uniform(0.6, 1.0, samples), rng.uniform(0.4, 0.65, samples))
        said_of = np.where(ok, labels, (labels + 1) % 3)
        scores[size] = np.where(np.arange(3) == said_of[:, None], sure[:, None], (1.0 - sure[:, None]) / 2.0)
    return Part(labels, np.arange(samples) % groups, scores)


def a_said(name: str = "ecg", samples: int = 400, seed: int = 0) -> Said:
    timed = {
        size: Timed(LatencyCurve((1, 4), (ms / 1e3, 2 * ms / 1e3), (ms / 900, 2 * ms / 900)), 0.01)
        for size, ms in MS.items()
    }
    return Said(
        name,
        ("a", "b", "c"),
        {size: size for size in SIZES},
        {size: 1000 * (i + 1) for i, size in enumerate(SIZES)},
        timed,
        a_part(samples, seed),
        a_part(samples, seed + 1),
    )


# ---- the zoos themselves ----


@pytest.mark.parametrize("name", NAMES)
def test_a_zoo_is_five_sizes_that_differ_in_price_and_in_worth(name):
    own = zoo(name)
    assert own.sizes == SIZES
    assert [v.name for v in own.application.variants] == list(SIZES)
    curves = [v.timing[DEVICE].curve(0) for v in own.application.variants]
    assert curves[-1].seconds(1) == pytest.approx(BASE_S)
    assert all(c.cautious_s(b) >= c.seconds(b) for c in curves for b in c.batch_sizes)
    each = [at_best_batch(curve) for curve in curves]
    assert each == sorted(each)
    assert each[-1] >= 8.0 * each[0]
    tiny, base = (own.application.variant(size).quality.accuracy for size in ("tiny", "base"))
    n = len(own.validation.labels)
    assert base - tiny > 2.0 * np.sqrt(tiny * (1.0 - tiny) / n)


@pytest.mark.parametrize("name", NAMES)
def test_every_size_is_declared_where_its_model_lies(name):
    told = declared(name)
    assert list(told["variants"]) == list(SIZES)
    for spec in told["variants"].values():
        assert (HOME / name / spec["model"]).is_file()
    # What a repository gets is the application as it is, with these variants.
    written = (HOME / name / "application.yaml").read_text()
    own = yaml.safe_load(instead(written, (HOME / name / DECLARED).read_text()))
    assert own == told
    assert {k: v for k, v in own.items() if k != "variants"} == {
        k: v for k, v in yaml.safe_load(written).items() if k != "variants"
    }


def test_a_planner_gets_answers_and_times_of_all_sizes():
    own = zoo("digits")
    asked = problem(own, Slo(p95_s=0.4), Loads.zipf(100.0, 4), devices=2)
    assert [m.name for m in asked.models] == list(SIZES)
    assert [d.name for d in asked.devices] == [f"{DEVICE}:0", f"{DEVICE}:1"]
    right = own.answers.worth().mean(axis=1)
    assert right == pytest.approx([v.quality.accuracy for v in own.application.variants])


def test_there_are_no_other_zoos(tmp_path):
    with pytest.raises(DataUnavailable, match="ecg, keywords, digits"):
        said("watch")
    with pytest.raises(DataUnavailable, match=r"cascadeserve\.record keywords"):
        said(OWN[-1], tmp_path)
    assert set(said_by_subnets("ecg").models) == {
        "d1-1-1.w25",
        "d1-1-1.w50",
        "d2-2-2.w50",
        "d2-2-2.w75",
        "d3-3-3.w100",
    }


# ---- dividing ----


def test_seed_0_is_the_division_that_is_shipped_and_others_share_no_group():
    own = a_said()
    assert divided(own, 0) == (own.validation, own.test)
    whole = joined(own.validation, own.test)
    assert len(np.unique(whole.groups)) == 40
    for seed in (1, 2):
        first, second = divided(own, seed)
        assert len(first.labels) + len(second.labels) == 800
        assert not set(first.groups) & set(second.groups)
        assert len(np.unique(first.groups)) == 20
    assert set(divided(own, 1)[0].groups) != set(divided(own, 2)[0].groups)


def test_a_share_takes_samples_and_a_resample_takes_groups():
    part = a_part(200, 0)
    assert len(some(part, 0.25, seed=3).labels) == 50
    assert some(part, 1.0, seed=3) is part
    assert resampled(part, 0) is part
    counted = Counter(resampled(part, 1).groups.tolist())
    assert sum(counted.values()) == 200
    assert all(many % 10 == 0 for many in counted.values())


# ---- choosing ----


def test_what_is_chosen_is_promised_to_be_as_good_and_costs_less():
    own = a_said(samples=2000)
    spent = seconds(own, "1")
    choice = chosen(answers_of(own.validation), spent)
    assert choice.best == choice.single == "base"
    assert len(choice.cascade.stages) > 1
    found = kept(choice, answers_of(own.test), spent)
    assert found.within
    assert found.best_s == found.single_s == pytest.approx(0.004)
    assert found.cost_s < 0.5 * found.single_s


def test_a_bound_never_chooses_a_cheaper_cascade_than_the_mean_would():
    for seed in range(5):
        own = a_said(samples=300, seed=10 + seed)
        known, spent = answers_of(own.validation), seconds(own, "best")
        cost = {
            rule.name: chosen(known, spent, rule).cascade.judged(known, spent).cost_s
            for rule in (LOOKS, GROUPS)
        }
        assert cost[GROUPS.name] >= cost[LOOKS.name]


def test_of_one_group_nothing_can_be_promised():
    part = a_part(100, 0, groups=1)
    choice = chosen(answers_of(part), {size: MS[size] for size in SIZES})
    assert choice.best == "base"
    assert not np.isfinite(choice.promised) or choice.promised <= 0.0


def test_a_price_for_a_sample_is_that_of_its_batch():
    curve = LatencyCurve((1, 2, 4), (0.010, 0.012, 0.016))
    assert one_by_one(curve) == 0.010
    assert at_best_batch(curve) == 0.004


# ---- the experiment ----


def test_the_experiment_measures_what_is_claimed():
    recorded = {name: a_said(name, 240, i) for i, name in enumerate(NAMES)}
    lab = CascadeLab({n: zoo_of(s) for n, s in recorded.items()}, recorded, recorded, "nobody's")
    (experiment,) = EXPERIMENTS
    table = Table([row for job in experiment.jobs(lab) for seed in range(2) for row in job(seed)])
    judge(experiment.name, experiment.measure(table))
    assert usual(table, "saving", "ecg").shape == (3,)
    assert usual(table, "saving_on_best", "ecg", LOOKS)[0] > 1.0
    assert all(len(line) == len(lines[0]) for lines in experiment.tables(table) for line in lines)
    assert {r["rule"] for r in table.rows if r["row"] == "choice"} == {
        *(r.name for r in RULES),
        "in hindsight",
    }
    panels = experiment.panels(table)
    assert [p.title for p in panels] == list(NAMES)
    assert panels[0].series[0].label == f"singles of the {ZOO}"
    assert len(panels[0].series[0].x) == len(SIZES)
