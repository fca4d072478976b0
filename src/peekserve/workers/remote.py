"""A runtime in a fresh process of its own, spoken to and waited for: trial loads and profiles.

What a model does to that process (a crash, memory that does not come back) stays there.
"""

import select
import time
from types import TracebackType
from typing import Self

import numpy as np

from peekserve.domain.application import Variant
from peekserve.domain.tensors import TensorSpec
from peekserve.errors import BackendError, InvalidModel, WorkerFailed
from peekserve.runtimes.base import Inputs, Scores
from peekserve.workers import frames
from peekserve.workers.columns import lay_out
from peekserve.workers.ring import Ring
from peekserve.workers.slots import Slot
from peekserve.workers.spawn import Child, spawn

_APPLICATION = "trial"


class RemoteRuntime:
    """A Runtime, and more: `load_s` and `run_s` tell what the worker's own clock says of the last load and batch.

    `specs`: the application's inputs, to warm up with; without them a load runs nothing. Use it as a context:

        with RemoteRuntime(slot, application.inputs) as runtime:
            held = runtime.load(variant, classes)

    Raises InvalidModel when a load fails or kills the process, WorkerFailed when anything else does or `timeout_s`
    seconds pass without a reply. After either of the last two it is of no more use.
    """

    def __init__(self, slot: Slot, specs: tuple[TensorSpec, ...] = (), timeout_s: float = 120.0) -> None:
        self._slot = slot
        self._specs = specs
        self._timeout_s = timeout_s
        self._ring: Ring | None = None
        self._child: Child | None = None
        self._unpacker = frames.Unpacker()
        self._described: Variant | None = None
        self.load_s = 0.0
        self.run_s = 0.0

    def __enter__(self) -> Self:
        self._slot.check()
        self._ring = Ring(self._slot.ring_bytes)
        self._child = spawn(self._slot, self._ring)
        reply = self._reply()
        if not isinstance(reply, frames.Hello):
            raise WorkerFailed(f"a worker began with {reply!r}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """Of the worker's process, for whoever wants to know what it holds."""
        return self._living().process.pid

    def load(self, variant: Variant, classes: int) -> int:
        try:
            self._describe(variant, classes)
            match reply := self._ask(frames.LoadModel(_APPLICATION, variant.name, warm=True)):
                case frames.ModelLoaded():
                    self.load_s = reply.seconds
                    return reply.bytes
                case frames.ModelRefused():
                    raise InvalidModel(reply.error)
        except WorkerFailed as error:
            raise InvalidModel(f"variant {variant.name!r} could not be loaded: {error}") from error
        raise WorkerFailed(f"a load was answered by {reply!r}")

    def run(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        self._describe(variant, classes)
        assert self._ring is not None  # as long as the child lives
        offset, tensors = lay_out(self._ring, {name: list(x) for name, x in inputs.items()})
        reply = self._ask(frames.RunModel(0, _APPLICATION, variant.name, tensors))
        if offset is not None:
            self._ring.free(offset)
        match reply:
            case frames.RanModel():
                self.run_s = reply.finished_at - reply.started_at
                return np.frombuffer(reply.scores).reshape(reply.rows, -1)
            case frames.RunFailed():
                raise BackendError(reply.error)
        raise WorkerFailed(f"a batch was answered by {reply!r}")

    def prove(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        return self.run(variant, classes, inputs)

    def unload(self, weights: str) -> None:
        reply = self._ask(frames.UnloadModel(weights))
        if not isinstance(reply, frames.ModelUnloaded):
            raise WorkerFailed(f"an unload was answered by {reply!r}")

    def _describe(self, variant: Variant, classes: int) -> None:
        self._living()
        if self._described is not variant:
            self._send(frames.Describe(_APPLICATION, variant, classes, self._specs))
            self._described = variant

    def _ask(self, message: frames.ToWorker) -> frames.ToFront:
        self._send(message)
        return self._reply()

    def _send(self, message: frames.ToWorker) -> None:
        child = self._living()
        child.pipe.settimeout(self._timeout_s)
        try:
            child.pipe.sendall(frames.pack(message))
        except OSError as error:
            raise WorkerFailed(self._end(grace_s=1.0)) from error

    def _reply(self) -> frames.ToFront:
        child = self._living()
        poll = select.poll()
        poll.register(child.pipe, select.POLLIN)
        poll.register(child.errors, select.POLLIN)
        until = time.monotonic() + self._timeout_s
        while (left := until - time.monotonic()) > 0.0:
            ready = {fd for fd, _ in poll.poll(1000.0 * left)}
            if child.errors in ready:
                child.drain_errors()
            if child.pipe.fileno() in ready:
                try:
                    data = child.pipe.recv(1 << 18)
                except ConnectionResetError:
                    data = b""
                if not data:
                    raise WorkerFailed(self._end(grace_s=1.0))
                # One question at a time: there is one reply, whole or in part.
                if replies := self._unpacker.feed(data):
                    return frames.to_front(replies[0])
        raise WorkerFailed(f"no reply in {self._timeout_s:g} s: {self._end()}")

    def _living(self) -> Child:
        if self._child is None:
            raise WorkerFailed("this worker process has ended")
        return self._child

    def _end(self, grace_s: float = 0.0) -> str:
        how = self._child.end(grace_s) if self._child is not None else ""
        self._child = None
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        return how
