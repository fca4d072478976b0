"""Which variants can be run at all, and the least time in which each answers one row."""

import numpy as np
import numpy.typing as npt

from peekserve.core.catalogue import Catalogue
from peekserve.core.fleet import Fleet
from peekserve.policies.base import Floats

INF = float("inf")


class Offer:
    """`enabled`: bool [lanes, V], false once a variant's weights could not be loaded. `offered`: bool [lanes, V], false
    where the owner lets no new request use a variant; rows that were let in before may."""

    enabled: npt.NDArray[np.bool_]
    offered: npt.NDArray[np.bool_]

    def __init__(self, catalogue: Catalogue, fleet: Fleet) -> None:
        self._catalogue = catalogue
        self._fleet = fleet
        self._fastest: dict[int, Floats] = {}
        self._able: npt.NDArray[np.bool_] | None = None
        self._paced = fleet.paces.changes
        self.enabled = np.ones((max(len(catalogue.lanes), 1), catalogue.variants), dtype=np.bool_)
        self.offered = self.enabled.copy()

    def grow(self) -> None:
        """The catalogue has more lanes: all of theirs is offered, but for weights that could not be loaded before."""
        for name in ("enabled", "offered"):
            old = getattr(self, name)
            new = np.ones((len(self._catalogue.lanes), self._catalogue.variants), dtype=np.bool_)
            new[: len(old), : old.shape[1]] = old
            setattr(self, name, new)
        self._forget()

    def offer(self, lanes: list[int], variants: list[int]) -> None:
        """From now on these variants of these lanes, all of one application, and no others of it. Their weights may be
        tried again."""
        for lane in lanes:
            self.offered[lane] = False
            self.offered[lane, variants] = True
            for w in self._catalogue.lanes[lane].weights[variants].tolist():
                for i, other in enumerate(self._catalogue.lanes):
                    self.enabled[i, : len(other.weights)] |= other.weights == w
        self._forget()

    def offered_s(self, lane: int) -> Floats:
        """float64 [V]: as `fastest_s`, infinite for what is not offered: what a new request may count on."""
        own = self.offered[lane, : len(self._catalogue.lanes[lane].variants)]
        return np.where(own, self.fastest_s(lane), INF)

    def fastest_s(self, lane: int) -> Floats:
        """float64 [V]: the least time for one row of this lane over the workers that are known; infinite for a variant
        that cannot be run."""
        if self._paced != self._fleet.paces.changes:
            self._paced = self._fleet.paces.changes
            self._forget()
        if lane not in self._fastest:
            own = self.enabled[lane, : len(self._catalogue.lanes[lane].variants)]
            self._fastest[lane] = np.where(own, self._fleet.fastest_s(lane), INF)
        return self._fastest[lane]

    @property
    def able(self) -> npt.NDArray[np.bool_]:
        """bool [lanes, V]: what some worker that is known could run, be it up or not; all that is enabled while none is
        known. A row that nothing of this is left for would wait for ever."""
        if self._able is None:
            able = self.enabled.copy()
            for i, lane in enumerate(self._catalogue.lanes):
                able[i, : len(lane.variants)] &= np.isfinite(self.fastest_s(i))
            self._able = able
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
