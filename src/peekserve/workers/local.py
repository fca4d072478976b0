"""Workers without processes: the twin for tests, in pretended or real time."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from peekserve.clock import Clock
from peekserve.domain.application import Application, Variant
from peekserve.domain.messages import (
    BatchDone,
    BatchFailed,
    Event,
    Load,
    Loaded,
    LoadFailed,
    Restart,
    RunBatch,
    Unload,
    Unloaded,
    WorkerDown,
    WorkerUp,
)
from peekserve.errors import PeekserveError, WorkerFailed
from peekserve.runtimes.base import Runtime
from peekserve.workers.base import Report, RowInputs
from peekserve.workers.columns import by_input
from peekserve.workers.slots import Slot


@dataclass(slots=True)
class _Place:
    slot: Slot
    runtime: Runtime
    life: int = 0
    up: bool = False


class LocalWorkers:
    """Each command is carried out in a turn of the loop of its own, in order, while the loop stands still.

    `lose` is what kill -9 is to a process: whatever waits for that worker is lost, and it comes up again empty.
    """

    def __init__(
        self,
        runtimes: Sequence[tuple[Slot, Runtime]],
        applications: Mapping[str, Application],
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._places = {slot.name: _Place(slot, runtime) for slot, runtime in runtimes}
        self._applications = dict(applications)
        self._clock = clock
        self._loop = loop
        self._report: Report = lambda event: None
        self._resident: dict[str, set[str]] = {name: set() for name in self._places}

    def start(self, report: Report) -> None:
        self._report = report
        for name in self._places:
            self._loop.call_soon(self._rise, name)

    def join(self, application: Application) -> None:
        self._applications[application.key] = application

    def load(self, command: Load) -> None:
        variant = self._applications[command.application].variant(command.variant)
        self._later(command.worker, lambda: self._load(command, variant))

    def unload(self, command: Unload) -> None:
        self._later(command.worker, lambda: self._unload(command))

    def run(self, command: RunBatch, rows: Sequence[RowInputs]) -> None:
        variant = self._applications[command.application].variant(command.variant)
        self._later(command.worker, lambda: self._run(command, variant, rows))

    def restart(self, command: Restart) -> None:
        self.lose(command.worker, command.reason)

    def stop(self) -> None:
        self._report = lambda event: None
        for place in self._places.values():
            place.life += 1
            place.up = False

    def lose(self, worker: str, error: str = "lost, as the test says") -> None:
        """The worker dies now, and comes back two turns of the loop later."""
        place = self._place(worker)
        if not place.up:
            return
        place.life += 1
        place.up = False
        for weights in sorted(self._resident[worker]):
            place.runtime.unload(weights)
        self._resident[worker].clear()
        self._loop.call_soon(self._report, WorkerDown(worker, error))
        self._loop.call_soon(lambda: self._loop.call_soon(self._rise, worker))

    def _rise(self, worker: str) -> None:
        place = self._places[worker]
        place.up = True
        self._report(WorkerUp(worker, place.slot.device, place.slot.budget_bytes))

    def _later(self, worker: str, act: Callable[[], Event | None]) -> None:
        place = self._place(worker)
        if not place.up:
            raise WorkerFailed(f"worker {worker!r} is not up")
        life = place.life

        def turn() -> None:
            if place.life == life and (event := act()) is not None:
                self._report(event)

        self._loop.call_soon(turn)

    def _load(self, command: Load, variant: Variant) -> Event:
        application = self._applications[command.application]
        started_at = self._clock.now()
        try:
            runtime = self._places[command.worker].runtime
            held = runtime.load(variant, len(application.classes))
        except PeekserveError as error:
            return LoadFailed(command.worker, command.weights, str(error))
        self._resident[command.worker].add(command.weights)
        return Loaded(command.worker, command.weights, self._clock.now() - started_at, held)

    def _unload(self, command: Unload) -> Event:
        self._places[command.worker].runtime.unload(command.weights)
        self._resident[command.worker].discard(command.weights)
        return Unloaded(command.worker, command.weights)

    def _run(self, command: RunBatch, variant: Variant, rows: Sequence[RowInputs]) -> Event:
        application = self._applications[command.application]
        started_at = self._clock.now()
        try:
            columns = {name: np.stack(column) for name, column in by_input(variant, rows).items()}
            scores = self._places[command.worker].runtime.run(variant, len(application.classes), columns)
        except PeekserveError as error:
            return BatchFailed(command.batch_id, str(error))
        return BatchDone(command.batch_id, scores, started_at, self._clock.now())

    def _place(self, worker: str) -> _Place:
        if worker not in self._places:
            raise WorkerFailed(f"there is no worker {worker!r}; there are {sorted(self._places)}")
        return self._places[worker]
