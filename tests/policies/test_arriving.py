"""What a second of a worker is worth to rows that have not come yet, and what `horizon` does with it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.policies import Switches, make
from peekserve.policies.arriving import Arriving, hull, price_of
from peekserve.policies.base import View
from tests.policies.supernet import bursts, serve
from tests.policies.views import NOW, a_lane, a_random_view, a_row, a_view, a_worker, takes

# Alone and in any batch 10 or 20 ms a row: 0.7 and 0.9.
LANE = a_lane(
    takes(0.01, 0.7, each_s=0.01, weights="net", name="small"),
    takes(0.02, 0.9, each_s=0.02, weights="net", name="large"),
)
hundredths = st.integers(1, 100).map(lambda whole: whole / 100)
points = st.lists(st.tuples(hundredths, hundredths), min_size=1, max_size=6)


def brought(hulls, rates: np.ndarray, workers: float) -> float:
    """Utility a second of the best mixture, everybody at least at the cheapest point: as a plain filling of steps."""
    total, left = 0.0, workers
    steps = []
    for own, rate in zip(hulls, rates.tolist(), strict=True):
        total += rate * own[0][1]
        left -= rate * own[0][0]
        steps += [((a2 - a1) / (s2 - s1), rate * (s2 - s1)) for (s1, a1), (s2, a2) in pairwise(own)]
    for slope, cost in sorted(steps, reverse=True):
        total += slope * min(cost, max(left, 0.0))
        left -= cost
    return total


@settings(max_examples=100)
@given(points)
def test_a_hull_leaves_out_only_what_a_mixture_of_others_beats(found):
    s, a = (np.array(x) for x in zip(*found, strict=True))
    own = [(0.0, 0.0), *hull(s, a)]
    assert set(own[1:]) <= set(found)
    xs, ys = (np.array(x) for x in zip(*own, strict=True))
    assert (np.diff(xs) > 0).all()
    assert (np.diff(ys) > 0).all()
    assert (a <= np.interp(s, xs, ys) + 1e-9).all()
    assert (np.diff(np.diff(ys) / np.diff(xs)) < 1e-9).all()


@settings(max_examples=100)
@given(st.lists(points, min_size=1, max_size=3), hundredths, st.integers(1, 4))
def test_the_price_lies_between_what_a_second_more_would_bring_and_what_the_last_one_brought(
    lanes, rate, workers
):
    hulls = [hull(np.array([s for s, _ in own]), np.array([a for _, a in own])) for own in lanes]
    rates = 20.0 * rate * np.arange(1, len(hulls) + 1)
    price, small = price_of(hulls, rates, workers), 1e-7
    after = (brought(hulls, rates, workers + small) - brought(hulls, rates, workers)) / small
    cheapest = sum(r * own[0][0] for r, own in zip(rates, hulls, strict=True))
    assert price >= 0.0
    if cheapest < workers - small:
        # Half way between the slope where the workers end and the next.
        assert price <= after + 1e-4
    assert price_of(hulls, 2.0 * rates, workers) >= price
    assert price_of(hulls, rates, 2.0 * workers) <= price


def test_little_is_asked_for_and_time_is_free_and_much_and_only_the_small_one_is_worth_it():
    own = [hull(np.array([0.01, 0.02]), np.array([0.7, 0.9]))]
    slope = 0.2 / 0.01
    for rate, price in ((40.0, 0.0), (60.0, slope / 2), (99.0, slope / 2), (101.0, 1.5 * slope)):
        assert price_of(own, np.array([rate]), 1.0) == pytest.approx(price)


def at(second: float, arrived: list[float], workers: int = 1) -> View:
    """A view at this second of rows that came when they came."""
    rows = [a_row(due=1.0, deadline_s=0.1) for _ in arrived]
    view = a_view([LANE], rows, [a_worker() for _ in range(workers)], now=NOW + second)
    return replace(view, arrived_at=NOW + np.array(arrived))


def test_rows_are_counted_once_however_long_they_wait():
    once, again = Arriving(), Arriving()
    lanes, workers = at(0.0, [0.0]).lanes, at(0.0, [0.0]).workers
    for i in range(200):
        now, came = i / 80.0, [j / 80.0 for j in range(max(i - 3, 0), i + 1)]
        once.price_per_s(replace(at(now, came[-1:]), lanes=lanes, workers=workers))
        again.price_per_s(replace(at(now, came), lanes=lanes, workers=workers))
    # 80 a second are more than the larger one answers, and less than the smaller.
    last = replace(at(2.5, [2.5]), lanes=lanes, workers=workers)
    assert once.price_per_s(last) == again.price_per_s(last) == pytest.approx(10.0)


def test_time_that_runs_backwards_begins_anew():
    arriving, view = Arriving(), at(0.0, [0.0])
    for i in range(100):
        now = replace(at(i / 90.0, [i / 90.0]), lanes=view.lanes, workers=view.workers)
        price = arriving.price_per_s(now)
    assert price > 0.0
    assert arriving.price_per_s(view) == 0.0


def test_more_workers_make_time_cheaper():
    prices = []
    for workers in (1, 2):
        arriving, view = Arriving(), at(0.0, [0.0], workers)
        for i in range(100):
            now = replace(at(i / 80.0, [i / 80.0]), lanes=view.lanes, workers=view.workers)
            price = arriving.price_per_s(now)
        prices.append(price)
    assert prices[0] > prices[1] == 0.0


def test_horizon_takes_the_small_one_where_many_come_though_nobody_else_waits():
    names = []
    for arrivals in (0.0, 1.0):
        policy, view = make("horizon", Switches(), arrivals=arrivals), at(0.0, [0.0])
        for i in range(100):
            now = replace(at(i / 200.0, [i / 200.0]), lanes=view.lanes, workers=view.workers)
            plan = policy.plan(now)
        names.append(view.lanes[0].variants[plan.batches[0].variant])
    assert names == ["large", "small"]


def test_what_it_remembers_is_all_that_decides():
    views = [a_random_view(seed, rows=8, lanes=2, workers=2) for seed in range(6)]
    first, second = (make("horizon", arrivals=1.0) for _ in range(2))
    assert [first.plan(v) for v in views] == [second.plan(v) for v in views]


@pytest.mark.parametrize("seed", range(2))
def test_near_what_the_smallest_subnet_carries_it_keeps_more_deadlines_for_little_accuracy(seed: int):
    instants = bursts(0.85, 4.0, seed, seconds=1.2)
    plain, counting = (serve("horizon", instants, arrivals=arrivals) for arrivals in (0.0, 1.0))
    assert counting.attained >= 0.998
    assert counting.attained > plain.attained
    assert counting.accuracy > plain.accuracy - 0.004
