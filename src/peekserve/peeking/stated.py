"""Evidence at a stated accuracy, for experiments (SneakPeek, section 6.3.2 and figure 9).

"We simply generate a confusion matrix with the specified accuracy (and uniformly distribute errors across the
remaining classes). Then, given the data point, we randomly generate probabilities using the specified frequencies in
the true label row." So the true labels must be known, which they never are of a client's request: a repository
refuses `kind: stated`.

Our reading: `votes` votes, each of which names class j with the chance Z[true, j]. With one vote the evidence is a unit
vector that is right as often as stated; with more, their majority is right more often than one of them. Votes of real
neighbours agree more than independent ones: `together` draws each row's own chances from a Dirichlet around
those of its class first (large: independent; 3 is what the prototype used for nearest neighbours).

The same row always gets the same votes: chance comes from its bytes and the seed, never from a stream of draws.
"""

import zlib
from collections.abc import Callable, Sequence
from math import inf

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.peeking.base import Counts, Glance, Inputs

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer]


def confusion_at(accuracy: float, classes: int) -> Floats:
    """float64 [C, C]: the chance to say j of a row of class i. Raises InvalidConfiguration.

    >>> confusion_at(0.8, 3).round(3).tolist()[0]
    [0.8, 0.1, 0.1]
    """
    if not 0.0 <= accuracy <= 1.0 or classes < 2:
        raise InvalidConfiguration(
            f"an accuracy lies in [0, 1] and there are two classes or more, not {accuracy} of {classes}"
        )
    matrix = np.full((classes, classes), (1.0 - accuracy) / (classes - 1))
    np.fill_diagonal(matrix, accuracy)
    return matrix


class StatedEvidence:
    """Votes drawn from rows of a confusion matrix, float64 [C, C] of chances, row = true class.

    Raises InvalidConfiguration for a matrix whose rows are no chances, or no votes.
    """

    def __init__(self, confusion: Floats, votes: int = 5, together: float = inf, seed: int = 0) -> None:
        square = confusion.ndim == 2 and confusion.shape[0] == confusion.shape[1] >= 2
        if not square or confusion.min() < 0.0 or not np.allclose(confusion.sum(axis=1), 1.0):
            raise InvalidConfiguration(
                f"a stated confusion matrix is square and each row sums to 1; this one has shape {confusion.shape} "
                f"and sums {confusion.sum(axis=-1).tolist()}"
            )
        if votes < 1 or not together > 0.0:
            raise InvalidConfiguration(f"1 vote or more, drawn with together > 0, not {votes} and {together}")
        self.confusion = confusion
        self.votes = votes
        self._together = together
        self._seed = seed

    @classmethod
    def at(
        cls, accuracy: float, classes: int, votes: int = 5, together: float = inf, seed: int = 0
    ) -> "StatedEvidence":
        """Errors spread evenly over the other classes, as in figure 9."""
        return cls(confusion_at(accuracy, classes), votes, together, seed)

    def counts(self, inputs: Inputs, labels: Labels) -> Counts:
        """float64 [n, C] for n rows of these true classes; every row sums to `votes`. Raises InvalidData."""
        if any(len(values) != len(labels) for values in inputs.values()):
            raise InvalidData(
                f"{len(labels)} true labels for rows { {name: len(v) for name, v in inputs.items()} }"
            )
        columns = [[zlib.crc32(row.tobytes()) for row in values] for _, values in sorted(inputs.items())]
        return self.drawn(list(zip(*columns, strict=True)) if columns else [()] * len(labels), labels)

    def drawn(self, keys: Sequence[Sequence[int]], labels: Labels) -> Counts:
        """As `counts`, with whole numbers, not negative, that say which row is which: for recorded samples their
        index."""
        classes = len(self.confusion)
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise InvalidData(
                f"true labels lie in 0 .. {classes - 1}; these go from {labels.min()} to {labels.max()}"
            )
        out = np.empty((len(labels), classes))
        for row, (key, label) in enumerate(zip(keys, labels.tolist(), strict=True)):
            rng = np.random.default_rng([self._seed, *key])
            chances = self.confusion[label]
            if self._together < inf:
                some = chances > 0.0  # a Dirichlet has no zeros
                drawn = rng.dirichlet(self._together * chances[some])
                chances = np.zeros(classes)
                chances[some] = drawn
            out[row] = rng.multinomial(self.votes, chances)
        return out


class StatedPeek:
    """A look (peeking.base.Looks) at requests whose true labels an experiment knows."""

    def __init__(self, evidence: StatedEvidence, truth: Callable[[Glance], Labels]) -> None:
        self._evidence = evidence
        self._truth = truth

    def look_all(self, glances: Sequence[Glance]) -> list[Counts]:
        return [self._evidence.counts(glance.inputs, self._truth(glance)) for glance in glances]
