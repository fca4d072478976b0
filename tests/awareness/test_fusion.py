from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.awareness.calibrate import fit
from peekserve.awareness.fusion import (
    FEWEST,
    UNASKED,
    WORTH_A_RUN,
    Fusion,
    fit_fusion,
    likelihoods,
    with_share,
    worth_asking,
)
from peekserve.core.spec import SchedulerSpec
from peekserve.errors import InvalidData

pytestmark = pytest.mark.core

SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.sampled_from([0.0, 0.3, 0.5, 1.0])


def some_fusion(rng, share, variants=3, classes=4):
    """Variants that are better than chance, of different strength, and a peek among them."""
    counts = rng.integers(0, 20, (variants, classes, classes))
    counts[:, np.arange(classes), np.arange(classes)] += rng.integers(20, 200, (variants, classes))
    strengths = rng.permutation(variants + 1) / (variants + 1)
    return Fusion.of(counts, strengths.tolist(), rng.uniform(0.5, 2.0, classes), share)


def some_rows(rng, rows=6, variants=3, classes=4):
    theta = rng.dirichlet(np.full(classes, 0.7), rows)
    said = np.where(rng.random((rows, variants)) < 0.5, rng.integers(0, classes, (rows, variants)), UNASKED)
    return theta, rng.dirichlet(np.full(classes, 3.0)), rng.random(rows) < 0.8, said


def one(theta, said):
    return np.array([theta]), np.array([0.5, 0.5]), np.ones(1, np.bool_), np.array([said])


STRONG_AND_WEAK = Fusion.of([[[8, 1], [1, 8]], [[5, 4], [4, 5]]], [0.85, 0.55, 0.7], np.ones(2), 0.5)


def test_by_hand_the_strongest_voice_counts_in_full_and_the_peek_by_its_share():
    # The model says class 1: odds 0.15 : 0.85. The peek's 4 : 1 for class 0 count by half: 2 : 1.
    assert STRONG_AND_WEAK.chances[0].tolist() == [[0.85, 0.15], [0.15, 0.85]]
    belief = STRONG_AND_WEAK.belief(*one([0.8, 0.2], [1, UNASKED]))
    assert belief[0, 1] == pytest.approx(0.85 / (0.85 + 0.15 * 2))


def test_by_hand_a_weaker_model_is_the_one_that_counts_by_its_share():
    # Class 0 by the peek, 4 : 1 in full; class 1 by a model that says it 0.55 : 0.45, to the power one half.
    belief = STRONG_AND_WEAK.belief(*one([0.8, 0.2], [UNASKED, 1]))
    odds = 4.0 * (0.45 / 0.55) ** 0.5
    assert belief[0, 0] == pytest.approx(odds / (1.0 + odds))


def test_with_nothing_but_the_peek_the_belief_is_the_peeks():
    rows = one([0.8, 0.2], [UNASKED, UNASKED])
    assert STRONG_AND_WEAK.belief(*rows)[0] == pytest.approx([0.8, 0.2])
    theta, prior, _, said = rows
    assert STRONG_AND_WEAK.belief(theta, prior, np.zeros(1, np.bool_), said)[0] == pytest.approx([0.5, 0.5])


def test_by_hand_what_a_stronger_model_would_make_of_it():
    # It decides alone, for 2 : 1 does not outweigh 0.85 : 0.15: it is right in 0.85 of either class.
    expected = STRONG_AND_WEAK.expected(*one([0.8, 0.2], [UNASKED, UNASKED]))
    assert expected[0].tolist() == pytest.approx([0.85, 0.8])  # the weak one changes nothing


def test_a_voice_that_cannot_change_the_answer_is_worth_nothing_however_sure_it_would_make_us():
    expected = STRONG_AND_WEAK.expected(*one([0.6, 0.4], [0, UNASKED]))
    belief = STRONG_AND_WEAK.belief(*one([0.6, 0.4], [0, UNASKED]))
    assert expected[0, 1] == pytest.approx(belief[0].max())


def test_an_answer_is_the_class_that_is_worth_most():
    fusion = Fusion.of([[[8, 1], [1, 8]]], [0.85, 0.5], np.array([0.5, 1.5]))
    belief = np.array([[0.7, 0.3], [0.8, 0.2]])
    assert fusion.labels(belief).tolist() == [1, 0]
    assert fusion.value(belief) == pytest.approx([0.45, 0.4])


@given(SEEDS, SHARES)
def test_a_fused_belief_sums_to_one_and_does_not_care_who_spoke_first(seed, share):
    rng = np.random.default_rng(seed)
    fusion, (theta, prior, looked, said) = some_fusion(rng, share), some_rows(rng)
    belief = fusion.belief(theta, prior, looked, said)
    assert belief.sum(axis=1) == pytest.approx(np.ones(len(belief)))
    order = rng.permutation(3)
    renamed = Fusion(
        fusion.chances[order], (*(fusion.rank[v] for v in order), fusion.rank[3]), fusion.weights, share
    )
    assert renamed.belief(theta, prior, looked, said[:, order]) == pytest.approx(belief)


@given(SEEDS, SHARES)
def test_another_voice_is_never_expected_to_cost_anything(seed, share):
    rng = np.random.default_rng(seed)
    fusion, rows = some_fusion(rng, share), some_rows(rng)
    expected = fusion.expected(*rows)
    now = fusion.value(fusion.belief(*rows))
    assert (expected >= now[:, None]).all()
    assert (expected[rows[3] != UNASKED] == np.repeat(now[:, None], 3, axis=1)[rows[3] != UNASKED]).all()


@given(SEEDS)
def test_a_row_is_the_same_to_the_last_bit_whatever_stands_beside_it(seed):
    rng = np.random.default_rng(seed)
    fusion, (theta, prior, looked, said) = some_fusion(rng, 0.4), some_rows(rng)
    every = fusion.expected(theta, prior, looked, said)
    alone = [fusion.expected(theta[i : i + 1], prior, looked[i : i + 1], said[i : i + 1]) for i in range(6)]
    assert np.concatenate(alone).tolist() == every.tolist()


@given(SEEDS)
def test_when_nothing_is_known_a_good_model_is_worth_its_recall(seed):
    rng = np.random.default_rng(seed)
    fusion = some_fusion(rng, 0.5)
    even = np.full(4, 0.25)
    plain = Fusion(fusion.chances, fusion.rank, np.ones(4), 0.5)
    nothing = np.full((1, 3), UNASKED)
    expected = plain.expected(even[None], even, np.zeros(1, np.bool_), nothing)[0]
    best = (
        plain.chances.max(axis=1).sum(axis=1) / 4.0
    )  # [V]: of each thing it may say, the class that says it most
    assert expected == pytest.approx(best)
    sound = plain.chances.argmax(axis=1) == np.arange(4)
    recall = np.einsum("vcc->v", plain.chances) / 4.0
    assert expected[sound.all(axis=1)] == pytest.approx(recall[sound.all(axis=1)])


def test_independent_errors_are_worth_what_drawing_them_says():
    rng = np.random.default_rng(5)
    fusion = some_fusion(rng, 1.0)
    theta, prior = rng.dirichlet(np.full(4, 1.5), 1), np.full(4, 0.25)
    said = np.array([[2, UNASKED, UNASKED]])
    looked = np.ones(1, np.bool_)
    belief = fusion.belief(theta, prior, looked, said)
    many = 200_000
    labels = rng.choice(4, many, p=belief[0])
    ladder = fusion.chances[1].cumsum(axis=1)
    heard = (rng.random(many)[:, None] > ladder[labels]).sum(axis=1)
    after = [fusion.belief(theta, prior, looked, np.array([[2, o, UNASKED]])) for o in range(4)]
    then = fusion.labels(np.concatenate(after))
    drawn = float((fusion.weights[labels] * (then[heard] == labels)).mean())
    assert fusion.expected(theta, prior, looked, said)[0, 1] == pytest.approx(drawn, abs=0.006)


def votes_and_models(rng, rows, blur, accuracies=(0.8, 0.9)):
    """Labels, beliefs after a calibrated peek, and what two models say. `blur`: in how many rows a model says what
    the peek held likeliest, right or wrong."""
    labels = rng.integers(0, 3, rows)
    right = np.where(rng.random(rows) < 0.6, labels, (labels + 1 + rng.integers(0, 2, rows)) % 3)
    theta = np.full((rows, 3), 0.2)
    theta[np.arange(rows), right] = 0.6
    said = []
    for accuracy in accuracies:
        own = np.where(rng.random(rows) < accuracy, labels, (labels + 1 + rng.integers(0, 2, rows)) % 3)
        said.append(np.where(rng.random(rows) < blur, right, own))
    said = np.array(said)
    confusions = np.zeros((2, 3, 3), np.int64)
    for v in range(2):
        np.add.at(confusions[v], (labels, said[v]), 1)
    return theta, said, confusions, labels


def test_errors_that_are_independent_need_no_discount_and_shared_ones_do():
    rng = np.random.default_rng(0)
    prior = np.full(3, 1.0 / 3.0)
    apart = fit_fusion(*votes_and_models(rng, 4000, 0.0, (0.65, 0.7)), prior=prior)
    shared = fit_fusion(*votes_and_models(rng, 4000, 0.5, (0.65, 0.7)), prior=prior)
    assert apart > 0.85
    assert shared < 0.6


def test_a_calibration_is_given_the_share_that_its_own_beliefs_ask_for():
    rng = np.random.default_rng(3)
    _, said, _, labels = votes_and_models(rng, 2000, 0.0)
    votes = np.stack([rng.multinomial(5, np.where(np.arange(3) == label, 0.6, 0.2)) for label in labels])
    known = fit(votes.astype(np.float64), labels, None, (0.5,) * 3)
    assert known.fusion is None
    told = with_share(known, votes.astype(np.float64), said, labels)
    assert told.fusion > 0.85  # all of them err by themselves
    assert told.escalates
    assert replace(told, fusion=None, escalates=None) == known


def test_few_samples_show_nothing_and_models_answer_by_themselves():
    theta, said, confusions, labels = votes_and_models(np.random.default_rng(1), 3, 0.0)
    assert fit_fusion(theta, said, confusions, labels) == 0.0


def test_what_never_changes_a_right_answer_for_the_better_is_not_fused():
    """The belief of a model that is right in 99 of 100 gets better by a weak peek, and its answers do not."""
    theta, said, confusions, labels = votes_and_models(np.random.default_rng(6), 4000, 0.0, (0.99, 0.99))
    assert fit_fusion(theta, said[:1], confusions[:1], labels) == 0.0


def test_a_gain_in_one_class_of_many_is_not_shown_to_hold_where_rows_come_in_groups():
    """Models take class 0 for class 1, and the peek does not. Each class is one run of groups, one after another."""
    labels = np.repeat(np.arange(8), 60)
    groups = np.arange(480) // 6
    said = np.where(labels == 0, 1, labels)[None]
    confusions = np.zeros((1, 8, 8), np.int64)
    np.add.at(confusions[0], (labels, said[0]), 1)
    theta = np.full((480, 8), 0.02)
    theta[np.arange(480), labels] = 0.86
    assert fit_fusion(theta, said, confusions, labels) > 0.0
    assert fit_fusion(theta, said, confusions, labels, groups) == 0.0


def test_one_group_with_a_name_shows_nothing_of_others():
    drawn = votes_and_models(np.random.default_rng(0), 2000, 0.0, (0.65, 0.7))
    assert fit_fusion(*drawn) > 0.0
    assert fit_fusion(*drawn, groups=np.zeros(2000)) == 0.0


def test_fewer_than_five_groups_show_nothing_however_alike_they_gain():
    """Every group is the same rows once more, so that all gain alike and no standard error is left."""
    theta, said, confusions, labels = votes_and_models(np.random.default_rng(0), 500, 0.0, (0.65, 0.7))

    def shared_by(people):
        return fit_fusion(
            np.tile(theta, (people, 1)),
            np.tile(said, people),
            people * confusions,
            np.tile(labels, people),
            np.repeat(np.arange(people), len(labels)),
        )

    assert [shared_by(people) > 0.0 for people in (2, FEWEST - 1, FEWEST)] == [False, False, True]


def asked_again(drawn, share, groups=None):
    theta, said, confusions, labels = drawn
    return worth_asking(theta, said, confusions, labels, groups, np.full(3, 1.0 / 3.0), share)


def test_a_second_model_is_asked_where_it_errs_by_itself():
    rng = np.random.default_rng(0)
    apart = votes_and_models(rng, 2000, 0.0, (0.65, 0.7))
    assert asked_again(apart, 0.9)
    assert asked_again(apart, 0.9, np.arange(2000) % 40)
    assert not asked_again(apart, 0.9, np.arange(2000) % 4)


def test_a_second_model_that_says_the_same_is_not_asked():
    """Each alone is promised much of by the other: they are right in 0.65, and nobody counted that they agree."""
    theta, said, confusions, labels = votes_and_models(np.random.default_rng(0), 2000, 0.0, (0.65,) * 2)
    same, counted = np.stack([said[0], said[0]]), np.stack([confusions[0], confusions[0]])
    assert not asked_again((theta, same, counted, labels), 0.9)
    # Nor is one that a row never gains by.
    assert not asked_again((theta, said[:1], confusions[:1], labels), 0.9)


def test_where_nothing_is_fused_nobody_is_asked_again():
    labels = np.tile(np.arange(3), 100)
    votes = np.eye(3)[labels] * 5.0
    known = fit(votes, labels, None, (0.5,) * 3)
    told = with_share(known, votes, labels[None], labels)
    assert (told.fusion, told.escalates) == (0.0, False)


def test_what_is_judged_is_what_is_served():
    assert SchedulerSpec().escalate_gain == WORTH_A_RUN


def test_a_group_is_not_judged_by_what_it_said_itself():
    # Each group confuses two classes in a way of its own: what it says teaches nothing about the others.
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 400)
    groups = np.arange(400) % 40
    flips = rng.random(40) < 0.5
    said = np.array([np.where(flips[groups], 1 - labels, labels), rng.integers(0, 2, 400)])
    confusions = np.zeros((2, 2, 2), np.int64)
    for v in range(2):
        np.add.at(confusions[v], (labels, said[v]), 1)
    # The models are all that the peek, which is sure and right in 0.7, could be helped by.
    right = np.where(rng.random(400) < 0.7, labels, 1 - labels)
    theta = np.where(right[:, None] == np.arange(2), 0.7, 0.3)
    assert (
        fit_fusion(theta, said, confusions, labels, groups)
        < fit_fusion(theta, said, confusions, labels) - 0.1
    )


def test_what_does_not_fit_is_told():
    with pytest.raises(InvalidData, match="confusions are counts"):
        likelihoods([[1, 2], [3, 4]])
    with pytest.raises(InvalidData, match="need 2 strengths"):
        Fusion.of([[[1, 0], [0, 1]]], [0.5], np.ones(2))
    with pytest.raises(InvalidData, match="do not fit"):
        fit_fusion(
            np.full((2, 2), 0.5), np.zeros((1, 3), np.int64), np.ones((1, 2, 2)), np.zeros(2, np.int64)
        )
