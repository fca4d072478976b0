"""A day of functions, and that its compression keeps its shape."""

import numpy as np
import pytest

from peekserve.loadgen.functions import MINUTES, OF_INVOCATIONS, Day, Kind, compressed, day, zipf


@pytest.fixture(scope="module")
def a_day() -> Day:
    return day(np.random.default_rng(2), functions=1000, exponent=1.1)


def test_zipf_shares_fall_by_rank():
    shares = zipf(1000, 1.3)
    assert shares.sum() == pytest.approx(1.0)
    assert np.log(shares[[0, 9, 99]]) == pytest.approx(np.log(shares[0]) - 1.3 * np.log([1, 10, 100]))
    assert zipf(4, 0.0).tolist() == [0.25] * 4


def test_the_popular_functions_are_as_popular_as_zipf_says(a_day: Day):
    """Steady functions are Poisson: each count within five standard deviations of what was expected."""
    steady = a_day.kinds == Kind.STEADY
    counts, expected = a_day.counts[steady].sum(1), a_day.expected[steady]
    assert expected / expected.sum() == pytest.approx(zipf(int(steady.sum()), 1.1))
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected)).all()


def test_each_kind_has_its_share_of_functions_and_of_invocations(a_day: Day):
    assert np.bincount(a_day.kinds).tolist() == [160, 600, 240]
    for kind, share in OF_INVOCATIONS.items():
        seen = np.mean(
            [
                d.counts[d.kinds == kind].sum() / d.counts.sum()
                for d in (day(np.random.default_rng(seed), functions=300) for seed in range(10))
            ]
        )
        # On/off functions are on by chance, so the popular ones move the shares of a single day.
        assert seen == pytest.approx(share, abs=0.03)


def test_timers_fire_at_even_distances(a_day: Day):
    for counts in a_day.counts[a_day.kinds == Kind.TIMER]:
        fired = np.flatnonzero(counts)
        assert len(set(np.diff(fired))) <= 1
        assert len(set(counts[fired])) == 1


def test_on_off_functions_are_silent_for_longer_than_chance_would_be(a_day: Day):
    """Of those that have one caller each and come to some in a minute."""
    spread, silent = {}, {}
    for kind in (Kind.STEADY, Kind.ON_OFF):
        some = a_day.counts[a_day.kinds == kind][15:40]
        assert a_day.expected[a_day.kinds == kind][39] > MINUTES
        spread[kind] = np.median(some.var(1) / some.mean(1))
        silent[kind] = np.median((some == 0).mean(1))
    assert spread[Kind.STEADY] < 1.5 < 5.0 < spread[Kind.ON_OFF]
    assert silent[Kind.ON_OFF] > 0.5 > silent[Kind.STEADY]


def test_the_busiest_second_of_two_minutes_is_as_high_as_superserves():
    """8750 over a mean of 6400, in the median of days; a second is twelve minutes of a day."""
    days = [day(np.random.default_rng(seed), 1000).minutes.reshape(120, 12).sum(1) for seed in range(9)]
    assert np.median([d.max() / d.mean() for d in days]) == pytest.approx(8750 / 6400, abs=0.08)


def test_compression_keeps_the_share_of_every_minute(a_day: Day):
    minutes = a_day.minutes
    at = compressed(minutes, 2000.0, 120.0, np.random.default_rng(0), cv2=0.0)
    found = np.histogram(at, MINUTES, (0.0, 120.0))[0]
    assert len(at) in (240_000, 240_001)
    # Without chance within the minute only whole requests are in the way.
    assert np.abs(found - minutes * 240_000 / minutes.sum()).max() <= 1.0 + 1e-6


def test_compression_by_poisson_keeps_mean_and_autocorrelation(a_day: Day):
    minutes = a_day.minutes
    at = compressed(minutes, 6400.0, 120.0, np.random.default_rng(0))
    found = np.histogram(at, MINUTES, (0.0, 120.0))[0]
    assert len(at) == pytest.approx(768_000, abs=4 * np.sqrt(768_000))
    # Chance within the minute adds a variance of one mean to that of the shape.
    shape = minutes * 768_000 / minutes.sum()
    kept = shape.var() / (shape.var() + shape.mean())
    assert np.corrcoef(found, minutes)[0, 1] == pytest.approx(np.sqrt(kept), abs=0.005)

    def autocorrelation(counts: np.ndarray, lag: int) -> float:
        return float(np.corrcoef(counts[:-lag], counts[lag:])[0, 1])

    for lag in (1, 5, 60):
        assert autocorrelation(found, lag) == pytest.approx(kept * autocorrelation(minutes, lag), abs=0.03)


def test_the_same_seed_makes_the_same_day():
    first, again, other = (day(np.random.default_rng(seed), functions=50).counts for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("wrong", [{"functions": 2}, {"functions": 10**6}, {"exponent": -1.0}])
def test_a_day_that_cannot_be_is_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="functions"):
        day(np.random.default_rng(0), **wrong)  # type: ignore[arg-type]


def test_nothing_recorded_cannot_be_compressed():
    with pytest.raises(ValueError, match="nothing"):
        compressed(np.zeros(5), 1.0, 1.0, np.random.default_rng(0))
