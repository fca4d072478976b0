import numpy as np
import pytest

from peekserve.errors import InvalidData
from peekserve.profiling.fit import latency_curve, quality


def test_a_curve_holds_medians_and_the_slow_end():
    curve = latency_curve({4: [0.02] * 10, 1: [*[0.01] * 18, 0.015, 0.5]})
    assert curve.batch_sizes == (1, 4)
    assert curve.median_s == (0.01, 0.02)
    assert curve.p95_s == (0.5, 0.02)  # of 20, the one that 95 of 100 stay below is the slowest
    assert curve.p99_s == (0.5, 0.02)


@pytest.mark.parametrize("samples", [{}, {1: [0.1], 2: []}])
def test_nothing_measured_is_no_profile(samples):
    with pytest.raises(InvalidData, match="measured"):
        latency_curve(samples)


def test_quality_counts_who_was_taken_for_whom():
    found = quality(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 3)
    assert found.confusion == ((2, 1, 0), (0, 1, 0), (0, 0, 0))
    assert found.recall == pytest.approx((2 / 3, 1.0, 1 / 3))
    assert found.guessed == (2,)
    assert found.accuracy == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("labels", "said", "word"),
    [
        ([0, 3], [0, 0], "sample 1 has the label 3; classes go from 0 to 2"),
        ([-1], [0], "sample 0 has the label -1"),
        ([0], [0, 1], "1 labels and 2 predictions"),
        ([], [], "0 labels"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, said, word):
    with pytest.raises(InvalidData, match=word):
        quality(np.array(labels, int), np.array(said, int), 3)
