import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.errors import InvalidConfiguration, InvalidData, InvalidTensor
from peekserve.peeking.neighbours import Neighbours


def by_hand(reference, labels, classes, k, queries):
    """Sorted by distance, of equals the lower index first."""
    distance = ((queries[:, None, :].astype(float) - reference[None].astype(float)) ** 2).sum(axis=2)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return np.stack([np.bincount(labels[row], minlength=classes) for row in nearest]).astype(float)


@given(st.integers(0, 10_000))
@settings(max_examples=60)
def test_votes_equal_those_counted_by_hand_ties_included(seed):
    rng = np.random.default_rng(seed)
    n, width, classes = int(rng.integers(1, 300)), int(rng.integers(1, 7)), int(rng.integers(2, 9))
    k = int(rng.integers(1, min(n, 12) + 1))
    # Small whole numbers: distances are exact and ties are everywhere.
    reference = rng.integers(0, 3, size=(n, width)).astype(np.float32)
    queries = rng.integers(0, 3, size=(17, width)).astype(np.float32)
    labels = rng.integers(0, classes, size=n)
    counts = Neighbours(reference, labels, classes, k).counts(queries)
    assert np.array_equal(counts, by_hand(reference, labels, classes, k, queries))
    assert counts.dtype == np.float64


def test_a_rows_votes_are_the_same_alone_and_in_a_batch():
    rng = np.random.default_rng(2)
    neighbours = Neighbours(rng.normal(size=(500, 64)).astype(np.float32), rng.integers(0, 5, 500), 5, 5)
    queries = rng.normal(size=(40, 64)).astype(np.float32)
    alone = np.concatenate([neighbours.counts(queries[i : i + 1]) for i in range(40)])
    assert np.array_equal(alone, neighbours.counts(queries))


def test_no_rows_no_votes():
    neighbours = Neighbours(np.eye(3, dtype=np.float32), np.arange(3), 3, 1)
    assert neighbours.counts(np.empty((0, 3), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("k", [0, 4])
def test_k_is_at_most_the_reference(k):
    with pytest.raises(InvalidConfiguration, match=f"{k} of 3"):
        Neighbours(np.eye(3, dtype=np.float32), np.arange(3), 3, k)


@pytest.mark.parametrize(
    ("reference", "labels", "says"),
    [
        (np.eye(3), [0, 1, 3], "from 0 to 3"),
        (np.eye(3), [0, 1, -1], "from -1 to 1"),
        (np.eye(3), [0, 1], "shapes"),
        (np.eye(3) * np.nan, [0, 1, 2], "NaN"),
        (np.empty((0, 3)), [], "shapes"),
    ],
)
def test_references_that_cannot_be_are_refused(reference, labels, says):
    with pytest.raises(InvalidData, match=says):
        Neighbours(reference.astype(np.float32), np.array(labels, dtype=int), 3, 1)


@pytest.mark.parametrize(
    ("features", "says"), [(np.ones((1, 2)), "width 3"), (np.full((1, 3), np.nan), "NaN")]
)
def test_features_that_cannot_be_searched_are_refused(features, says):
    with pytest.raises(InvalidTensor, match=says):
        Neighbours(np.eye(3, dtype=np.float32), np.arange(3), 3, 1).counts(features.astype(np.float32))
