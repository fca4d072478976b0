"""Does the stream still look like what the beliefs were made for? One score for each application.

Two things can go wrong after a profile was measured, and each shows in another place.

**Trust: believed against confirmed.** Each answer comes with p, the probability that it is right. Once its true class
is known, so is x = 1 (right) or 0. If the beliefs hold, x - p has mean 0 and variance p (1 - p) whatever the mix of
variants, classes and loads, and rows are independent. With weights a_k that halve every `half_life` rows,

    z = sum_k a_k (x_k - p_k) / sqrt(sum_k a_k^2 p_k (1 - p_k) + A^2 v / n + 1),      A = sum_k a_k

is near to a standard normal. v is the weighted mean of p (1 - p). The second term is there because no p is exact:
recalls were measured on some n rows, and an error of that size is no drift. The 1 stands for one surprise: an answer
that was held to be 99% safe and is wrong is not yet news about a stream.

**Shift: what rows look like, now against before.** If the classes come in other shares, so does what the peek says of
them, whoever is right: the mean of a classifier's outputs moves exactly when the mix of the classes moves, as long as
each class looks as it did (Lipton, Wang and Smola, "Detecting and correcting for label shift with black box
predictors", 2018). No label is needed. Let X_k be shares over C classes (the votes of a peek divided by their sum),
S their mean with weights a that halve every `half_life` rows, L their mean with weights b that fade ten times as
slowly, and V the covariance of single rows, with weights b. For independent rows of one mix

    Cov(S - L) = V s,     s = sum_k (a_k / A - b_k / B)^2

so T = (S - L)' V^-1 (S - L) / (s + 1 / n) over C - 1 of the shares (they sum to 1) is near to a chi-square of C - 1
degrees of freedom, again with 1 / n for what is not news. The cube root of T / (C - 1) is near to normal with mean
1 - 2 / 9(C - 1) and variance 2 / 9(C - 1) (Wilson and Hilferty, 1931), which brings every number of classes to one
scale. The votes are taken as they come and not as beliefs, because a prior that learns would move these itself.
Confirmed labels are shares too (all of one class) and are followed in the same way.

**The score** is the largest of the three, none below 0, in standard deviations: about 1 is usual, above 3 is rare by
chance and deserves a look, and after a shift of half the rows it passes 3 within some tens of rows, or within a hundred
or two where the peek is weak. It says that something moved, not that answers got worse. A shift that stays becomes what
is usual, and its score falls again as the slow mean follows; the score of trust stays up until the beliefs are
mended. Rows that come in runs (one patient's beats after another's) are not independent, and score higher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from peekserve.domain.shares import wilson
from peekserve.errors import InvalidConfiguration

Floats = npt.NDArray[np.float64]

SLOWER = 10.0  # the usual fades this much more slowly than the present
SPREAD = 0.002  # added to the variance of each share: a class hardly ever seen tells little by coming once


@dataclass(frozen=True, slots=True)
class Memory:
    """`half_life`: rows after which a row counts half as much. `sample`: on how many rows profiles were measured; what
    so many rows could not tell apart is no drift."""

    half_life: float = 200.0
    sample: float = 1000.0

    def __post_init__(self) -> None:
        if not (self.half_life > 0.0 and self.sample > 0.0):
            raise InvalidConfiguration(
                f"a half-life and a sample are numbers of rows above 0, not {self.half_life} and {self.sample}"
            )

    @property
    def fades(self) -> float:
        """What is left of a row's weight when the next one comes."""
        return float(0.5 ** (1.0 / self.half_life))


class Trust:
    """Believed against confirmed, one row at a time."""

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory = memory or Memory()
        self._fades = self._memory.fades
        self.confirmed = 0
        self._weight = self._squares = self._right = self._believed = 0.0
        self._variance = self._spread = 0.0

    def learn(self, believed: float, right: bool) -> None:
        """`believed`: the probability, from 0 to 1, that the answer would be right.

        >>> trust = Trust()
        >>> for row in range(100): trust.learn(0.9, right=row % 10 > 0)
        >>> round(trust.believed, 3), round(trust.right, 3), trust.score < 1.0
        (0.9, 0.902, True)
        """
        f, spread = self._fades, believed * (1.0 - believed)
        self.confirmed += 1
        self._weight = f * self._weight + 1.0
        self._squares = f * f * self._squares + 1.0
        self._right = f * self._right + right
        self._believed = f * self._believed + believed
        self._spread = f * self._spread + spread
        self._variance = f * f * self._variance + spread

    @property
    def believed(self) -> float:
        """The accuracy that was believed of the rows that count now; nan before the first."""
        return self._believed / self._weight if self.confirmed else float("nan")

    @property
    def right(self) -> float:
        """The share of them that was right."""
        return self._right / self._weight if self.confirmed else float("nan")

    @property
    def rows(self) -> float:
        """How many rows of equal weight would tell as much."""
        return self._weight**2 / self._squares if self.confirmed else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of `right` (Wilson's score interval); (0, 1) before the first row."""
        if not self.confirmed:
            return 0.0, 1.0
        return wilson(self.right * self.rows, self.rows)

    @property
    def score(self) -> float:
        """|z|, from 0 upwards."""
        own = self._weight * self._spread / self._memory.sample
        return abs(self._right - self._believed) / sqrt(self._variance + own + 1.0)


class Shift:
    """The mix of the present against the usual one. `see` is cheap: rows are added up in blocks."""

    BLOCK = 64

    def __init__(self, classes: int, memory: Memory | None = None) -> None:
        if classes < 2:
            raise InvalidConfiguration(f"shares are over two classes or more, not {classes}")
        self._memory = memory or Memory()
        slow = Memory(SLOWER * self._memory.half_life).fades
        self._fades = np.array([self._memory.fades, slow])
        self._seen = np.zeros((self.BLOCK, classes))
        self._pending = 0
        self.rows = 0
        self._sums = np.zeros((2, classes))  # of the present and the usual
        self._weights = np.zeros(2)
        self._products = np.zeros((2, 2))  # of their weights, added up row by row
        self._second = np.zeros((classes, classes))

    def see(self, shares: Floats) -> None:
        """float64 [n, C], rows in the order in which they came. A row of zeros says nothing and is left out; others are
        brought to a sum of 1."""
        sums = np.add.reduce(shares, axis=1)
        for row, total in zip(shares, sums.tolist(), strict=True):
            if total > 0.0:
                np.divide(row, total, out=self._seen[self._pending])
                self._pending += 1
                self.rows += 1
                if self._pending == self.BLOCK:
                    self._fold()

    def see_class(self, label: int) -> None:
        """A row that is of this class."""
        self._seen[self._pending] = 0.0
        self._seen[self._pending, label] = 1.0
        self._pending += 1
        self.rows += 1
        if self._pending == self.BLOCK:
            self._fold()

    @property
    def present(self) -> Floats:
        """float64 [C]: the shares of late; all equal before the first row."""
        self._fold()
        if not self.rows:
            return np.full(len(self._sums[0]), 1.0 / len(self._sums[0]))
        return np.asarray(self._sums[0] / self._weights[0])

    @property
    def score(self) -> float:
        """Wilson and Hilferty's normal value of T, from 0 upwards."""
        self._fold()
        if self.rows < 2:
            return 0.0
        mean = self._sums / self._weights[:, None]
        moved = (mean[0] - mean[1])[:-1]
        own = self._products / np.multiply.outer(self._weights, self._weights)
        news = float(own[0, 0] - 2.0 * own[0, 1] + own[1, 1]) + 1.0 / self._memory.sample
        spread = self._second / self._weights[1] - np.multiply.outer(mean[1], mean[1])
        single = spread[:-1, :-1] + SPREAD * np.eye(len(moved))
        freedom = len(moved)
        t = float(moved @ np.linalg.solve(single, moved)) / news / freedom
        wide = 2.0 / (9.0 * freedom)
        return max(float((np.cbrt(t) - (1.0 - wide)) / sqrt(wide)), 0.0)

    def _fold(self) -> None:
        n = self._pending
        if not n:
            return
        block, self._pending = self._seen[:n], 0
        age = np.arange(n - 1, -1, -1)
        weights = self._fades[:, None] ** age  # [2, n]
        left = self._fades**n
        self._sums = left[:, None] * self._sums + weights @ block
        self._weights = left * self._weights + np.add.reduce(weights, axis=1)
        self._products = np.multiply.outer(left, left) * self._products + weights @ weights.T
        self._second = left[1] * self._second + (block.T * weights[1]) @ block


@dataclass(frozen=True, slots=True)
class Drift:
    """What is known of one application's stream at a moment. `trust`, `votes`, `labels`: the three scores of this
    file's first page. `confirmed`: rows whose true class came, ever. `believed` and `right`: what the late ones of
    them were believed to be worth and what they were, `interval` its 95%; nan and (0, 1) before the first. `prior`:
    the classes' shares that a row is believed to follow before it is looked at."""

    trust: float
    votes: float
    labels: float
    confirmed: int
    believed: float
    right: float
    interval: tuple[float, float]
    prior: tuple[float, ...]

    @property
    def score(self) -> float:
        """About 1 or less is usual; above 3, look at it."""
        return max(self.trust, self.votes, self.labels)


class Watch:
    """All three, of one application with C classes. `learn` is told of confirmed rows, `see` of rows that came."""

    def __init__(self, classes: int, memory: Memory | None = None) -> None:
        self._trust = Trust(memory)
        self._votes = Shift(classes, memory)
        self._labels = Shift(classes, memory)
        self._confirmed = 0

    def see(self, counts: Floats) -> None:
        """Evidence of rows that came, float64 [n, C]."""
        self._votes.see(counts)

    def see_class(self, label: int) -> None:
        """A row without evidence was answered so."""
        self._votes.see_class(label)

    def learn(self, label: int, said: int, believed: float | None) -> None:
        """A row's true class came. `believed`: how probably its answer was right; None where that was not known."""
        self._confirmed += 1
        self._labels.see_class(label)
        if believed is not None:
            self._trust.learn(believed, said == label)

    def drift(self, prior: Sequence[float] | Floats) -> Drift:
        """How it stands now."""
        trust = self._trust
        return Drift(
            trust=trust.score,
            votes=self._votes.score,
            labels=self._labels.score,
            confirmed=self._confirmed,
            believed=trust.believed,
            right=trust.right,
            interval=trust.interval,
            prior=tuple(float(share) for share in prior),
        )
