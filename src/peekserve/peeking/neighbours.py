"""k nearest labelled examples as votes (SneakPeek, section 4.2). The only file that imports Faiss.

Exact search over a flat index: to about 20,000 examples it costs no more than an approximate one, and the
vote of a row is then a fact about the data, not about an index.
"""

import faiss
import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidConfiguration, InvalidData, InvalidTensor
from peekserve.peeking.base import Counts


class Neighbours:
    """Counts the classes among the k nearest of `reference` by Euclidean distance.

    `reference`: float32 [n, D], finite. `labels`: int [n], in 0 .. classes - 1. Of examples at the same
    distance the one with the lower index is nearer. A row's counts sum to k and do not depend on the rows
    beside it.

    Raises InvalidConfiguration when k is below 1 or above n, InvalidData for references that cannot be.
    """

    def __init__(
        self, reference: npt.NDArray[np.float32], labels: npt.NDArray[np.integer], classes: int, k: int
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
        self._index = faiss.IndexFlatL2(reference.shape[1])
        self._index.add(np.ascontiguousarray(reference, dtype=np.float32))

    def __len__(self) -> int:
        return len(self._labels)

    def counts(self, features: npt.NDArray[np.float32]) -> Counts:
        """float64 [m, classes] for features float32 [m, D]. Raises InvalidTensor for a wrong width or a
        NaN."""
        if features.ndim != 2 or features.shape[1] != self._index.d:
            raise InvalidTensor(f"features of width {self._index.d} are wanted, not shape {features.shape}")
        if not np.isfinite(features).all():
            # Faiss would answer -1, which is a perfectly good index in Python.
            raise InvalidTensor("features hold a NaN or an infinity")
        # Faiss keeps this number for each calling thread: said anywhere else it would not hold here. It must
        # not take the cores of the workers.
        faiss.omp_set_num_threads(1)
        nearest = self._index.search(features, self.k)[1]
        votes = self._labels[nearest]
        votes += np.arange(len(votes))[:, None] * self.classes
        flat = np.bincount(votes.reshape(-1), minlength=len(votes) * self.classes)
        return flat.reshape(-1, self.classes).astype(np.float64)
