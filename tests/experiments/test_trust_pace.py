"""The experiment on slow batches in small: the same streams for both, and claims that are measured."""

import pytest

from peekserve.experiments.claims import read_claims
from peekserve.experiments.table import Table
from peekserve.experiments.trust.lab import TrustLab
from peekserve.experiments.trust.pace import (
    BY_PROFILE,
    EXPERIMENTS,
    FACTORS,
    FOLLOWS,
    NOTHING,
    ONE,
    POLICIES,
    requests,
    serve,
)

(PACE,) = EXPERIMENTS


def test_streams_depend_on_their_seed_alone():
    assert requests(3, 1.0) == requests(3, 1.0)
    assert requests(3, 1.0) != requests(4, 1.0)


def test_where_nothing_is_slow_both_are_one():
    with_it, without = (serve("sneakpeek", follows, NOTHING, 1.0, 0, 1.0) for follows in (True, False))
    assert (with_it["plans"], without["plans"]) == (FOLLOWS, BY_PROFILE)
    assert with_it["utility"] == without["utility"]


def test_a_slow_worker_is_slow_for_who_goes_by_the_profile():
    plain, slowed = (serve("sneakpeek", False, what, 3.0, 0, 2.0) for what in (NOTHING, ONE))
    assert slowed["utility"] < plain["utility"]


def test_every_claim_is_measured_and_every_point_has_a_row_in_the_table():
    cells = len(POLICIES) * (1 + 3 * len(FACTORS))
    jobs = PACE.jobs(TrustLab())
    assert len(jobs) == cells
    rows = [
        {"policy": p, "plans": plans, "slow": what, "factor": factor, "seed": seed, "requests": 1,
         "utility": 0.9 - 0.1 * (plans == BY_PROFILE) * (factor > 1.0), "in_time": 1.0}
        for p in POLICIES for plans in (FOLLOWS, BY_PROFILE) for seed in range(3)
        for what, factor in [(NOTHING, 1.0), *((w, f) for w in (ONE, "both workers", "one variant") for f in FACTORS)]
    ]  # fmt: skip
    measured = PACE.measure(Table(rows))
    assert set(measured) == {claim.id for claim in read_claims() if claim.experiment == PACE.name}
    assert measured["pace-hottest"][0] == pytest.approx(0.1)
    assert measured["pace-quiet"][0] == 0.0
    assert PACE.tables is not None
    assert len(PACE.tables(Table(rows))[0]) == cells + 1
    assert len(PACE.panels(Table(rows))) == 3
