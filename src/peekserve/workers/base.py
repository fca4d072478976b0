"""The processes that run batches, seen from the front: commands go in, events come out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Application
from peekserve.domain.messages import Event, Load, Restart, RunBatch, Unload

# One row's inputs: application input name -> array of the row's shape, padded to its bucket already.
RowInputs = Mapping[str, npt.NDArray[np.generic]]
Report = Callable[[Event], None]


class Workers(Protocol):
    """One worker for each device slot. Each takes its commands in order; what came of them is reported as events
    (WorkerUp, Loaded, LoadFailed, BatchDone, BatchFailed, WorkerDown) on the event loop's own thread.

    A worker that dies is reported down once, started again, and reported up when it can take work.
    """

    def start(self, report: Report) -> None: ...

    def join(self, application: Application) -> None:
        """Commands may name this application from now on, by its key."""
        ...

    def load(self, command: Load) -> None: ...

    def unload(self, command: Unload) -> None: ...

    def run(self, command: RunBatch, rows: Sequence[RowInputs]) -> None: ...

    def restart(self, command: Restart) -> None: ...

    def stop(self) -> None: ...
