"""Trains a supernet for `digits` and, beside it, five separate models of its sizes (about two minutes on one core).

`python -m peekserve.applications.digits.supernet --out DIR`; without --out, into the package itself.
"""

from pathlib import Path

import numpy as np

from peekserve.applications.digits.load import load, spoil
from peekserve.applications.family import Family, main
from peekserve.applications.splits import Split
from peekserve.applications.training import Batch, shuffled
from peekserve.supernets.space import Space

HOME = Path(__file__).parent / "supernets"


def rows(split: Split) -> np.ndarray:
    """float32 [n, 1, 8, 8], 0 to 1."""
    return framed(split.inputs["image"])


def framed(images: np.ndarray) -> np.ndarray:
    return np.asarray(images[:, None] / np.float32(16), np.float32)


def family() -> Family:
    """A residual net in two dimensions: two stages of one to three blocks, a quarter to all of 24 and 48 channels."""
    splits = load()
    clean, labels = splits.train.inputs["image"], splits.train.labels

    def epoch(rng: np.random.Generator) -> list[Batch]:
        return shuffled([framed(spoil(clean, rng))], labels, rng)

    return Family(
        space=Space("conv2d", depths=(3, 3), least=(1, 1), widths=(0.25, 0.5, 0.75, 1.0)),
        sizes={"shape": [1, 8, 8], "classes": 10, "channels": [24, 48], "blocks": [3, 3]},
        classes=tuple("0123456789"),
        splits=splits,
        epoch=epoch,
        rows=rows,
        epochs=85,
        separate=("d1-1.w25", "d1-1.w50", "d2-2.w50", "d2-2.w75", "d3-3.w100"),
        separate_epochs=30,
        seed=1,
        peak=4e-3,
        most=36,
    )


FAMILIES = {"wide": family}

if __name__ == "__main__":
    main(FAMILIES, HOME, __doc__ or "")
