"""Lessons are written to the disk by a thread of their own: the event loop only puts them in its hand."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence

from peekserve.domain.feedback import Lesson
from peekserve.domain.messages import Acknowledge, Command, Event
from peekserve.errors import InvalidConfiguration
from peekserve.state.history import History

LOG = logging.getLogger(__name__)

MOST_WAITING = 16_384
TOGETHER = 1024  # lessons of one transaction, about


class Keeper:
    """An observer that keeps what was confirmed. At most `most` lessons wait; who confirms asks for `room` first.

    `unix_s`: the wall clock, for the time that is written beside each lesson.
    """

    def __init__(self, history: History, unix_s: Callable[[], float], most: int = MOST_WAITING) -> None:
        self._history = history
        self._unix_s = unix_s
        self._most = most
        self._queue: queue.SimpleQueue[tuple[Lesson, ...] | Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self.lost = 0
        self._thread = threading.Thread(target=self._write, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when everything is written."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def room(self) -> int:
        """How many more lessons may come now."""
        return self._most - self._waiting

    def when_written(self, then: Callable[[], None]) -> None:
        """Call this, in the thread that writes, when all that came before it is on its way to the disk: this process
        may end then, however it ends."""
        self._queue.put(then)

    def event(self, event: Event, now: float) -> None:
        pass

    def commands(self, commands: Sequence[Command], now: float) -> None:
        for command in commands:
            if isinstance(command, Acknowledge) and command.lessons:
                with self._lock:
                    self._waiting += len(command.lessons)
                self._queue.put(command.lessons)

    def _write(self) -> None:
        with self._history:
            going = True
            while going:
                lessons: list[Lesson] = []
                waiting: list[Callable[[], None]] = []
                item = self._queue.get()
                while item is not None:
                    if isinstance(item, tuple):
                        lessons += item
                    else:
                        waiting.append(item)
                    if len(lessons) >= TOGETHER or self._queue.empty():
                        break
                    item = self._queue.get()
                going = item is not None
                if lessons:
                    self._keep(lessons)
                for then in waiting:
                    then()

    def _keep(self, lessons: list[Lesson]) -> None:
        try:
            self._history.add(lessons, self._unix_s())
        except InvalidConfiguration as error:
            # A full disk must not end the learning: it only ends its being remembered.
            self.lost += len(lessons)
            LOG.error("%d confirmed rows could not be kept: %s", len(lessons), error)
        finally:
            with self._lock:
                self._waiting -= len(lessons)
