"""Recorded arrivals, played: as they were, faster, and at another rate."""

import numpy as np
import pytest

from peekserve.errors import InvalidConfiguration
from peekserve.loadgen.describe import describe, per_slot
from peekserve.loadgen.traces import Counts, Requests, play, slotted


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def recorded() -> Requests:
    """100 s: a request each second, and fifty more in second 40. `b` asks in the burst alone."""
    at = np.sort(np.concatenate([np.arange(100.0), 40.0 + np.linspace(0.01, 0.99, 50)]))
    names = ["b" if 40.0 < one < 41.0 else "a" for one in at]
    return Requests(at, names, list(range(150)))


def test_without_a_rate_or_a_length_it_is_as_recorded():
    played = play(recorded(), None, None, rng())
    assert played.at.tolist() == recorded().at.tolist()
    assert played.seconds == pytest.approx(99.0 * 150 / 149)
    assert (played.applications, played.samples) == (recorded().applications, recorded().samples)


@pytest.mark.parametrize(("rate", "seconds"), [(15.0, None), (None, 10.0)])
def test_with_one_of_them_time_runs_faster_and_everybody_comes(rate: float | None, seconds: float | None):
    played = play(recorded(), rate, seconds, rng())
    assert len(played.at) == 150
    assert played.seconds == pytest.approx(10.0)
    was, now = describe(recorded().at, recorded().length_s), describe(played.at, played.seconds)
    assert now.mean == pytest.approx(15.0)
    assert now.cv2 == pytest.approx(was.cv2)


def test_with_both_the_shape_is_kept_and_requests_are_drawn():
    played = play(recorded(), 600.0, 25.0, rng())
    assert len(played.at) == pytest.approx(15_000, abs=4 * np.sqrt(15_000))
    shares = np.histogram(played.at, 100, (0.0, 25.0))[0] / len(played.at)
    wanted = slotted(recorded()).counts / 150
    assert shares == pytest.approx(wanted, abs=4 * np.sqrt(0.34 / 15_000))


def test_a_drawn_request_is_for_the_application_that_asked_then():
    played = play(recorded(), 600.0, 100.0, rng())
    assert played.applications is not None
    assert played.samples is not None
    burst = (played.at > 39.0) & (played.at < 42.0)  # slots are the hundredth part of 99.7 s
    names = np.array(played.applications)
    assert set(names[~burst]) == {"a"}
    assert (names == "b").mean() == pytest.approx(1 / 3, abs=0.02)
    assert (names == np.array(recorded().applications)[played.samples]).all()


def test_counts_are_kept_as_they_are_where_only_time_is_compressed():
    counts = np.array([3, 0, 0, 7, 1])
    for seconds in (None, 2.5):
        played = play(Counts(counts, 60.0), None, seconds, rng())
        assert played.seconds == (seconds or 300.0)
        assert np.histogram(played.at, 5, (0.0, played.seconds))[0].tolist() == counts.tolist()


def test_counts_at_another_rate_keep_their_shares():
    counts = np.array([30, 0, 10])
    found = [np.histogram(play(Counts(counts, 1.0), 400.0, 3.0, rng(s)).at, 3, (0, 3))[0] for s in range(20)]
    assert np.mean(found, axis=0) == pytest.approx([900.0, 0.0, 300.0], abs=4 * np.sqrt(900 / 20))


def test_the_same_seed_plays_the_same():
    first, again, other = (play(recorded(), 50.0, 20.0, rng(seed)).at.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("rate", "seconds"), [(0.0, None), (None, -1.0), (1e9, 1e9), (float("nan"), 1.0)])
def test_what_cannot_be_played_is_refused(rate: float | None, seconds: float | None):
    with pytest.raises(InvalidConfiguration, match=r"above 0|too many"):
        play(recorded(), rate, seconds, rng())


def test_a_description_counts_whole_seconds():
    told = describe(np.array([0.0, 0.5, 0.9, 2.1]), 3.0)
    assert (told.requests, told.mean, told.peak) == (4, pytest.approx(4 / 3), 3)
    assert told.cv2 == pytest.approx(np.var([0.5, 0.4, 1.2]) / 0.7**2)
    assert describe(np.array([1.0]), 3.0).as_json()["cv2"] is None


def test_a_recording_of_centuries_is_described_without_counting_each_second():
    told = describe(np.array([0.0, 0.5, 2e10]), 3e10)
    assert (told.requests, told.peak) == (3, 2)
    assert per_slot(np.array([0.0, 0.5, 2e10]), 3e10, 1e10).tolist() == [2, 0, 1]


def test_a_slot_that_the_end_cuts_off_is_not_counted():
    at = np.array([0.0, 0.5, 1.9, 2.1])
    assert per_slot(at, 2.5, 1.0).tolist() == [2, 1]
    assert per_slot(at[:2], 0.6, 0.6).tolist() == [2]
    assert describe(at[:0], 1.0).peak == 0
