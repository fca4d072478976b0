"""How far a mean over validation samples can be trusted: its standard error and a one-sided lower bound.

Samples of one subject or one record are alike, so what counts is how the groups differ. With e the samples' distances
from their mean and G groups,

    error^2 = G / (G - 1) * sum over groups (sum of e in the group)^2 / N^2

(the cluster-robust variance of a mean; Liang and Zeger, 1986). Without groups every sample is a group of its own, and
this is the usual standard error. The bound takes Student's t with G - 1 degrees of freedom, because few groups say
little of their own spread. Where nothing varies the error is 0, but N samples without one loss still allow for losses
of up to -log(1 - confidence) / N, as the binomial has it; the bound is never closer than that.
"""

from math import inf, log, pi, sqrt, tan
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def mean_and_error(worth: Floats, starts: Ints) -> tuple[Floats, Floats]:
    """Means and standard errors, float64 [K] each, of worth float64 [K, N]. `starts`: int64 [G], where each group
    begins; the samples stand in the order of their groups. One group alone has an infinite error."""
    samples, groups = worth.shape[1], len(starts)
    mean = worth.mean(axis=1)
    if groups < 2:
        return mean, np.full(len(mean), inf)
    sizes = np.diff(np.append(starts, samples))
    sums = np.add.reduceat(worth, starts, axis=1) - mean[:, None] * sizes
    scale = groups / (groups - 1) / samples**2
    return mean, np.sqrt(scale * np.square(sums).sum(axis=1))


def lower(mean: Floats, error: Floats, samples: int, groups: int, confidence: float) -> Floats:
    """The one-sided lower bound of means with these errors, at this confidence (0.5 to below 1)."""
    if groups < 2:
        return np.full(len(mean), -inf)
    least = -log(1.0 - confidence) / samples
    return np.asarray(mean - np.maximum(student(confidence, groups - 1) * error, least))


def student(confidence: float, freedom: int) -> float:
    """Student's t quantile by its expansion around the normal one (Abramowitz and Stegun, 26.7.5); exact for one and
    two degrees of freedom.

    >>> [round(student(0.95, n), 2) for n in (1, 2, 5, 20, 1000)]
    [6.31, 2.92, 2.01, 1.72, 1.65]
    """
    if freedom == 1:
        return tan(pi * (confidence - 0.5))
    if freedom == 2:
        return (2.0 * confidence - 1.0) / sqrt(2.0 * confidence * (1.0 - confidence))
    z: float = NormalDist().inv_cdf(confidence)
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    return z + sum(float(term / freedom**n) for n, term in enumerate(terms, start=1))
