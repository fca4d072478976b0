"""Is a series flat? Its last third over its first, and the slope of a line through it, with intervals.

Neighbours in time are alike, so what is resampled are blocks of neighbours (the moving block bootstrap of Kunsch, The
Annals of Statistics 17, 1989).
"""

from collections.abc import Sequence

import numpy as np

from peekserve.experiments.table import DRAWS, Floats

_BLOCK = 3


def thirds(values: Floats, draws: int = DRAWS, seed: int = 0) -> Floats:
    """float64 [1 + draws]: the median of the last third over that of the first, then the same of each resample.

    >>> thirds(np.array([1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 2.0, 2.0, 2.0]), draws=1).tolist()
    [2.0, 2.0]
    """
    third, rng = max(len(values) // 3, 1), np.random.default_rng(seed)
    first, last = values[:third], values[-third:]
    found = [np.median(last) / np.median(first)]
    for _ in range(draws):
        found.append(np.median(last[_blocks(third, rng)]) / np.median(first[_blocks(third, rng)]))
    return np.array(found)


def growth(hours: Floats, values: Floats, draws: int = DRAWS, seed: int = 0) -> Floats:
    """float64 [1 + draws]: the slope of a line through these points over their mean, in an hour, then the same of each
    resample (of what the line leaves over: the residuals, in blocks)."""
    rng = np.random.default_rng(seed)
    slope, start = np.polyfit(hours, values, 1)
    line = slope * hours + start
    found = [slope]
    for _ in range(draws):
        again = line + (values - line)[_blocks(len(values), rng)]
        found.append(np.polyfit(hours, again, 1)[0])
    return np.asarray(np.array(found) / values.mean(), np.float64)


def _blocks(count: int, rng: np.random.Generator) -> Sequence[int]:
    """As many indices, drawn as blocks of neighbours."""
    size = min(_BLOCK, count)
    starts = rng.integers(0, count - size + 1, -(-count // size))
    drawn: list[int] = (starts[:, None] + np.arange(size)).ravel()[:count].tolist()
    return drawn
