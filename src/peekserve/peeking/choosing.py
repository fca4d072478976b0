"""How many neighbours: k by cross-validation ("standard supervised learning procedures", SneakPeek, section 4.2).

Only the reference is used, never data that anything is reported on. Its rows are put into folds by whole groups
(subjects, recordings), since a row's own subject is a better neighbour than any that will be met in service; without
groups each row is one. Every fold is looked up in the others, exactly; of a large reference not every row is.

The score is the logarithm of the posterior mean at the true class, averaged. We take it and not the error of the
accuracy estimate (figure 7), because that one depends on the recalls of the variants, which change whenever a variant
does, and is blind to beliefs that confuse two classes of like recall. The log score is proper: what is best by it is
the belief nearest to the truth, which serves every variant. Classes count as the prior expects them and not as often
as they stand in the reference, whose mix is its maker's choice.

Features are fitted on the whole reference beforehand: they see no labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.awareness.posterior import posterior_mean
from peekserve.domain.application import IndexKind, IndexSpec
from peekserve.errors import InvalidData
from peekserve.peeking.indexes import Index
from peekserve.peeking.neighbours import tally

CANDIDATES = (1, 3, 5, 7, 9, 15)
FOLDS = 10
MOST_ASKED = (
    4_000  # rows that are looked up: more would say little more, and cost a start of the server seconds
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen k, and the mean log score of every candidate, in nats."""

    k: int
    scores: tuple[tuple[int, float], ...]

    def __str__(self) -> str:
        told = ", ".join(f"{k}: {score:.4f}" for k, score in self.scores)
        return f"k = {self.k} by cross-validation (log score of {told})"


def choose_k(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer],
    groups: npt.NDArray[np.generic] | None,
    prior: Sequence[float],
    candidates: Sequence[int] = CANDIDATES,
) -> Choice:
    """The k with the best log score; of equals the smallest.

    `features`: float32 [n, D]. `labels`: int [n]. `groups`: [n], or None. `prior`: alpha, [C]. Candidates that are
    more than the rows outside of the largest fold are left out. Raises InvalidData when all rows are of one group,
    or when no candidate is left.
    """
    fold = folds(groups if groups is not None else np.arange(len(labels)))
    rest = len(labels) - int(np.bincount(fold).max())
    if rest == 0:
        raise InvalidData(
            f"neighbours: k cannot be chosen when all {len(labels)} rows of the reference are of one group; "
            "write a number"
        )
    fit = sorted({k for k in candidates if 1 <= k <= rest})
    if not fit:
        raise InvalidData(f"neighbours: none of {list(candidates)} nearest can be had of {rest} rows")
    asked = spread(labels, MOST_ASKED)
    votes = nearest_outside(features, labels, fold, asked, fit[-1])
    alpha = np.asarray(prior, dtype=np.float64)
    true = labels[asked]
    there = np.flatnonzero(np.bincount(true, minlength=len(alpha)))
    scores = []
    for k in fit:
        theta = posterior_mean(alpha, tally(votes[:, :k], len(alpha)))
        logs = np.log(theta[np.arange(len(true)), true])
        by_class = np.array([logs[true == i].mean() for i in there])
        scores.append((k, float(np.average(by_class, weights=alpha[there]))))
    best = max(scores, key=lambda pair: (pair[1], -pair[0]))
    return Choice(best[0], tuple(scores))


def nearest_outside(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer],
    fold: npt.NDArray[np.int64],
    asked: npt.NDArray[np.int64],
    k: int,
) -> npt.NDArray[np.int64]:
    """int64 [len(asked), k]: the labels of the k nearest, exactly, of the rows that are in another fold. `fold`: [n],
    from `folds`; every fold leaves k rows or more. `asked`: row numbers."""
    votes = np.empty((len(asked), k), dtype=np.int64)
    for one in range(int(fold.max()) + 1):
        held = fold == one
        questions = held[asked]
        index = Index(features[~held], IndexSpec(IndexKind.FLAT))
        votes[questions] = labels[~held][index.nearest(features[asked[questions]], k)]
    return votes


def spread(labels: npt.NDArray[np.integer], most: int) -> npt.NDArray[np.int64]:
    """int64 [at most `most`]: row numbers, of each class as large a share as it has. No chance is in it.

    >>> spread(np.array([0, 1, 0, 1, 0, 0]), 3).tolist()
    [0, 4, 3]
    """
    order = np.argsort(labels, kind="stable").astype(np.int64)
    if len(order) <= most:
        return np.arange(len(order), dtype=np.int64)
    picks: npt.NDArray[np.int64] = order[np.linspace(0, len(order) - 1, most).astype(np.int64)]
    return picks


def folds(groups: npt.NDArray[np.generic], number: int = FOLDS) -> npt.NDArray[np.int64]:
    """int64 [n]: a fold for each row, whole groups together. The largest groups are dealt first, each to the smallest
    fold so far, of equals the first: no chance is in it.

    >>> folds(np.array(["a", "b", "a", "c"]), 2).tolist()
    [0, 1, 0, 1]
    """
    names, own, size = np.unique(groups, return_inverse=True, return_counts=True)
    held = np.zeros(min(number, len(names)), dtype=np.int64)
    fold = np.zeros(len(names), dtype=np.int64)
    for group in np.argsort(-size, kind="stable"):
        fold[group] = int(held.argmin())
        held[fold[group]] += size[group]
    of_rows: npt.NDArray[np.int64] = fold[own.reshape(-1)]
    return of_rows
