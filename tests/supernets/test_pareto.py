"""The search for the front: everything where that is little, and near to everything where it is much."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.supernets.pareto import Found, Measured, Predictor, front, search
from peekserve.supernets.space import Space, Subnet

TINY = Space("conv1d", (2, 2), (1, 1), (0.5, 1.0))
LARGE = Space("conv1d", (3, 3, 3), (1, 1, 1), (0.25, 0.5, 0.75, 1.0), uniform=False)  # 1,728 subnets
ROWS = 5_000


def cost(subnet: Subnet) -> float:
    return sum(100.0 * d * w * w for d, w in zip(subnet.depths, subnet.widths, strict=True)) + 20.0


def right(subnet: Subnet) -> tuple[int, int]:
    """More of everything helps, each time less; a little luck belongs to each subnet."""
    luck = np.random.default_rng([*subnet.depths, *(round(100 * w) for w in subnet.widths)]).normal(
        0.0, 0.002
    )
    stages = zip((0.02, 0.03, 0.05), subnet.depths, subnet.widths, strict=False)
    share = 0.80 + sum(gain * (1.0 - 0.7**depth) * width**0.5 for gain, depth, width in stages) + luck
    return round(share * ROWS), ROWS


def found(space: Space, most: int, seed: int = 0) -> tuple[Found, list[Subnet]]:
    asked: list[Subnet] = []

    def judge(subnet: Subnet) -> tuple[int, int]:
        asked.append(subnet)
        return right(subnet)

    return search(space, judge, cost, np.random.default_rng(seed), most), asked


def test_a_small_space_is_evaluated_whole():
    result, asked = found(TINY, most=8)
    assert result.exhaustive
    assert sorted(s.name for s in asked) == sorted(s.name for s in TINY.all())
    assert len(result.measured) == TINY.size == 8


def test_a_large_space_is_searched_with_few_evaluations_each_asked_once():
    result, asked = found(LARGE, most=48)
    assert not result.exhaustive
    assert len(asked) == len(set(asked)) == len(result.measured) <= 48
    assert {LARGE.smallest, LARGE.largest} <= set(asked)
    assert 0.0 < result.error < 0.01  # a model of accuracies that span 0.1


def test_the_searched_front_comes_near_the_true_one():
    result, _ = found(LARGE, most=48)
    every = front(Measured(s, *right(s), cost(s)) for s in LARGE.all())
    lost = [true.accuracy - max(m.accuracy for m in result.front if m.cost <= true.cost) for true in every]
    by_chance = np.random.default_rng(1)
    drawn = [LARGE.smallest, LARGE.largest, *(LARGE.sample(by_chance) for _ in range(46))]
    blind = front(Measured(s, *right(s), cost(s)) for s in drawn)
    lost_blind = [true.accuracy - max(m.accuracy for m in blind if m.cost <= true.cost) for true in every]
    assert np.mean(lost) < 0.005
    assert np.mean(lost) < 0.5 * np.mean(lost_blind)


def test_the_same_seed_searches_the_same():
    asked = found(LARGE, 16)[1]
    assert found(LARGE, 16)[1] == asked
    assert found(LARGE, 16, seed=1)[1] != asked


def test_one_width_for_all_stays_one_width():
    uniform = Space("conv1d", (4, 4, 4), (1, 1, 1), (0.25, 0.5, 0.75, 1.0))
    _, asked = found(uniform, most=40)
    for subnet in asked:
        uniform.check(subnet)


def test_too_few_evaluations_are_refused():
    with pytest.raises(InvalidConfiguration, match="allow 8 or more"):
        found(LARGE, most=7)


def test_the_front_has_the_cheapest_of_equals():
    a, b, c = (Subnet((d,), (1.0,)) for d in (1, 2, 3))
    best = front([Measured(c, 8, 10, 3.0), Measured(a, 8, 10, 1.0), Measured(b, 7, 10, 2.0)])
    assert [m.subnet for m in best] == [a]
    assert best[0].interval[0] < 0.8 < best[0].interval[1]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=30))
def test_nothing_beats_a_member_of_the_front_and_something_beats_the_rest(pairs: list[tuple[int, int]]):
    measured = [
        Measured(Subnet((i + 1,), (1.0,)), hits, 20, float(price)) for i, (hits, price) in enumerate(pairs)
    ]
    best = front(measured)

    def beaten(one: Measured) -> bool:
        return any(
            (m.accuracy >= one.accuracy and m.cost < one.cost)
            or (m.accuracy > one.accuracy and m.cost <= one.cost)
            for m in measured
        )

    for one in measured:
        same = any(m.cost == one.cost and m.accuracy == one.accuracy for m in best)
        assert same != beaten(one)


def test_the_predictor_learns_from_depths_widths_and_cost():
    rng = np.random.default_rng(0)
    known = list(dict.fromkeys(LARGE.sample(rng) for _ in range(60)))
    unseen = [s for s in dict.fromkeys(LARGE.sample(rng) for _ in range(60)) if s not in known]
    told = np.array([right(s)[0] / ROWS for s in known])
    predictor = Predictor(known, [cost(s) for s in known], told.tolist())
    true = np.array([right(s)[0] / ROWS for s in unseen])
    guessed = predictor(unseen, [cost(s) for s in unseen])
    assert np.abs(guessed - true).mean() < 0.3 * np.abs(true - told.mean()).mean()
    # What it says of its own error holds for subnets that it has not seen.
    assert np.sqrt(np.mean((guessed - true) ** 2)) < 1.5 * predictor.error


def test_two_subnets_teach_a_predictor_nothing():
    with pytest.raises(InvalidData, match="three evaluated subnets, not 2"):
        Predictor([TINY.smallest, TINY.largest], [1.0, 2.0], [0.5, 0.6])
