import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.awareness.priors import FLOOR, Stream, beginning, strong, uninformative, weak
from peekserve.errors import InvalidConfiguration


def test_jeffreys_gives_one_half_to_each_class():
    assert uninformative(7) == (0.5,) * 7


def test_a_weak_prior_is_worth_one_vote_in_all():
    assert sum(weak([0.8, 0.15, 0.05])) == pytest.approx(1.0)


def test_frequencies_written_with_few_digits_are_taken():
    assert weak([0.3333333, 0.3333333, 0.3333333]) == (0.3333333,) * 3


def test_a_strong_prior_is_the_expected_counts_themselves():
    assert strong([3.8, 0.2]) == (3.8, 0.2)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: uninformative(1), "two classes"),
        (lambda: weak([0.5, 0.6]), r"sum to 1.1"),
        (lambda: weak([1.0, 0.0]), "entry 1 is 0.0"),
        (lambda: weak([1.0]), "two classes"),
        (lambda: beginning([0.5, 0.6]), r"of a stream prior sum to 1; .* sum to 1.1"),
        (lambda: strong([4.0, -1.0]), "entry 1 is -1.0"),
        (lambda: strong([4.0, float("nan")]), "entry 1 is nan"),
        (lambda: strong([float("inf"), 1.0]), "entry 0 is inf"),
    ],
)
def test_a_prior_that_cannot_be_says_why(make, says):
    with pytest.raises(InvalidConfiguration, match=says):
        make()


# ---- learnt from the stream ----


def rows(*shares):
    return np.array([[share, 1.0 - share] for share in shares])


def test_a_stream_prior_starts_where_it_is_told():
    assert Stream((3.8, 0.2), half_life=100.0).pi.tolist() == pytest.approx([0.95, 0.05])
    assert Stream((3.8, 0.2)).pi.tolist() == pytest.approx([0.95, 0.05])


def test_after_a_half_life_what_was_counts_for_half():
    prior = Stream((0.5, 0.5), half_life=10.0, pull=0.0)
    prior.learn(rows(*[0.5] * 30))
    prior.learn(rows(*[1.0] * 10))
    assert prior.pi[0] == pytest.approx(0.75)


def test_the_first_rows_count_for_more_than_where_it_began():
    prior = Stream((0.5, 0.5), half_life=1000.0, pull=0.0)
    prior.learn(rows(*[1.0] * 20))
    assert 0.85 < prior.pi[0] < 0.95


def test_a_fixed_prior_learns_nothing():
    prior = Stream((0.9, 0.1))
    prior.learn(rows(0.0, 0.0, 0.0))
    prior.correct(1, np.array([1.0, 0.0]))
    assert prior.pi.tolist() == pytest.approx([0.9, 0.1])


def test_no_class_is_ever_given_up():
    prior = Stream((0.5, 0.5), half_life=1.0, pull=0.0)
    prior.learn(rows(*[1.0] * 200))
    assert prior.pi[1] == pytest.approx(FLOOR / 2, rel=0.01)


def test_the_stronger_the_pull_the_less_the_stream_moves_the_prior():
    ends = []
    for pull in (0.0, 1.0, 4.0):
        prior = Stream((0.5, 0.5), 10.0, pull=pull)
        prior.learn(rows(*[0.6] * 400))
        ends.append(prior.pi[0])
    assert ends == pytest.approx([0.6, 0.55, 0.52])


def test_a_confirmed_label_takes_the_place_of_what_was_believed():
    told, certain = Stream((0.5, 0.5), half_life=5.0), Stream((0.5, 0.5), half_life=5.0)
    believed = rows(0.8)
    told.learn(believed)
    told.correct(1, believed[0])
    certain.learn(rows(0.0))
    assert told.pi.tolist() == pytest.approx(certain.pi.tolist())


def test_a_mix_is_found_through_votes_that_err():
    """Three in four rows are of class 0; each is named rightly four times in five."""
    rng = np.random.default_rng(0)
    prior, seen = Stream((0.5, 0.5), half_life=300.0, pull=0.0), []
    for said in (rng.random(12_000) < 0.25) ^ (rng.random(12_000) < 0.2):
        chance = np.where(np.arange(2) == said, 0.8, 0.2) * prior.pi
        prior.learn((chance / chance.sum())[None])
        seen.append(prior.pi[0])
    assert np.mean(seen[4000:]) == pytest.approx(0.75, abs=0.03)


@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.sampled_from([-1, 0, 1])), max_size=80),
    st.floats(1.0, 500.0),
    st.floats(0.01, 1.0),
    st.floats(0.0, 10.0),
)
def test_a_stream_prior_is_always_a_distribution(events, half_life, settled, pull):
    prior = Stream((0.99, 0.01), half_life, settled, pull)
    for share, label in events:
        theta = rows(share)
        if label < 0:
            prior.learn(theta)
        else:
            prior.correct(label, theta[0])
        assert prior.pi.sum() == pytest.approx(1.0)
        assert prior.pi.min() >= FLOOR / 2 / (1 + FLOOR)


def test_rows_that_came_together_are_learnt_in_their_order():
    together, apart = Stream((0.5, 0.5), 10.0), Stream((0.5, 0.5), 10.0)
    together.learn(rows(0.9, 0.1, 0.7))
    for share in (0.9, 0.1, 0.7):
        apart.learn(rows(share))
    assert together.pi.tolist() == apart.pi.tolist()
