"""Trains two supernets for `keywords`, one of convolutions and one of attention, and beside each five separate models
of its sizes (about ten minutes on one core).

`python -m peekserve.applications.keywords.supernet [wide] [tokens] --out DIR`; without --out, into the package itself.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peekserve.applications.family import Family, main
from peekserve.applications.keywords.load import FILE, RATE, WORDS, background, parted, read
from peekserve.applications.keywords.logmel import bases, triangles
from peekserve.applications.keywords.train import spoken_differently
from peekserve.applications.splits import Split, Splits
from peekserve.applications.training import Batch, Epoch, shuffled
from peekserve.registry.datasets import dataset_file
from peekserve.supernets.networks import LogMel
from peekserve.supernets.space import Space

HOME = Path(__file__).parent / "supernets"
WINDOW, HOP, BANDS = 256, 200, 24  # samples, samples; a frame every 25 ms
HEARD = triangles(WINDOW, BANDS).any(0)  # the frequencies that some band hears
FRONT = [int(HEARD.sum()), WINDOW, HOP, BANDS]
FRAMES = 1 + (RATE - WINDOW) // HOP
MISSING = 0.1  # share of the bands that a clip goes without in training (Park et al., Interspeech 2019)

Floats = NDArray[np.float32]


def fill(front: LogMel) -> None:
    """The kernels of a log-mel front: a Hann window times each cosine and sine, and the mel bands."""
    front.fill(bases(WINDOW), triangles(WINDOW, BANDS))


def rows(split: Split) -> Floats:
    """float32 [n, 8000]."""
    return split.inputs["clip"]


def heard(train: Split, noise: Floats) -> Epoch:
    """The training clips as others might have spoken them, behind the front: energies [n, 1, bands, frames]."""
    front = LogMel(*FRONT)
    fill(front)

    def epoch(rng: np.random.Generator) -> list[Batch]:
        clips = torch.from_numpy(spoken_differently(rows(train), noise, rng))
        with torch.no_grad():
            energies = torch.cat([front(some) for some in clips.split(256)]).numpy()
        kept = rng.random((len(energies), 1, BANDS, 1)) >= MISSING
        return shuffled([energies * kept.astype(np.float32)], train.labels, rng)

    return epoch


def parts() -> tuple[Splits, Epoch]:
    clips = read(dataset_file(FILE))
    splits = parted(clips)
    return splits, heard(splits.train, background(clips))


def family() -> Family:
    """A residual net in two dimensions: three stages of one to three blocks, a quarter to all of 16, 32 and 64
    channels."""
    return _family(
        Space("conv2d", depths=(3, 3, 3), least=(1, 1, 1), widths=(0.25, 0.5, 0.75, 1.0)),
        {"channels": [16, 32, 64], "blocks": [3, 3, 3], "stem_stride": 2},
        ("d1-1-1.w25", "d1-1-1.w50", "d2-2-2.w50", "d2-2-2.w75", "d3-3-3.w100"),
        epochs=95,
        separate_epochs=27,
        peak=1e-2,
    )


def transformer() -> Family:
    """Every frame a token: two to six blocks, one to four heads and a quarter to all of 96 inner features."""
    return _family(
        Space("transformer", depths=(6,), least=(1,), widths=(0.25, 0.5, 0.75, 1.0)),
        {"width": 48, "heads": 4, "inner": 96, "blocks": 6, "tokens": [FRAMES, BANDS]},
        ("d1.w25", "d2.w50", "d4.w50", "d4.w75", "d6.w100"),
        epochs=62,
        separate_epochs=20,
        peak=3e-3,
        shared_peak=1e-3,  # with 3e-3 it learns nothing
    )


def _family(space: Space, sizes: dict[str, Any], separate: tuple[str, ...], **course: Any) -> Family:
    splits, epoch = parts()
    return Family(
        space=space,
        sizes={"shape": [RATE], "classes": len(WORDS), "front": FRONT, **sizes},
        classes=WORDS,
        splits=splits,
        epoch=epoch,
        rows=rows,
        separate=separate,
        seed=1,
        most=40,
        kernels=fill,
        **course,
    )


FAMILIES = {"wide": family, "tokens": transformer}

if __name__ == "__main__":
    main(FAMILIES, HOME, __doc__ or "")
