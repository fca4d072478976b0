"""The recordings of supernets: rounding changes no answer, and what was written is what is read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.errors import DataUnavailable, InvalidData
from peekserve.experiments.superserve.record import STEP, Scored, load, rounded


def some_scores(models: int, rows: int, seed: int) -> np.ndarray:
    return rounded(np.random.default_rng(seed).dirichlet(np.full(3, 0.3), (models, rows)))


def a_recording() -> Scored:
    labels = np.array([0, 1, 2, 0])
    return Scored(
        classes=("a", "b", "c"),
        subnets=("d1.w50", "d2.w100"),
        separate=("d2.w100",),
        offered=np.array([True, False]),
        labels=labels,
        groups=np.array([0, 0, 1, 1]),
        validation_labels=labels[:2],
        validation_groups=np.array([2, 2]),
        subnets_test=some_scores(2, 4, 0),
        subnets_validation=some_scores(2, 2, 1),
        separate_test=some_scores(1, 4, 2),
        separate_validation=some_scores(1, 2, 3),
        borrowed_test=np.array([[0, 0, 2, 1], [0, 1, 2, 0]], np.int8),
        subnets_parameters=np.array([10, 40]),
        subnets_multiply_adds=np.array([100, 400]),
        separate_parameters=np.array([40]),
        separate_multiply_adds=np.array([400]),
        supernet_cpu_s=9.5,
        supernet_work=1e9,
        separate_cpu_s=np.array([4.0]),
        separate_work=np.array([2e8]),
    )


def test_what_was_written_is_read(tmp_path: Path):
    made = a_recording()
    made.save(tmp_path / "superserve-some.npz")
    found = load("some", tmp_path)
    for name in Scored.__slots__:
        assert np.array_equal(getattr(found, name), getattr(made, name)), name
    assert found.labels.dtype == np.int64
    assert found.borrowed_accuracies() == {"d1.w50": 0.5, "d2.w100": 1.0}


def test_accuracies_are_shares_of_right_answers():
    made = a_recording()
    right = made.subnets_test[1].argmax(1) == made.labels
    assert made.accuracies("test")["d2.w100"] == right.mean()
    assert list(made.separate_accuracies()) == ["d2.w100"]


def test_a_network_without_statistics_has_none_to_borrow():
    assert replace(a_recording(), borrowed_test=np.full((2, 4), -1, np.int8)).borrowed_accuracies() == {}


def test_scores_that_do_not_fit_the_labels_are_refused():
    with pytest.raises(InvalidData, match=r"subnets_test is \[2, 3, 3\]; \[2, 4, 3\] would fit"):
        replace(a_recording(), subnets_test=some_scores(2, 3, 0))


def test_an_absent_or_older_file_says_what_makes_it(tmp_path: Path):
    with pytest.raises(DataUnavailable, match=r"superserve\.record nowhere"):
        load("nowhere", tmp_path)
    np.savez(tmp_path / "superserve-old.npz", classes=np.array(["a"]))
    with pytest.raises(InvalidData, match="has no subnets, separate"):
        load("old", tmp_path)


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8).filter(lambda row: sum(row) > 0.0))
def test_rounding_changes_no_answer(row: list[float]):
    shares = np.array(row) / sum(row)
    steps = rounded(shares[None])[0].astype(np.float64)
    assert steps.argmax() == shares.argmax()
    assert np.abs(steps - shares).max() <= 1.5 * STEP
