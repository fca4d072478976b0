import numpy as np
import pytest

from peekserve.awareness.agreement import STRENGTH, agreement, edges_for, recalls_by_agreement
from peekserve.errors import InvalidData

EDGES = edges_for(5)


@pytest.mark.parametrize(("votes", "bins"), [(1, 2), (2, 3), (3, 4), (5, 4), (15, 4)])
def test_the_bins_follow_from_the_number_of_votes(votes, bins):
    """Every number of votes for a class has its bin: none, some, most, all."""
    edges = edges_for(votes)
    counts = np.array([[n, votes - n] for n in range(votes + 1)], dtype=float)
    found = agreement(counts, edges)[:, 0].tolist()
    assert len(edges) + 1 == bins
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, bins - 1)
    assert set(found) == set(range(bins))


def test_each_class_has_its_own_bin_and_votes_need_not_be_whole():
    assert agreement(np.array([[0.5, 0.3, 0.2], [0.02, 0.98, 0.0]]), EDGES).tolist() == [[1, 1, 1], [0, 3, 0]]
    assert agreement(np.zeros((1, 3)), EDGES).tolist() == [[-1, -1, -1]]


def test_recalls_apart_by_hand():
    labels, said = np.array([0] * 60 + [1] * 40), np.array([0] * 50 + [1] * 10 + [1] * 40)
    # The votes are unanimously right on the first forty, against the class on the rest of class 0.
    counts = np.array([[5, 0]] * 40 + [[0, 5]] * 20 + [[0, 5]] * 40, dtype=float)
    found = recalls_by_agreement((50 / 60, 1.0), labels, said, counts, EDGES)
    assert found[3][0] == pytest.approx((40 + STRENGTH * 50 / 60) / (40 + STRENGTH))
    assert found[0][0] == pytest.approx((10 + STRENGTH * 50 / 60) / (20 + STRENGTH))
    assert found[1][0] == pytest.approx(50 / 60)  # nothing was seen there
    assert found[3][1] == 1.0


def test_few_samples_stay_near_the_overall_recall():
    counts = np.array([[5.0, 0.0]] * 2)
    found = recalls_by_agreement((0.8, 0.8), np.array([0, 0]), np.array([1, 1]), counts, EDGES)
    assert 0.7 < found[3][0] < 0.8


def test_samples_without_votes_do_not_count():
    counts = np.zeros((2, 2))
    found = recalls_by_agreement((0.8, 0.6), np.array([0, 1]), np.array([1, 0]), counts, EDGES)
    assert found == ((0.8, 0.6),) * 4


def test_lengths_that_differ_are_told():
    with pytest.raises(InvalidData, match="2 labels, 1 answers and 2 rows of votes"):
        recalls_by_agreement((0.8, 0.6), np.array([0, 1]), np.array([1]), np.ones((2, 2)), EDGES)
