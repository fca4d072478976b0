"""Which variants can be run at all, and the least time in which each answers one row."""

import numpy as np
import numpy.typing as npt

from peekserve.core.catalogue import Catalogue
from peekserve.core.fleet import Fleet
from peekserve.policies.base import Floats

INF = float("inf")


class Offer:
    """`enabled`: bool [lanes, V], false once a variant's weights could not be loaded."""

    enabled: npt.NDArray[np.bool_]

    def __init__(self, catalogue: Catalogue, fleet: Fleet) -> None:
        self._catalogue = catalogue
        self._fleet = fleet
        self._fastest: dict[int, Floats] = {}
        self._able: npt.NDArray[np.bool_] | None = None
        self.enabled = np.ones((max(len(catalogue.lanes), 1), catalogue.variants), dtype=np.bool_)

    def fastest_s(self, lane: int) -> Floats:
        """float64 [V]: the least time for one row of this lane over the workers that are known; infinite for a variant
        that cannot be run."""
        if lane not in self._fastest:
            own = self.enabled[lane, : len(self._catalogue.lanes[lane].variants)]
            self._fastest[lane] = np.where(own, self._fleet.fastest_s(lane), INF)
        return self._fastest[lane]

    @property
    def able(self) -> npt.NDArray[np.bool_]:
        """bool [lanes, V]: what some worker that is known could run, be it up or not; all that is enabled while none is
        known. A row that nothing of this is left for would wait for ever."""
        if self._able is None:
            self._able = self.enabled.copy()
            for i, lane in enumerate(self._catalogue.lanes):
                self._able[i, : len(lane.variants)] &= np.isfinite(self.fastest_s(i))
        return self._able

    def disable(self, weights: str) -> None:
        """No variant that needs these weights is run any more."""
        w = self._catalogue.weights.index(weights)
        for i, lane in enumerate(self._catalogue.lanes):
            self.enabled[i, : len(lane.weights)] &= lane.weights != w
        self._forget()

    def worker_came(self) -> None:
        """What the workers can do is looked up anew."""
        self._forget()

    def _forget(self) -> None:
        self._fastest.clear()
        self._able = None
