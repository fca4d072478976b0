import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.awareness.posterior import posterior_mean
from peekserve.awareness.priors import uninformative
from peekserve.domain.application import CHOSEN, Application, FeatureStep, PeekSpec, Variant
from peekserve.domain.tensors import TensorSpec
from peekserve.errors import InvalidData
from peekserve.peeking.choosing import choose_k, folds, spread
from peekserve.peeking.peek import build_peek

PRIOR = uninformative(2)


def overlapping(rows=240, seed=0):
    """Two classes that overlap much: many neighbours say more than one."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    return (rng.normal(size=(rows, 2)) + 0.8 * labels[:, None]).astype(np.float32), labels


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200))
def test_a_group_is_in_one_fold_and_no_fold_is_empty(groups):
    fold = folds(np.array(groups))
    for group in set(groups):
        assert len({f for f, g in zip(fold.tolist(), groups, strict=True) if g == group}) == 1
    assert set(fold.tolist()) == set(range(min(10, len(set(groups)))))


def test_noisy_classes_want_many_neighbours():
    features, labels = overlapping()
    choice = choose_k(features, labels, None, PRIOR)
    assert choice.k >= 7
    assert [k for k, _ in choice.scores] == [1, 3, 5, 7, 9, 15]
    assert choice == choose_k(features, labels, None, PRIOR)


def test_the_score_is_that_of_each_fold_looked_up_in_the_others():
    features, labels = overlapping(60)
    groups = np.arange(60) % 3
    by_hand = []
    for group in range(3):
        rest, held = groups != group, groups == group
        distance = ((features[held, None] - features[None, rest]) ** 2).sum(axis=2)
        nearest = labels[rest][np.argsort(distance, axis=1, kind="stable")[:, :3]]
        votes = np.stack([(nearest == c).sum(axis=1) for c in range(2)], axis=1)
        theta = posterior_mean(PRIOR, votes)
        by_hand.append(np.log(theta[np.arange(len(votes)), labels[held]]))
    score = dict(choose_k(features, labels, groups, PRIOR).scores)[3]
    assert score == pytest.approx(np.concatenate(by_hand).mean())


def test_a_subjects_own_rows_do_not_vote():
    # Every subject has its own place and a class of its own: its own rows know all, those of others nothing.
    rng = np.random.default_rng(1)
    subject = np.repeat(np.arange(20), 12)
    labels = rng.permutation(np.arange(20) % 2)[subject]
    features = (10 * rng.normal(size=(20, 3))[subject] + 0.01 * rng.normal(size=(240, 3))).astype(np.float32)
    cheating = dict(choose_k(features, labels, None, PRIOR).scores)
    honest = dict(choose_k(features, labels, subject, PRIOR).scores)
    assert cheating[5] > -0.1
    assert all(honest[k] < -0.5 for k in honest)


def test_classes_count_as_the_prior_expects_them():
    # Class 1 is one row in ten and lost among the others: more neighbours are better for class 0 alone.
    rng = np.random.default_rng(2)
    labels = (np.arange(400) % 10 == 0).astype(int)
    features = rng.normal(size=(400, 2)).astype(np.float32)
    rare, even = (dict(choose_k(features, labels, None, p).scores) for p in ((9.0, 1.0), (5.0, 5.0)))
    assert rare[15] > even[15]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=300), st.integers(1, 100))
def test_rows_are_spread_over_the_classes(labels, most):
    rows = spread(np.array(labels), most)
    assert len(set(rows.tolist())) == len(rows) == min(most, len(labels))
    for c in set(labels):
        share = labels.count(c) / len(labels)
        assert abs((np.array(labels)[rows] == c).sum() - share * len(rows)) <= 2


def test_what_cannot_be_chosen_from_is_refused():
    features, labels = overlapping(12)
    with pytest.raises(InvalidData, match="all 12 rows of the reference are of one group"):
        choose_k(features, labels, np.zeros(12), PRIOR)
    assert [k for k, _ in choose_k(features, labels, np.arange(12) % 2, PRIOR).scores] == [1, 3, 5]


def test_a_peek_without_a_number_chooses_it_and_says_so():
    features, labels = overlapping()
    application = Application(
        "noise", ("a", "b"), (Variant("net", "1", "net"),), PRIOR, inputs=(TensorSpec("x", "FP32", (2,)),)
    )
    spec = PeekSpec(("x",), (FeatureStep("raw"),), neighbours=CHOSEN)
    peek = build_peek(spec, application, {"x": features}, labels, groups=np.arange(240) // 4)
    assert peek.choice is not None
    assert peek.look({"x": features[:3]}).sum(axis=1).tolist() == [peek.choice.k] * 3
    assert str(peek.choice).startswith(f"k = {peek.choice.k} by cross-validation (log score of 1: ")
