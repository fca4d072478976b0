"""Open requests and what each still lacks: the one place where outcomes are made.

A request is open from its arrival until its single outcome. Its rows are settled one by one as answers come; the
last answer closes it, and so does anything that makes an answer for all its rows impossible.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from peekserve.core.backlog import Backlog
from peekserve.core.catalogue import Catalogue
from peekserve.core.feedback import Feedback
from peekserve.domain.application import OnMiss
from peekserve.domain.messages import Answer, Command
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, RowRef, Source
from peekserve.errors import InvariantBroken


@dataclass(slots=True)
class Open:
    """A request without its outcome yet. `answers` is in row order; `left` counts the rows that have none. `counts`:
    the evidence that came, float64 [rows, C], None without any. `in_hand`: by row, what it is answered with if nothing
    better comes. `begun`: something of it was run or answered."""

    request: Request
    application: int
    on_miss: OnMiss
    slots: list[int]
    answers: list[RowAnswer | None]
    left: int
    predicted_at: float | None = None
    counts: npt.NDArray[np.float64] | None = None
    in_hand: dict[int, RowAnswer] = field(default_factory=dict)
    begun: bool = False


class Ledger:
    """Requests by id, and the Answer commands that end them, collected in `out` until they are taken. `bytes`: of the
    inputs of all that are open; `rows_of`, `bytes_of`: rows without an answer, and bytes, by application."""

    def __init__(self, catalogue: Catalogue, backlog: Backlog, feedback: Feedback) -> None:
        self._catalogue = catalogue
        self._backlog = backlog
        self._feedback = feedback
        self.open: dict[str, Open] = {}
        self.out: list[Command] = []
        self.bytes = 0
        self.rows_of: dict[int, int] = {}
        self.bytes_of: dict[int, int] = {}

    def admit(self, entry: Open) -> None:
        """A request without its outcome yet."""
        self.open[entry.request.id] = entry
        self.bytes += entry.request.bytes
        a = entry.application
        self.rows_of[a] = self.rows_of.get(a, 0) + entry.left
        self.bytes_of[a] = self.bytes_of.get(a, 0) + entry.request.bytes

    def begin(self, entry: Open) -> None:
        """Some of its rows are run or answered: it will not be turned away for others any more."""
        if not entry.begun:
            entry.begun = True
            self._backlog.begun[entry.slots] = True

    def _gone(self, entry: Open) -> None:
        del self.open[entry.request.id]
        self.bytes -= entry.request.bytes
        self.rows_of[entry.application] -= entry.left
        self.bytes_of[entry.application] -= entry.request.bytes

    def owns(self, slot: int, ref: RowRef) -> bool:
        """Does this slot still belong to that row of that request, without an answer?"""
        return self._backlog.request[slot] == ref.request_id and self._backlog.row[slot] == ref.row

    def check(self) -> None:
        """Raises InvariantBroken when requests and the backlog disagree about which rows are still to be answered."""
        for name, entry in self.open.items():
            open_rows = [row for row, answer in enumerate(entry.answers) if answer is None]
            if entry.left != len(open_rows) or not open_rows:
                raise InvariantBroken(
                    f"request {name!r} misses {entry.left} rows, and {open_rows} have no answer"
                )
            lost = [row for row in open_rows if not self.owns(entry.slots[row], RowRef(name, row))]
            if lost or not entry.in_hand.keys() <= set(open_rows):
                raise InvariantBroken(
                    f"request {name!r} has lost its rows {lost}, or holds an answer {sorted(entry.in_hand)} for one "
                    "that has its own"
                )
        held = sum(entry.request.bytes for entry in self.open.values())
        if not held == self.bytes == sum(self.bytes_of.values()):
            raise InvariantBroken(f"open requests have {held} bytes of inputs, and {self.bytes} are counted")
        missing = sum(entry.left for entry in self.open.values())
        if not missing == self._backlog.rows == sum(self.rows_of.values()):
            raise InvariantBroken(f"open requests miss {missing} rows, {self._backlog.rows} are held")

    def looked(self, entry: Open, counts: npt.NDArray[np.float64]) -> None:
        """Evidence of all its rows came, float64 [rows, C]."""
        entry.counts = counts
        self._feedback.see(entry.application, counts)

    def settle_row(self, entry: Open, row: int, answer: RowAnswer, now: float) -> None:
        """One row has its answer; the last one answers the request."""
        if len(entry.slots) > 1:
            self.begin(entry)
        entry.answers[row] = answer
        entry.left -= 1
        self.rows_of[entry.application] -= 1
        self._remember(entry, row, answer)
        self._backlog.settle(entry.slots[row])
        if entry.left:
            return
        self._gone(entry)
        late = now > entry.request.due_at
        self.out.append(
            Answer(
                entry.request.id,
                Outcome.LATE if late else Outcome.ANSWERED,
                Reason.LATE if late else Reason.OK,
                tuple(a for a in entry.answers if a is not None),
                predicted_at=entry.predicted_at,
            )
        )

    def _remember(self, entry: Open, row: int, answer: RowAnswer) -> None:
        """Its true class may come one day."""
        a, slot = entry.application, entry.slots[row]
        theta = self._backlog.theta[slot, : len(self._catalogue.applications[a].classes)]
        # Evidence that came when a model had answered already is not behind the belief.
        counts = entry.counts[row] if entry.counts is not None and self._backlog.looked[slot] else None
        of = RowRef(entry.request.id, row)
        said, first = self._backlog.said[slot], int(self._backlog.first[slot])
        self._feedback.remember(of, entry.request.rows, a, theta, counts, answer, said, first)

    def answer_by_peek(self, slot: int, now: float) -> None:
        """The peek's own answer: the belief as scores, and what its kind of belief makes of it (core/beliefs.py)."""
        backlog = self._backlog
        a = int(backlog.application[slot])
        theta = backlog.theta[slot, : len(self._catalogue.applications[a].classes)]
        answer = RowAnswer(
            label=int(backlog.belief(a).answer(theta[None, :])[0]),
            scores=tuple(theta.tolist()),
            source=Source.PEEK,
            variant=None,
            expected_accuracy=float(backlog.instant[slot]),
            started_at=now,
            finished_at=now,
        )
        self.settle_row(self.open[backlog.request[slot]], backlog.row[slot], answer, now)

    def answer_in_hand(self, slot: int, now: float) -> None:
        """What models have said of it already."""
        entry, row = self.open[self._backlog.request[slot]], self._backlog.row[slot]
        self.settle_row(entry, row, entry.in_hand.pop(row), now)

    def expire(self, entry: Open, now: float) -> None:
        """Accepted, and not to be answered in time any more."""
        request = entry.request
        self.close(
            entry,
            Outcome.EXPIRED,
            Reason.DEADLINE_EXCEEDED,
            f"{entry.left} of {request.rows} rows could not be answered within {request.deadline_s * 1e3:.3g} ms; "
            f"{(now - request.arrived_at) * 1e3:.1f} ms have passed",
        )

    def turn_away(self, entry: Open, margin_s: float, now: float) -> None:
        """Nothing can answer it in time, not even on an idle machine: told on arrival, with the numbers."""
        quickest = float(self._backlog.quickest_s[entry.slots[0]])
        if quickest == float("inf"):
            detail = f"no worker can run a variant of {entry.request.application!r} that this request allows"
            self.close(entry, Outcome.REFUSED, Reason.NOT_READY, detail)
            return
        detail = (
            f"the quickest variant needs {quickest * 1e3:.1f} ms, the margin is {margin_s * 1e3:.1f} ms; "
            f"{entry.request.slack_s(now) * 1e3:.1f} ms are left"
        )
        self.close(entry, Outcome.REFUSED, Reason.DEADLINE_INFEASIBLE, detail)

    def close(self, entry: Open, outcome: Outcome, reason: Reason, detail: str) -> None:
        """Settle all that is left of a request without an answer."""
        self._gone(entry)
        for row, slot in enumerate(entry.slots):
            if entry.answers[row] is None:
                self._backlog.settle(slot)
        self._feedback.forget(entry.request.id)
        self.refuse(entry.request.id, outcome, reason, detail, entry.predicted_at)

    def refuse(
        self,
        request_id: str,
        outcome: Outcome,
        reason: Reason,
        detail: str,
        predicted_at: float | None = None,
    ) -> None:
        """An outcome without an answer."""
        self.out.append(Answer(request_id, outcome, reason, detail=detail, predicted_at=predicted_at))
