"""How sure a model is of its own answer: class scores float64 [n, C] -> float64 [n], rising with certainty.

Scores are those that every runtime gives: not negative, and each row sums to 1. CascadeServe (appendix B) takes the top
score less the second, of logits or of the softmax. The softmax margin is the default here, because it lies in [0, 1]
for every model. The difference of two logits is the log of the ratio of their softmax scores, so the logit margin needs
no logits.

    margin        top - second, in [0, 1]
    logit-margin  log(top / second), 0 and more
    entropy       1 - H / log C, in [0, 1]: all on one class is 1, all classes alike is 0
    maximum       the top score, in [1/C, 1]
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidConfiguration, InvalidData

Floats = npt.NDArray[np.float64]
Certainty = Callable[[Floats], Floats]

# Below this a score is as good as none, and its log still a number.
_TINY = 1e-12


def margin(scores: Floats) -> Floats:
    """The top score less the second.

    >>> margin(np.array([[0.75, 0.25], [0.5, 0.5]])).tolist()
    [0.5, 0.0]
    """
    top = _two(scores)
    return np.asarray(top[:, 1] - top[:, 0])


def logit_margin(scores: Floats) -> Floats:
    """The top logit less the second."""
    top = np.log(np.maximum(_two(scores), _TINY))
    return np.asarray(top[:, 1] - top[:, 0])


def entropy(scores: Floats) -> Floats:
    """One less the entropy, in shares of the most that C classes can have.

    >>> entropy(np.array([[1.0, 0.0], [0.5, 0.5]])).tolist()
    [1.0, 0.0]
    """
    _two(scores)
    each = -scores * np.log(np.maximum(scores, _TINY))
    return np.asarray(1.0 - each.sum(axis=1) / np.log(scores.shape[1]))


def maximum(scores: Floats) -> Floats:
    """The top score."""
    return np.asarray(_two(scores)[:, 1])


CERTAINTIES: Mapping[str, Certainty] = {
    "margin": margin,
    "logit-margin": logit_margin,
    "entropy": entropy,
    "maximum": maximum,
}


def certainty(name: str) -> Certainty:
    """The measure of that name. Raises InvalidConfiguration, with the nearest one that exists."""
    if name not in CERTAINTIES:
        near = get_close_matches(name, CERTAINTIES, n=1, cutoff=0.0)[0]
        raise InvalidConfiguration(
            f"no certainty {name!r}; the nearest is {near!r} of {', '.join(sorted(CERTAINTIES))}"
        )
    return CERTAINTIES[name]


def _two(scores: Floats) -> Floats:
    """float64 [n, 2]: the second score and the top one. Raises InvalidData where there are no two classes."""
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise InvalidData(
            f"certainty needs scores [n, C] of two classes or more, not of shape {scores.shape}"
        )
    return np.asarray(np.partition(scores, -2, axis=1)[:, -2:])
