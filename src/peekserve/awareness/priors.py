"""What is believed of the classes before any evidence: the alpha of a Dirichlet (SneakPeek, eq. 10 and
6.3.3).

The sum of alpha says how many votes the prior is worth. Jeffreys weighs C/2 of them: 3.5 for seven classes,
so that `strong` with four requests in a window hardly outweighs it.

`stream` is ours: how often each class comes is learnt from the stream itself. pi is a running mean of the beliefs in
the rows that were looked at, older ones discounted: after `half_life` rows a row counts for half,

    pi  <-  pi + eta (theta - pi + pull (start - pi)),          eta = max(1 - 2^(-1 / half_life), 2 / (2 BEGIN / f + t))

at the t-th row; f is the share of the doubt that votes settle (calibrate.py). It is one step of expectation
maximisation for the mix, row after row. The beliefs must be calibrated: those of the Dirichlet lean to the even mix,
and would pull pi there. Measured on a prototype, 0.03 for each window of about four rows of an application, a half-
life of about 100 rows, follows a change of mix within a few windows and costs nothing where there is none.

The first rows move pi more: where it began counts for about BEGIN rows whose class is known, since the mix of a
validation set is its maker's choice. (On validation data of three applications such a beginning took 0.02 to 0.16 from
the log loss of the first 48 rows where the mix was another one, and added 0.04 at most where it was not.)

Weak votes say little of the mix, and a vote confusion that is a little wrong then moves pi far: the mean of theta
differs from pi by the error, and pi follows until evidence holds it back. The pull to where it began holds it back
where evidence does not. It is measured with the calibration, on groups that the votes were not counted on (calibrate.py
tells how); PULL stands in for one that was not.

No class is ever expected less often than `FLOOR` of an even share, or no evidence could bring it back. A label that is
confirmed later takes the place of what was believed of its row: pi <- pi + eta (label - theta).
"""

from collections.abc import Sequence
from math import fsum, inf, isfinite

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidConfiguration

Alpha = tuple[float, ...]
Floats = npt.NDArray[np.float64]

FLOOR = 0.01
PULL = 0.1
BEGIN = 8.0


def uninformative(classes: int) -> Alpha:
    """Jeffreys: one half for each class, whatever the owner knows.

    >>> uninformative(3)
    (0.5, 0.5, 0.5)
    """
    if classes < 2:
        raise InvalidConfiguration(f"a prior needs two classes or more, not {classes}")
    return (0.5,) * classes


def weak(frequencies: Sequence[float]) -> Alpha:
    """The expected frequency of each class: worth one vote in all.

    Raises InvalidConfiguration unless they are positive and sum to 1 (to a millionth: people write 0.333).

    >>> weak([0.95, 0.05])
    (0.95, 0.05)
    """
    return _frequencies(frequencies, "weak")


def beginning(frequencies: Sequence[float]) -> Alpha:
    """What a stream prior begins with: as `weak`."""
    return _frequencies(frequencies, "stream")


def strong(counts: Sequence[float]) -> Alpha:
    """The expected number of requests of each class in one scheduling window.

    >>> strong([3.8, 0.2])
    (3.8, 0.2)
    """
    return _positive(counts, "strong")


class Stream:
    """How often each class is expected to come next. Deterministic: it depends on the order of what it is told alone.

    >>> prior = Stream((0.5, 0.5), half_life=1.0, settled=0.5, pull=0.01)
    >>> prior.learn(np.array([[1.0, 0.0]]))
    >>> prior.pi.round(4).tolist()
    [0.75, 0.25]
    >>> prior.learn(np.array([[0.75, 0.25]]))  # believed as often as it is expected: only the pull is felt
    >>> prior.pi.round(4).tolist()
    [0.7488, 0.2512]
    """

    def __init__(
        self, start: Sequence[float], half_life: float = inf, settled: float = 1.0, pull: float = PULL
    ) -> None:
        """`start`: [C], positive, in any unit. `half_life`: in rows; without an end nothing is ever learnt.
        `settled`: the share of the doubt that evidence settles, above 0 and at most 1. `pull`: 0 or more."""
        given = np.array(start, dtype=np.float64)
        self._start: Floats = given / given.sum()
        self._mean = self._start.copy()
        self._learns = half_life < inf
        self._slowest: float = 1.0 - 2.0 ** (-1.0 / half_life)
        self._pull = pull
        self._least = FLOOR / len(given) if self._learns else 0.0
        self._rows = 2.0 * BEGIN / settled
        self.pi: Floats = self._floored()

    def learn(self, theta: Floats) -> None:
        """What was believed of rows that came, float64 [n, C], in their order; all were believed with the same pi."""
        if not self._learns:
            return
        pulled = self._pull * self._start
        for row in theta:
            rate = self._rate()
            self._mean = (1.0 - rate - rate * self._pull) * self._mean + rate * (row + pulled)
        self.pi = self._floored()

    def correct(self, label: int, theta: Floats) -> None:
        """A row of which `theta` [C] was believed is known to be of class `label`."""
        if not self._learns:
            return
        rate = self._rate()
        self._mean -= rate * theta
        self._mean[label] += rate
        # What was believed may have been forgotten since: a class cannot owe more than there is of it.
        np.maximum(self._mean, 0.0, out=self._mean)
        self._mean /= self._mean.sum()
        self.pi = self._floored()

    def _rate(self) -> float:
        """eta of one more row."""
        self._rows += 1.0
        # No step passes what it steps to, its pull included.
        return min(max(self._slowest, 2.0 / self._rows), 1.0 / (1.0 + self._pull))

    def _floored(self) -> Floats:
        lifted = np.maximum(self._mean, self._least)
        return np.asarray(lifted / np.add.reduce(lifted))


def _frequencies(entries: Sequence[float], what: str) -> Alpha:
    alpha = _positive(entries, what)
    total = fsum(alpha)
    if abs(total - 1.0) > 1e-6:
        raise InvalidConfiguration(
            f"the frequencies of a {what} prior sum to 1; {list(alpha)} sum to {total:.6g}"
        )
    return alpha


def _positive(entries: Sequence[float], what: str) -> Alpha:
    alpha = tuple(float(entry) for entry in entries)
    if len(alpha) < 2:
        raise InvalidConfiguration(
            f"a {what} prior has an entry for each of two classes or more, not {len(alpha)}"
        )
    for index, entry in enumerate(alpha):
        if not (isfinite(entry) and entry > 0.0):
            # Zero would mean that no amount of evidence makes the class half as likely as its votes say.
            raise InvalidConfiguration(
                f"a {what} prior's entries are positive and finite; entry {index} is {entry}: "
                "give a class that is very rare a small number, not 0"
            )
    return alpha
