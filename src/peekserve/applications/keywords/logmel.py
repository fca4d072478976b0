"""The fixed numbers of a log-mel front: what turns frames of samples into energies of bands that ears tell apart."""

import numpy as np
from numpy.typing import NDArray

from peekserve.applications.keywords.load import RATE

LOWEST_HZ, HIGHEST_HZ = 60.0, 3_800.0
FLOOR = 1e-6  # added to a band's power: what mu-law leaves of silence lies about there


def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """2595 log10(1 + f / 700): O'Shaughnessy's mel scale."""
    return np.asarray(2595.0 * np.log10(1.0 + hertz / 700.0))


def bases(window: int) -> NDArray[np.float64]:
    """[2 * (window // 2 + 1), window]: a Hann window times every cosine of the discrete Fourier transform, then times
    every sine. The window's sum is 1, so that a full-scale sine has power 1/4 whatever the window's length."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    turns = 2 * np.pi * np.outer(np.arange(window // 2 + 1), np.arange(window)) / window
    return np.asarray(np.concatenate([np.cos(turns), np.sin(turns)]) * (hann / hann.sum()))


def triangles(window: int, bands: int) -> NDArray[np.float64]:
    """[bands, window // 2 + 1]: triangles whose corners lie at equal distances in mel, each of height 1."""
    frequencies = mel(np.arange(window // 2 + 1) * RATE / window)
    lowest, highest = mel(np.array([LOWEST_HZ, HIGHEST_HZ])).tolist()
    corners = np.linspace(lowest, highest, bands + 2)
    low, peak, high = (corners[i : i + bands, None] for i in range(3))
    rising, falling = (frequencies - low) / (peak - low), (high - frequencies) / (high - peak)
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))
