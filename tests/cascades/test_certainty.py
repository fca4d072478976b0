"""Short stories about how sure a model is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as shapes

from peekserve.cascades.certainty import CERTAINTIES, certainty, logit_margin
from peekserve.errors import InvalidConfiguration, InvalidData


def some_scores():
    """Rows that sum to 1, of two to five classes."""
    shape = shapes.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=5)
    raised = shapes.arrays(np.float64, shape, elements=st.floats(0.01, 1.0))
    return raised.map(lambda x: x / x.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name", CERTAINTIES)
def test_one_clear_answer_is_surer_than_a_doubtful_one(name):
    sure, doubtful, lost = certainty(name)(np.array([[0.97, 0.02, 0.01], [0.5, 0.4, 0.1], [1 / 3] * 3]))
    assert sure > doubtful > lost


@pytest.mark.parametrize("name", CERTAINTIES)
@settings(max_examples=20)
@given(scores=some_scores(), seed=st.integers(0, 99))
def test_the_order_of_classes_does_not_matter(name, scores, seed):
    order = np.random.default_rng(seed).permutation(scores.shape[1])
    np.testing.assert_allclose(certainty(name)(scores[:, order]), certainty(name)(scores), atol=1e-12)


@settings(max_examples=50)
@given(some_scores())
def test_margin_entropy_and_maximum_lie_between_0_and_1(scores):
    for name in ("margin", "entropy", "maximum"):
        sure = certainty(name)(scores)
        assert ((sure >= -1e-12) & (sure <= 1.0 + 1e-12)).all()


def test_the_logit_margin_is_the_difference_of_the_two_highest_logits():
    logits = np.array([[3.0, 1.5, -2.0]])
    raised = np.exp(logits)
    assert logit_margin(raised / raised.sum()) == pytest.approx([1.5])


@given(shapes.arrays(np.float64, (20,), elements=st.floats(0.01, 0.99)))
def test_of_two_classes_all_measures_say_the_same_order(first):
    scores = np.stack([first, 1.0 - first], axis=1)
    order = np.argsort(np.round(np.abs(first - 0.5), 9), kind="stable")
    for measure in CERTAINTIES.values():
        assert (np.diff(measure(scores)[order]) >= -1e-6).all()


def test_a_one_hot_answer_is_sure_and_a_number():
    for measure in CERTAINTIES.values():
        assert np.isfinite(measure(np.array([[0.0, 1.0, 0.0]]))).all()


def test_an_unknown_measure_names_the_nearest():
    with pytest.raises(InvalidConfiguration, match="nearest is 'margin'"):
        certainty("margins")


def test_one_class_has_no_second():
    with pytest.raises(InvalidData, match="two classes"):
        certainty("margin")(np.ones((3, 1)))
