"""Rows as they might have been recorded another time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.errors import InvalidConfiguration
from peekserve.supernets.augment import UNCHANGED, Augmentation

ROWS = np.random.default_rng(0).normal(size=(50, 2, 12)).astype(np.float32)
ALL = Augmentation((2,), 0.1, 0.2, 0.3, 0.05, 3, mirror=True)


def seen(how: Augmentation, rows=ROWS, seed: int = 1):
    return how(rows, np.random.default_rng(seed))


def test_what_is_not_named_does_not_happen():
    assert np.array_equal(seen(UNCHANGED), ROWS)
    rng = np.random.default_rng(1)
    UNCHANGED(ROWS, rng)
    assert rng.random() == np.random.default_rng(1).random(), "and no chance is spent on it"


@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_changes_rows_alike_and_never_their_form(seed):
    made = seen(ALL, seed=seed)
    assert np.array_equal(made, seen(ALL, seed=seed))
    assert (made.shape, made.dtype) == (ROWS.shape, np.float32)
    assert np.isfinite(made).all()


def test_a_shifted_row_is_the_row_a_few_places_on_with_its_edge_repeated():
    made = seen(Augmentation(shift=(3,)))
    found = set()
    for row, now in zip(ROWS, made, strict=True):
        (by,) = [s for s in range(-3, 4) if np.array_equal(now, row[:, np.clip(np.arange(12) + s, 0, 11)])]
        found.add(by)
    assert found == {-3, -2, -1, 0, 1, 2, 3}


def test_an_image_is_shifted_along_both_its_axes():
    images = np.arange(40 * 64, dtype=np.float32).reshape(40, 1, 8, 8)
    moved = seen(Augmentation(shift=(1, 0)), images)
    assert np.array_equal(np.diff(moved, axis=3), np.ones((40, 1, 8, 7))), "no column moved"
    assert set((moved[:, 0, 4, 0] - images[:, 0, 4, 0]).tolist()) == {-8.0, 0.0, 8.0}


def test_level_and_scale_are_of_a_whole_row_and_drift_is_a_line():
    ones = np.ones((200, 1, 9), np.float32)
    for how in (Augmentation(level=0.5), Augmentation(scale=0.5)):
        made = seen(how, ones)
        assert np.ptp(made, axis=2).max() == 0.0
        assert 0.4 < np.std(np.log(made[:, 0, 0]) if how.scale else made[:, 0, 0]) < 0.6
    drifted = seen(Augmentation(drift=0.5), ones)
    np.testing.assert_allclose(drifted[:, :, 4], 1.0, atol=1e-6)
    np.testing.assert_allclose(np.diff(drifted, n=2, axis=2), 0.0, atol=1e-6)


def test_a_gap_is_one_stretch_no_longer_than_asked():
    made = seen(Augmentation(gap=4), np.ones((300, 1, 12), np.float32))
    silent = made[:, 0] == 0.0
    assert silent.sum(1).max() == 4
    assert (np.diff(np.pad(silent, ((0, 0), (1, 1))).astype(int), axis=1) == 1).sum(1).max() == 1


def test_half_of_the_rows_are_mirrored():
    made = seen(Augmentation(mirror=True))
    turned = [np.array_equal(now, row[:, ::-1]) for row, now in zip(ROWS, made, strict=True)]
    assert 10 < sum(turned) < 40
    assert all(t or np.array_equal(now, row) for t, row, now in zip(turned, ROWS, made, strict=True))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Augmentation(noise=-0.1), "noise -0.1: 0 or more"),
        (lambda: Augmentation(scale=float("nan")), "scale nan"),
        (lambda: seen(Augmentation(shift=(12,))), r"shift 12, of rows \[2, 12\]: less than the 12 places"),
        (lambda: seen(Augmentation(shift=(2, 1))), r"shift 2, of rows \[2, 12\]: less than the 2 places"),
        (lambda: seen(Augmentation(shift=(0, 0, 0))), r"shift along 3 axes, of rows \[2, 12\], which have 2"),
        (lambda: seen(Augmentation(gap=12)), "gap 12"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(InvalidConfiguration, match=said):
        make()


def test_it_reads_as_a_recipe_states_it():
    assert str(Augmentation(shift=(4,), noise=0.05)) == "shift (4,), noise 0.05"
    assert str(UNCHANGED) == "none"
