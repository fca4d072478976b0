"""A stream of arrivals in numbers."""

from dataclasses import asdict, dataclass
from math import isnan

import numpy as np
import numpy.typing as npt

from peekserve.loadgen.arrivals import Instants


@dataclass(frozen=True, slots=True)
class Description:
    """`mean`: requests per second over the whole; `peak`: the most in any second that begins on a whole one; `cv2`:
    squared coefficient of variation of the gaps, nan without two of them."""

    requests: int
    seconds: float
    mean: float
    peak: int
    cv2: float

    def as_json(self) -> dict[str, float | int | None]:
        return asdict(self) | {"cv2": None if isnan(self.cv2) else self.cv2}


def describe(at: Instants, seconds: float) -> Description:
    """`at`: float64 [n], from 0 to below `seconds`, never falling."""
    gaps = np.diff(at)
    mean_gap = float(gaps.mean()) if len(gaps) > 1 else 0.0
    # Where the second changes: so the work goes with the requests, and not with the length of a sparse recording.
    changes = np.flatnonzero(np.diff(np.floor(at), prepend=-1.0))
    return Description(
        requests=len(at),
        seconds=seconds,
        mean=len(at) / seconds,
        peak=int(np.diff(changes, append=len(at)).max(initial=0)),
        cv2=float(gaps.var() / mean_gap**2) if mean_gap > 0.0 else float("nan"),
    )


def per_slot(at: Instants, seconds: float, slot_s: float) -> npt.NDArray[np.int64]:
    """int64 [whole slots]: requests in each slot of `slot_s` seconds; one that the end cuts off is left out.

    >>> per_slot(np.array([0.0, 0.5, 2.1]), 2.5, 1.0).tolist()
    [2, 0]
    """
    slots = int(seconds / slot_s)
    return np.bincount((at / slot_s).astype(np.int64), minlength=slots)[:slots]
