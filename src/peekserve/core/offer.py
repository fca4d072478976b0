"""Which variants can be run at all, and the least time in which each answers one row."""

import numpy as np
import numpy.typing as npt

from peekserve.core.catalogue import Catalogue
from peekserve.core.fleet import Fleet
from peekserve.policies.base import Floats

INF = float("inf")


class Offer:
    """`offered`: bool [lanes, V], false where the owner lets no new request use a variant; rows that were let in before
    may."""

    offered: npt.NDArray[np.bool_]

    def __init__(self, catalogue: Catalogue, fleet: Fleet) -> None:
        self._catalogue = catalogue
        self._fleet = fleet
        self._fastest: dict[int, Floats] = {}
        self._able: npt.NDArray[np.bool_] | None = None
        self._enabled: npt.NDArray[np.bool_] | None = None
        self._paced = fleet.paces.changes
        self.offered = self._everything()

    def grow(self) -> None:
        """The catalogue has more lanes: all of theirs is offered."""
        old, self.offered = self.offered, self._everything()
        self.offered[: len(old), : old.shape[1]] = old
        self._forget()

    def offer(self, lanes: list[int], variants: list[int]) -> None:
        """From now on these variants of these lanes, all of one application, and no others of it. Their weights may be
        tried again."""
        for lane in lanes:
            self.offered[lane] = False
            self.offered[lane, variants] = True
            self._fleet.forgive(set(self._catalogue.lanes[lane].weights[variants].tolist()))
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
            self._fastest[lane] = self._fleet.fastest_s(lane)
        return self._fastest[lane]

    @property
    def enabled(self) -> npt.NDArray[np.bool_]:
        """bool [lanes, V]: false for a variant whose weights could not be loaded, and which no worker that is known can
        run for that reason."""
        if self._enabled is None:
            enabled, failed = self._everything(), np.array(sorted(self._fleet.failed()), dtype=np.int32)
            for i, lane in enumerate(self._catalogue.lanes if len(failed) else ()):
                lost = np.isin(lane.weights, failed) & ~np.isfinite(self.fastest_s(i))
                enabled[i, : len(lane.variants)] = ~lost
            self._enabled = enabled
        return self._enabled

    @property
    def able(self) -> npt.NDArray[np.bool_]:
        """bool [lanes, V]: what some worker that is known could run, be it up or not; everything while none is
        known. A row that nothing of this is left for would wait for ever."""
        if self._able is None:
            able = self._everything()
            for i, lane in enumerate(self._catalogue.lanes):
                able[i, : len(lane.variants)] = np.isfinite(self.fastest_s(i))
            self._able = able
        return self._able

    def workers_changed(self) -> None:
        """A worker came, or cannot load something: what the workers can do is looked up anew."""
        self._forget()

    def _everything(self) -> npt.NDArray[np.bool_]:
        return np.ones((max(len(self._catalogue.lanes), 1), self._catalogue.variants), dtype=np.bool_)

    def _forget(self) -> None:
        self._fastest.clear()
        self._able = self._enabled = None
