"""SubnetNorm's table: mean and variance of every normalised layer, for each subnet its own (SuperServe 3.1).

A subnet narrower or shallower than the one whose statistics were tracked has other activations, and those statistics
are wrong for it: accuracy can fall to chance. So each subnet reads some training rows once; every batch is normalised
by its own statistics, and their averages, weighted by rows, are what the subnet is served with (the way of
Once-for-All's released calibration). Training rows and no others: what is tuned on validation data cannot be judged
by them.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from peekserve.errors import InvalidData
from peekserve.supernets.measure import batches
from peekserve.supernets.operators import Supernet
from peekserve.supernets.space import Subnet

ROWS = 2_000  # so many are enough: a statistic of a channel then rests on 2,000 rows times its positions
SEED = 0


def calibrate(
    supernet: Supernet,
    subnets: Iterable[Subnet],
    rows: NDArray[np.float32],
    seen: Callable[[Subnet], None] = lambda subnet: None,
) -> None:
    """Fill in the statistics of each subnet, one pass of `rows` (float32 [n, *row]) each; those of others stay.

    `rows` are training rows as the weights saw them (augmented, in the same mix of classes), shuffled: see `drawn`.
    Raises InvalidData for fewer than two rows, InvalidConfiguration for a subnet outside the space.
    """
    if len(rows) < 2:
        raise InvalidData(f"statistics of {len(rows)} rows: two or more are needed, some hundreds are right")
    for subnet in subnets:
        with supernet.collecting(subnet):
            for batch in batches(rows):
                supernet(batch)
        seen(subnet)


def drawn(rows: NDArray[np.float32], most: int = ROWS) -> NDArray[np.float32]:
    """At most `most` of the rows, in random order: always the same ones of the same rows."""
    return rows[np.random.default_rng(SEED).permutation(len(rows))[:most]]
