"""scikit-learn's 1,797 digits of 8 x 8 pixels, split by writer, then spoilt as a cheap camera would.

`python -m peekserve.applications.digits.load --out DIR` writes train.npz, reference.npz, validation.npz, test.npz.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peekserve.applications.splits import Split, Splits, a_few_of_each

SEED = 20_25
REFERENCE_PER_CLASS = 60
# Every writer's form starts with 0..9 three times over, which gives the first row of each away. Two forms have a
# damaged start (rows 906 and 1545); they begin where the form before them, of the usual 130 digits, ends.
FORM_STARTS = (0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667)
VALIDATION_FORMS = (8, 9, 10)
TEST_FORMS = (11, 12, 13)


def spoil(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Half of the images [n, 8, 8] (0..16) one pixel out of place, all of them dimmed and with sensor noise."""
    n, pixel = len(images), np.arange(8)
    shaken = rng.random((n, 1)) < 0.5
    dy, dx = (1 + np.where(shaken, rng.integers(-1, 2, (n, 2)), 0)).T
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    moved = wide[
        np.arange(n)[:, None, None], (dy[:, None] + pixel)[:, :, None], (dx[:, None] + pixel)[:, None, :]
    ]
    noisy = moved * rng.uniform(0.6, 1.0, (n, 1, 1)) + rng.normal(0.0, 3.5, moved.shape)
    return np.asarray(np.clip(noisy, 0, 16), dtype=np.float32)


def clean() -> Split:
    """All digits as they were scanned; a group is a writer's form."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    writer = np.searchsorted(FORM_STARTS, np.arange(len(digits.target)), side="right") - 1
    return Split(
        {"image": digits.images.astype(np.float32)}, digits.target.astype(np.int64), writer.astype(np.int64)
    )


def load() -> Splits:
    """The four parts. `train` is left clean, as training spoils it anew in every epoch; the others are spoilt once."""
    rows = clean()
    held_out = np.isin(rows.groups, VALIDATION_FORMS + TEST_FORMS)
    train = rows.rows(~held_out)
    parts = [
        a_few_of_each(train, REFERENCE_PER_CLASS, SEED),
        rows.rows(np.isin(rows.groups, VALIDATION_FORMS)),
        rows.rows(np.isin(rows.groups, TEST_FORMS)),
    ]
    spoilt = [
        Split(
            {"image": spoil(part.inputs["image"], np.random.default_rng(SEED + i))}, part.labels, part.groups
        )
        for i, part in enumerate(parts, start=1)
    ]
    return Splits(train, *spoilt)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    load().save(parser.parse_args().out)
