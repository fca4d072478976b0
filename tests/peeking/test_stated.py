import numpy as np
import pytest

from peekserve.awareness.priors import uninformative
from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.peeking.base import Glance
from peekserve.peeking.peek import peek_quality
from peekserve.peeking.stated import StatedEvidence, StatedPeek, confusion_at


def rows(number, seed=0):
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(number, 3)).astype(np.float32)}, rng.integers(0, 4, number)


@pytest.mark.parametrize("accuracy", [0.1, 0.3, 0.8, 1.0])
def test_one_vote_is_right_as_often_as_stated_and_errs_evenly(accuracy):
    inputs, labels = rows(8000)
    counts = StatedEvidence.at(accuracy, 4, votes=1).counts(inputs, labels)
    said = counts.argmax(axis=1)
    assert (said == labels).mean() == pytest.approx(accuracy, abs=0.015)
    for other in range(1, 4):
        assert ((labels + other) % 4 == said).mean() == pytest.approx((1 - accuracy) / 3, abs=0.015)


def test_several_votes_know_more_than_one_unless_they_go_together():
    inputs, labels = rows(6000)

    def right(votes, together=float("inf")):
        counts = StatedEvidence.at(0.6, 4, votes, together).counts(inputs, labels)
        assert (counts.sum(axis=1) == votes).all()
        return peek_quality(uninformative(4), counts, labels).accuracy

    assert right(1) == pytest.approx(0.6, abs=0.02)
    assert right(5) > 0.75
    assert right(5, together=0.01) == pytest.approx(0.6, abs=0.02)
    assert right(5) > right(5, together=3.0) > right(1)


def test_a_rows_votes_come_from_its_bytes_alone():
    inputs, labels = rows(50)
    evidence = StatedEvidence.at(0.5, 4, seed=3)
    counts = evidence.counts(inputs, labels)
    last = {"x": inputs["x"][49:]}
    assert np.array_equal(evidence.counts(last, labels[49:]), counts[49:])
    assert not np.array_equal(StatedEvidence.at(0.5, 4, seed=4).counts(inputs, labels), counts)
    peek = StatedPeek(evidence, lambda glance: labels[: glance.rows])
    (looked,) = peek.look_all([Glance(inputs)])
    assert np.array_equal(looked, counts)


def test_what_cannot_be_stated_is_refused():
    with pytest.raises(InvalidConfiguration, match=r"lies in \[0, 1\]"):
        confusion_at(1.2, 3)
    with pytest.raises(InvalidConfiguration, match="each row sums to 1"):
        StatedEvidence(np.eye(3) * 0.9)
    with pytest.raises(InvalidConfiguration, match="1 vote or more"):
        StatedEvidence(np.eye(3), votes=0)
    inputs, labels = rows(5)
    with pytest.raises(InvalidData, match=r"0 \.\. 1"):
        StatedEvidence(np.eye(2)).counts(inputs, np.full(5, 2))
    with pytest.raises(InvalidData, match="4 true labels"):
        StatedEvidence(np.eye(4)).counts(inputs, labels[:4])
