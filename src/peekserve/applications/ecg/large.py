"""A supernet of 11.9 million parameters on the beats of `ecg`, for what is said about memory (about five minutes).

`python -m peekserve.applications.ecg.large FOLDER`. It is trained briefly, on few rows, and judged on few: its
accuracies are not the point, only that there is a front to serve. 48 MB, so it is not shipped.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from peekserve.applications.ecg.supernet import family
from peekserve.applications.family import Family, together
from peekserve.applications.splits import Split
from peekserve.applications.training import Batch, seeded
from peekserve.supernets.measure import Costs
from peekserve.supernets.networks import LARGE, LARGE_SPACE

ROWS, EPOCHS, PEAK = 640, 5, 5e-4
JUDGED, SUBNETS = 400, 24


def large() -> Family:
    """The family of the shipped supernet with a larger network and fewer rows, without separate models."""
    usual = family()
    validation = usual.splits.validation
    some = np.linspace(0, len(validation) - 1, JUDGED).astype(np.int64)
    few = Split(
        {name: values[some] for name, values in validation.inputs.items()},
        validation.labels[some],
        validation.groups[some],
    )

    def epoch(rng: np.random.Generator) -> list[Batch]:
        made: list[Batch] = []
        for batch in usual.epoch(rng):
            if sum(len(labels) for _, labels in made) < ROWS:
                made.append(batch)
        return made

    return replace(
        usual, space=LARGE_SPACE, sizes=LARGE, splits=replace(usual.splits, validation=few), epoch=epoch,
        epochs=EPOCHS, shared_peak=PEAK, separate=(), most=SUBNETS,
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    made = large()
    seeded(made.seed)
    together(made, Costs(made.space, made.sizes, front=False), parser.parse_args().folder, print)
