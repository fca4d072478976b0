"""The declared peek in plain numpy: its accuracy belongs on the card, beside those of the variants.

The server has its own, faster one; this one has no index and reads only the kinds of feature that the three
declarations use.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peekserve.applications.splits import Split

Features = NDArray[np.float64]
ROWS = 256  # measured at once


def statistics(rows: list[NDArray[np.float32]]) -> Features:
    """Of every channel of [t, channels]: mean, deviation, least, greatest, energy of the differences."""
    seen = [r.reshape(len(r), -1).astype(np.float64) for r in rows]
    return np.array(
        [
            np.concatenate([r.mean(0), r.std(0), r.min(0), r.max(0), (np.diff(r, axis=0) ** 2).mean(0)])
            for r in seen
        ]
    )


def spectrum(rows: list[NDArray[np.float32]], bins: int) -> Features:
    """Log magnitudes of a one-dimensional row's frequencies, averaged in `bins` bands of equal width."""
    seen = [np.log(np.abs(np.fft.rfft(row)) / len(row) + 1e-6) for row in rows]
    return np.array([[band.mean() for band in np.array_split(values, bins)] for values in seen])


def own_rows(split: Split, name: str) -> list[NDArray[np.float32]]:
    """Each row at its own length."""
    values = split.inputs[name]
    return [
        row[:n]
        for row, n in zip(values, split.lengths.get(name, [values.shape[1]] * len(split)), strict=True)
    ]


def votes(said: Mapping[str, Any], root: Path, split: Split) -> NDArray[np.int64]:
    """Among the k nearest reference rows, how many are of each class: [n, C]."""
    peek = said["peek"]
    reference = Split.read(root / peek["reference"])
    (name,) = peek["inputs"]
    a, b = own_rows(reference, name), own_rows(split, name)
    here, there = np.array([]), np.array([])
    if peek["features"][0]["kind"] not in ("statistics", "spectrum"):
        here, there = (np.array([row.reshape(-1) for row in rows], dtype=np.float64) for rows in (a, b))
    for feature in peek["features"]:
        kind = feature["kind"]
        if kind == "statistics":
            here, there = statistics(a), statistics(b)
        elif kind == "spectrum":
            here, there = spectrum(a, feature["bins"]), spectrum(b, feature["bins"])
        elif kind == "standardise":
            mean, scale = here.mean(0), np.maximum(here.std(0), 1e-9)
            here, there = (here - mean) / scale, (there - mean) / scale
        elif kind == "pca":
            mean = here.mean(0)
            axes = np.linalg.svd(here - mean, full_matrices=False)[2][: feature["components"]].T
            here, there = (here - mean) @ axes, (there - mean) @ axes
    # A few rows at a time: thousands of rows by thousands of references by features is no matrix for a small box.
    nearest = [
        np.argsort(((rows[:, None, :] - here[None, :, :]) ** 2).sum(2), axis=1, kind="stable")
        for rows in np.array_split(there, -(-len(there) // ROWS))
    ]
    chosen = np.concatenate(nearest)[:, : peek["neighbours"]]
    one_each = np.eye(len(said["classes"]), dtype=np.int64)
    return np.asarray(one_each[reference.labels[chosen]].sum(1))
