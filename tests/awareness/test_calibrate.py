import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.awareness.calibrate import PSEUDO, calibrated, fit, held_out, vote_confusion
from peekserve.awareness.posterior import posterior_mean
from peekserve.errors import InvalidData, InvalidTensor

SHARP = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
ALPHA = (0.5, 0.5, 0.5)


def voted(labels, votes=5, together=np.inf, seed=0, confusion=SHARP):
    """Votes drawn from rows of a confusion; `together`: how much those on one sample vary in common."""
    rng = np.random.default_rng(seed)
    rows = confusion[labels]
    if together < np.inf:
        rows = np.array([rng.dirichlet(together * row) for row in rows])
    return np.array([rng.multinomial(votes, row) for row in rows], dtype=float)


def evenly(n, classes=3):
    return np.arange(n) % classes


# ---- the rule ----


def test_the_rule_by_hand():
    log_z = np.log([[0.8, 0.2], [0.4, 0.6]])
    (theta,) = calibrated(np.array([0.25, 0.75]), np.array([[2.0, 1.0]]), log_z, 0.5, 3.0)
    first, second = 0.25 * (0.8**2 * 0.2) ** 0.5, 0.75 * (0.4**2 * 0.6) ** 0.5
    assert theta.tolist() == pytest.approx([first / (first + second), second / (first + second)])


@given(
    st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3),
    st.lists(st.floats(0.0, 20.0), min_size=3, max_size=3),
)
def test_no_temperature_or_no_votes_leave_the_prior(weights, counts):
    pi, log_z = np.array(weights) / sum(weights), np.log(SHARP)
    cold = calibrated(pi, np.array([counts]), log_z, 0.0, 5.0)
    unseen = calibrated(pi, np.zeros((1, 3)), log_z, 1.0, 5.0)
    assert cold[0].tolist() == pytest.approx(pi.tolist())
    assert unseen[0].tolist() == pytest.approx(pi.tolist())


@given(st.floats(0.1, 3.0), st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
def test_votes_that_are_alike_for_every_class_change_nothing(temperature, weights):
    pi = np.array(weights) / sum(weights)
    theta = calibrated(pi, np.array([[3.0, 1.0, 1.0]]), np.log(np.full((3, 3), 1 / 3)), temperature, 5.0)
    assert theta[0].tolist() == pytest.approx(pi.tolist())


@given(st.lists(st.lists(st.floats(0.0, 1e15), min_size=3, max_size=3), min_size=1, max_size=4))
def test_any_counts_make_a_distribution(counts):
    theta = calibrated(np.array([0.98, 0.01, 0.01]), np.array(counts), np.log(SHARP), 1.0, 5.0)
    assert np.isfinite(theta).all()
    assert theta.sum(axis=1).tolist() == pytest.approx([1.0] * len(counts))


def test_more_votes_than_were_ever_seen_count_for_as_many_as_were():
    pi, log_z = np.full(3, 1 / 3), np.log(SHARP)
    five, many = calibrated(pi, np.array([[5.0, 0.0, 0.0], [5e6, 0.0, 0.0]]), log_z, 0.4, 5.0)
    assert many.tolist() == pytest.approx(five.tolist())
    half = calibrated(pi, np.array([[2.5, 0.0, 0.0]]), log_z, 0.4, 5.0)[0]
    assert 1 / 3 < half[0] < five[0]


def test_what_is_believed_of_a_row_does_not_depend_on_the_rows_beside_it():
    counts = voted(evenly(40))
    together = calibrated(np.full(3, 1 / 3), counts, np.log(SHARP), 0.4, 5.0)
    alone = [calibrated(np.full(3, 1 / 3), row[None], np.log(SHARP), 0.4, 5.0)[0] for row in counts]
    assert (together == np.array(alone)).all()


# ---- the vote confusion ----


@given(
    st.integers(0, 1000),
    st.integers(1, 60),
    st.sampled_from(PSEUDO),
)
def test_a_vote_confusion_is_positive_and_its_rows_sum_to_one(seed, n, pseudo):
    labels = np.random.default_rng(seed).integers(0, 2, n)  # class 2 has no sample
    table = vote_confusion(voted(labels, seed=seed), labels, 3, pseudo)
    assert (table > 0.0).all()
    assert table.sum(axis=1).tolist() == pytest.approx([1.0] * 3)


def test_a_class_without_samples_is_confused_like_the_others():
    labels = np.array([0, 0, 1, 1])
    counts = np.array([[5, 0, 0], [3, 2, 0], [1, 4, 0], [0, 5, 0]], dtype=float)
    table = vote_confusion(counts, labels, 3, 1.0)
    # Right: 1 + 0.6 + 0.8 + 1 of 4 samples; with one more right, and one more for each class, (3.4 + 1) / (4 + 3).
    assert table[2].tolist() == pytest.approx([(1 - 4.4 / 7) / 2, (1 - 4.4 / 7) / 2, 4.4 / 7])


# ---- the fit ----


def test_independent_votes_are_worth_all_they_say():
    labels = evenly(6000)
    found = fit(voted(labels), labels, None, ALPHA)
    assert found.temperature == pytest.approx(1.0, abs=0.05)
    assert np.abs(np.array(found.votes) - SHARP).max() < 0.02
    assert (found.fitted_on, found.most, found.edges) == (6000, 5.0, (0.1, 0.5, 0.9))


def test_votes_that_err_together_are_worth_less_and_the_loss_says_so():
    labels = evenly(3000)
    found = fit(voted(labels, together=3.0), labels, None, ALPHA)
    assert 0.3 < found.temperature < 0.6
    assert found.loss < found.loss_before


def test_beliefs_can_be_taken_at_their_word():
    """Of rows that were not fitted on, as many are of the leading class as was believed, whatever the mix."""
    labels, fresh = evenly(3000), np.repeat([0, 1, 2], [3000, 400, 600])
    found = fit(voted(labels, together=3.0), labels, None, ALPHA)
    counts = voted(fresh, together=3.0, seed=1)
    pi = np.array([0.75, 0.1, 0.15])
    theta = calibrated(pi, counts, np.log(np.array(found.votes)), found.temperature, found.most)
    right = theta.argmax(axis=1) == fresh
    assert theta.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.02)
    plain = posterior_mean(ALPHA, counts)
    assert abs(plain.max(axis=1).mean() - (plain.argmax(axis=1) == fresh).mean()) > 0.05


def test_votes_that_say_nothing_get_no_weight():
    labels = evenly(3000)
    found = fit(voted(labels, confusion=np.full((3, 3), 1 / 3)), labels, None, ALPHA)
    theta = calibrated(
        np.full(3, 1 / 3), np.array([[5.0, 0.0, 0.0]]), np.log(found.votes), found.temperature, 5.0
    )
    assert theta[0].tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert found.settled < 0.02


def test_groups_that_vote_for_themselves_are_found_out():
    """Each subject is confused in a way of its own: who counts its rows as strangers believes too much."""
    rng = np.random.default_rng(2)
    labels = np.tile(evenly(30), 12)
    groups = np.repeat(np.arange(12), 30)
    own = rng.dirichlet(np.ones(3), size=(12, 3)) * 0.6 + 0.4 * np.eye(3)
    counts = np.array(
        [rng.multinomial(5, own[g, c]) for g, c in zip(groups, labels, strict=True)], dtype=float
    )
    assert fit(counts, labels, groups, ALPHA).loss > fit(counts, labels, None, ALPHA).loss


def test_one_group_is_as_good_as_none():
    labels = evenly(60)
    counts = voted(labels)
    assert fit(counts, labels, np.zeros(60, int), ALPHA) == fit(counts, labels, None, ALPHA)


@pytest.mark.parametrize("votes", [1, 3, 5])
def test_few_samples_let_all_votes_together_count_as_one(votes):
    labels = np.array([0, 1, 2])
    found = fit(5.0 * np.eye(3) * votes / 5.0, labels, None, ALPHA)
    assert found.temperature * votes == pytest.approx(1.0, abs=0.8)


def test_a_models_one_decision_is_worth_what_its_confusion_says():
    labels = evenly(6000)
    found = fit(voted(labels, votes=1), labels, None, ALPHA)
    assert found.temperature == pytest.approx(1.0, abs=0.05)
    assert found.edges == (0.5,)


def test_a_class_without_samples_does_not_break_the_fit():
    labels = np.arange(100) % 2
    found = fit(voted(labels), labels, None, ALPHA, mix=(0.2, 0.3, 0.5))
    assert np.isfinite(found.loss)
    assert 0.0 < found.frequencies[2] < 0.01


def test_a_class_counts_by_the_mix_that_is_asked_for():
    labels = np.repeat([0, 1, 2], [900, 50, 50])
    counts = voted(labels, together=3.0)
    natural, even = fit(counts, labels, None, ALPHA), fit(counts, labels, None, ALPHA, mix=[1 / 3] * 3)
    assert natural.loss < even.loss  # mostly one class is easy to guess
    assert natural.settled < even.settled


def test_counts_need_not_be_whole_and_rows_without_any_teach_nothing():
    labels = evenly(200)
    counts = voted(labels) * 0.3
    more, less = np.vstack([counts, np.zeros((3, 3))]), fit(counts, labels, None, ALPHA)
    assert fit(more, np.append(labels, [0, 1, 2]), None, ALPHA) == less
    assert less.most == pytest.approx(1.5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 9), st.integers(1, 6))
def test_whatever_the_samples_there_is_a_calibration(seed, n, votes, groups):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    found = fit(voted(labels, votes, seed=seed), labels, rng.integers(0, groups, n), ALPHA)
    assert 0.0 <= found.temperature <= 8.0
    assert np.isfinite([found.loss, found.loss_before]).all()
    assert 0.0 < found.settled <= 1.0


def test_what_cannot_be_calibrated_says_why():
    with pytest.raises(InvalidData, match="no labelled sample got a vote"):
        fit(np.zeros((2, 3)), np.array([0, 1]), None, ALPHA)
    with pytest.raises(InvalidData, match=r"2 rows of votes need as many labels, in 0 \.\. 2"):
        fit(np.ones((2, 3)), np.array([0, 3]), None, ALPHA)
    with pytest.raises(InvalidTensor, match="row 0, class 1"):
        fit(np.array([[1.0, -1.0, 0.0]]), np.array([0]), None, ALPHA)


def test_samples_that_a_calibration_was_fitted_on_are_believed_without_their_own_group():
    """What the fit says of its loss is what comes of these beliefs; those of service seem better on these samples."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), 20)
    counts = rng.multinomial(5, [0.4, 0.3, 0.3], 60).astype(float)
    counts[np.arange(60), labels] += 1.0
    groups = np.arange(60) % 12
    known = fit(counts, labels, groups, [0.5] * 3)
    even = np.full(3, 1 / 3)
    theta = held_out(known, counts, labels, groups, even)
    assert -np.log(theta[np.arange(60), labels]).mean() == pytest.approx(known.loss)
    served = calibrated(even, counts, np.log(np.array(known.votes)), known.temperature, known.most)
    assert -np.log(served[np.arange(60), labels]).mean() < known.loss


def test_votes_that_err_alike_in_all_groups_let_the_mix_follow():
    labels = evenly(1200)
    known = fit(voted(labels), labels, np.arange(1200) // 12, ALPHA)
    assert known.pull <= 0.05


def test_the_more_each_group_errs_in_a_way_of_its_own_the_harder_the_mix_is_held():
    """In each group the votes lean to one class, whatever the row: learnt from, the mix would lean there too."""
    labels = evenly(600)
    pulls = []
    for lean in (0.0, 0.4, 0.7):
        counts = np.empty((600, 3))
        for group in range(3):
            own = slice(200 * group, 200 * group + 200)
            mixed = (1.0 - lean) * SHARP + lean * np.eye(3)[group if group < 2 else 0]
            counts[own] = voted(labels[own], seed=group, confusion=mixed)
        pulls.append(fit(counts, labels, np.arange(600) // 200, ALPHA).pull)
    assert pulls[0] <= 0.1 < pulls[1] <= pulls[2]
