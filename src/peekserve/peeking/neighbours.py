"""k nearest labelled examples as votes (SneakPeek, section 4.2).

Exact search where the reference is small enough: the vote of a row is then a fact about the data, not about an
index.
"""

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import IndexSpec
from peekserve.errors import InvalidConfiguration, InvalidData, InvalidTensor
from peekserve.peeking.base import Counts
from peekserve.peeking.indexes import Index


class Neighbours:
    """Counts the classes among the k nearest of `reference` by Euclidean distance.

    `reference`: float32 [n, D], finite. `labels`: int [n], in 0 .. classes - 1. Of examples at the same
    distance the one with the lower index is nearer, if the index is exact. A row's counts sum to k and do not
    depend on the rows beside it.

    Raises InvalidConfiguration when k is below 1 or above n, or for an index that cannot be made of them,
    InvalidData for references that cannot be.
    """

    def __init__(
        self,
        reference: npt.NDArray[np.float32],
        labels: npt.NDArray[np.integer],
        classes: int,
        k: int,
        index: IndexSpec | None = None,
    ) -> None:
        if reference.ndim != 2 or not reference.size or len(labels) != len(reference) or labels.ndim != 1:
            raise InvalidData(
                f"neighbours need features [n, D] and n labels, not shapes {reference.shape} "
                f"and {labels.shape}"
            )
        if not np.isfinite(reference).all():
            raise InvalidData("the reference's features hold a NaN or an infinity")
        if labels.min() < 0 or labels.max() >= classes:
            raise InvalidData(
                f"reference labels lie in 0 .. {classes - 1}; these go from {labels.min()} to {labels.max()}"
            )
        if not 1 <= k <= len(reference):
            raise InvalidConfiguration(
                f"neighbours: {k} of {len(reference)} labelled examples cannot be the nearest"
            )
        self.classes = classes
        self.k = k
        self._labels = labels.astype(np.int64)
        self._index = Index(reference, index or IndexSpec())
        self.index = self._index.kind

    def __len__(self) -> int:
        return len(self._labels)

    def counts(self, features: npt.NDArray[np.float32]) -> Counts:
        """float64 [m, classes] for features float32 [m, D]. Raises InvalidTensor for a wrong width or a
        NaN."""
        if features.ndim != 2 or features.shape[1] != self._index.width:
            raise InvalidTensor(
                f"features of width {self._index.width} are wanted, not shape {features.shape}"
            )
        if not np.isfinite(features).all():
            raise InvalidTensor("features hold a NaN or an infinity")
        return tally(self._labels[self._index.nearest(features, self.k)], self.classes)


def tally(votes: npt.NDArray[np.int64], classes: int) -> Counts:
    """float64 [m, classes]: how often each class stands in each row of votes, int64 [m, k].

    >>> tally(np.array([[0, 2, 2]]), 3).tolist()
    [[1.0, 0.0, 2.0]]
    """
    own = votes + np.arange(len(votes))[:, None] * classes
    flat = np.bincount(own.reshape(-1), minlength=len(votes) * classes)
    return flat.reshape(-1, classes).astype(np.float64)
