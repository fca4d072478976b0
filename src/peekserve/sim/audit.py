"""Keeps books of its own about a scheduler, from its events and commands alone, and compares after every event.

What a scheduler's own `check` cannot see is what it has told others: an answer given twice, a batch sent to a worker
that is not there, weights that nobody unloaded. These are the promises that are looked at here:

- every request has exactly one outcome, of a kind that fits what happened, and none is forgotten at the end;
- no more rows and bytes are taken in than there may be; who is turned away for others was not begun, and no request of
  a higher priority goes for one of a lower;
- a batch holds rows of one priority; nothing below a request's floor runs for it or answers it;
- the outcome comes by the deadline, or by when the alarm for it could ring; late only where that is wanted;
- an answer is what a batch really said of that row, a batch that ran on a worker while that worker lived;
- a row runs in one batch at a time, never after its outcome, with a variant that it may have and that did not fail it;
- a worker is given work only while it is up, no more than its lead allows, with the weights that the work needs;
- weights are loaded once, unloaded only where they lie, and never pass the byte budget;
- a true class is learnt once; what is open, answered and refused adds up to what came;
- what models have said of all rows of a request is not lost;
- something always rings in time for whatever is open, and at the end nothing is left: no row, no batch, no answer.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf

from peekserve.core.scheduler import Scheduler
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, OnMiss
from peekserve.domain.feedback import Verdict
from peekserve.domain.messages import (
    Acknowledge,
    Answer,
    Arrived,
    BatchDone,
    BatchFailed,
    Cancelled,
    Command,
    Confirmed,
    Event,
    Load,
    LoadFailed,
    Offered,
    Peek,
    Restart,
    RunBatch,
    Unload,
    WakeAt,
    Woke,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, RowRef, Source
from peekserve.errors import InvariantBroken
from peekserve.sim.driver import SimWorker
from peekserve.sim.workbook import ROUNDING_S, Workbook

FITTING = {
    Outcome.ANSWERED: {Reason.OK},
    Outcome.LATE: {Reason.LATE},
    Outcome.REFUSED: {Reason.DEADLINE_INFEASIBLE, Reason.OVERLOADED, Reason.NOT_READY},
    Outcome.EXPIRED: {Reason.DEADLINE_EXCEEDED},
    Outcome.CANCELLED: {Reason.CANCELLED},
    Outcome.FAILED: {Reason.BACKEND_ERROR},
}
MOST_AT_ONCE = 5000  # events at one instant; a story has some tens of things that could happen together


class Audit:
    """`ringing`: by when an alarm for an instant has rung, however late alarms are in this run."""

    def __init__(
        self,
        scheduler: Scheduler,
        spec: SchedulerSpec,
        applications: Sequence[Application],
        workers: Sequence[SimWorker],
        ringing: Callable[[float], float],
    ) -> None:
        self._scheduler, self._spec, self._ringing = scheduler, spec, ringing
        self._applications = {app.key: app for app in applications}
        self._work = Workbook(spec, applications, workers)
        self._open: dict[str, Request] = {}
        self._requests: dict[str, Request] = {}
        self._outcomes: Counter[Outcome] = Counter()
        self._answers: dict[str, tuple[RowAnswer, ...]] = {}
        self._confirmed: set[str] = set()
        # Those whose answer is in hand, and who have nothing better to wait for any more.
        self._must_answer: set[str] = set()
        self._begun: set[str] = set()
        self._unserved: set[str] = set()
        self._anything_failed = False
        self._rings_at = inf
        self._instant, self._at_once = -inf, 0

    def look(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        """An event, and what followed. Raises InvariantBroken."""
        self._heard(event)
        crowd = self._crowd() if isinstance(event, Arrived) else (0, 0)
        loads: dict[str, float] = {}
        for command in commands:
            match command:
                case Answer():
                    self._answer(command, event, now, crowd)
                case RunBatch():
                    self._work.run(command, loads.pop(command.worker, 0.0), self._open)
                    self._begun.update(ref.request_id for ref in command.rows)
                case Load():
                    loads[command.worker] = self._work.load(command)
                case Unload(worker, weights):
                    self._work.unload(worker, weights)
                case Restart(worker, _):
                    self._work.restart(worker)
                case WakeAt(at):
                    if at < now:
                        self._broke(f"an alarm is set for {at}, which is over at {now}")
                    self._rings_at = at
                case Peek(request_id):
                    if request_id not in self._open:
                        self._broke(f"a peek is asked for {request_id!r}, which is not open")
                case Acknowledge():
                    self._acknowledge(command, event)
        left = sorted(self._must_answer & self._open.keys())
        if left:
            self._broke(
                f"request {left[0]!r} has an answer, lost the run that might have bettered it, and is not told"
            )
        self._must_answer.clear()
        self._add_up(now)

    def end(self) -> None:
        """Nothing will happen any more. Raises InvariantBroken for what is left."""
        if self._open:
            self._broke(f"{len(self._open)} requests have no outcome at the end, as {min(self._open)!r}")
        self._work.end()
        if self._scheduler.open_requests or self._scheduler.open_rows:
            self._broke(
                f"{self._scheduler.open_requests} requests and {self._scheduler.open_rows} rows are held at the end"
            )
        if sum(self._outcomes.values()) != len(self._requests):
            self._broke(
                f"{len(self._requests)} requests came and {sum(self._outcomes.values())} outcomes went"
            )

    # ---- what happened ----

    def _heard(self, event: Event) -> None:
        match event:
            case Arrived(request):
                self._open[request.id] = self._requests[request.id] = request
                if not self._work.arrived(request):
                    self._unserved.add(request.id)
            case Offered(key, variants):
                self._work.offered(key, variants)
            case WorkerUp(worker):
                self._work.up(worker)
            case WorkerDown(worker):
                self._lost(self._work.down(worker))
            case BatchDone():
                self._lost(self._work.done(event))
            case BatchFailed(batch_id):
                self._lost(self._work.failed(batch_id))
            case LoadFailed(worker, weights):
                self._work.load_failed(worker, weights)
                self._anything_failed = True
            case Woke():
                self._rings_at = inf
            case _:
                pass

    def _lost(self, rows: Sequence[RowRef]) -> None:
        """These ran and do not any more, without an answer. Who has one in hand must be told."""
        self._anything_failed = self._anything_failed or bool(rows)
        said, requests = self._work.said, self._requests
        known = [ref.request_id for ref in rows if ref in said]
        self._must_answer |= {name for name in known if requests[name].rows == 1}

    # ---- what followed ----

    def _crowd(self) -> tuple[int, int]:
        """Rows and bytes of all that is open, at the most: some rows may have their answer."""
        rows = sum(request.rows for request in self._open.values())
        return rows, sum(request.bytes for request in self._open.values())

    def _answer(self, answer: Answer, event: Event, now: float, crowd: tuple[int, int]) -> None:
        name, outcome = answer.request_id, answer.outcome
        request = self._open.pop(name, None)
        if request is None:
            again = "two outcomes" if name in self._requests else "an outcome and never came"
            self._broke(f"request {name!r} got {again}")
            return
        if answer.reason not in FITTING[outcome]:
            self._broke(f"an outcome {outcome} has the reason {answer.reason}")
        self._outcomes[outcome] += 1
        if name in self._unserved and answer.reason is not Reason.NOT_READY:
            self._broke(f"request {name!r} asks for what is unloaded, and ends {outcome} ({answer.reason})")
        self._when(request, outcome, now)
        if outcome is Outcome.REFUSED:
            self._refused(request, answer.reason, event, crowd)
        if (outcome is Outcome.CANCELLED) != (event == Cancelled(name)):
            self._broke(f"request {name!r} ends {outcome}, though the client did not do so")
        known = all(RowRef(name, row) in self._work.said for row in range(request.rows))
        if known and outcome in (Outcome.EXPIRED, Outcome.FAILED):
            self._broke(f"request {name!r} ends {outcome}, though models have answered all its rows")
        if outcome is Outcome.FAILED and not self._anything_failed:
            self._broke(f"request {name!r} failed, and nothing has")
        self._what(request, answer)

    def _refused(self, request: Request, reason: Reason, event: Event, crowd: tuple[int, int]) -> None:
        name = request.id
        if reason is not Reason.OVERLOADED or not isinstance(event, Arrived):
            # Who has no place in any plan any more is told so when that is found, if nothing of it was begun.
            on_miss = self._spec.on_miss or self._applications[request.application].on_miss
            picky = request.pinned or request.min_accuracy > 0.0
            rejects = on_miss is OnMiss.REJECT or (picky and on_miss is not OnMiss.LATE)
            without = self._spec.admit and reason is Reason.DEADLINE_INFEASIBLE and rejects
            if event != Arrived(request) and not (without and name not in self._begun):
                self._broke(f"request {name!r} is refused after it was accepted")
            return
        if crowd[0] <= self._spec.max_rows and crowd[1] <= self._spec.max_bytes:
            self._broke(f"request {name!r} is refused as one too many, with at most {crowd} rows and bytes")
        came = event.request
        if name in self._begun or request.level < came.level:
            self._broke(f"request {name!r} is turned away for {came.id!r}, begun or of a higher priority")
        if name != came.id or came.rows > self._spec.max_rows or came.bytes > self._spec.max_bytes:
            return
        lower = [
            other.id
            for other in self._open.values()
            if other.level > came.level and other.rows == 1 == came.rows and other.bytes >= came.bytes
        ]
        if set(lower) - self._begun:
            self._broke(f"request {name!r} is refused, and {lower[0]!r} of a lower priority stays")

    def _when(self, request: Request, outcome: Outcome, now: float) -> None:
        on_miss = self._spec.on_miss or self._applications[request.application].on_miss
        late_by = now - request.due_at
        if outcome is Outcome.ANSWERED and late_by > 0.0:
            self._broke(f"request {request.id!r} is answered {late_by} s late and said to be in time")
        if outcome is Outcome.LATE and late_by <= 0.0:
            self._broke(f"request {request.id!r} is said to be late with {-late_by} s left")
        if on_miss is not OnMiss.LATE and now > self._ringing(request.due_at) + ROUNDING_S:
            self._broke(f"request {request.id!r} has its outcome {late_by} s after its deadline: {outcome}")

    def _what(self, request: Request, answer: Answer) -> None:
        given = answer.outcome in (Outcome.ANSWERED, Outcome.LATE)
        if len(answer.rows) != (request.rows if given else 0):
            self._broke(f"request {request.id!r} of {request.rows} rows has {len(answer.rows)} answers")
        if given:
            self._answers[request.id] = answer.rows
        for row, said in enumerate(answer.rows):
            if abs(sum(said.scores) - 1.0) > 1e-6 or min(said.scores) < 0.0:
                self._broke(f"the scores of row {row} of {request.id!r} are no probabilities: {said.scores}")
            if said.source is Source.PEEK:
                if self._applications[request.application].peek is None or request.pinned:
                    self._broke(f"row {row} of {request.id!r} is answered by a peek that it does not have")
                self._by_peek(row, said, request)
                continue
            self._by_model(RowRef(request.id, row), said, request)

    def _by_peek(self, row: int, said: RowAnswer, request: Request) -> None:
        peek = self._applications[request.application].peek
        worth = said.expected_accuracy or 0.0
        if self._spec.beliefs != "calibrated" or peek is None or peek.calibration is None:
            worth = round(peek.quality.accuracy, 4) if peek and peek.quality else 0.0
        elif self._spec.normalise:
            return  # told in another unit
        if worth < request.min_accuracy:
            self._broke(f"row {row} of {request.id!r} is answered by a peek that is worth {worth}")

    def _by_model(self, ref: RowRef, said: RowAnswer, request: Request) -> None:
        batch = self._work.batch(said.batch_id)
        if batch is None or ref not in batch.command.rows or batch.command.variant != said.variant:
            self._broke(f"row {ref.row} of {ref.request_id!r} has the answer of a batch that it was not in")
            return
        if batch.done is None:
            self._broke(f"row {ref.row} of {ref.request_id!r} has an answer of a batch that never ended well")
            return
        own = batch.done.scores[batch.command.rows.index(ref)]
        if said.source is Source.MODEL and said.scores != tuple(own.tolist()):
            self._broke(f"row {ref.row} of {ref.request_id!r} has the scores of another row")
        if request.pinned not in (None, said.variant):
            self._broke(
                f"request {request.id!r} names {request.pinned!r} and is answered by {said.variant!r}"
            )

    def _acknowledge(self, said: Acknowledge, event: Event) -> None:
        if not isinstance(event, Confirmed) or event.request_id != said.request_id:
            self._broke(f"a confirmation of {said.request_id!r} is acknowledged that did not come")
        if (said.verdict is Verdict.UNANSWERED) != (said.request_id in self._open):
            self._broke(f"a confirmation of {said.request_id!r} is taken for one of a request under way")
        if said.verdict is not Verdict.ACCEPTED:
            return
        if said.request_id in self._confirmed:
            self._broke(f"the true classes of {said.request_id!r} are learnt twice")
        self._confirmed.add(said.request_id)
        rows = self._answers.get(said.request_id)
        if rows is None or [one.label for one in rows] != [one.said for one in said.lessons]:
            self._broke(f"what is learnt of {said.request_id!r} is not what it was answered")

    # ---- after every event ----

    def _add_up(self, now: float) -> None:
        self._at_once = self._at_once + 1 if now == self._instant else 1
        self._instant = now
        if self._at_once > MOST_AT_ONCE:
            self._broke(f"time stands still: {MOST_AT_ONCE} events at one instant, {now}")
        scheduler = self._scheduler
        if scheduler.open_requests != len(self._open):
            self._broke(f"{scheduler.open_requests} requests are held, {len(self._open)} are open")
        if len(self._requests) != len(self._open) + sum(self._outcomes.values()):
            self._broke("what is open and what has an outcome are not all that came")
        if scheduler.open_rows > min(self._spec.max_rows, sum(one.rows for one in self._open.values())):
            self._broke(f"{scheduler.open_rows} rows are held, more than there may be")
        if self._crowd()[1] > self._spec.max_bytes:
            self._broke(f"{self._crowd()[1]} bytes are held, more than there may be")
        for request in self._open.values():
            if self._rings_at > max(request.due_at, now) + ROUNDING_S and self._must_ring(request):
                self._broke(f"nothing rings for request {request.id!r}, due at {request.due_at}")

    def _must_ring(self, request: Request) -> bool:
        return (self._spec.on_miss or self._applications[request.application].on_miss) is not OnMiss.LATE

    def _broke(self, what: str) -> None:
        raise InvariantBroken(what)
