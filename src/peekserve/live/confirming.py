"""True classes come in floods: nightly, a device's whole day at once. They are learnt a few at a time, between the
events that clients wait for, and no more are taken than fit into a bounded queue."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from peekserve.core.feedback import Remembered
from peekserve.domain.feedback import Lesson, Verdict
from peekserve.domain.messages import Acknowledge
from peekserve.errors import TooFast

MOST_WAITING = 4096  # rows
PER_TURN = 8  # rows learnt in one turn of the event loop: less than a millisecond


@dataclass(frozen=True, slots=True)
class Told:
    """True classes as they were told: for each row a class's name or its index, None where it is still unknown."""

    request_id: str
    labels: tuple[str | int | None, ...]


class Learner(Protocol):
    """What learns: the live driver, or a scripted twin. On the event loop's thread."""

    def remembered(self, request_id: str) -> Remembered | None: ...

    def confirm(self, request_id: str, labels: tuple[int | None, ...]) -> Acknowledge: ...


class Keeps(Protocol):
    """Where lessons go that are kept."""

    def room(self) -> int:
        """How many more may come now."""
        ...

    def when_written(self, then: Callable[[], None]) -> None:
        """Call this when all that came is written, in whatever thread."""
        ...


@dataclass(slots=True)
class _Waiting:
    told: Sequence[Told]
    done: asyncio.Future[list[Acknowledge]]
    acknowledged: list[Acknowledge]
    pieces: deque[tuple[int | None, ...]]  # what is left to learn of the request in hand
    lessons: tuple[Lesson, ...] = ()


class Confirmations:
    """The queue in front of the scheduler. On the event loop's thread only. `keeper`: who confirms hears of it when
    this has written it down; None where nothing is kept. `most`: rows that may wait. `per_turn`: rows learnt in one
    turn of the loop."""

    def __init__(
        self,
        learner: Learner,
        loop: asyncio.AbstractEventLoop,
        keeper: Keeps | None = None,
        most: int = MOST_WAITING,
        per_turn: int = PER_TURN,
    ) -> None:
        self._learner = learner
        self._loop = loop
        self._keeper = keeper
        self._most = most
        self._per_turn = per_turn
        self._waiting: deque[_Waiting] = deque()
        self._rows = 0
        self._turning = False

    def submit(self, told: Sequence[Told]) -> asyncio.Future[list[Acknowledge]]:
        """What became of each of them, in their order, as soon as all have been looked at and written down. Raises
        TooFast when they do not fit; then none was taken."""
        rows = sum(len(one.labels) for one in told)
        room = self._most - self._rows
        if self._keeper is not None:
            room = min(room, self._keeper.room() - self._rows)
        if rows > room:
            raise TooFast(f"{rows} rows of feedback came and {max(room, 0)} more can wait; send them later")
        done: asyncio.Future[list[Acknowledge]] = self._loop.create_future()
        self._rows += rows
        self._waiting.append(_Waiting(told, done, [], deque()))
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)
        return done

    def _turn(self) -> None:
        left = self._per_turn
        while self._waiting and left > 0:
            first = self._waiting[0]
            if len(first.acknowledged) < len(first.told):
                left -= self._step(first)
            if len(first.acknowledged) == len(first.told):
                self._waiting.popleft()
                self._tell_when_written(first)
        self._turning = bool(self._waiting)
        if self._turning:
            # Behind everything that came meanwhile: a request waits for one turn of feedback at the most.
            self._loop.call_soon(self._turn)

    def _tell_when_written(self, waiting: _Waiting) -> None:
        def tell() -> None:
            if not waiting.done.done():  # its client may be gone
                waiting.done.set_result(waiting.acknowledged)

        def written() -> None:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                self._loop.call_soon_threadsafe(tell)

        if self._keeper is None:
            tell()
        else:
            self._keeper.when_written(written)

    def _step(self, waiting: _Waiting) -> int:
        """Learn a piece of the request in hand; how many rows that took."""
        told = waiting.told[len(waiting.acknowledged)]
        if not waiting.pieces:
            labels = self._read(told)
            if isinstance(labels, Acknowledge):
                return self._end(waiting, told, labels)
            waiting.pieces += self._cut(told.request_id, labels)
        piece = waiting.pieces.popleft()
        acknowledge = self._learner.confirm(told.request_id, piece)
        waiting.lessons += acknowledge.lessons
        if waiting.pieces and acknowledge.verdict is Verdict.ACCEPTED:
            return self._per_turn
        return self._end(waiting, told, replace(acknowledge, lessons=waiting.lessons))

    def _end(self, waiting: _Waiting, told: Told, acknowledge: Acknowledge) -> int:
        waiting.acknowledged.append(acknowledge)
        waiting.pieces.clear()
        waiting.lessons = ()
        self._rows -= len(told.labels)
        return max(min(len(told.labels), self._per_turn), 1)

    def _read(self, told: Told) -> tuple[int | None, ...] | Acknowledge:
        """Classes as indices, or why they cannot be read."""
        found = self._learner.remembered(told.request_id)
        if found is None:
            return ()  # the scheduler says why
        app, labels = found.application, list[int | None]()
        for row, label in enumerate(told.labels):
            known = range(len(app.classes)) if isinstance(label, int) else app.classes
            if label is not None and label not in known:
                told_as = repr(label[:80] if isinstance(label, str) else label)[:100]
                detail = (
                    f"application {app.name!r} has no class {told_as} (row {row}); there are "
                    f"{', '.join(app.classes)}; or as numbers, not as text, 0 to {len(app.classes) - 1}"
                )
                return Acknowledge(told.request_id, Verdict.INVALID, app.name, detail=detail)
            labels.append(app.classes.index(label) if isinstance(label, str) else label)
        return tuple(labels)

    def _cut(self, request_id: str, labels: tuple[int | None, ...]) -> list[tuple[int | None, ...]]:
        """A request of many rows in pieces, each with the labels of some rows and None for the others; in one piece
        where something is wrong with it, so that it is refused as a whole."""
        found, most = self._learner.remembered(request_id), self._per_turn
        if found is None or len(labels) <= most or len(labels) != found.rows:
            return [labels]
        given = [row for row, label in enumerate(labels) if label is not None]
        known = range(len(found.application.classes))
        if any(row in found.confirmed or labels[row] not in known for row in given):
            return [labels]
        pieces = []
        for at in range(0, len(given), most):
            rows = set(given[at : at + most])
            pieces.append(tuple(label if row in rows else None for row, label in enumerate(labels)))
        return pieces or [labels]
