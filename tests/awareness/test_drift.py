"""The drift score: quiet without a drift, loud soon after one, on one scale for any number of classes."""

from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.awareness.drift import Memory, Shift, Trust, Watch
from peekserve.errors import InvalidConfiguration

ALARM = 3.0
# Shares before and after the shift, how often a neighbour votes for the true class, and in how many rows it must show.
STREAMS = {
    "falls": ([0.95, 0.05], [0.5, 0.5], 0.85, 100),
    "keywords": ([1 / 6] * 6, [0.7] + [0.06] * 5, 0.6, 200),
    "ecg": ([0.8, 0.08, 0.05, 0.04, 0.02, 0.007, 0.003], [0.1] + [0.15] * 6, 0.85, 100),
    "eleven": ([1 / 11] * 11, [0.5] + [0.05] * 10, 0.6, 250),
}


def labels_of(shares, rows, rng):
    return rng.choice(len(shares), size=rows, p=np.array(shares) / sum(shares))


def votes_on(labels, classes, right, rng):
    """Five neighbours each; rows are unlike each other in how clearly they are of their class."""
    at_random = (1.0 - right) / (classes - 1)
    means = np.full((classes, classes), at_random) + (right - at_random) * np.eye(classes)
    shares = rng.standard_gamma(2.0 * means[labels]) + 1e-12
    return rng.multinomial(5, shares / shares.sum(axis=1, keepdims=True)).astype(float)


def scores_along(shift, votes, every=5):
    scores = []
    for row in range(len(votes)):
        shift.see(votes[row : row + 1])
        if row % every == 0:
            scores.append(shift.score)
    return np.array(scores)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_that_stays_as_it_is_is_below_the_alarm_99_times_in_100(stream):
    shares, _, right, _ = STREAMS[stream]
    scores = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        votes = votes_on(labels_of(shares, 1500, rng), len(shares), right, rng)
        scores.append(scores_along(Shift(len(shares)), votes))
    scores = np.concatenate(scores)
    assert (scores < ALARM).mean() >= 0.99
    assert np.median(scores) <= 1.0


@pytest.mark.parametrize("stream", STREAMS)
def test_after_a_shift_the_alarm_comes_within_some_tens_of_rows(stream):
    before, after, right, within = STREAMS[stream]
    for seed in range(10):
        rng = np.random.default_rng(100 + seed)
        shift = Shift(len(before))
        shift.see(votes_on(labels_of(before, 1500, rng), len(before), right, rng))
        scores = scores_along(shift, votes_on(labels_of(after, 250, rng), len(before), right, rng), every=1)
        assert np.flatnonzero(scores > ALARM)[0] < within


def test_what_stays_becomes_usual():
    rng = np.random.default_rng(3)
    shift = Shift(2, Memory(half_life=20.0))
    shift.see(np.eye(2)[labels_of([0.9, 0.1], 1000, rng)])
    shift.see(np.eye(2)[labels_of([0.3, 0.7], 60, rng)])
    shifted = shift.score
    shift.see(np.eye(2)[labels_of([0.3, 0.7], 3000, rng)])
    assert shifted > ALARM > shift.score
    assert abs(shift.present[1] - 0.7) < 0.15


@settings(max_examples=30)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1), st.lists(st.integers(1, 90), min_size=1, max_size=6))
def test_blocks_of_any_size_add_up_to_the_same(classes, seed, sizes):
    rng = np.random.default_rng(seed)
    votes = rng.integers(0, 5, (sum(sizes), classes)).astype(float)
    one_by_one, together = Shift(classes), Shift(classes)
    for row in votes:
        one_by_one.see(row[None])
    at = 0
    for size in sizes:
        together.see(votes[at : at + size])
        together.score  # noqa: B018 (reading it folds what is pending)
        at += size
    assert together.rows == one_by_one.rows == int((votes.sum(axis=1) > 0).sum())
    np.testing.assert_allclose(together.score, one_by_one.score, rtol=1e-6, atol=1e-6)


def test_rows_without_votes_say_nothing():
    shift = Shift(3)
    shift.see(np.zeros((5, 3)))
    assert (shift.rows, shift.score, shift.present.tolist()) == (0, 0.0, [1 / 3] * 3)


@pytest.mark.parametrize("accuracy", [0.6, 0.8, 0.95, 0.995])
def test_answers_as_good_as_believed_are_below_the_alarm_99_times_in_100(accuracy):
    below = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        trust = Trust()
        for believed in np.clip(rng.beta(10 * accuracy, 10 * (1 - accuracy), 1500), 0.01, 0.999):
            trust.learn(believed, bool(rng.random() < believed))
            below.append(trust.score < ALARM)
    assert np.mean(below) >= 0.99


@pytest.mark.parametrize("accuracy", [0.7, 0.8, 0.95])
def test_answers_worse_by_a_fifth_are_found_within_300_rows(accuracy):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        trust = Trust()
        for right in rng.random(1500) < accuracy:
            trust.learn(accuracy, bool(right))
        for right in rng.random(300) < accuracy - 0.2:
            trust.learn(accuracy, bool(right))
            if trust.score > ALARM:
                break
        assert trust.score > ALARM, seed
        assert trust.interval[0] < trust.right < trust.interval[1]


def test_one_surprise_is_no_drift():
    trust = Trust()
    trust.learn(0.999, False)
    assert trust.score < 1.5
    assert (trust.confirmed, trust.right, trust.believed) == (1, 0.0, 0.999)


def test_nothing_is_known_before_the_first_row():
    drift = Watch(3).drift([0.2, 0.3, 0.5])
    assert isnan(drift.believed)
    assert isnan(drift.right)
    assert (drift.score, drift.confirmed, drift.interval) == (0.0, 0, (0.0, 1.0))
    assert drift.prior == (0.2, 0.3, 0.5)


def test_the_score_is_the_largest_of_the_three():
    watch = Watch(2)
    for row in range(400):
        watch.see(np.array([[3.0, 2.0]]))
        watch.learn(label=row % 2, said=0, believed=0.99)  # half of them are wrong
    drift = watch.drift([0.5, 0.5])
    assert drift.score == drift.trust > ALARM
    assert drift.votes < 1.0 > drift.labels


def test_a_row_without_a_profile_counts_for_the_labels_alone():
    watch = Watch(2)
    for row in range(1000):
        watch.learn(label=int(row > 900), said=0, believed=None)
    drift = watch.drift([0.5, 0.5])
    assert drift.labels > ALARM
    assert (drift.trust, drift.confirmed) == (0.0, 1000)


@pytest.mark.parametrize(("half_life", "sample"), [(0.0, 100.0), (100.0, -1.0), (float("nan"), 10.0)])
def test_a_memory_that_cannot_be_is_refused(half_life, sample):
    with pytest.raises(InvalidConfiguration):
        Memory(half_life, sample)


def test_one_class_cannot_shift():
    with pytest.raises(InvalidConfiguration):
        Shift(1)
