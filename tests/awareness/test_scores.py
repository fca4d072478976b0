import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.awareness.estimate import expected_accuracy, profiled
from peekserve.awareness.scores import class_values
from peekserve.domain.application import Score
from peekserve.domain.profile import Quality, quadratic_values

SEEDS = st.integers(0, 2**32 - 1)


def answered(seed, rows=400):
    """Labels, class scores and what follows from them, of a model that is often right."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 8))
    labels = rng.integers(0, classes, rows)
    scores = rng.dirichlet(np.full(classes, 0.5), rows)
    scores[np.arange(rows), labels] += rng.exponential(0.7, rows)
    scores /= scores.sum(axis=1, keepdims=True)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, scores.argmax(axis=1)), 1)
    return labels, scores, Quality.from_confusion(confusion).scored(labels, scores)


def f1_by_hand(labels, said):
    """Weighted F1 from its definition: the harmonic mean of precision and recall, by class, by frequency."""
    total = 0.0
    for c in np.unique(labels):
        hit = ((labels == c) & (said == c)).sum()
        if hit:
            precision, recall = hit / (said == c).sum(), hit / (labels == c).sum()
            total += (labels == c).mean() * 2 * precision * recall / (precision + recall)
    return total


@given(SEEDS)
def test_at_the_profiles_own_mix_each_value_is_the_score_itself(seed):
    labels, scores, quality = answered(seed)
    said = scores.argmax(axis=1)
    plain = np.ones(len(quality.recall))
    assert profiled(quality, plain) == pytest.approx((said == labels).mean())
    assert profiled(quality, plain, Score.WEIGHTED_F1) == pytest.approx(f1_by_hand(labels, said))
    one_hot = np.eye(len(plain))[labels]
    brier = ((scores - one_hot) ** 2).sum(axis=1).mean()
    assert profiled(quality, plain, Score.QUADRATIC) == pytest.approx(1 - brier / 2)


@given(SEEDS, st.sampled_from(list(Score)))
def test_values_stay_between_nothing_and_one(seed, score):
    _, _, quality = answered(seed, rows=6)  # so few that classes are absent
    values = class_values(quality, score)
    assert ((values >= 0.0) & (values <= 1.0)).all()
    theta = np.random.default_rng(seed).dirichlet(np.ones(len(values)), 3)
    believed = expected_accuracy(theta, values[None, :], np.ones(len(values)))
    assert ((believed >= -1e-12) & (believed <= 1.0 + 1e-12)).all()


def test_the_quadratic_score_of_plain_decisions_is_accuracy():
    labels = np.array([0, 0, 1, 2, 2])
    said = np.array([0, 1, 1, 2, 0])
    assert quadratic_values(labels, np.eye(3)[said]).tolist() == (labels == said).astype(float).tolist()
    stated = Quality((0.9, 0.5), (0.5, 0.5))
    assert class_values(stated, Score.QUADRATIC).tolist() == [0.9, 0.5]


def test_a_model_that_cries_wolf_loses_by_f1_what_its_recall_does_not_show():
    # Both find nine of ten falls; one says "fall" of every third row that is none.
    calm = Quality.from_confusion(np.array([[950, 50], [1, 9]]))
    nervous = Quality.from_confusion(np.array([[633, 317], [1, 9]]))
    assert class_values(calm)[1] == class_values(nervous)[1] == 0.9
    by_f1 = [class_values(quality, Score.WEIGHTED_F1)[1] for quality in (calm, nervous)]
    assert by_f1 == pytest.approx([18 / 69, 18 / 336])


def test_stated_recalls_err_evenly():
    stated = Quality((0.8, 0.6, 1.0), (0.5, 0.25, 0.25))
    confusion = np.array([[8, 1, 1], [1, 3, 1], [0, 0, 5]])
    counted = Quality.from_confusion(confusion)
    assert class_values(stated, Score.WEIGHTED_F1) == pytest.approx(class_values(counted, Score.WEIGHTED_F1))


def test_a_class_without_a_sample_has_a_guess_for_a_value():
    quality = Quality.from_confusion(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert quality.guessed == (2,)
    for score in (Score.ACCURACY, Score.QUADRATIC):
        assert class_values(quality, score)[2] == pytest.approx(1 / 3)
    assert class_values(quality, Score.WEIGHTED_F1)[2] == pytest.approx(1 / 3)
