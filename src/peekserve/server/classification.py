"""Triton's classification extension: an output as its likeliest classes, in words.

An output that is asked for with the parameter `classification: k` comes as BYTES `[rows, k]`, each element
`score:index:label` (Triton's protocol/extension_classification.md), the best first.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidRequest
from peekserve.server.calls import Scalar

PARAMETER = "classification"
# The one output that has something to choose from.
OUTPUT = "scores"


def top_of(name: str, parameters: Mapping[str, Scalar]) -> int:
    """How many classes output `name` is asked for; 0, as when nothing is said, means the output itself.

    Raises InvalidRequest for what is no such number, and for an output without scores.
    """
    top = parameters.get(PARAMETER, 0)
    if type(top) is not int or top < 0:
        raise InvalidRequest(
            f"output {name[:80]!r}: parameter {PARAMETER} is a number of classes, 0 or more, not {top!r:.40}"
        )
    if top and name != OUTPUT:
        raise InvalidRequest(
            f"output {name[:80]!r} has no scores to choose from: ask for {PARAMETER} of {OUTPUT!r}"
        )
    return top


def classified(
    scores: npt.NDArray[np.float32], classes: Sequence[str], top: int
) -> tuple[list[int], list[str]]:
    """Shape [n, k] and its n * k texts, row by row, of scores float32 [n, C]; k is `top`, or C where that is less.
    Equal scores stand in the order of the classes.

    >>> classified(np.array([[0.25, 0.75], [0.5, 0.5]], np.float32), ("no", "yes"), 1)
    ([2, 1], ['0.750000:1:yes', '0.500000:0:no'])
    """
    top = min(top, len(classes))
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    texts = [
        f"{row[index]:.6f}:{index}:{classes[index]}"
        for row, order in zip(scores.tolist(), best.tolist(), strict=True)
        for index in order
    ]
    return [len(scores), top], texts
