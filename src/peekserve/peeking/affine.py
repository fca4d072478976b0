"""Standardising and PCA, folded into one affine map: whatever their number, a row costs one product."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidConfiguration

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Affine:
    """v -> v * scale + offset, or v @ matrix + offset once a projection has been folded in.

    `scale`: float64 [D0]. `matrix`: float64 [D0, D] or None. `offset`: float64 [D].
    """

    scale: Floats
    offset: Floats
    matrix: Floats | None = None

    @classmethod
    def identity(cls, width: int) -> "Affine":
        return cls(np.ones(width), np.zeros(width))

    def apply(self, values: Floats) -> Floats:
        """float64 [n, D0] -> [n, D]."""
        moved: Floats = values * self.scale if self.matrix is None else values @ self.matrix
        return moved + self.offset

    def standardised(self, reference: Floats) -> "Affine":
        """Followed by (v - mean) / std of each feature over `reference` [n, D0]; a constant feature is only
        centred."""
        seen = self.apply(reference)
        mean, std = seen.mean(axis=0), seen.std(axis=0)
        # The std of a constant column is not 0 but what rounding left over: dividing by it would blow up
        # noise.
        flat = std <= 1e-9 * np.maximum(np.abs(seen).max(axis=0), np.finfo(np.float64).tiny)
        factor = 1.0 / np.where(flat, 1.0, std)
        matrix = None if self.matrix is None else self.matrix * factor
        return Affine(
            self.scale * factor if matrix is None else self.scale, (self.offset - mean) * factor, matrix
        )

    def projected(self, reference: Floats, components: int) -> "Affine":
        """Followed by the first principal components of `reference` [n, D0], by singular value decomposition.

        A component's sign is free; the entry of largest size is made positive, so that a refit gives the same
        one. Raises InvalidConfiguration for more components than rows or features.
        """
        seen = self.apply(reference)
        if not 1 <= components <= min(seen.shape):
            raise InvalidConfiguration(
                f"pca: components is 1 to {min(seen.shape)} for {seen.shape[0]} reference rows of "
                f"{seen.shape[1]} features, not {components}"
            )
        mean = seen.mean(axis=0)
        axes = np.linalg.svd(seen - mean, full_matrices=False)[2][:components]
        largest = np.abs(axes).argmax(axis=1)
        axes = axes * np.sign(axes[np.arange(components), largest])[:, None]
        onto = np.ascontiguousarray(axes.T)
        before = self.matrix if self.matrix is not None else np.diag(self.scale)
        return Affine(self.scale, (self.offset - mean) @ onto, np.ascontiguousarray(before @ onto))
