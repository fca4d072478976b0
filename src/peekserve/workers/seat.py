"""One worker slot through all the lives of its process."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import msgspec
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
from peekserve.errors import InvalidTensor, WorkerFailed
from peekserve.workers import frames
from peekserve.workers.base import Report, RowInputs
from peekserve.workers.columns import by_input, lay_out
from peekserve.workers.ring import Ring
from peekserve.workers.slots import Slot
from peekserve.workers.spawn import Child, spawn

# The first rebirth is at once; a worker that goes on dying is tried ever more rarely.
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
# Having lived this long, a worker is no longer one that goes on dying.
_HEALTHY_S = 1.0
# Between closing its socket and being gone a process has little left to do.
_GRACE_S = 0.2
# Importing a framework from a slow disk takes its time; nothing takes this long.
_HELLO_S = 60.0
# A worker with nothing to do is asked so often whether it is there.
BEAT_S = 1.0
# Counted in beats, not in seconds: a front that itself stood still has not listened meanwhile.
_MISSED_BEATS = 3
# Who loads cannot answer before it has; no model takes this long.
_LOADING_BEATS = 60


@dataclass(frozen=True, slots=True)
class Health:
    """How a worker is. `heard_at`: its last message. `waiting_since`: when the oldest command that still awaits its
    reply was sent. `restarts`: births after the first. `error`: how the last life ended."""

    up: bool
    pid: int | None
    heard_at: float | None
    waiting_since: float | None
    restarts: int
    error: str


class Seat:
    """Starts a process, speaks with it, buries it, starts the next. All on the thread of the event loop.

    Every `beat_s` a worker that owes no reply is pinged. One that leaves a ping unanswered for three beats, or a load
    for sixty, is ended and born again. A worker that has a batch is judged by the scheduler, who knows how long that
    should take.
    """

    def __init__(
        self,
        slot: Slot,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        report: Report,
        beat_s: float = BEAT_S,
    ) -> None:
        self.slot = slot
        self._loop = loop
        self._clock = clock
        self._report = report
        self._beat_s = beat_s
        self._ring: Ring | None = None
        self._child: Child | None = None
        self._unpacker = frames.Unpacker()
        self._outbox = bytearray()
        self._described: dict[tuple[str, str], Variant] = {}
        self._batches: deque[tuple[int, int | None]] = deque()  # (batch id, offset in the ring)
        self._sent_at: deque[float] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._next_beat: asyncio.TimerHandle | None = None
        self._pinged = False
        self._silent_beats = 0
        self._born_at = 0.0
        self._heard_at: float | None = None
        self._up = False
        self._down_reported = False
        self._stopped = False
        self._failures = 0
        self._births = 0
        self._why = ""
        self._error = ""

    # ---- commands ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._ring = Ring(self.slot.ring_bytes)
        self._next_beat = self._loop.call_later(self._beat_s, self._beat)
        self._spawn()

    def load(self, command: Load, application: Application, variant: Variant) -> None:
        # Whoever shares the weights becomes resident with them, and is warmed up with them.
        for one in application.variants:
            if one.weights == variant.weights:
                self._describe(application, one)
        self._send(frames.LoadModel(application.key, variant.name, command.warm), replies=True)

    def unload(self, command: Unload) -> None:
        self._send(frames.UnloadModel(command.weights), replies=True)

    def run(
        self, command: RunBatch, application: Application, variant: Variant, rows: Sequence[RowInputs]
    ) -> None:
        assert self._ring is not None
        try:
            columns = by_input(variant, rows)
        except InvalidTensor as error:
            self._loop.call_soon(self._say, self._child, BatchFailed(command.batch_id, str(error)))
            return
        self._describe(application, variant)
        offset, tensors = lay_out(self._ring, columns)
        self._batches.append((command.batch_id, offset))
        self._send(frames.RunModel(command.batch_id, application.key, variant.name, tensors), replies=True)

    def restart(self, command: Restart) -> None:
        if self._child is not None:
            self._why = command.reason
            self._child.process.kill()  # the rest follows when its socket closes

    def stop(self) -> None:
        self._stopped = True
        for timer in (self._timer, self._next_beat):
            if timer is not None:
                timer.cancel()
        self._bury()
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def health(self) -> Health:
        return Health(
            self._up,
            self._child.process.pid if self._child else None,
            self._heard_at,
            self._sent_at[0] if self._sent_at else None,
            max(self._births - 1, 0),
            self._error,
        )

    # ---- life and death ----------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        assert self._ring is not None
        self._births += 1
        self._born_at = self._clock.now()
        try:
            self._child = spawn(self.slot, self._ring)
        except OSError as error:
            self._fell(f"cannot start a worker process: {error}")
            return
        self._loop.add_reader(self._child.pipe.fileno(), self._readable, self._child)
        self._loop.add_reader(self._child.errors, self._child.drain_errors)
        self._timer = self._loop.call_later(_HELLO_S, self._never_said_hello)

    def _never_said_hello(self) -> None:
        self.restart(Restart(self.slot.name, f"not ready after {_HELLO_S:g} s"))

    def _beat(self) -> None:
        self._next_beat = self._loop.call_later(self._beat_s, self._beat)
        if not self._up:
            return
        if self._pinged:
            self._silent(_MISSED_BEATS, "it had nothing to do and did not answer")
        elif self._batches:
            self._silent_beats = 0
        elif self._sent_at:
            self._silent(_LOADING_BEATS, "it was asked to load or unload, and did not answer")
        else:
            self._pinged = True
            self._send(frames.Ping())

    def _silent(self, most: int, what: str) -> None:
        self._silent_beats += 1
        if self._silent_beats == most:  # once: after that it is about to be gone
            self.restart(Restart(self.slot.name, f"{what} for {most * self._beat_s:g} s"))

    def _bury(self, grace_s: float = 0.0) -> str:
        """Everything that belonged to this life goes with it."""
        if self._child is None:
            return ""
        child, self._child = self._child, None
        self._loop.remove_reader(child.pipe.fileno())
        self._loop.remove_writer(child.pipe.fileno())
        self._loop.remove_reader(child.errors)
        how = child.end(grace_s)
        self._unpacker = frames.Unpacker()
        self._outbox.clear()
        self._described.clear()
        self._batches.clear()
        self._sent_at.clear()
        self._pinged, self._silent_beats = False, 0
        if self._ring is not None:
            self._ring.clear()
        self._up = False
        return how

    def _fell(self, error: str) -> None:
        """Report it, unless the last that was heard of this worker was that it is down; then begin again."""
        self._error, self._why = f"{self._why}: {error}" if self._why else error, ""
        if self._timer is not None:
            self._timer.cancel()
        if self._clock.now() - self._born_at >= _HEALTHY_S:
            self._failures = 0
        wait_s = min(_FIRST_WAIT_S * 2.0 ** (self._failures - 1), _LONGEST_WAIT_S) if self._failures else 0.0
        self._failures += 1
        self._timer = self._loop.call_later(wait_s, self._spawn)
        if not self._down_reported:
            self._down_reported = True
            self._report(WorkerDown(self.slot.name, self._error))

    # ---- the socket --------------------------------------------------------------------------------------------

    def _describe(self, application: Application, variant: Variant) -> None:
        key = (application.key, variant.name)
        if self._described.get(key) is not variant:
            self._described[key] = variant
            self._send(
                frames.Describe(application.key, variant, len(application.classes), application.inputs)
            )

    def _send(self, message: frames.ToWorker, replies: bool = False) -> None:
        if self._child is None or not self._up:
            raise WorkerFailed(f"worker {self.slot.name!r} is not up: {self._error or 'it is starting'}")
        if replies:
            self._sent_at.append(self._clock.now())
        frame = frames.pack(message)
        if not self._outbox:
            try:
                frame = frame[self._child.pipe.send(frame) :]
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                return  # it is dead, and the reader is about to learn of it
            if not frame:
                return
            self._loop.add_writer(self._child.pipe.fileno(), self._writable, self._child)
        self._outbox += frame

    def _writable(self, child: Child) -> None:
        try:
            del self._outbox[: child.pipe.send(self._outbox)]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._outbox.clear()
        if not self._outbox:
            self._loop.remove_writer(child.pipe.fileno())

    def _readable(self, child: Child) -> None:
        try:
            data = child.pipe.recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._fell(self._bury(_GRACE_S))
            return
        self._heard_at, self._silent_beats = self._clock.now(), 0
        try:
            for body in self._unpacker.feed(data):
                self._take(child, frames.to_front(body))
                if child is not self._child:
                    return  # whoever heard the report has stopped us
        except msgspec.DecodeError as error:
            self._why = f"spoke nonsense ({error})"
            child.process.kill()

    def _take(self, child: Child, message: frames.ToFront) -> None:
        if not isinstance(message, frames.Hello | frames.Pong):
            self._sent_at.popleft()
        worker = self.slot.name
        match message:
            case frames.Hello():
                if self._timer is not None:
                    self._timer.cancel()
                self._up, self._down_reported = True, False
                self._report(WorkerUp(worker, self.slot.device, self.slot.budget_bytes))
            case frames.ModelLoaded():
                self._report(Loaded(worker, message.weights, message.seconds, message.bytes))
            case frames.ModelRefused():
                self._report(LoadFailed(worker, message.weights, message.error))
            case frames.ModelUnloaded():
                self._report(Unloaded(worker, message.weights))
            case frames.Pong():
                self._pinged = False
            case frames.RanModel():
                self._ended(message.batch_id)
                scores = np.frombuffer(message.scores).reshape(message.rows, -1)
                self._report(BatchDone(message.batch_id, scores, message.started_at, message.finished_at))
            case frames.RunFailed():
                self._ended(message.batch_id)
                self._report(BatchFailed(message.batch_id, message.error))
            case _:
                assert_never(message)

    def _ended(self, batch_id: int) -> None:
        expected, offset = self._batches.popleft()
        if expected != batch_id:
            raise WorkerFailed(f"worker {self.slot.name!r} answered batch {batch_id} before batch {expected}")
        if offset is not None and self._ring is not None:
            self._ring.free(offset)

    def _say(self, child: Child | None, event: Event) -> None:
        if child is self._child and not self._stopped:
            self._report(event)
