"""Votes and a prior make a belief over the classes of one row.

The theory (SneakPeek, section 4.2). A row has one true class, which we do not know. Let theta be the vector
of class probabilities for rows that look like this one. Before looking we believe

    theta ~ Dirichlet(alpha_1, ..., alpha_C)                                        (eq. 10)

where alpha_i acts as if alpha_i rows of class i had been seen already. Looking gives evidence y: with k
nearest labelled neighbours, y_i of them are of class i, a multinomial observation of theta. The Dirichlet is
conjugate to the multinomial, so that the belief after looking is of the same family and costs one addition:

    theta | y ~ Dirichlet(alpha_1 + y_1, ..., alpha_C + y_C)                                        (eq. 11)

Everything that is decided with a belief is linear in theta (expected accuracy, eq. 9), so its mean

    theta_i = (alpha_i + y_i) / sum_j (alpha_j + y_j)

is all that is ever needed: neither a draw nor the mode. A peek that gives no evidence leaves the prior's
mean.

How many votes pass one half? With Jeffreys (alpha_i = 0.5), k = 5: of 2 classes 3 votes do, (0.5 + 3) / 6 =
0.583; of 6 or 7 classes 4 are needed, 4.5 / 8 = 0.5625 or 4.5 / 8.5 = 0.529. One vote, k = 1, never does with
6 or 7.

Counts need not be whole: evidence from a client or a model may be worth a part of a vote.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isfinite

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidConfiguration, InvalidTensor

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Dirichlet:
    """A belief over C classes, one row's. For many rows at once there is `posterior_mean`.

    >>> belief = Dirichlet.uniform(2).observe([3, 0])
    >>> belief.mean
    (0.8, 0.2)
    """

    alpha: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.alpha) < 2 or any(not (isfinite(a) and a > 0.0) for a in self.alpha):
            raise InvalidConfiguration(
                f"a Dirichlet has two or more positive, finite entries, not {self.alpha}"
            )

    @classmethod
    def uniform(cls, classes: int) -> "Dirichlet":
        """Every theta is equally likely: alpha_i = 1."""
        return cls((1.0,) * classes)

    def observe(self, counts: Sequence[float]) -> "Dirichlet":
        """The belief after these votes, one number for each class (eq. 11). Raises InvalidTensor."""
        checked = check_counts(np.asarray([counts], dtype=np.float64), len(self.alpha))[0]
        return Dirichlet(tuple(a + float(y) for a, y in zip(self.alpha, checked, strict=True)))

    @property
    def mean(self) -> tuple[float, ...]:
        total = fsum(self.alpha)
        return tuple(a / total for a in self.alpha)


def posterior_mean(alpha: Sequence[float] | Floats, counts: npt.ArrayLike) -> Floats:
    """theta: float64 [n, C], one belief's mean for each row; every row sums to 1.

    `alpha`: [C], positive. `counts`: [n, C], finite and not negative. Raises InvalidTensor.

    >>> posterior_mean([0.5] * 6, [[4, 1, 0, 0, 0, 0]]).round(4).tolist()
    [[0.5625, 0.1875, 0.0625, 0.0625, 0.0625, 0.0625]]
    """
    prior = np.asarray(alpha, dtype=np.float64)
    total = prior + check_counts(counts, len(prior))
    theta: Floats = total / np.add.reduce(total, axis=1, keepdims=True)
    return theta


def check_counts(counts: npt.ArrayLike, classes: int) -> Floats:
    """The same counts as a C-contiguous float64 [n, classes]; InvalidTensor when they cannot be evidence."""
    checked = np.ascontiguousarray(counts, dtype=np.float64)
    if checked.ndim != 2 or checked.shape[1] != classes:
        raise InvalidTensor(
            f"evidence has one row of {classes} counts for each row of the request, not shape {checked.shape}"
        )
    # NaN fails the comparison too.
    if checked.size and not (checked.min() >= 0.0 and checked.max() < np.inf):
        row, column = np.argwhere(~((checked >= 0.0) & (checked < np.inf)))[0]
        raise InvalidTensor(
            f"evidence counts are finite and not negative; row {row}, class {column} "
            f"has {checked[row, column]}"
        )
    return checked
