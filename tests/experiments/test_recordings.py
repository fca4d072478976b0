"""What recordings say of validation: what votes are worth, and recalls apart by agreement."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.experiments.sneakpeek.recording import load
from tests.experiments.stand_ins import STATED, a_recording

NAMES = sorted(STATED)


def with_answers(base):
    said = {v: np.where(base.validation_labels == 0, 0, 1 % len(base.classes)) for v in base.variants}
    return replace(base, validation_said=said)


def test_what_was_answered_on_validation_comes_back_as_it_was_saved(tmp_path):
    made = with_answers(a_recording("ecg"))
    made.save(tmp_path / "ecg.npz")
    again = load("ecg", tmp_path)
    assert all((again.validation_said[v] == made.validation_said[v]).all() for v in made.variants)


def test_an_old_recording_has_one_recall_for_each_class(tmp_path):
    made = a_recording("ecg")
    made.save(tmp_path / "ecg.npz")
    again = load("ecg", tmp_path)
    assert again.validation_said == {}
    assert again.quality_by_agreement("v0", 5) == again.quality("v0")


def test_a_calibration_is_of_equally_frequent_classes_and_of_validation_alone():
    base = a_recording("falls")
    found = base.calibration(5, (0.5, 0.5))
    assert found.frequencies == (0.5, 0.5)
    assert 0.0 < found.temperature < 1.0  # drawn votes agree more than independent ones
    assert found.loss < found.loss_before
    other = replace(base, nearest=base.nearest[::-1], labels=base.labels[::-1])
    assert other.calibration(5, (0.5, 0.5)) == found


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shipped_says_what_each_variant_answered(name):
    """The confusions were counted on these answers, so both must tell the same."""
    base = load(name)
    for variant in base.variants:
        counted = np.zeros_like(base.confusion[variant])
        np.add.at(counted, (base.validation_labels, base.validation_said[variant]), 1)
        assert (counted == base.confusion[variant]).all()
        apart = base.quality_by_agreement(variant, 5).by_agreement
        assert np.shape(apart) == (5, len(base.classes))


@pytest.mark.parametrize("name", NAMES)
def test_on_what_is_shipped_calibrated_votes_are_worth_less_than_they_say_and_lose_less(name):
    found = load(name).calibration(5, (0.5,) * len(load(name).classes))
    assert 0.2 < found.temperature < 0.6
    assert found.loss < found.loss_before
