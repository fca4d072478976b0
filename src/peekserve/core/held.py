"""A plan that is given away bit by bit: each batch goes to its worker only when that worker is nearly free.

What a worker was given cannot be taken back without asking it, and the answer may come too late. So a plan that shall
stay open to change is held here, and its rows stay what they were: they wait, are doomed, cancelled and answered like
any others, and a batch that comes up is what is left of it. Rows that a plan left behind its batches on purpose, to be
asked about them again, are held beside them: what is planned anew is planned with all that waits with it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from peekserve.core.backlog import Backlog, Slots
from peekserve.core.columns import WAITING
from peekserve.core.ledger import Ledger
from peekserve.domain.messages import Batch, Plan
from peekserve.domain.request import RowRef


@dataclass(frozen=True, slots=True)
class _Rows:
    """Slots, and whose they were when they were planned."""

    slots: tuple[int, ...] = ()
    refs: tuple[RowRef, ...] = ()


@dataclass(frozen=True, slots=True)
class _Meant:
    """A batch of the plan, and its rows."""

    batch: Batch
    rows: _Rows


class Held:
    """Batches by worker, in the order of the plan."""

    def __init__(self, backlog: Backlog, ledger: Ledger) -> None:
        self._backlog = backlog
        self._ledger = ledger
        self._queues: dict[str, deque[_Meant]] = {}
        self._behind = _Rows()

    def hold(self, plan: Plan, slots: Slots, workers: Sequence[str]) -> None:
        """This plan in place of the last; `slots` and `workers` are those that it was made for."""
        self._queues.clear()
        for batch in plan.batches:
            meant = _Meant(batch, self._rows(slots[np.asarray(batch.rows, dtype=np.int64)]))
            self._queues.setdefault(workers[batch.worker], deque()).append(meant)
        behind = np.full(len(slots), plan.again_at < inf)
        behind[[row for batch in plan.batches for row in batch.rows]] = False
        behind[[*plan.instant, *plan.refuse]] = False
        self._behind = self._rows(slots[behind])

    def slots(self) -> Slots:
        """All rows that wait for their batch, or behind one, in order of arrival."""
        kept = [s for queue in self._queues.values() for meant in queue for s in self._left(meant.rows)]
        slots = np.array(kept + self._left(self._behind), dtype=np.int64)
        return slots[np.argsort(self._backlog.sequence[slots], kind="stable")]

    def next_for(self, worker: str) -> tuple[Batch, Slots] | None:
        """The next batch of this worker, over these slots; it is no longer held."""
        queue = self._queues.get(worker, deque())
        while queue:
            meant = queue.popleft()
            left = self._left(meant.rows)
            if left:
                return replace(meant.batch, rows=range(len(left))), np.array(left)
        self._queues.pop(worker, None)
        return None

    def has(self, worker: str) -> bool:
        return worker in self._queues

    def __bool__(self) -> bool:
        return bool(self._queues)

    def _rows(self, slots: Slots) -> _Rows:
        own = tuple(slots.tolist())
        return _Rows(own, tuple(RowRef(self._backlog.request[s], self._backlog.row[s]) for s in own))

    def _left(self, rows: _Rows) -> list[int]:
        backlog, ledger = self._backlog, self._ledger
        return [
            s
            for s, ref in zip(rows.slots, rows.refs, strict=True)
            if ledger.owns(s, ref) and backlog.state[s] == WAITING
        ]
