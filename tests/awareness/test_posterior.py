import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.awareness.posterior import Dirichlet, posterior_mean
from peekserve.awareness.priors import uninformative
from peekserve.errors import InvalidConfiguration, InvalidTensor

VOTES = st.integers(2, 11).flatmap(
    lambda classes: st.tuples(
        st.lists(st.floats(0.01, 50.0), min_size=classes, max_size=classes),
        st.lists(st.lists(st.floats(0.0, 100.0), min_size=classes, max_size=classes), min_size=1, max_size=6),
    )
)


def test_two_of_five_neighbours_say_no_fall_and_three_say_fall():
    theta = posterior_mean(uninformative(2), [[2, 3]])
    assert theta[0, 1] == pytest.approx(3.5 / 6.0)


@pytest.mark.parametrize(
    ("classes", "votes", "top"), [(2, 3, 0.583), (6, 4, 0.5625), (7, 4, 0.529), (7, 1, 0.333)]
)
def test_jeffreys_passes_one_half_with_three_votes_of_two_classes_and_four_of_six(classes, votes, top):
    k = 1 if votes == 1 else 5
    counts = [votes, k - votes] + [0] * (classes - 2)
    assert posterior_mean(uninformative(classes), [counts])[0, 0] == pytest.approx(top, abs=5e-4)


def test_without_votes_the_prior_speaks():
    assert posterior_mean([3.0, 1.0], [[0, 0]]).tolist() == [[0.75, 0.25]]


@given(VOTES)
def test_every_belief_sums_to_one(case):
    alpha, counts = case
    theta = posterior_mean(alpha, counts)
    assert theta.shape == (len(counts), len(alpha))
    assert np.allclose(theta.sum(axis=1), 1.0)
    assert (theta > 0.0).all()


@given(VOTES, st.floats(0.0, 20.0), st.integers(0, 10))
def test_more_votes_for_a_class_never_lower_its_probability(case, more, index):
    alpha, counts = case
    index %= len(alpha)
    before = posterior_mean(alpha, counts)
    raised = np.array(counts)
    raised[:, index] += more
    assert (posterior_mean(alpha, raised)[:, index] >= before[:, index] * (1.0 - 1e-12)).all()


@given(VOTES)
def test_a_row_is_believed_the_same_whoever_stands_beside_it(case):
    alpha, counts = case
    together = posterior_mean(alpha, counts)
    for row, one in enumerate(counts):
        assert np.array_equal(posterior_mean(alpha, [one])[0], together[row])


@given(VOTES)
def test_the_value_of_one_row_and_the_array_of_many_agree(case):
    alpha, counts = case
    assert Dirichlet(tuple(alpha)).observe(counts[0]).mean == pytest.approx(posterior_mean(alpha, counts)[0])


def test_observing_twice_is_observing_the_sum():
    belief = Dirichlet(uninformative(3))
    assert belief.observe([1, 0, 2]).observe([0, 1, 0]) == belief.observe([1, 1, 2])


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ([[1, 2, 3]], "2 counts"),
        ([1, 2], "2 counts"),
        ([[1, -1]], "row 0, class 1 has -1"),
        ([[0, 0], [float("nan"), 0]], "row 1, class 0 has nan"),
        ([[float("inf"), 0]], "row 0, class 0 has inf"),
    ],
)
def test_evidence_that_cannot_be_is_named(counts, says):
    with pytest.raises(InvalidTensor, match=says):
        posterior_mean([0.5, 0.5], counts)


def test_no_rows_no_beliefs():
    assert posterior_mean([0.5, 0.5], np.empty((0, 2))).shape == (0, 2)


def test_a_belief_needs_positive_entries():
    with pytest.raises(InvalidConfiguration, match="positive"):
        Dirichlet((1.0, 0.0))
