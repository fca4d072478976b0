"""A belief and the recalls of the variants make an expected accuracy (SneakPeek, eq. 9, with class weights).

    accuracy(m | theta) = sum_i theta_i w_i recall_i(m),      w_i = C weight_i / sum_j weight_j

Class weights say that being right about some classes is worth more. They are scaled to a mean of 1, so that
equal weights, whatever their size, change nothing and eq. 9 stands. The weighted value of a row is then its
chance of being right times what being right is worth: at most max(w), which may pass 1. It is not divided by
sum_i theta_i w_i for each row, which would keep it below 1 but make a row that is probably a fall worth no
more than any other.

The sums run over the classes in order, one multiplication and one addition at a time, and not through BLAS: a
row's accuracy is then the same to the last bit on any machine and whatever rows stand beside it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from peekserve.awareness.scores import class_values
from peekserve.domain.application import Score
from peekserve.domain.profile import Quality
from peekserve.errors import InvalidConfiguration

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


def normalised(weights: Sequence[float] | Floats) -> Floats:
    """float64 [C]: class weights scaled to a mean of 1. Raises InvalidConfiguration unless all are positive.

    >>> normalised([1, 3]).tolist(), normalised([7, 7]).tolist()
    ([0.5, 1.5], [1.0, 1.0])
    """
    given = np.asarray(weights, dtype=np.float64)
    if given.ndim != 1 or not given.size or not (given.min() > 0.0 and given.max() < np.inf):
        raise InvalidConfiguration(f"class weights are positive and finite, not {given.tolist()}")
    if given.min() == given.max():
        return np.ones_like(given)  # exactly, not to a rounding
    scaled: Floats = given / (given.sum() / given.size)
    return scaled


def expected_accuracy(theta: Floats, recall: Floats, weights: Sequence[float] | Floats) -> Floats:
    """float64 [n, V]: the class-weighted expected accuracy of each variant for each row.

    `theta`: float64 [n, C], from `posterior_mean`. `recall`: float64 [V, C]; for a variant without a profile
    callers pass 1 / C throughout, the recall of a guess, so that it is chosen only where nothing better is
    known. `weights`: [C], positive; all 1 where the owner named none.

    >>> theta = np.array([[0.5, 0.5], [1.0, 0.0]])
    >>> expected_accuracy(theta, np.array([[0.9, 0.5], [0.6, 0.8]]), [1, 1]).round(3).tolist()
    [[0.7, 0.7], [0.9, 0.6]]
    """
    return accuracy_under(theta, worth(recall, weights))


def worth(recall: Floats, weights: Sequence[float] | Floats) -> Floats:
    """float64 [V, C]: w_i recall_i(m). Changes only with the profiles: keep it, call `accuracy_under`."""
    weighted: Floats = np.asarray(recall, dtype=np.float64) * normalised(weights)
    return weighted


def accuracy_under(theta: Floats, worth: Floats) -> Floats:
    """float64 [n, V]: `expected_accuracy` from what `worth` gave, [V, C], for beliefs float64 [n, C]."""
    accuracy = np.zeros((theta.shape[0], worth.shape[0]))
    for index in range(worth.shape[1]):
        accuracy += np.multiply.outer(theta[:, index], worth[:, index])
    return accuracy


def profiled(quality: Quality, weights: Sequence[float] | Floats, score: Score = Score.ACCURACY) -> float:
    """What a scheduler believes that does not look at the data: eq. 9 at the class frequencies of the
    validation data, class-weighted. Also what the peek's own answer is worth, which is never judged by its
    own belief (5.3.1). With another score than accuracy, eq. 9 over that one's values (scores.py).

    >>> profiled(Quality(recall=(0.9, 0.5), frequencies=(0.75, 0.25)), [1, 1])
    0.8
    """
    theta = np.array([quality.frequencies])
    return float(expected_accuracy(theta, class_values(quality, score)[None, :], weights)[0, 0])


def likely(theta: Floats) -> Ints:
    """int32 [n]: the class whose probability is above one half, -1 where none is (SneakPeek, 5.3.2). Equality
    is not above: such a row is not split off.

    >>> likely(np.array([[0.6, 0.4], [0.5, 0.5]])).tolist()
    [0, -1]
    """
    top = theta.argmax(axis=1)
    above = theta[np.arange(len(theta)), top] > 0.5
    return np.where(above, top, -1).astype(np.int32)


def leading(theta: Floats) -> Ints:
    """int32 [n]: the class that a peek answers with, the most probable one; of equals the first."""
    return np.asarray(theta.argmax(axis=1), dtype=np.int32)


def accuracy_variance(accuracy: Floats, counted: Bools | None = None) -> Floats:
    """float64 [n]: Var of eq. 12, the population variance of the variants' accuracies, row by row.

    `accuracy`: float64 [n, V]. `counted`: bool [n, V], false for a column that is no candidate of that row (a
    variant that lacks an input, padding, the peek itself); a row without any has variance 0.

    >>> accuracy_variance(np.array([[0.8, 0.95, 0.0]]), np.array([[True, True, False]])).round(6).tolist()
    [0.005625]
    """
    mask = np.ones(accuracy.shape, dtype=np.bool_) if counted is None else counted
    number = np.maximum(mask.sum(axis=1, keepdims=True), 1)
    mean = np.where(mask, accuracy, 0.0).sum(axis=1, keepdims=True) / number
    apart = np.where(mask, accuracy - mean, 0.0)
    variance: Floats = (apart * apart).sum(axis=1) / number[:, 0]
    return variance
