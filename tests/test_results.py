from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.domain.application import Application, QueryType, Score, Variant
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, Source
from peekserve.domain.utility import Penalty
from peekserve.results import paired_difference, row, summary, utilities, weighted_f1
from tests.awareness.test_scores import f1_by_hand

APP = Application(
    "app",
    ("a", "b", "c"),
    (Variant("net", "1", "net"),),
    (0.5,) * 3,
    queries=(("default", QueryType(1.0)), ("slow", QueryType(2.0, Penalty.linear(1.0)))),
)


def a_row(label, scores, score=Score.ACCURACY, late_s=-0.1, query="default", **kwargs):
    """One request of one row, answered with these class scores (none: not at all)."""
    application = replace(APP, score=score, **kwargs)
    deadline_s = application.query(query).deadline_s
    request = Request("r", application.name, 0.0, deadline_s, query=query)
    answers = (
        [RowAnswer(int(np.argmax(scores)), tuple(scores), Source.MODEL, "net", 0.5)] if len(scores) else []
    )
    outcome = Outcome.ANSWERED if answers else Outcome.REFUSED
    return row(request, application, [label], outcome, Reason.OK, answers, deadline_s + late_s)


def a_run(seed, score, rows=60):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(0, 3, rows), rng.dirichlet(np.ones(3), rows)
    scores[np.arange(rows), labels] += rng.exponential(0.5, rows)
    scores /= scores.sum(axis=1, keepdims=True)
    return labels, scores, [a_row(label, p, score) for label, p in zip(labels, scores, strict=True)]


@given(st.integers(0, 2**32 - 1))
def test_in_time_the_mean_utility_is_the_score_itself(seed):
    labels, scores, accurate = a_run(seed, Score.ACCURACY)
    said = scores.argmax(axis=1)
    assert summary(accurate).utility == pytest.approx((said == labels).mean())
    f1 = summary(a_run(seed, Score.WEIGHTED_F1)[2])
    assert f1.utility == pytest.approx(f1_by_hand(labels, said))
    assert f1.weighted_f1 == summary(accurate).weighted_f1 == pytest.approx(f1_by_hand(labels, said))
    brier = ((scores - np.eye(3)[labels]) ** 2).sum(axis=1).mean()
    quadratic = summary(a_run(seed, Score.QUADRATIC)[2])
    assert quadratic.utility == quadratic.quadratic == pytest.approx(1 - brier / 2)


def test_lateness_and_silence_cost_whatever_the_score():
    right = (1.0, 0.0, 0.0)
    for score in Score:
        rows = [a_row(0, right, score), a_row(0, right, score, late_s=0.1), a_row(0, (), score)]
        assert utilities(rows)[1:].tolist() == [0.0, 0.0]
        assert utilities(rows)[0] > 0.0
    # Two of three are said: n = 3, m = 2, and a right answer is worth 2 * 3 / 5.
    rows = [a_row(0, right, Score.WEIGHTED_F1) for _ in range(2)] + [a_row(0, (), Score.WEIGHTED_F1)]
    assert utilities(rows).tolist() == pytest.approx([1.2, 1.2, 0.0])


def test_a_query_type_has_its_own_penalty_and_deadline():
    right = (0.0, 1.0, 0.0)
    assert a_row(1, right, late_s=0.25).utility == 0.0
    slow = a_row(1, right, late_s=0.25, query="slow")
    assert (slow.utility, slow.due_at) == (pytest.approx(0.75), 2.0)


def test_class_weights_count_in_every_score():
    right = (1.0, 0.0, 0.0)
    for score in Score:
        plain, heavy = (a_row(0, right, score, class_weights=w) for w in ((1.0, 1.0, 1.0), (4.0, 1.0, 1.0)))
        assert utilities([heavy])[0] == pytest.approx(2.0 * utilities([plain])[0])


def test_the_f1_of_several_applications_is_that_of_each_by_its_rows():
    _, _, rows = a_run(1, Score.WEIGHTED_F1)
    others = [replace(r, application="other") for r in a_run(2, Score.WEIGHTED_F1, rows=20)[2]]
    whole = (60 * weighted_f1(rows) + 20 * weighted_f1(others)) / 80
    assert weighted_f1(rows + others) == pytest.approx(whole)
    assert np.isnan(weighted_f1([a_row(0, ())]))
    mean, low, high = paired_difference(rows, rows)
    assert (mean, low, high) == (0.0, 0.0, 0.0)


def test_what_applications_are_called_changes_no_bit_of_a_score():
    """A sum depends on its order, and the order of a set on names and on the process."""
    runs = [a_run(seed, Score.WEIGHTED_F1, rows=7)[2] for seed in range(9)]
    scores = [
        weighted_f1([replace(r, application=f"{word}{i}") for i, rows in enumerate(runs) for r in rows])
        for word in ("app", "a", "b", "c", "heart", "sound", "fall", "x-", "y-", "z-")
    ]
    assert len(set(scores)) == 1
