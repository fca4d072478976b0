"""How many come, how unevenly, and when the rate changes. Tolerances are four standard errors or more, over seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.loadgen.arrivals import Instants, gamma, mixed, poisson
from peekserve.loadgen.rates import bursty, ramp, ramped, random_rates, steps

SEEDS = range(20)


def cv2_of(at: Instants) -> float:
    gaps = np.diff(at)
    return float(gaps.var() / gaps.mean() ** 2)


def share_of(at: Instants, start: float, end: float) -> int:
    return int(np.count_nonzero((at >= start) & (at < end)))


@pytest.mark.parametrize("cv2", [0.25, 1.0, 2.0, 4.0, 8.0])
def test_a_gamma_stream_has_the_rate_and_the_spread_that_were_asked_for(cv2: float):
    streams = [gamma(200.0, cv2, 50.0, np.random.default_rng(seed)) for seed in SEEDS]
    # 20 streams of 10,000: the standard error of the mean count is sqrt(10,000 cv2 / 20).
    assert np.mean([len(at) for at in streams]) == pytest.approx(10_000, abs=4 * np.sqrt(500 * cv2))
    # Of one sample cv2 of a gamma it is about sqrt((2 cv2^2 + 4 cv2^3) / n) or less.
    assert np.mean([cv2_of(at) for at in streams]) == pytest.approx(cv2, rel=0.03 + 0.01 * cv2)


def test_a_gamma_stream_is_as_busy_at_its_start_as_later():
    """Without the first gap cut, 3.5 too many would come at the beginning of each stream of CV^2 = 8."""
    counts = [len(gamma(10.0, 8.0, 1.0, np.random.default_rng(seed))) for seed in range(4000)]
    assert np.mean(counts) == pytest.approx(10.0, abs=4 * np.std(counts) / np.sqrt(4000))


def test_no_spread_is_a_fixed_beat():
    at = gamma(50.0, 0.0, 10.0, np.random.default_rng(3))
    assert len(at) == 500
    assert np.diff(at) == pytest.approx(np.full(499, 0.02))
    # So little that one over it is infinite is none.
    assert len(gamma(50.0, 1e-320, 10.0, np.random.default_rng(3))) == 500


def test_a_spread_of_one_is_poisson():
    """Counts by tenths of a second vary as their mean, as those of `poisson` do."""
    for stream in (lambda rng: gamma(300.0, 1.0, 100.0, rng), lambda rng: poisson(300.0, 100.0, rng)):
        counts = np.histogram(stream(np.random.default_rng(5)), 1000, (0.0, 100.0))[0]
        assert counts.var() / counts.mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / 1000))


def test_bursts_stand_over_a_beat_that_never_stops():
    at = bursty(150.0, 490.0, 8.0, 30.0, np.random.default_rng(1))
    by_tenth = np.histogram(at, 300, (0.0, 30.0))[0]
    assert by_tenth.min() >= 15  # the base alone
    means = [len(bursty(150.0, 490.0, 8.0, 30.0, np.random.default_rng(seed))) / 30.0 for seed in SEEDS]
    assert np.mean(means) == pytest.approx(640.0, abs=4 * np.sqrt(490 * 8 / 30 / 20))
    assert bursty(100.0, 0.0, 4.0, 1.0, np.random.default_rng(0)).size == 100


@pytest.mark.parametrize(("start", "end"), [(100.0, 400.0), (400.0, 100.0)])
def test_a_ramp_has_one_rate_before_another_after_and_all_between(start: float, end: float):
    """It holds for 5 s, is on its way for 10 s, and stays for 15 s."""
    streams = [ramp(start, end, 30.0, 2.0, 30.0, np.random.default_rng(seed), 5.0) for seed in SEEDS]
    for low, high, rate in ((0, 5, start), (5, 10, (3 * start + end) / 4), (10, 15, (start + 3 * end) / 4)):
        seen = np.mean([share_of(at, low, high) for at in streams]) / (high - low)
        assert seen == pytest.approx(rate, abs=4 * np.sqrt(rate * 2 / (high - low) / 20))
    seen = np.mean([share_of(at, 15, 30) for at in streams]) / 15
    assert seen == pytest.approx(end, abs=4 * np.sqrt(end * 2 / 15 / 20))
    total = ramped(start, end, 30.0, 30.0, 5.0)
    assert total == pytest.approx(5 * start + 5 * (start + end) + 15 * end)
    assert np.mean([len(at) for at in streams]) == pytest.approx(total, rel=0.02)


def test_a_run_may_end_while_the_rate_is_on_its_way():
    at = ramp(10.0, 1000.0, 10.0, 0.0, 5.0, np.random.default_rng(0))
    assert len(at) in (175, 176)  # 10 a second and 10 more in each: 50 + 125, the beat's start by chance
    assert at[-1] < 5.0
    assert share_of(at, 4.0, 5.0) in (54, 55, 56)


def test_steps_keep_their_rates_and_silence_is_kept():
    at = steps(np.array([50.0, 0.0, 200.0, 0.0]), 40.0, 0.0, np.random.default_rng(0))
    assert np.histogram(at, 4, (0.0, 40.0))[0].tolist() == [500, 0, 2000, 0]


def test_random_rates_lie_where_they_should():
    rates = random_rates(100.0, np.random.default_rng(0), count=4000)
    assert 30.0 <= rates.min() < 31.0
    assert 590.0 < rates.max() <= 600.0
    assert np.median(rates) == pytest.approx(100.0 * np.sqrt(0.3 * 6.0), rel=0.1)  # octaves alike


def test_the_same_seed_makes_the_same_stream():
    def all_of(seed: int) -> list[list[float]]:
        rng = np.random.default_rng(seed)
        return [
            gamma(50.0, 4.0, 5.0, rng).tolist(),
            bursty(10.0, 50.0, 4.0, 5.0, rng).tolist(),
            ramp(10.0, 90.0, 20.0, 8.0, 5.0, rng).tolist(),
            steps(random_rates(50.0, rng), 5.0, 4.0, rng).tolist(),
        ]

    assert all_of(7) == all_of(7)
    assert all_of(7) != all_of(8)


def test_a_stream_that_cannot_be_is_refused():
    rng = np.random.default_rng(0)
    for wrong in (
        lambda: gamma(0.0, 1.0, 1.0, rng),
        lambda: gamma(1.0, -1.0, 1.0, rng),
        lambda: gamma(1.0, 1.0, float("inf"), rng),
        lambda: bursty(0.0, 0.0, 1.0, 1.0, rng),
        lambda: bursty(-1.0, 5.0, 1.0, 1.0, rng),
        lambda: ramp(1.0, 2.0, 0.0, 1.0, 1.0, rng),
        lambda: steps(np.array([1.0, np.nan]), 1.0, 1.0, rng),
        lambda: random_rates(1.0, rng, low=2.0, high=1.0),
    ):
        with pytest.raises(ValueError, match=r"rate|vary|slope|drawn"):
            wrong()


@given(
    rates=st.lists(st.floats(0.0, 500.0), min_size=1, max_size=8).filter(lambda rates: sum(rates) > 1e-3),
    cv2=st.sampled_from([0.0, 0.1, 1.0, 8.0, 500.0]),
    seed=st.integers(0, 99),
)
def test_instants_never_fall_and_lie_in_the_run(rates: list[float], cv2: float, seed: int):
    at = steps(np.array(rates), 3.0, cv2, np.random.default_rng(seed))
    assert at.dtype == np.float64
    assert (np.diff(at) >= 0.0).all()
    assert ((at >= 0.0) & (at < 3.0)).all()


def test_applications_and_samples_that_are_known_are_taken():
    rng = np.random.default_rng(0)
    at = np.arange(4.0)
    found = mixed(at, {"a": 1.0}, {"a": 3, "b": 3}, rng, ["b", "a", "b", "b"], [2, -1, -1, 0])
    assert [one.application for one in found] == ["b", "a", "b", "b"]
    assert (found[0].sample, found[3].sample) == (2, 0)
