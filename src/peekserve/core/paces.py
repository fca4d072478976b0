"""The paces of all workers (core/pace.py): who keeps which, and what may be known of them."""

import numpy as np

from peekserve.core.catalogue import Catalogue, DeviceTable
from peekserve.core.pace import Pace
from peekserve.errors import InvariantBroken


class Paces:
    """By worker. Nothing is learnt unless `follow`. `changes`: how often what is planned with has changed."""

    def __init__(self, follow: bool = False) -> None:
        self._follow = follow
        self._of: dict[str, tuple[str, Pace]] = {}
        self._told: tuple[object, dict[tuple[str, str, str], float]] = (None, {})
        self.changes = 0

    def came(self, worker: str, device: str, now: float) -> None:
        """A worker came up, new or again. The device is as it was; what was slow may have been the process."""
        if not self._follow:
            return
        before = self._of.get(worker)
        if before is not None and before[0] == device:
            self.changes += before[1].doubt(now, all_of_it=True)
        else:
            self._of[worker] = device, Pace()
            self.changes += 1

    def took(
        self, worker: str, lane: int, variant: int, seconds: float, median_s: float, p95_s: float, now: float
    ) -> None:
        """How long a batch ran there; the median and the p95 of its profile."""
        if worker in self._of and median_s > 0.0:
            pace = self._of[worker][1]
            self.changes += pace.took(lane, variant, seconds / median_s, p95_s / median_s, now)

    def doubt(self, now: float) -> None:
        """What was not seen for long is believed less."""
        for _, pace in self._of.values():
            self.changes += pace.doubt(now)

    def table(self, worker: str, base: DeviceTable) -> DeviceTable:
        """What things cost there; `base` itself where all keep to their profiles. Latencies alone: loads are as
        profiled."""
        return self._of[worker][1].table(base) if worker in self._of else base

    def check(self, worker: str, base: DeviceTable) -> None:
        """Raises InvariantBroken when what is planned with on this worker is not what was seen there."""
        if worker not in self._of:
            return
        pace = self._of[worker][1]
        pace.check()
        table = self.table(worker, base)
        for lane, variant, ratio in pace.ratios():
            for own, profiled in ((table.latency_s, base.latency_s), (table.cautious_s, base.cautious_s)):
                if not np.array_equal(own[lane][variant], profiled[lane][variant] * ratio):
                    raise InvariantBroken(
                        f"worker {worker!r} takes {ratio:.3f} times its profile, and plans do not say so"
                    )

    def told(self, catalogue: Catalogue) -> dict[tuple[str, str, str], float]:
        """(worker, application's key, variant) -> what its batches are planned with there, in shares of their profile,
        the largest over the shape buckets; (worker, "", "") -> the worker's own part in that. Of what has run. The
        same object as before while nothing has changed."""
        state = self.changes, sum(pace.known for _, pace in self._of.values())
        if self._told[0] == state:
            return self._told[1]
        found: dict[tuple[str, str, str], float] = {}
        for worker, (_, pace) in self._of.items():
            found[worker, "", ""] = pace.of_worker
            for number, v, ratio in pace.ratios():
                lane = catalogue.lanes[number]
                at = (worker, catalogue.applications[lane.application].key, lane.variants[v])
                found[at] = max(found.get(at, 0.0), ratio)
        self._told = state, found
        return found
