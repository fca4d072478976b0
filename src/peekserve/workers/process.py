"""Workers as processes of this machine: commands out through sockets and shared memory, events back."""

import asyncio
from collections.abc import Mapping, Sequence

from peekserve.clock import Clock, WallClock
from peekserve.domain.application import Application
from peekserve.domain.messages import Load, Restart, RunBatch, Unload
from peekserve.errors import UnknownApplication, WorkerFailed
from peekserve.workers.base import Report, RowInputs
from peekserve.workers.seat import BEAT_S, Health, Seat
from peekserve.workers.slots import Slot


class ProcessWorkers:
    """A process for each slot (Workers). Everything happens on the loop's thread; no call waits for a worker.

    `applications`: by key. A command to a worker that is not up raises WorkerFailed; one that its worker takes to the
    grave is answered by WorkerDown alone. The downs and ups of a worker alternate, and a batch gets at most one event.
    One that has nothing to do and does not answer its heartbeats (`beat_s` apart) is ended and born again.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        applications: Mapping[str, Application],
        loop: asyncio.AbstractEventLoop,
        clock: Clock | None = None,
        beat_s: float = BEAT_S,
    ) -> None:
        self._slots = tuple(slots)
        self._applications = dict(applications)
        self._loop = loop
        self._clock = clock or WallClock()
        self._beat_s = beat_s
        self._seats: dict[str, Seat] = {}

    def start(self, report: Report) -> None:
        """Start every process; each reports WorkerUp when it can take work. InvalidConfiguration when a slot asks
        for what this machine lacks."""
        for slot in self._slots:
            slot.check()
        self._seats = {
            slot.name: Seat(slot, self._loop, self._clock, report, self._beat_s) for slot in self._slots
        }
        for seat in self._seats.values():
            seat.start()

    def join(self, application: Application) -> None:
        self._applications[application.key] = application

    def load(self, command: Load) -> None:
        application = self._application(command.application)
        self._seat(command.worker).load(command, application, application.variant(command.variant))

    def unload(self, command: Unload) -> None:
        self._seat(command.worker).unload(command)

    def run(self, command: RunBatch, rows: Sequence[RowInputs]) -> None:
        application = self._application(command.application)
        self._seat(command.worker).run(command, application, application.variant(command.variant), rows)

    def restart(self, command: Restart) -> None:
        self._seat(command.worker).restart(command)

    def stop(self) -> None:
        """End every process at once. Nothing is reported any more, and nothing is left: no process, no descriptor."""
        for seat in self._seats.values():
            seat.stop()
        self._seats = {}

    def health(self) -> dict[str, Health]:
        """By worker: is it up, when was it last heard, since when does it owe a reply, how did it last die."""
        return {name: seat.health() for name, seat in self._seats.items()}

    def _seat(self, worker: str) -> Seat:
        if worker not in self._seats:
            raise WorkerFailed(f"there is no worker {worker!r}; there are {sorted(self._seats)}")
        return self._seats[worker]

    def _application(self, name: str) -> Application:
        if name not in self._applications:
            raise UnknownApplication(f"no application {name!r}; there are {sorted(self._applications)}")
        return self._applications[name]
