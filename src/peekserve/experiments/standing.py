"""What waits at one moment, made without living up to it: for experiments about single decisions."""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.core.backlog import Backlog
from peekserve.core.beliefs import make
from peekserve.core.catalogue import Catalogue
from peekserve.core.fleet import Fleet
from peekserve.domain.application import Application
from peekserve.domain.request import Request, TensorRef
from peekserve.policies.base import View
from peekserve.sim.driver import SimWorker
from peekserve.sim.window import Asked
from peekserve.sim.world import Recorded


class Standing:
    """The scheduler's own backlog at `now`, in seconds after the window began, with all that was asked until then and
    its evidence; and the workers, who hold what they did at first and are free at `free_at`, one number for each, or
    now. Late answers are given."""

    def __init__(
        self,
        applications: Sequence[Application],
        workers: Sequence[SimWorker],
        recorded: Mapping[str, Recorded],
        asked: Sequence[Asked],
        now: float,
        free_at: Sequence[float] = (),
        beliefs: str = "dirichlet",
    ) -> None:
        catalogue = Catalogue(applications)
        self._now = now
        self._names = [worker.name for worker in workers]
        self._backlog = Backlog(catalogue, make(beliefs, catalogue))
        self._fleet = Fleet(catalogue, float("inf"))
        self._enabled = np.ones((len(catalogue.lanes), catalogue.variants), np.bool_)
        for worker, free in zip(workers, free_at or (0.0,) * len(workers), strict=True):
            self._fleet.up(worker.name, worker.device, worker.budget_bytes, free)
            for weights in worker.resident:
                self._fleet.loaded(worker.name, weights, free)
        for number, one in enumerate(sorted(asked, key=lambda a: a.offset_s)):
            request = Request(
                f"r{number}",
                one.application,
                one.offset_s,
                one.offset_s + one.deadline_s,
                payload=TensorRef(str(one.sample)),
            )
            lane = catalogue.lane(catalogue.application(one.application), 0)
            offered = np.ones(catalogue.variants, np.bool_)
            slots = self._backlog.add(request, 0.0, self._fleet.fastest_s(lane), offered, late_ok=True)
            counts = recorded[one.application].counts
            if counts is not None:
                self._backlog.observe(slots, counts[[one.sample]])

    def view(self) -> View:
        """What a policy sees of it: made anew each time, as a scheduler does for each decision."""
        workers = self._fleet.view(self._names, self._now)
        return self._backlog.view(self._backlog.waiting(), self._now, workers, self._enabled)
