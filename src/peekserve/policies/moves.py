"""One row of a plan put elsewhere, everything else kept: where it could be, and what that changes for whom."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, isfinite

from peekserve.domain.messages import Batch, Plan
from peekserve.policies.base import Switches, View
from peekserve.policies.worth import evaluate, loaded

Queues = Mapping[int, tuple[Batch, ...]]


@dataclass(frozen=True, slots=True)
class Place:
    """A batch that a row would be in. `queues`: of all workers that change by it."""

    queues: Queues
    worker: int
    position: int

    @property
    def batch(self) -> Batch:
        return self.queues[self.worker][self.position]


@dataclass(slots=True)
class Work:
    """How many changed plans may still be valued."""

    left: int


class Moves:
    """One plan of one view, valued once, and single rows moved in it.

    `utility`, `finish`: of each row under the plan, as policies/worth.py gives them. `queues`: batches by worker.
    `stands`: row -> (worker, position) for those in a batch. `work` is drawn on by every move.
    """

    def __init__(self, view: View, plan: Plan, switches: Switches, work: Work) -> None:
        self._view = view
        self._switches = switches
        utility, finish = evaluate(view, plan, switches)
        self.utility: list[float] = utility.tolist()
        self.finish: list[float] = finish.tolist()
        self.queues: Queues = {
            w: tuple(batch for batch in plan.batches if batch.worker == w) for w in range(len(view.workers))
        }
        self.stands = {
            int(row): (w, position)
            for w, queue in self.queues.items()
            for position, batch in enumerate(queue)
            for row in batch.rows
        }
        self.work = work

    def change(
        self, row: int, queues: Queues, by_peek: bool = False, view: View | None = None
    ) -> tuple[float, float, float]:
        """(own, others, finish): utility that the row and all others together gain if these queues are so, and when
        the row then ends. `view`: with other workers, to ask what would be if."""
        self.work.left -= 1
        batches = tuple(batch for queue in queues.values() for batch in queue)
        utility, finish = evaluate(
            view or self._view, Plan(batches, (row,) if by_peek else ()), self._switches
        )
        touched = [r for w in queues for batch in self.queues[w] for r in batch.rows if r != row]
        others = fsum(float(utility[r]) - self.utility[r] for r in touched)
        return float(utility[row]) - self.utility[row], others, float(finish[row])

    def without(self, row: int) -> Queues:
        """The queue that the row stands in, without it; nothing, if it stands in none."""
        if row not in self.stands:
            return {}
        w, position = self.stands[row]
        queue = self.queues[w]
        kept = tuple(r for r in queue[position].rows if r != row)
        middle = (replace(queue[position], rows=kept),) if kept else ()
        return {w: (*queue[:position], *middle, *queue[position + 1 :])}

    def places(self, row: int, variant: int, workers: Sequence[int]) -> Iterator[Place]:
        """All on these workers but where it stands: first in batches that are there, then in one of its own."""
        lane = int(self._view.lane[row])
        most = int(self._view.lanes[lane].max_batch[variant])
        out = self.without(row)
        stands, alone = self.stands.get(row), False
        if stands is not None:
            batch = self.queues[stands[0]][stands[1]]
            alone = len(batch.rows) == 1  # then its batch is gone with it
            stands = stands if batch.variant == variant else None
        for w in workers:
            queue = out.get(w, self.queues[w])
            for at, batch in enumerate(queue):
                fits = (batch.lane, batch.variant) == (lane, variant) and len(batch.rows) < most
                if fits and (alone or stands != (w, at)):
                    joined = replace(batch, rows=(*batch.rows, row))
                    yield Place({**out, w: (*queue[:at], joined, *queue[at + 1 :])}, w, at)
        for w in workers:
            queue = out.get(w, self.queues[w])
            for at in range(len(queue) + 1):
                if not (alone and stands == (w, at)):
                    yield Place(
                        {**out, w: (*queue[:at], Batch(w, lane, variant, (row,)), *queue[at:])}, w, at
                    )

    def fitting(self, row: int, variant: int) -> list[int]:
        """The workers that can run this variant at all."""
        lane = int(self._view.lane[row])
        weights = int(self._view.lanes[lane].weights[variant])
        return [
            w
            for w, worker in enumerate(self._view.workers)
            if worker.bytes[weights] <= worker.budget
            and isfinite(float(worker.load_s[weights] + worker.latency_s[lane][variant, 1]))
        ]

    def load_s(self, queues: Queues, w: int, position: int) -> float:
        """What the weights of that batch take before it."""
        worker = self._view.workers[w]
        held, load_s = list(worker.resident), 0.0
        for batch in queues[w][: position + 1]:
            load_s = loaded(worker, held, int(self._view.lanes[batch.lane].weights[batch.variant]))
        return load_s

    def loses_by_loading_alone(self, row: int, place: Place, at_most: float) -> bool:
        """Would it cost no more than this, if these weights took no time to load on that worker?"""
        weights = int(self._view.lanes[place.batch.lane].weights[place.batch.variant])
        workers = list(self._view.workers)
        load_s = workers[place.worker].load_s.copy()
        load_s[weights] = 0.0
        workers[place.worker] = replace(workers[place.worker], load_s=load_s)
        own, others, _ = self.change(row, place.queues, view=replace(self._view, workers=tuple(workers)))
        return -(own + others) <= at_most
