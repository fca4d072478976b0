"""Who is planned before whom: one plan out of one for each level of priority.

The order of precedence, from the first to the last thing that decides:

1. What runs is never interrupted, whoever waits.
2. Of the rows that wait, those of a higher priority are planned before any of a lower one (`Request.level`: 1 is the
   highest, 8 is that of a request that names none, 15 the lowest, 16 that of copies of traffic). The policy is shown
   the rows of the highest level with all workers that can take work; those that it leaves without a batch are shown
   to it with the rows of the next level, and so on until no worker or no row is left.
3. Within a level the policy decides, by deadlines and by what answers are worth.

Where whole plans are carried out, or held, nobody has to wait for a worker to be free: then every level is shown all
workers, each free when it has done what it was given for the levels above. A window plans what waits at its end: what
an earlier window has planned is not put off for a higher priority that came later, but where the plan is held, what is
left of it is planned anew at the end of every window, with all that waits.

No policy knows of priorities. With one level it is shown everything at once, as if there were none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from peekserve.core.backlog import Backlog, Slots
from peekserve.core.explaining import Explaining
from peekserve.core.fleet import Fleet
from peekserve.core.offer import Offer
from peekserve.domain.messages import Batch, Plan
from peekserve.policies.base import Policy, View, WorkerView
from peekserve.policies.worth import loaded


@dataclass(slots=True)
class Levels:
    """Stateless: what it knows lies in the backlog and the fleet, and what a policy remembers, in the policy."""

    policy: Policy
    backlog: Backlog
    fleet: Fleet
    offer: Offer
    explaining: Explaining

    def plan(
        self, slots: Slots, workers: Sequence[str], now: float, whole: bool, beyond: bool
    ) -> tuple[Plan, Slots]:
        """The plan for these rows, in order of arrival, on these workers; and the slots that its rows stand for: those
        of the levels that came to be planned, the highest first.

        `whole`: every batch will be run, not only the first of each worker. `beyond`: workers are not used up by their
        batches, but free after them.
        """
        seats = self.fleet.view(list(workers), now)
        level = self.backlog.level[slots]
        if level.min() == level.max():
            return self._one(slots, seats, now, whole)[1], slots
        plan, planned = Plan(), slots[:0]
        open_ = list(range(len(seats)))
        for own in (slots[level == one] for one in np.unique(level).tolist()):
            view, more = self._one(own, tuple(seats[w] for w in open_), now, whole)
            more = _placed(more, open_, len(planned))
            plan, planned = _both(plan, more), np.concatenate((planned, own))
            if beyond:
                seats = tuple(
                    _after(view, seat, [b for b in more.batches if b.worker == w])
                    for w, seat in enumerate(seats)
                )
            else:
                given = {batch.worker for batch in more.batches}
                open_ = [w for w in open_ if w not in given]
            if not open_:
                break
        return plan, planned

    def _one(self, slots: Slots, seats: tuple[WorkerView, ...], now: float, whole: bool) -> tuple[View, Plan]:
        view = self.backlog.view(slots, now, seats, self.offer.enabled)
        plan = self.policy.plan(view)
        self.explaining.decided(view, plan, slots, whole)
        return view, plan


def _placed(plan: Plan, workers: Sequence[int], first: int) -> Plan:
    """The plan of one level as a part of the whole: its workers by their own numbers, its rows counted from `first`."""
    return Plan(
        [
            replace(batch, worker=workers[batch.worker], rows=[first + row for row in batch.rows])
            for batch in plan.batches
        ],
        [first + row for row in plan.instant],
        [first + row for row in plan.refuse],
        plan.again_at,
    )


def _both(plan: Plan, more: Plan) -> Plan:
    return Plan(
        [*plan.batches, *more.batches],
        [*plan.instant, *more.instant],
        [*plan.refuse, *more.refuse],
        min(plan.again_at, more.again_at),
    )


def _after(view: View, worker: WorkerView, batches: Sequence[Batch]) -> WorkerView:
    """The worker as it should be when it has done these."""
    free_at, held = worker.free_at, list(worker.resident)
    for batch in batches:
        free_at += loaded(worker, held, int(view.lanes[batch.lane].weights[batch.variant]))
        free_at += float(worker.latency_s[batch.lane][batch.variant, len(batch.rows)])
    return replace(worker, free_at=free_at, resident=tuple(held)) if batches else worker
