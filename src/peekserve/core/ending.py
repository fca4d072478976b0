"""Rows that nothing can save any more, and what they get instead of an answer by a model.

A row is *doomed* when even its quickest variant, started at once on an idle worker, would be too late; *due* when it
still runs and its client must hear something; *stranded* when no variant is left that could run it. Each gets what
models have said of it, if one has; else the peek's answer, where the application degrades and there is one; and else
ends its request without an answer.
"""

from collections.abc import Container

import numpy as np
import numpy.typing as npt

from peekserve.core.backlog import Backlog
from peekserve.core.columns import PENDING, RUNNING, WAITING
from peekserve.core.ledger import Ledger, Open
from peekserve.domain.application import OnMiss
from peekserve.domain.request import Outcome, Reason


class Endings:
    """Settles such rows through the ledger. `margin_s` is the scheduler's. `unseen`: requests that no plan has looked
    at yet (core/admission.py): such a one is turned away, for nobody has accepted it."""

    def __init__(
        self, backlog: Backlog, ledger: Ledger, margin_s: float, unseen: Container[str] = ()
    ) -> None:
        self._backlog = backlog
        self._ledger = ledger
        self._margin_s = margin_s
        self._unseen = unseen

    def settle_doomed(self, now: float) -> None:
        """Rows that wait and cannot be in time. One whose peek is still expected waits for it until its deadline."""
        backlog = self._backlog
        for slot in backlog.doomed(now).tolist():
            entry = self._ledger.open.get(backlog.request[slot])
            if entry is None or backlog.state[slot] not in (WAITING, PENDING):
                continue  # settled a moment ago, with another row of its request
            if self._had_in_hand(slot, now):
                continue
            degrades = entry.on_miss is OnMiss.DEGRADE or bool(backlog.granted[slot])
            if degrades and (self._answered_by_peek(slot, now) or self._peek_may_come(entry, slot, now)):
                continue
            if entry.request.id in self._unseen and not entry.begun:
                self._ledger.turn_away(entry, self._margin_s, now)
            else:
                self._ledger.expire(entry, now)

    def settle_due(self, now: float) -> None:
        """Rows that still run although their client must hear now; what their batch brings later is thrown away."""
        for slot in self._backlog.running_due(now).tolist():
            entry = self._ledger.open.get(self._backlog.request[slot])
            if entry is None or self._backlog.state[slot] != RUNNING:
                continue
            if self._had_in_hand(slot, now):
                continue
            if not (self._degrades(entry) and self._answered_by_peek(slot, now)):
                self._ledger.expire(entry, now)

    def settle_stranded(self, able: npt.NDArray[np.bool_], error: str, now: float) -> None:
        """Rows whose last variant failed, or cannot be loaded. `able`: bool [lanes, V], what a worker that is known can
        run."""
        for slot in self._backlog.stranded(able).tolist():
            entry = self._ledger.open.get(self._backlog.request[slot])
            if entry is None or self._had_in_hand(slot, now):
                continue
            if self._degrades(entry) and (
                self._answered_by_peek(slot, now) or self._peek_may_come(entry, slot, now)
            ):
                continue
            self._ledger.close(entry, Outcome.FAILED, Reason.BACKEND_ERROR, error)

    def _degrades(self, entry: Open) -> bool:
        return entry.on_miss is OnMiss.DEGRADE

    def _had_in_hand(self, slot: int, now: float) -> bool:
        """Answered with what a model has said already."""
        if not self._backlog.in_hand[slot]:
            return False
        self._ledger.answer_in_hand(slot, now)
        return True

    def _peek_may_come(self, entry: Open, slot: int, now: float) -> bool:
        """Its peek is still expected, and there is time for it: it waits for that until its deadline."""
        at_deadline = entry.request.due_at - self._margin_s
        if self._backlog.state[slot] != PENDING or now >= at_deadline:
            return False
        self._backlog.doom(slot, at_deadline)
        return True

    def _answered_by_peek(self, slot: int, now: float) -> bool:
        if np.isnan(self._backlog.instant[slot]):
            return False
        self._ledger.answer_by_peek(slot, now)
        return True
