"""The one thread that peeks, beside the event loop.

A turn takes all that waits (up to a limit), makes one search for each application, and reports the whole turn
in one call: under load many requests share a search, a wake-up of the event loop, and nothing waits for a
timer.

Python code of this thread holds the interpreter lock that the event loop needs too. The features are
therefore a few array operations for a whole turn, and whoever starts the server sets
`sys.setswitchinterval(5e-4)`.
"""

import logging
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import NamedTuple

from peekserve.peeking.base import Counts, Glance, Inputs, Lengths, Looks, Report, Results

LOG = logging.getLogger(__name__)


class _Asked(NamedTuple):
    request_id: str
    application: str
    glance: Glance


class Peeker:
    """Looks at submitted requests in a thread of its own and reports each exactly once.

    `report` is given a list of (request id, counts float64 [rows, C], or None where the peek failed). It is
    called from the peeking thread, or from the caller's own inside `submit` and `stop` for what is not looked
    at: hand in one that may be called from any thread and does not block, such as
    `partial(loop.call_soon_threadsafe, on_peeked)`.

    `capacity`: requests that may wait; one too many is reported with None at once, since a late peek is worth
    no more than none. `turn_rows`: rows of one turn, so that the first of a burst do not wait for the last.

    A peek that raises costs only the requests that it raised for: each of its turn is then looked at alone.
    `last_error` keeps the newest such error in words.
    """

    def __init__(
        self, peeks: Mapping[str, Looks], report: Report, capacity: int = 1024, turn_rows: int = 256
    ) -> None:
        self.last_error: str | None = None
        self._peeks = peeks
        self._report = report
        self._capacity = capacity
        self._turn_rows = turn_rows
        self._queue: SimpleQueue[_Asked | None] = SimpleQueue()
        self._open = True
        # Nothing may enter the queue behind the None that ends it: it would never be reported.
        self._door = Lock()
        self._thread = Thread(target=self._run, name="peek", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(
        self, request_id: str, application: str, inputs: Inputs, lengths: Lengths | None = None
    ) -> None:
        """Look at these inputs (name -> [rows, *row shape]; they must not change until the report) when there
        is time. Never blocks, never raises."""
        with self._door:
            taken = self._open and application in self._peeks and self._queue.qsize() < self._capacity
            if taken:
                self._queue.put(_Asked(request_id, application, Glance(inputs, lengths or {})))
        if not taken:
            self._tell([(request_id, None)])

    def stop(self) -> None:
        """Finish what was submitted, then end. Of a peeker that was never started, everything is reported
        with None. A second call does nothing."""
        with self._door:
            first, self._open = self._open, False
            if first:
                self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        elif left := self._waiting():
            self._tell([(asked.request_id, None) for asked in left])

    def _run(self) -> None:
        while True:
            asked = self._queue.get()
            if asked is None:
                return
            turn = [asked]
            rows, more = asked.glance.rows, True
            while more and rows < self._turn_rows:
                try:
                    following = self._queue.get_nowait()
                except Empty:
                    break
                if following is None:
                    more = False
                else:
                    turn.append(following)
                    rows += following.glance.rows
            self._tell(self._look(turn))
            if not more:
                return

    def _look(self, turn: Sequence[_Asked]) -> Results:
        together: dict[str, list[_Asked]] = {}
        for asked in turn:
            together.setdefault(asked.application, []).append(asked)
        results: Results = []
        for application, group in together.items():
            peek = self._peeks[application]
            try:
                counts: Sequence[Counts | None] = peek.look_all([asked.glance for asked in group])
            except Exception as error:
                if len(group) == 1:
                    self._remember(group[0], error)
                    counts = [None]
                else:
                    counts = [self._alone(peek, asked) for asked in group]
            results += zip((asked.request_id for asked in group), counts, strict=True)
        return results

    def _alone(self, peek: Looks, asked: _Asked) -> Counts | None:
        try:
            return peek.look_all([asked.glance])[0]
        except Exception as error:
            self._remember(asked, error)
            return None

    def _remember(self, asked: _Asked, error: Exception) -> None:
        words = f"the peek of {asked.application!r} failed: {type(error).__name__}: {error}"
        if words != self.last_error:
            LOG.warning("%s (request %s)", words, asked.request_id)
        self.last_error = words

    def _tell(self, results: Results) -> None:
        try:
            self._report(results)
        except Exception as error:
            # The loop that was to be told is gone: the thread must live on to be stopped in order.
            self.last_error = f"a report of {len(results)} peeks failed: {type(error).__name__}: {error}"
            LOG.warning("%s", self.last_error)

    def _waiting(self) -> list[_Asked]:
        left: list[_Asked] = []
        while True:
            try:
                asked = self._queue.get_nowait()
            except Empty:
                return left
            if asked is not None:
                left.append(asked)
