"""Who is let in has a place in a plan; who has none is told so at once.

Of an application that rejects what it would miss (`on_miss: reject`), a row that waits is a promise: an answer by the
deadline, or an outcome that says otherwise. So a row that no plan over all workers has a place for, those included that
are busy and free again in time, is refused in the turn in which that is found: on its arrival, or when other work that
is worth more has taken its place. It does not wait for its deadline to hear what is known already.
What only a worker can run that is down is kept for that one: it may be back in a moment.

What the plan believes is what the profiles say at their 95th percentile, with the margin taken off. A batch that ends
sooner than that could have saved a row that was refused; that is the price of a promise that is kept.

Only policies whose plans are for all rows can be asked (policies.COMPLETE): with one that chooses the next batch and no
more, a row that stands nowhere simply has not had its turn. A policy that makes rows wait on purpose says when it wants
to be asked again (`Plan.again_at`): whom such a plan leaves behind has not been refused.
"""

import numpy as np
import numpy.typing as npt

from peekserve.core.backlog import Backlog, Slots
from peekserve.core.columns import WAITING
from peekserve.core.fleet import Fleet
from peekserve.core.ledger import Ledger, Open
from peekserve.domain.application import OnMiss
from peekserve.domain.messages import Plan
from peekserve.domain.request import Outcome, Reason

INF = float("inf")


class Admission:
    """`undecided`: rows came that no plan over all workers has looked at yet. `unseen`: the requests whose they are; of
    these nobody has accepted one."""

    def __init__(self, backlog: Backlog, fleet: Fleet, ledger: Ledger, margin_s: float) -> None:
        self._backlog = backlog
        self._fleet = fleet
        self._ledger = ledger
        self._margin_s = margin_s
        self.undecided = False
        self.unseen: dict[str, None] = {}

    def came(self, entry: Open) -> None:
        """Its rows wait to be planned."""
        if entry.on_miss is OnMiss.REJECT:
            self.undecided = True
            self.unseen[entry.request.id] = None
            # Some ended before any plan was made, as while no worker is up.
            if len(self.unseen) > 2 * len(self._ledger.open):
                for gone in [name for name in self.unseen if name not in self._ledger.open]:
                    del self.unseen[gone]

    def left_out(self, plan: Plan, slots: Slots, now: float) -> None:
        """This plan, over all workers that are up, was made for these rows: refuse those that it has no place for. What
        has begun goes on as long as there is hope."""
        self.undecided = False
        self.unseen.clear()
        backlog = self._backlog
        if plan.again_at < INF:
            return
        left = (backlog.state[slots] == WAITING) & (backlog.doom_at[slots] < INF) & ~backlog.in_hand[slots]
        left[[row for batch in plan.batches for row in batch.rows]] = False
        left[np.asarray(plan.instant, dtype=np.int64)] = False
        up: dict[int, npt.NDArray[np.bool_]] = {}
        for slot in slots[left].tolist():
            entry = self._ledger.open.get(backlog.request[slot])
            if entry is None or entry.on_miss is not OnMiss.REJECT or entry.begun:
                continue
            lane = int(backlog.lane[slot])
            if lane not in up:
                up[lane] = self._fleet.up_for(lane)
            if (backlog.allowed[slot, : len(up[lane])] & up[lane]).any():
                self._refuse(entry, slot, len(slots), now)

    def _refuse(self, entry: Open, slot: int, waiting: int, now: float) -> None:
        quickest_s, left_s = float(self._backlog.quickest_s[slot]), entry.request.slack_s(now)
        detail = (
            f"{waiting} rows wait and no plan has a place for this one: a worker is free in "
            f"{(self._fleet.soonest_at(now) - now) * 1e3:.1f} ms, the quickest variant needs {quickest_s * 1e3:.1f} "
            f"ms, the margin is {self._margin_s * 1e3:.1f} ms; {left_s * 1e3:.1f} ms are left"
        )
        self._ledger.close(entry, Outcome.REFUSED, Reason.DEADLINE_INFEASIBLE, detail)
