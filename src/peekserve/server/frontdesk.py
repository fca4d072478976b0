"""The front desk: everything that HTTP and gRPC have in common.

A door decodes bytes into an InferCall; the desk checks it, makes a Request, hands it to the backend and turns
the one Answer into an InferReply. What is wrong with a call is raised (errors.py); whatever a busy system
does is returned.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np

from peekserve.core.beliefs import Belief
from peekserve.domain.application import Application
from peekserve.domain.messages import Answer, Command, Event
from peekserve.domain.request import Outcome, Reason, Request, TensorRef
from peekserve.errors import InvalidRequest, UnknownApplication, UnknownStream
from peekserve.live.shadowing import Mirror
from peekserve.peeking.base import Lengths
from peekserve.server.bodies import PATIENCE_S
from peekserve.server.calls import Array, InferCall, InferReply, StreamWindow
from peekserve.server.checking import (
    Checked,
    check_floor,
    check_outputs,
    check_present,
    check_tensors,
    deadline_s,
    flag,
    priority,
)
from peekserve.server.draining import Draining


class Observer(Protocol):
    """Is shown all that passes between the scheduler and its driver, after the fact."""

    def event(self, event: Event, now: float) -> None: ...

    def commands(self, commands: Sequence[Command], now: float) -> None: ...


class Backend(Protocol):
    """What stands behind the doors: the live driver, or a scripted twin.

    The future of `submit` always resolves, with exactly one Answer: after `cancel` too, with
    Outcome.CANCELLED unless another outcome was first.
    """

    @property
    def applications(self) -> Mapping[str, Application]: ...

    def submit(
        self, request: Request, inputs: Mapping[str, Array], lengths: Lengths | None
    ) -> asyncio.Future[Answer]: ...

    def cancel(self, request_id: str) -> None: ...

    def belief(self, application: str) -> Belief: ...

    def now(self) -> float: ...

    def live(self) -> bool: ...

    def ready(self, application: str | None = None, variant: str | None = None) -> bool: ...

    def state(self, application: str, variant: str) -> tuple[str, str]: ...

    def observe(self, observer: Observer) -> None: ...


class Windows(Protocol):
    """What streams brought (server/streams.py)."""

    def newest(self, application: Application, stream: str, now: float) -> StreamWindow:
        """The newest window whose belief is ready. Raises UnknownStream, StaleStream or NoWindow."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may bring, and how long it may take to bring it."""

    body_bytes: int = 64 << 20
    rows: int = 1024
    body_wait_s: float = PATIENCE_S


class FrontDesk:
    """Checks calls, hands them on, and tells what became of them. `boot`: distinct for each start of the
    server, so that request ids never come twice."""

    def __init__(self, backend: Backend, boot: str, limits: Limits | None = None) -> None:
        self.backend = backend
        self.limits = limits or Limits()
        self.windows: Windows | None = None
        self.mirror: Mirror | None = None
        self._boot = boot
        self._numbers = count(1)
        self._draining = Draining()

    def now(self) -> float:
        return self.backend.now()

    def find(self, name: str, version: str | None = None) -> Application:
        """Raises UnknownApplication or UnknownVariant. An empty version is no version."""
        application = self.backend.applications.get(name)
        if application is None:
            known = ", ".join(sorted(self.backend.applications)) or "none"
            raise UnknownApplication(f"there is no application {name[:80]!r}; there are: {known}")
        if version:
            application.variant(version)
        return application

    async def submit(
        self,
        call: InferCall,
        hung_up: Callable[[], Awaitable[object]] | None = None,
        window: StreamWindow | None = None,
    ) -> InferReply:
        """One call, one reply. `hung_up` returns when the client goes away; the request is cancelled then,
        and also when this coroutine is. `window`: what the call is about, instead of tensors of its own; a call
        that names a stream is about the newest one there.

        Raises InvalidRequest, InvalidTensor, UnknownApplication, UnknownVariant, ConstraintInfeasible, and for a
        call that names a stream UnknownStream, StaleStream, NoWindow: nothing was started.
        """
        if window is None and "stream" in call.parameters:
            window = self._newest(call)
        application, request, inputs, lengths = self._admit(call, window)
        future = self.backend.submit(request, inputs, lengths)
        if self.mirror is not None:
            self.mirror.accepted(request, inputs, lengths, future)
        self._draining.came(request.rows, self.now())
        # However this ends: a client that is gone leaves its request behind.
        future.add_done_callback(lambda done: self._went(request.rows, done))
        watch: asyncio.Future[object] | None = None
        if hung_up is not None:
            watch = asyncio.ensure_future(hung_up())
            watch.add_done_callback(
                lambda done: None if done.cancelled() else self.backend.cancel(request.id)
            )
        try:
            answer = await future
        except asyncio.CancelledError:
            self.backend.cancel(request.id)
            raise
        finally:
            if watch is not None:
                watch.cancel()
        return self._reply(application, request, answer, window)

    def _newest(self, call: InferCall) -> StreamWindow:
        stream = call.parameters["stream"]
        if not isinstance(stream, str):
            raise InvalidRequest(f"parameter stream is the name of a stream, not {stream!r:.40}")
        if call.tensors:
            raise InvalidRequest(
                f"a request about a stream brings no inputs of its own, and this one has "
                f"{call.tensors[0].name[:80]!r}: leave out one or the other"
            )
        application = self.find(call.application, call.pinned)
        if self.windows is None:
            raise UnknownStream("this server takes no streams")
        return self.windows.newest(application, stream, call.arrived_at)

    def _admit(
        self, call: InferCall, window: StreamWindow | None
    ) -> tuple[Application, Request, Mapping[str, Array], Lengths | None]:
        application = self.find(call.application, call.pinned)
        check_outputs(call.outputs)
        query, budget_s = deadline_s(application, call)
        explain, level = flag(call.parameters, "explain"), priority(call.parameters)
        if window is None:
            checked = check_tensors(application, call, self.limits.rows)
        else:
            checked = _of_window(application, call.pinned, window)
        floor = check_floor(application, call, checked.present)
        request_id = f"{self._boot}-{next(self._numbers):x}"
        request = Request(
            id=request_id,
            application=application.key,
            arrived_at=call.arrived_at,
            due_at=call.arrived_at + budget_s,
            rows=checked.rows,
            query=query,
            pinned=call.pinned or None,
            inputs=checked.present,
            counts=checked.counts,
            bucket=checked.bucket,
            payload=TensorRef(request_id),
            explain=explain,
            priority=level,
            min_accuracy=floor,
            bytes=sum(array.nbytes for array in checked.inputs.values()),
        )
        return application, request, checked.inputs, checked.lengths

    def _reply(
        self, application: Application, request: Request, answer: Answer, window: StreamWindow | None
    ) -> InferReply:
        served = answer.outcome in (Outcome.ANSWERED, Outcome.LATE)
        rows = answer.rows if served else ()
        classes = len(application.classes)
        return InferReply(
            request=request,
            application=application,
            answer=answer,
            labels=np.array([row.label for row in rows], np.int64),
            scores=np.array([row.scores for row in rows], np.float32).reshape(len(rows), classes),
            finished_at=self.backend.now(),
            retry_after_s=_retry_after_s(application, request, answer, self._draining.retry_after_s()),
            window=window,
        )

    def _went(self, rows: int, done: asyncio.Future[Answer]) -> None:
        refused = done.cancelled() or done.result().outcome is Outcome.REFUSED
        self._draining.went(rows, refused, self.now())


def _of_window(application: Application, pinned: str | None, window: StreamWindow) -> Checked:
    """A window is one row. It may lack an input that came too late."""
    check_present(application, pinned or None, window.inputs, ())
    everything = len(window.inputs) == len(application.inputs)
    return Checked(
        rows=1,
        inputs=dict(window.inputs),
        lengths={n: v.astype(np.int64) for n, v in window.lengths.items()} if window.lengths else None,
        bucket=window.bucket,
        present=None if everything else tuple(s.name for s in application.inputs if s.name in window.inputs),
        counts=None if window.counts is None else (window.counts,),
    )


def _retry_after_s(application: Application, request: Request, answer: Answer, drained_s: int) -> int | None:
    """Waiting helps against a queue, which should be gone in `drained_s`. It does not help a deadline below the fastest
    variant's own time."""
    if answer.reason is Reason.OVERLOADED:
        return drained_s
    if answer.reason is Reason.NOT_READY:
        return 1
    if answer.reason is not Reason.DEADLINE_INFEASIBLE:
        return None
    variants = application.variants if request.pinned is None else (application.variant(request.pinned),)
    fastest = min(
        (t.curve(request.bucket).cautious_s(1) for v in variants for t in v.timing.values() if t.curves),
        default=0.0,
    )
    return 1 if request.deadline_s > fastest else None


def refusal(reply: InferReply) -> str:
    """One sentence, with the numbers, on why a call was not served."""
    answer, request = reply.answer, reply.request
    if answer.detail:
        return answer.detail
    budget = f"{request.deadline_s * 1e3:.3f} ms"
    name = repr(reply.application.name)
    match answer.reason:
        case Reason.DEADLINE_INFEASIBLE:
            return f"nothing that {name} has can answer {request.rows} rows within the deadline of {budget}"
        case Reason.DEADLINE_EXCEEDED:
            return f"the deadline of {budget} passed before {name} could answer"
        case Reason.OVERLOADED:
            return f"too much is waiting already; {name} took no more work"
        case Reason.CANCELLED:
            return "the client went away"
        case Reason.NOT_READY:
            return f"{name} is not ready to serve"
        case Reason.DRAINING:
            return "the server is shutting down and takes no new work"
        case _:
            return f"{name} failed to answer"
