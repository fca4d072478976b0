"""Trains a supernet for `ecg` and, beside it, five separate models of its sizes (about eight minutes on one core).

`python -m peekserve.applications.ecg.supernet --out DIR`; without --out, into the package itself.
"""

from pathlib import Path

import numpy as np

from peekserve.applications.direct import class_names, declaration
from peekserve.applications.ecg.load import load
from peekserve.applications.ecg.train import augmented
from peekserve.applications.family import Family, main
from peekserve.applications.splits import Split
from peekserve.supernets.space import Space

HOME = Path(__file__).parent / "supernets"


def rows(split: Split) -> np.ndarray:
    """float32 [n, 1, 180]."""
    return split.inputs["beat"][:, None]


def family() -> Family:
    """A residual net in one dimension: three stages of one to three blocks, a quarter to all of 24, 48 and 96
    channels. The depths and widths are those of the findings that this project started from; nothing was searched."""
    splits, classes = load(), class_names(declaration(Path(__file__).with_name("application.yaml")))
    return Family(
        space=Space("conv1d", depths=(3, 3, 3), least=(1, 1, 1), widths=(0.25, 0.5, 0.75, 1.0)),
        sizes={
            "shape": [1, 180],
            "classes": len(classes),
            "channels": [24, 48, 96],
            "blocks": [3, 3, 3],
            "kernel": 3,
            "stem_kernel": 15,
            "stem_stride": 3,
        },
        classes=tuple(classes),
        splits=splits,
        epoch=augmented(splits.train),
        rows=rows,
        epochs=25,
        separate=("d1-1-1.w25", "d1-1-1.w50", "d2-2-2.w50", "d2-2-2.w75", "d3-3-3.w100"),
        separate_epochs=10,
        seed=1,
        peak=4e-3,
        most=40,
    )


FAMILIES = {"wide": family}

if __name__ == "__main__":
    main(FAMILIES, HOME, __doc__ or "")
