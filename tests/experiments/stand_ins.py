"""Recordings drawn from stated recalls, for experiments without data: not what any model said."""

from pathlib import Path

import numpy as np

from peekserve.experiments.sneakpeek.device import read_class
from peekserve.experiments.sneakpeek.lab import Lab
from peekserve.experiments.sneakpeek.recording import Recording

# Recalls of class 0 and of each other class, by variant; the accuracy of one neighbour; the number of classes.
STATED = {
    "falls": ([(0.80, 0.70), (0.88, 0.80), (0.92, 0.84), (0.95, 0.88), (0.97, 0.94)], 0.85, 2),
    "keywords": ([(0.85, 0.82), (0.94, 0.93)], 0.62, 6),
    "ecg": ([(0.93, 0.70), (0.97, 0.86)], 0.75, 7),
}


def a_recording(name: str, samples: int = 700, seed: int = 0) -> Recording:
    recalls, vote, classes = STATED[name]
    rng = np.random.default_rng([seed, len(name)])

    def said(labels: np.ndarray, recall: tuple[float, float]) -> np.ndarray:
        right = rng.random(len(labels)) < np.where(labels == 0, *recall)
        return np.where(right, labels, (labels + rng.integers(1, classes, len(labels))) % classes)

    labels = np.arange(samples) % classes
    confusion, scores = {}, {}
    for number, recall in enumerate(recalls):
        variant = f"v{number}"
        scores[variant] = np.eye(classes)[said(labels, recall)]
        confusion[variant] = np.zeros((classes, classes), np.int64)
        np.add.at(confusion[variant], (labels, said(labels, recall)), 1)
    near = [_neighbours(labels, vote, classes, rng) for _ in range(2)]
    groups = np.arange(samples) // 50
    return Recording(
        name,
        tuple(f"c{i}" for i in range(classes)),
        labels,
        groups,
        scores,
        near[0],
        labels,
        groups,
        near[1],
        confusion,
    )


def _neighbours(labels: np.ndarray, vote: float, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Some samples lie among their own kind and some do not: independent votes would make any peek sharp."""
    right = rng.random((len(labels), 15)) < rng.beta(3 * vote, 3 * (1 - vote), (len(labels), 1))
    return np.where(
        right, labels[:, None], (labels[:, None] + rng.integers(1, classes, right.shape)) % classes
    )


def a_lab(windows: int = 2) -> Lab:
    return Lab(read_class(), {name: a_recording(name) for name in STATED}, windows)


def write_recordings(folder: Path) -> None:
    for name in STATED:
        a_recording(name).save(folder / f"{name}.npz")
