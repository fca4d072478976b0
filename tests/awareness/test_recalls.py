import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.awareness.recalls import HALF_LIFE, STRENGTH, Recalls

OVERALL = np.array([[0.9, 0.5], [0.6, 0.7]])
APART = np.array([[[0.7, 0.3], [0.6, 0.7]], [[1.0, 0.6], [0.6, 0.7]]])


def test_nothing_moves_before_anything_is_confirmed():
    assert (Recalls(OVERALL, APART).tables == np.concatenate((APART, OVERALL[None]))).all()


def test_one_confirmed_answer_by_hand():
    recalls = Recalls(OVERALL, APART)
    recalls.confirm(0, 1, right=False)
    now = STRENGTH * 0.5 / (STRENGTH + 1)
    assert recalls.tables[-1, 0, 1] == pytest.approx(now)
    # A fall takes the same share of each: what is certain to be wrong stays so.
    assert recalls.tables[:2, 0, 1].tolist() == pytest.approx([0.3 * now / 0.5, 0.6 * now / 0.5])
    untouched = np.ones_like(recalls.tables, dtype=bool)
    untouched[:, 0, 1] = False
    assert (recalls.tables[untouched] == np.concatenate((APART, OVERALL[None]))[untouched]).all()


def test_a_model_that_went_bad_is_found_out():
    recalls = Recalls(OVERALL, APART)
    for _ in range(int(STRENGTH)):
        recalls.confirm(0, 0, right=False)
    assert recalls.tables[-1, 0, 0] < 0.5
    for _ in range(int(20 * HALF_LIFE)):
        recalls.confirm(0, 0, right=False)
    assert recalls.tables[-1, 0, 0] == pytest.approx(
        0.9 * STRENGTH / (STRENGTH + HALF_LIFE / np.log(2)), abs=0.003
    )


@given(st.lists(st.booleans(), max_size=60))
def test_recalls_stay_between_nothing_and_certainty(answers):
    recalls = Recalls(np.array([[1.0, 0.0]]), np.array([[[1.0, 0.0]], [[0.5, 0.0]]]))
    for right in answers:
        recalls.confirm(0, 0, right)
        recalls.confirm(0, 1, right)
    assert (recalls.tables >= 0.0).all()
    assert (recalls.tables <= 1.0).all()
