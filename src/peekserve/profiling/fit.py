"""From samples to profiles: seconds become a latency curve, predictions become a quality table. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from peekserve.domain.profile import LatencyCurve, Quality
from peekserve.errors import InvalidData


def latency_curve(samples: Mapping[int, Sequence[float]]) -> LatencyCurve:
    """Seconds per batch, by batch size, as medians with their 95th and 99th percentiles.

    The percentiles are those of the sorted samples without interpolation beyond the largest: of ten samples, p99 is
    the slowest one. Raises InvalidData when a size has no sample.

    >>> latency_curve({2: [0.02, 0.03, 0.04], 1: [0.01]}).median_s
    (0.01, 0.03)
    """
    sizes = sorted(samples)
    empty = [size for size in sizes if not samples[size]]
    if empty or not sizes:
        raise InvalidData(
            f"no latency was measured at batch sizes {empty}" if empty else "nothing was measured"
        )

    def at(share: float) -> tuple[float, ...]:
        return tuple(float(np.quantile(samples[size], share, method="higher")) for size in sizes)

    return LatencyCurve(
        tuple(sizes), tuple(float(np.median(samples[size])) for size in sizes), at(0.95), at(0.99)
    )


def quality(labels: npt.NDArray[np.integer], said: npt.NDArray[np.integer], classes: int) -> Quality:
    """The confusion matrix of true and predicted classes, both int [n], and what follows from it.

    Raises InvalidData when there is no sample, the lengths differ, or a label is no class.

    >>> quality(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).recall
    (0.5, 1.0)
    """
    if len(labels) != len(said) or not len(labels):
        raise InvalidData(
            f"{len(labels)} labels and {len(said)} predictions; one of each for every sample is needed"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        first = int(wrong[0])
        raise InvalidData(
            f"sample {first} has the label {int(labels[first])}; classes go from 0 to {classes - 1}"
        )
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, said), 1)
    return Quality.from_confusion(confusion)
