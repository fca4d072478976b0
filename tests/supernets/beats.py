"""A task for tiny supernets: does the bump in a noisy row point up or down, or is there none?"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from peekserve.supernets.networks import build  # noqa: E402
from peekserve.supernets.operators import Supernet  # noqa: E402
from peekserve.supernets.space import Space  # noqa: E402
from peekserve.supernets.train import Batch, Progress, Spent, shuffled, train  # noqa: E402

LENGTH = 24
SIZES = {"shape": [1, LENGTH], "classes": 3, "channels": [16, 24], "blocks": [2, 2], "stem_kernel": 5}
SPACE = Space("conv1d", (2, 2), (1, 1), (0.25, 1.0))


def rows_and_labels(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """float32 [n, 1, LENGTH], int64 [n]."""
    rng = np.random.default_rng(seed)
    labels, middle = rng.integers(0, 3, n), rng.integers(5, LENGTH - 5, (n, 1))
    bumps = np.exp(-(((np.arange(LENGTH) - middle) / 2.0) ** 2)) * np.array([0.0, 3.0, -3.0])[labels][:, None]
    # The level is far from 0, so that statistics of another subnet are plainly wrong.
    rows = bumps + rng.normal(2.0, 0.5, (n, LENGTH))
    return rows.astype(np.float32)[:, None], labels.astype(np.int64)


ROWS, LABELS = rows_and_labels(192, 1)
UNSEEN, ANSWERS = rows_and_labels(256, 2)


def batches(rng: np.random.Generator) -> list[Batch]:
    return shuffled([ROWS], LABELS, rng)


def a_supernet(seed: int = 0) -> Supernet:
    torch.manual_seed(seed)
    return Supernet(build("conv1d", SIZES), SPACE)


def trained(
    epochs: int = 16, seed: int = 0, seen: Callable[[Progress], None] = lambda progress: None
) -> tuple[Supernet, Spent]:
    supernet = a_supernet(seed)
    return supernet, train(supernet, batches, epochs, seed, 1e-2, seen)
