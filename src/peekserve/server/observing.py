"""Follows the core's events and commands and tells those who count: one place that remembers what belongs
together."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from peekserve.domain.application import public
from peekserve.domain.messages import (
    Answer,
    Arrived,
    BatchDone,
    BatchFailed,
    Command,
    Event,
    Load,
    Loaded,
    LoadFailed,
    Peeked,
    Restart,
    RunBatch,
    Unload,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.request import Request


class Counter:
    """Told what happened, each thing once. A counter overrides what it counts."""

    def arrived(self, request: Request, now: float) -> None: ...

    def peeked(self, request: Request, now: float) -> None: ...

    def started(self, batch: RunBatch, now: float) -> None: ...

    def finished(self, batch: RunBatch, seconds: float, now: float) -> None: ...

    def answered(self, request: Request, answer: Answer, now: float) -> None: ...

    def waiting(self, application: str, rows: int) -> None: ...

    def loaded(self, worker: str, weights: str, seconds: float, bytes: int) -> None: ...

    def load_failed(self, worker: str, weights: str) -> None: ...

    def unloaded(self, worker: str, weights: str, reason: str) -> None: ...

    def worker_up(self, worker: str, budget_bytes: int) -> None: ...

    def worker_down(self, worker: str, reason: str) -> None: ...


class Following:
    """An Observer. Remembers requests and batches only while they are under way. `label`: what counters shall call an
    application, by its key."""

    def __init__(self, counters: Sequence[Counter], label: Callable[[str], str] = public) -> None:
        self._counters = tuple(counters)
        self._label = label
        self._requests: dict[str, Request] = {}
        self._unstarted: dict[str, int] = {}
        self._batches: dict[int, RunBatch] = {}
        self._waiting: dict[str, int] = {}
        self._hung: set[str] = set()

    @property
    def under_way(self) -> int:
        """How many requests and batches it still remembers."""
        return len(self._requests) + len(self._batches) + len(self._unstarted)

    def event(self, event: Event, now: float) -> None:
        match event:
            case Arrived(request):
                label = self._label(request.application)
                request = request if label == request.application else replace(request, application=label)
                self._requests[request.id] = request
                self._unstarted[request.id] = 0
                self._queue(request.id, request.rows)
                for counter in self._counters:
                    counter.arrived(request, now)
            case Peeked(request_id):
                asked = self._requests.get(request_id)
                if asked is not None:
                    for counter in self._counters:
                        counter.peeked(asked, now)
            case BatchDone(batch_id):
                batch = self._batches.pop(batch_id, None)
                if batch is not None:
                    for counter in self._counters:
                        counter.finished(batch, event.finished_at - event.started_at, now)
            case BatchFailed(batch_id):
                self._requeue(self._batches.pop(batch_id, None))
            case Loaded(worker, weights, seconds, held):
                for counter in self._counters:
                    counter.loaded(worker, weights, seconds, held)
            case LoadFailed(worker, weights):
                for counter in self._counters:
                    counter.load_failed(worker, weights)
            case WorkerUp(worker, _, budget_bytes):
                for counter in self._counters:
                    counter.worker_up(worker, budget_bytes)
            case WorkerDown(worker):
                for batch_id in [i for i, b in self._batches.items() if b.worker == worker]:
                    self._requeue(self._batches.pop(batch_id))
                reason = "hang" if worker in self._hung else "died"
                self._hung.discard(worker)
                for counter in self._counters:
                    counter.worker_down(worker, reason)
            case _:
                pass

    def commands(self, commands: Sequence[Command], now: float) -> None:
        # What makes room goes in the step in which the other comes; what nobody may use any more goes by itself.
        crowded = {command.worker for command in commands if isinstance(command, Load)}
        for command in commands:
            match command:
                case RunBatch(application=key):
                    label = self._label(key)
                    command = command if label == key else replace(command, application=label)
                    self._batches[command.batch_id] = command
                    for row in command.rows:
                        self._queue(row.request_id, -1)
                    for counter in self._counters:
                        counter.started(command, now)
                case Answer(request_id):
                    request = self._requests.pop(request_id, None)
                    if request is not None:
                        self._queue(request_id, -self._unstarted[request_id], request)
                        del self._unstarted[request_id]
                        for counter in self._counters:
                            counter.answered(request, command, now)
                case Unload(worker, weights):
                    reason = "budget" if worker in crowded else "unused"
                    for counter in self._counters:
                        counter.unloaded(worker, weights, reason)
                case Restart(worker):
                    self._hung.add(worker)
                case Load() | _:
                    pass

    def _queue(self, request_id: str, rows: int, request: Request | None = None) -> None:
        request = request or self._requests.get(request_id)
        if request is None or not rows:
            return
        self._unstarted[request_id] += rows
        total = self._waiting.get(request.application, 0) + rows
        self._waiting[request.application] = total
        for counter in self._counters:
            counter.waiting(request.application, total)

    def _requeue(self, batch: RunBatch | None) -> None:
        for row in batch.rows if batch is not None else ():
            self._queue(row.request_id, 1)
