import pytest

from peekserve.awareness.priors import strong, uninformative, weak
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
        (lambda: strong([4.0, -1.0]), "entry 1 is -1.0"),
        (lambda: strong([4.0, float("nan")]), "entry 1 is nan"),
        (lambda: strong([float("inf"), 1.0]), "entry 0 is inf"),
    ],
)
def test_a_prior_that_cannot_be_says_why(make, says):
    with pytest.raises(InvalidConfiguration, match=says):
        make()
