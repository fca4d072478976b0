"""Rows to means and intervals: by seed, paired, the same every time."""

import numpy as np
import pytest

from peekserve.errors import InvalidData
from peekserve.experiments.table import Interval, Table, best, worst

pytestmark = pytest.mark.core


def rows(seeds: int = 30, lift: float = 0.1) -> list[dict]:
    rng = np.random.default_rng(1)
    hard = rng.normal(0.5, 0.2, seeds)  # what a seed does to everybody
    return [
        {"policy": who, "seed": s, "requests": 10, "utility": float(hard[s] + more + rng.normal(0, 0.001))}
        for s in range(seeds)
        for who, more in (("a", 0.0), ("b", lift))
    ]


def test_a_mean_weighs_requests():
    table = Table(
        [
            {"policy": "a", "seed": 0, "requests": 3, "utility": 1.0},
            {"policy": "a", "seed": 0, "requests": 1, "utility": 0.0},
        ]
    )
    assert table.mean("utility")[0] == pytest.approx(0.75)


def test_what_is_compared_is_compared_seed_by_seed():
    table = Table(rows())
    a, b = table.mean("utility", policy="a"), table.mean("utility", policy="b")
    apart, paired = Interval.of(a), Interval.of(b - a)
    assert apart.high - apart.low > 0.1
    assert paired.low > 0.09
    assert paired.high < 0.11


def test_the_interval_of_a_mean_is_that_of_theory():
    table = Table(rows(seeds=200))
    values = [r["utility"] for r in table.rows if r["policy"] == "a"]
    half = 1.96 * np.std(values) / np.sqrt(len(values))
    found = Interval.of(table.mean("utility", policy="a"))
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_the_same_rows_give_the_same_intervals():
    one, two = Table(rows()), Table(rows())
    assert Interval.of(one.mean("utility")) == Interval.of(two.mean("utility"))


def test_the_worst_is_taken_in_every_resample():
    a, b = np.array([1.0, 3.0]), np.array([2.0, 2.0])
    assert worst([a, b]).tolist() == [1.0, 2.0]
    assert best([a, b]).tolist() == [2.0, 3.0]


def test_a_point_that_nobody_measured_is_said():
    with pytest.raises(InvalidData, match="no row has utility"):
        Table(rows()).mean("utility", policy="c")
