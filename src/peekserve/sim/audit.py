"""Keeps books of its own about a scheduler, from its events and commands alone, and compares after every event.

What a scheduler's own `check` cannot see is what it has told others: an answer given twice, a batch sent to a worker
that is not there, weights that nobody unloaded. These are the promises that are looked at here:

- every request has exactly one outcome, of a kind that fits what happened, and none is forgotten at the end;
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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

from peekserve.core.scheduler import Scheduler
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, OnMiss, Variant
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

FITTING = {
    Outcome.ANSWERED: {Reason.OK},
    Outcome.LATE: {Reason.LATE},
    Outcome.REFUSED: {Reason.DEADLINE_INFEASIBLE, Reason.OVERLOADED, Reason.NOT_READY},
    Outcome.EXPIRED: {Reason.DEADLINE_EXCEEDED},
    Outcome.CANCELLED: {Reason.CANCELLED},
    Outcome.FAILED: {Reason.BACKEND_ERROR},
}
# Instants are sums of the same numbers in another order.
ROUNDING_S = 1e-9
MOST_AT_ONCE = 5000  # events at one instant; a story has some tens of things that could happen together


@dataclass(slots=True)
class _Worker:
    device: str
    budget: float
    up: bool = False
    held: set[str] = field(default_factory=set)
    # Batches that it has and did not end, by id.
    given: dict[int, RunBatch] = field(default_factory=dict)
    # What each of them should take once its weights are there.
    run_s: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Batch:
    command: RunBatch
    done: BatchDone | None = None


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
        self._applications = {app.name: app for app in applications}
        self._variants = {(app.name, v.name): v for app in applications for v in app.variants}
        self._workers = {one.name: _Worker(one.device, one.budget_bytes) for one in workers}
        self._open: dict[str, Request] = {}
        self._requests: dict[str, Request] = {}
        self._outcomes: Counter[Outcome] = Counter()
        self._answers: dict[str, tuple[RowAnswer, ...]] = {}
        self._batches: dict[int, _Batch] = {}
        self._running: dict[RowRef, int] = {}
        self._failed: set[tuple[RowRef, str]] = set()
        self._broken: set[str] = set()
        self._confirmed: set[str] = set()
        # Rows of which a batch has said something, answered or not.
        self._said: set[RowRef] = set()
        self._anything_failed = False
        self._rings_at = inf
        self._instant, self._at_once = -inf, 0

    def look(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        """An event, and what followed. Raises InvariantBroken."""
        rows_before = sum(one.rows for one in self._open.values()) if isinstance(event, Arrived) else 0
        self._heard(event)
        loads: dict[str, float] = {}
        for command in commands:
            match command:
                case Answer():
                    self._answer(command, event, now, rows_before)
                case RunBatch():
                    self._run(command, loads.pop(command.worker, 0.0))
                case Load():
                    self._load(command, loads)
                case Unload(worker, weights):
                    if weights not in self._workers[worker].held:
                        self._broke(f"{weights!r} are unloaded from {worker!r}, which does not hold them")
                    self._workers[worker].held.discard(weights)
                case Restart(worker, _):
                    self._restart(worker)
                case WakeAt(at):
                    if at < now:
                        self._broke(f"an alarm is set for {at}, which is over at {now}")
                    self._rings_at = at
                case Peek(request_id):
                    if request_id not in self._open:
                        self._broke(f"a peek is asked for {request_id!r}, which is not open")
                case Acknowledge():
                    self._acknowledge(command, event)
        self._add_up(now)

    def end(self) -> None:
        """Nothing will happen any more. Raises InvariantBroken for what is left."""
        if self._open:
            self._broke(f"{len(self._open)} requests have no outcome at the end, as {min(self._open)!r}")
        for name, worker in self._workers.items():
            if worker.up and worker.given:
                self._broke(f"worker {name!r} still has batches {sorted(worker.given)} that never ended")
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
            case WorkerUp(worker):
                known = self._workers[worker]
                known.up, known.held = True, set()
            case WorkerDown(worker):
                self._anything_failed = True
                known = self._workers[worker]
                known.up, known.held = False, set()
                for batch in list(known.given.values()):
                    self._ended(batch)
            case BatchDone(batch_id):
                batch = self._batches.get(batch_id)
                if batch is not None and batch_id in self._workers[batch.command.worker].given:
                    batch.done = event
                    self._ended(batch.command)
                    shape = (
                        len(batch.command.rows),
                        len(self._applications[batch.command.application].classes),
                    )
                    if event.scores.shape != shape:
                        self._fails(batch.command)
                    else:
                        self._said.update(batch.command.rows)
            case BatchFailed(batch_id):
                batch = self._batches.get(batch_id)
                if batch is not None and batch_id in self._workers[batch.command.worker].given:
                    self._ended(batch.command)
                    self._fails(batch.command)
            case LoadFailed(worker, weights):
                self._anything_failed = True
                self._workers[worker].held.discard(weights)
                self._broken.add(weights)
            case Woke():
                self._rings_at = inf
            case _:
                pass

    def _fails(self, batch: RunBatch) -> None:
        self._anything_failed = True
        self._failed |= {(ref, batch.variant) for ref in batch.rows}

    def _ended(self, batch: RunBatch) -> None:
        worker = self._workers[batch.worker]
        del worker.given[batch.batch_id], worker.run_s[batch.batch_id]
        for ref in batch.rows:
            self._running.pop(ref, None)

    # ---- what followed ----

    def _answer(self, answer: Answer, event: Event, now: float, rows_before: int) -> None:
        name, outcome = answer.request_id, answer.outcome
        request = self._open.pop(name, None)
        if request is None:
            again = "two outcomes" if name in self._requests else "an outcome and never came"
            self._broke(f"request {name!r} got {again}")
            return
        if answer.reason not in FITTING[outcome]:
            self._broke(f"an outcome {outcome} has the reason {answer.reason}")
        self._outcomes[outcome] += 1
        self._when(request, outcome, now)
        if (outcome is Outcome.REFUSED) and event != Arrived(request):
            self._broke(f"request {name!r} is refused after it was accepted")
        if answer.reason is Reason.OVERLOADED and rows_before + request.rows <= self._spec.max_rows:
            self._broke(
                f"request {name!r} is refused as one too many, with at most {rows_before} rows before it"
            )
        if (outcome is Outcome.CANCELLED) != (event == Cancelled(name)):
            self._broke(f"request {name!r} ends {outcome}, though the client did not do so")
        known = all(RowRef(name, row) in self._said for row in range(request.rows))
        if known and outcome in (Outcome.EXPIRED, Outcome.FAILED):
            self._broke(f"request {name!r} ends {outcome}, though models have answered all its rows")
        if outcome is Outcome.FAILED and not self._anything_failed:
            self._broke(f"request {name!r} failed, and nothing has")
        self._what(request, answer)

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
                continue
            self._by_model(RowRef(request.id, row), said, request)

    def _by_model(self, ref: RowRef, said: RowAnswer, request: Request) -> None:
        batch = self._batches.get(-1 if said.batch_id is None else said.batch_id)
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

    def _run(self, batch: RunBatch, load_s: float) -> None:
        worker, variant = self._workers[batch.worker], self._variants[batch.application, batch.variant]
        if batch.batch_id in self._batches:
            self._broke(f"batch {batch.batch_id} is run twice")
        if not worker.up:
            self._broke(f"batch {batch.batch_id} is given to {batch.worker!r}, which is not up")
        if variant.weights not in worker.held:
            self._broke(
                f"batch {batch.batch_id} runs {variant.weights!r}, which {batch.worker!r} does not hold"
            )
        if worker.device not in variant.timing:
            self._broke(f"{batch.worker!r} cannot run {batch.application!r} {batch.variant!r}")
        if not 1 <= len(batch.rows) <= variant.max_batch or len(set(batch.rows)) != len(batch.rows):
            self._broke(f"batch {batch.batch_id} of {batch.variant!r} has rows {batch.rows}")
        self._beyond_lead(batch, worker)
        for ref in batch.rows:
            self._may_run(ref, batch, variant)
            self._running[ref] = batch.batch_id
        self._batches[batch.batch_id] = _Batch(batch)
        worker.given[batch.batch_id] = batch
        worker.run_s[batch.batch_id] = batch.predicted_s - load_s

    def _beyond_lead(self, batch: RunBatch, worker: _Worker) -> None:
        """What waits behind the running batch should take no longer than the lead, and as much again where the running
        one is late already."""
        whole = self._spec.planning != "rolling" and "rebalance" not in self._spec.planning
        if whole or not worker.given:
            return
        waiting_s = sum(list(worker.run_s.values())[1:])
        if self._spec.lead_s == 0.0 or waiting_s > 2.0 * self._spec.lead_s + ROUNDING_S:
            self._broke(f"batch {batch.batch_id} is given to {batch.worker!r} beside {sorted(worker.given)}")

    def _may_run(self, ref: RowRef, batch: RunBatch, variant: Variant) -> None:
        request = self._open.get(ref.request_id)
        what = f"batch {batch.batch_id} runs row {ref.row} of {ref.request_id!r}"
        if request is None:
            self._broke(f"{what}, which is not open")
            return
        if ref in self._running:
            self._broke(f"{what}, which runs in batch {self._running[ref]}")
        same = request.application == batch.application and request.bucket == batch.bucket
        has = request.inputs is None or set(variant.needs) <= set(request.inputs)
        if not same or not 0 <= ref.row < request.rows or not has:
            self._broke(f"{what}, which is none of its kind")
        if request.pinned not in (None, batch.variant):
            self._broke(f"{what} with {batch.variant!r}, and the client named {request.pinned!r}")
        if (ref, batch.variant) in self._failed:
            self._broke(f"{what} with {batch.variant!r}, which failed on it before")
        if variant.weights in self._broken:
            self._broke(f"{what} with {variant.weights!r}, which could not be loaded")

    def _load(self, command: Load, loads: dict[str, float]) -> None:
        worker = self._workers[command.worker]
        if not worker.up:
            self._broke(f"{command.worker!r} is to load {command.weights!r}, and is not up")
        if command.weights in worker.held:
            self._broke(f"{command.worker!r} is to load {command.weights!r}, which it holds")
        worker.held.add(command.weights)
        if not command.warm:
            timing = self._variants[command.application, command.variant].timing[worker.device]
            loads[command.worker] = timing.load_s
        held = sum(self._bytes(weights, worker.device) for weights in worker.held)
        if held > worker.budget and len(worker.held) > 1:
            self._broke(f"{command.worker!r} holds {held} bytes of {worker.budget}: {sorted(worker.held)}")

    def _bytes(self, weights: str, device: str) -> int:
        sizes: Iterable[int] = (
            v.timing[device].bytes
            for v in self._variants.values()
            if v.weights == weights and device in v.timing
        )
        return max(sizes, default=0)

    def _restart(self, name: str) -> None:
        worker = self._workers[name]
        if not worker.up or not worker.given:
            self._broke(f"worker {name!r} is restarted, and has nothing to do")
        worker.up = False

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
        for request in self._open.values():
            if self._rings_at > max(request.due_at, now) + ROUNDING_S and self._must_ring(request):
                self._broke(f"nothing rings for request {request.id!r}, due at {request.due_at}")

    def _must_ring(self, request: Request) -> bool:
        return (self._spec.on_miss or self._applications[request.application].on_miss) is not OnMiss.LATE

    def _broke(self, what: str) -> None:
        raise InvariantBroken(what)
