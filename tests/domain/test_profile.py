from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.domain.profile import Calibration, LatencyCurve, Quality, Timing
from peekserve.errors import InvalidData

SECONDS = st.floats(1e-4, 1.0)


@given(SECONDS, SECONDS, st.integers(1, 64))
def test_literal_costs_grow_by_the_row_and_agree_for_one(one, more, rows):
    curve = LatencyCurve((1, 8), (one, one + more), (2 * one, one + 2 * more))
    literal = curve.literal()
    assert literal.seconds(rows) == pytest.approx(rows * curve.seconds(1))
    assert literal.cautious_s(rows) == pytest.approx(rows * curve.cautious_s(1))
    assert literal.literal() == literal


def test_a_curve_that_starts_above_one_row_is_believed_for_one_as_it_is_for_its_first():
    assert LatencyCurve((4, 8), (0.02, 0.03)).literal() == LatencyCurve((1,), (0.02,))


def test_a_timing_is_literal_in_every_bucket_and_keeps_its_load():
    timing = Timing((LatencyCurve((1, 2), (1.0, 1.5)), LatencyCurve((1,), (2.0,))), load_s=3.0, bytes=7)
    literal = timing.literal()
    assert [literal.curve(b).seconds(2) for b in (0, 1)] == [2.0, 4.0]
    assert (literal.load_s, literal.bytes) == (3.0, 7)


def test_a_class_without_a_sample_is_smoothed_and_listed():
    quality = Quality.from_confusion(np.array([[8, 2, 0, 0], [0, 0, 0, 0], [0, 0, 5, 5], [0, 0, 0, 0]]))
    assert quality.recall == (0.8, 0.25, 0.5, 0.25)
    assert quality.guessed == (1, 3)
    assert quality.frequencies == (0.5, 0.0, 0.5, 0.0)
    assert quality.accuracy == pytest.approx(0.65)


def test_no_sample_at_all_is_an_error():
    with pytest.raises(InvalidData, match="holds samples"):
        Quality.from_confusion(np.zeros((2, 2), np.int64))


@pytest.mark.parametrize("apart", [((0.5,),), ((0.5, 0.5), (0.5, 1.5)), ((0.5, float("nan")),)])
def test_recalls_by_agreement_are_one_for_each_class(apart):
    with pytest.raises(InvalidData, match="recalls by agreement are 2 for each bin, from 0 to 1; bin"):
        Quality((0.5, 0.5), (0.5, 0.5), by_agreement=apart)


CALIBRATION = Calibration(((0.7, 0.3), (0.2, 0.8)), 0.5, 5.0, (0.1, 0.5, 0.9), (0.5, 0.5), 90, 0.7, 0.5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"votes": ((0.7, 0.3),)}, "2 rows of 2 positive chances"),
        ({"votes": ((1.0, 0.0), (0.2, 0.8))}, "2 rows of 2 positive chances"),
        ({"votes": ((0.7, 0.4), (0.2, 0.8))}, "2 rows of 2 positive chances"),
        ({"temperature": -0.1}, "a temperature is 0 or more"),
        ({"temperature": float("nan")}, "a temperature is 0 or more"),
        ({"most": 0.0}, "some votes were counted"),
        ({"frequencies": (0.5, 0.6)}, "class frequencies are positive and sum to 1"),
        ({"edges": (0.5, 0.5)}, "edges of agreement rise between 0 and 1"),
        ({"settled": 0.0}, "settle a share of the doubt"),
    ],
)
def test_a_calibration_that_cannot_be_says_why(wrong, says):
    with pytest.raises(InvalidData, match=says):
        replace(CALIBRATION, **wrong)
