"""Recalls that confirmed answers move: a profile to begin with, then what is seen in service.

The theory. A variant's recall of a class is the chance of a coin. The profile is a Beta prior for it, worth `STRENGTH`
answers; each confirmed answer on a row of that class is one more throw, older ones discounted by half after
`HALF_LIFE` answers of that variant on that class:

    recall_c = (STRENGTH profile_c + right_c) / (STRENGTH + n_c)

so that a model that has gone bad is found out after some twenty answers, and one unlucky answer changes little.
Recalls that are told apart by agreement move with it: a fall leaves each its share of the recall, a rise its share of
the errors.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STRENGTH = 20.0
HALF_LIFE = 200.0


class Recalls:
    """`tables`: float64 [B + 1, V, C], recalls by bin of agreement, the last the overall ones."""

    def __init__(self, overall: Floats, by_agreement: Floats) -> None:
        """`overall`: float64 [V, C]. `by_agreement`: float64 [B, V, C]."""
        self._profile = np.concatenate((by_agreement, overall[None]))
        self._right = np.zeros_like(overall)
        self._seen = np.zeros_like(overall)
        self._kept = 2.0 ** (-1.0 / HALF_LIFE)
        self.tables: Floats = self._profile.copy()

    def confirm(self, variant: int, label: int, right: bool) -> None:
        """An answer of this variant on a row of class `label` was right, or was not."""
        at = variant, label
        self._right[at] = self._kept * self._right[at] + float(right)
        self._seen[at] = self._kept * self._seen[at] + 1.0
        before = self._profile[(-1, *at)]
        now = (STRENGTH * before + self._right[at]) / (STRENGTH + self._seen[at])
        column = self._profile[:, variant, label]
        if now < before:
            self.tables[:, variant, label] = column * (now / before)
        elif now > before:
            self.tables[:, variant, label] = 1.0 - (1.0 - column) * ((1.0 - now) / (1.0 - before))
        else:
            self.tables[:, variant, label] = column
