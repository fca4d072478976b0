"""Short stories: what a cascade answers and costs, from what its models said on their own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.cascades.bounds import lower, mean_and_error, student
from peekserve.cascades.cascade import Answers, Cascade, per_sample_s
from peekserve.domain.profile import LatencyCurve
from peekserve.errors import InvalidConfiguration, InvalidData, UnknownVariant
from tests.planner.worlds import recordings, seconds, skills, some_answers


def by_hand() -> Answers:
    """Four samples of class 0. The small model is sure and right, sure and wrong, unsure and right, unsure and wrong;
    the large one is always right."""
    small = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]])
    return Answers.recorded({"small": small, "large": np.tile([0.8, 0.2], (4, 1))}, np.zeros(4, int))


def test_unsure_samples_go_on():
    cascade, answers = Cascade(("small", "large"), (0.5,)), by_hand()
    assert cascade.answered_at(answers).tolist() == [0, 0, 1, 1]
    assert cascade.said(answers).tolist() == [0, 1, 0, 0]
    assert cascade.reach(answers) == (1.0, 0.5)


def test_a_sample_exactly_at_the_threshold_is_answered():
    answers = by_hand()
    at = float(answers.certainty[0, 2])
    assert Cascade(("small", "large"), (at,)).answered_at(answers)[2] == 0


def test_what_it_is_worth_and_costs():
    judged = Cascade(("small", "large"), (0.5,)).judged(by_hand(), {"small": 0.001, "large": 0.010})
    assert (judged.accuracy, judged.cost_s) == (0.75, pytest.approx(0.001 + 0.5 * 0.010))
    assert judged.error == pytest.approx(np.sqrt(0.75 * 0.25 / 3))
    assert judged.bound < judged.accuracy


@given(cuts=st.tuples(st.floats(0.0, 1.1), st.floats(0.0, 1.1)), seed=st.integers(0, 9))
def test_it_agrees_with_asking_one_model_after_the_other(cuts, seed):
    scores, labels, _ = recordings(skills(), 60, seed)
    cascade = Cascade(tuple(scores), cuts)
    said, asked = [], np.zeros(3)
    for sample in range(60):
        for k, name in enumerate(scores):
            asked[k] += 1
            low, top = np.sort(scores[name][sample])[-2:]
            if k == 2 or top - low >= cuts[k]:
                said.append(scores[name][sample].argmax())
                break
    judged = cascade.judged(Answers.recorded(scores, labels), seconds())
    assert judged.accuracy == pytest.approx(np.mean(np.array(said) == labels))
    assert judged.reach == pytest.approx(asked / 60)
    assert judged.cost_s == pytest.approx(asked @ np.array(list(seconds().values())) / 60)


@given(st.integers(0, 20))
def test_thresholds_that_let_nothing_on_or_everything_are_single_models(seed):
    answers = some_answers(80, seed)
    first, last = Cascade(("tiny",)), Cascade(("large",))
    assert (Cascade(("tiny", "large"), (-1.0,)).said(answers) == first.said(answers)).all()
    assert (Cascade(("tiny", "large"), (np.inf,)).said(answers) == last.said(answers)).all()


def test_groups_that_are_alike_know_less():
    scores, labels, groups = recordings(skills(), 2000, groups=20)
    alone = Cascade(("tiny",)).judged(Answers.recorded(scores, labels), seconds())
    together = Cascade(("tiny",)).judged(Answers.recorded(scores, labels, groups), seconds())
    assert together.accuracy == pytest.approx(alone.accuracy)
    assert together.error > 2 * alone.error
    assert together.bound < alone.bound


def test_the_error_of_groups_covers_the_spread_of_their_means():
    """Twenty subjects, each all right or all wrong, are twenty samples and not two thousand."""
    right = np.repeat(np.random.default_rng(3).random(20) < 0.7, 100).astype(float)
    _, error = mean_and_error(right[None, :], np.arange(0, 2000, 100))
    assert error[0] == pytest.approx(np.std(right[::100], ddof=1) / np.sqrt(20))


def test_one_group_says_nothing_of_others():
    mean, error = mean_and_error(np.ones((1, 50)), np.array([0]))
    assert error[0] == np.inf
    assert lower(mean, error, 50, 1, 0.95)[0] == -np.inf


def test_samples_without_a_loss_are_not_a_promise():
    mean, error = mean_and_error(np.ones((1, 100)), np.arange(100))
    assert lower(mean, error, 100, 100, 0.95)[0] == pytest.approx(0.97, abs=1e-3)


def test_the_bound_holds_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    right = (rng.random((400, 150)) < 0.85).astype(float)
    mean, error = mean_and_error(right, np.arange(150))
    held = (lower(mean, error, 150, 150, 0.95) <= 0.85).mean()
    assert 0.92 <= held <= 0.99


def test_few_degrees_of_freedom_ask_for_more():
    assert student(0.95, 3) == pytest.approx(2.353, abs=0.02)
    assert student(0.95, 10) == pytest.approx(1.812, abs=0.002)


def test_against_a_model_itself_there_is_no_doubt():
    answers = some_answers()
    judged = Cascade(("large",)).judged(answers, seconds(), against="large")
    assert judged.score == judged.accuracy


def test_what_a_cascade_shares_with_a_model_is_known_better_beside_it():
    """It answers most samples as the large model does, so what is left to doubt is the few others."""
    judged = Cascade(("small", "large"), (0.9,)).judged(some_answers(), seconds(), against="large")
    assert judged.bound < judged.score < judged.accuracy + 1e-9


def test_costs_are_those_of_the_stated_batch_sizes():
    quick, slow = LatencyCurve((1, 8), (0.002, 0.008)), LatencyCurve((1, 8), (0.010, 0.080))
    assert per_sample_s(quick, 8) == pytest.approx(0.001)
    assert per_sample_s(slow, 1) == pytest.approx(0.010)


@pytest.mark.parametrize(
    ("stages", "thresholds", "why"),
    [
        ((), (), "0 stages"),
        (("a", "b"), (), "a threshold on each but the last"),
        (("a", "a"), (0.5,), "no variant twice"),
        (("a", "b"), (float("nan"),), "a threshold is a number"),
    ],
)
def test_a_cascade_that_cannot_be(stages, thresholds, why):
    with pytest.raises(InvalidConfiguration, match=why):
        Cascade(stages, thresholds)


def test_recordings_that_do_not_fit():
    with pytest.raises(InvalidData, match="one row for each label"):
        Answers.recorded({"a": np.ones((3, 2))}, np.zeros(4, int))
    with pytest.raises(InvalidData, match="2 groups for 3 samples"):
        Answers.recorded({"a": np.ones((3, 2))}, np.zeros(3, int), np.zeros(2))
    with pytest.raises(InvalidData, match="one variant or more"):
        Answers.recorded({}, np.zeros(3, int))
    with pytest.raises(InvalidData, match="no labelled sample"):
        Answers.recorded({"a": np.ones((0, 2))}, np.zeros(0, int))
    with pytest.raises(UnknownVariant, match="no recorded answers of 'huge'; there are tiny, small, large"):
        Cascade(("huge",)).said(some_answers(10))
