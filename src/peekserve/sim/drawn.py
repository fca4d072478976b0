"""A world made from stated recalls: samples whose labels, answers and votes are drawn once, from a seed."""

import numpy as np

from peekserve.domain.application import Application
from peekserve.errors import ProfileMissing
from peekserve.sim.world import Recorded


def drawn(app: Application, samples: int, rng: np.random.Generator, votes: int = 5) -> Recorded:
    """`samples` with uniform labels. A variant is right as often as its recall of the true class says, and errs evenly
    over the others; each of the peek's `votes` likewise, given the peek's recall.

    Errors of different variants are independent given the label, which real models' are not: use it to look at
    schedules, not to promise accuracies. Raises ProfileMissing for a variant without recalls.
    """
    classes = len(app.classes)
    labels = rng.integers(0, classes, samples)
    scores = {}
    for variant in app.variants:
        if variant.quality is None:
            raise ProfileMissing(f"{app.name}/{variant.name}: no recalls to draw answers from")
        said = _said(labels, np.array(variant.quality.recall), classes, rng)
        scores[variant.name] = np.eye(classes)[said]
    counts = None
    if app.peek is not None and app.peek.quality is not None:
        recall = np.array(app.peek.quality.recall)
        counts = sum(np.eye(classes)[_said(labels, recall, classes, rng)] for _ in range(votes))
    return Recorded(labels, scores, None if counts is None else np.asarray(counts))


def _said(
    labels: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    recall: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    classes: int,
    rng: np.random.Generator,
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    right = rng.random(len(labels)) < recall[labels]
    wrong = (labels + rng.integers(1, classes, len(labels))) % classes
    return np.where(right, labels, wrong)
