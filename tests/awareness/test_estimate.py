import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.awareness.estimate import (
    accuracy_variance,
    expected_accuracy,
    leading,
    likely,
    normalised,
    profiled,
)
from peekserve.domain.profile import Quality
from peekserve.errors import InvalidConfiguration

SEEDS = st.integers(0, 2**32 - 1)


def some_beliefs(seed, rows=5, variants=3):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 12))
    return rng.dirichlet(np.full(classes, 0.5), size=rows), rng.random((variants, classes)), classes


def test_a_certain_row_is_worth_the_recall_of_its_class():
    recall = np.array([[0.9, 0.4], [0.7, 0.8]])
    assert expected_accuracy(np.eye(2), recall, [1, 1]).tolist() == recall.T.tolist()


@given(SEEDS)
def test_an_expected_accuracy_lies_between_the_lowest_and_the_highest_recall(seed):
    theta, recall, classes = some_beliefs(seed)
    accuracy = expected_accuracy(theta, recall, np.ones(classes))
    assert (accuracy >= recall.min(axis=1) - 1e-12).all()
    assert (accuracy <= recall.max(axis=1) + 1e-12).all()


@given(SEEDS, st.floats(0.01, 1000.0))
def test_equal_weights_of_any_size_change_nothing(seed, weight):
    theta, recall, classes = some_beliefs(seed)
    plain = expected_accuracy(theta, recall, np.ones(classes))
    assert np.array_equal(expected_accuracy(theta, recall, np.full(classes, weight)), plain)
    assert np.allclose(plain, theta @ recall.T)


@given(SEEDS)
def test_a_row_is_worth_the_same_whoever_stands_beside_it(seed):
    theta, recall, classes = some_beliefs(seed)
    together = expected_accuracy(theta, recall, np.arange(1, classes + 1))
    for row in range(len(theta)):
        alone = expected_accuracy(theta[row : row + 1], recall[:1], np.arange(1, classes + 1))
        assert alone[0, 0] == together[row, 0]


def test_a_weighted_class_makes_its_rows_worth_more_and_its_specialist_preferred():
    theta = np.array([[0.75, 0.25]])
    generalist, specialist = [0.95, 0.5], [0.7, 0.95]
    plain = expected_accuracy(theta, np.array([generalist, specialist]), [1, 1])[0]
    falls_matter = expected_accuracy(theta, np.array([generalist, specialist]), [1, 10])[0]
    assert plain[0] > plain[1]
    assert falls_matter[0] < falls_matter[1]
    certain = expected_accuracy(np.eye(2), np.ones((1, 2)), [1, 10])
    assert certain[1, 0] == pytest.approx(10 * certain[0, 0])


def test_the_profile_is_accuracy_on_the_data_it_was_measured_on():
    quality = Quality.from_confusion(np.array([[90, 10], [4, 6]]))
    assert profiled(quality, [2, 2]) == pytest.approx(96 / 110)
    assert profiled(quality, [1, 3]) == pytest.approx((0.5 * 90 + 1.5 * 6) / 110)


def test_one_half_is_not_likely():
    theta = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.1, 0.51, 0.39], [0.34, 0.33, 0.33]])
    assert likely(theta).tolist() == [-1, -1, 1, -1]
    assert likely(theta).dtype == np.int32


def test_the_peek_answers_with_the_first_of_equals():
    assert leading(np.array([[0.4, 0.4, 0.2], [0.1, 0.2, 0.7]])).tolist() == [0, 2]


def test_the_variance_counts_only_candidates():
    accuracy = np.array([[0.8, 0.95, 0.0], [0.6, 0.9, 0.3], [0.5, 0.0, 0.0]])
    counted = np.array([[True, True, False], [True, True, True], [False, False, False]])
    assert accuracy_variance(accuracy, counted) == pytest.approx([0.005625, np.var([0.6, 0.9, 0.3]), 0.0])
    assert accuracy_variance(accuracy) == pytest.approx(accuracy.var(axis=1))


@pytest.mark.parametrize("weights", [[1, 0], [1, float("nan")], [1, -2], []])
def test_weights_are_positive(weights):
    with pytest.raises(InvalidConfiguration, match="class weights"):
        normalised(weights)
