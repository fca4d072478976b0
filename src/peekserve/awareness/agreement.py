"""How far votes agree on a class, and what a variant is worth on rows that were voted on like that.

The theory. Eq. 9 of SneakPeek takes a variant's recall of class c to be the same for every row of that class, whatever
the peek saw. It is not: a row of class c that gets few votes for c lies far from its own kind, and misleads the models
too. So recalls are counted apart by *agreement*, the share of the votes that the row's own class got:

    none        at most one half        more        all

and eq. 9 becomes accuracy(m | y) = sum_c theta_c w_c recall_c(m | share of y for c). The true class is not known when a
variant is valued, and need not be: each class c is asked what the recall would be if it were the true one. (The share
of the leading class, whichever it is, tells less: it made recalls better on one validation set of three, a class's own
share on all.) The edges follow from the number of votes alone and never from the data: with one vote there is none or
all.

A bin of a class holds few samples. Its recall is shrunk towards that of the class over all bins, as if STRENGTH samples
more had been seen with exactly that recall (a Beta prior, its mean the overall recall):

    recall_bc = (right_bc + STRENGTH recall_c) / (n_bc + STRENGTH)

so that a bin without samples has the overall recall, and twenty samples weigh as much as all the others together.

The overall recall is not the share of right answers: it is pulled as few groups ask for (witnesses.py), for all
variants together. (To pull the bins likewise, by their groups, was no better on validation data of six applications.)
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from peekserve.awareness.witnesses import recalls
from peekserve.errors import InvalidData

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.integer]

STRENGTH = 20.0


def edges_for(votes: float) -> tuple[float, ...]:
    """The edges between the bins, for so many votes.

    >>> edges_for(1), edges_for(2), edges_for(5)
    ((0.5,), (0.25, 0.75), (0.1, 0.5, 0.9))
    """
    k = max(round(votes), 1)
    some = 0.5 / k  # halfway to one vote: counts need not be whole
    if k == 1:
        return (some,)
    return (some, 1.0 - some) if k == 2 else (some, 0.5, 1.0 - some)


def agreement(counts: Floats, edges: Sequence[float]) -> Ints:
    """int64 [n, C]: the bin of each row and class, 0 where no vote is for the class, for counts float64 [n, C]; -1 all
    over a row without votes.

    >>> agreement(np.array([[3.0, 2.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 0.0]]), (0.1, 0.5, 0.9)).tolist()
    [[2, 1, 0], [0, 3, 0], [-1, -1, -1]]
    """
    total = np.add.reduce(counts, axis=1, keepdims=True)
    voted = total > 0.0
    share = counts / np.where(voted, total, 1.0)
    return np.where(voted, np.searchsorted(np.asarray(edges), share), -1)


def recalls_by_agreement(
    recall: Sequence[float] | Floats, labels: Labels, said: Labels, counts: Floats, edges: Sequence[float]
) -> tuple[tuple[float, ...], ...]:
    """[B][C]: a variant's recall of each class in each bin, shrunk towards `recall` [C], its own overall.

    `labels`, `said`: int [n], true classes and what the variant said of them. `counts`: float64 [n, C], the votes on
    the same samples; those without any do not count. Raises InvalidData where their lengths differ.
    """
    if not len(labels) == len(said) == len(counts):
        raise InvalidData(
            f"{len(labels)} labels, {len(said)} answers and {len(counts)} rows of votes; one of each is needed for a "
            "sample"
        )
    overall = np.asarray(recall, dtype=np.float64)
    own = agreement(counts, edges)[np.arange(len(labels)), labels]
    counted = own >= 0
    at = own[counted], labels[counted]
    n = np.zeros((len(edges) + 1, len(overall)))
    right = np.zeros_like(n)
    np.add.at(n, at, 1.0)
    np.add.at(right, at, (said == labels)[counted].astype(np.float64))
    shrunk = (right + STRENGTH * overall) / (n + STRENGTH)
    return tuple(tuple(float(r) for r in row) for row in shrunk)


def by_agreement(
    said: Labels,
    labels: Labels,
    groups: npt.NDArray[np.generic] | None,
    counts: Floats,
    edges: Sequence[float],
    rows: npt.NDArray[np.bool_] | None = None,
) -> list[tuple[tuple[float, ...], ...]]:
    """[B + 1][C] for each of V variants: its recalls in each bin, and last whatever the votes say, as
    `domain.profile.Quality` keeps them.

    `said`: int [V, n], all of them on the same samples. `labels`: int [n]; `groups`: [n], or None. `counts`: float64
    [n, C]. `rows`: bool [n], the samples whose votes count; all, where it is None. Raises InvalidData.
    """
    voted = np.ones(len(labels), dtype=np.bool_) if rows is None else rows
    found = []
    for own, overall in zip(said, recalls(said, labels, groups, counts.shape[1]), strict=True):
        apart = recalls_by_agreement(overall, labels[voted], own[voted], counts[voted], edges)
        found.append((*apart, tuple(float(r) for r in overall)))
    return found
