"""Evidence first, data on demand: a device that peeked itself sends what it saw, and its data only when they would
make the answer better (SneakPeek, section 3.2: the scheduler needs the evidence, the worker needs the data).

The question that the evidence alone can settle is the one of short-circuiting (section 5.1.3): is the peek's own
answer worth as much as that of any variant that could be in time? If so it is the answer, and no data are asked for.
If not, the client gets a token and what is left of its deadline; with its data the call becomes a request like any
other, its evidence included, whose deadline still begins when the evidence came. Load plays no part in the first
step: under load the scheduler may answer by the peek although the data came. Beliefs are the scheduler's own as they
are now; it learns nothing of evidence that never comes to it.

A call has one outcome: at once, with its data, or, when these do not come in time, `deadline_exceeded`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from secrets import token_hex

import numpy as np

from peekserve.domain.application import Application
from peekserve.domain.messages import Answer
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, Source
from peekserve.errors import InvalidRequest, NotWanted, TooFast
from peekserve.server.accounting import Accounts
from peekserve.server.calls import InferCall, InferReply, Tensor
from peekserve.server.checking import EVIDENCE, check_evidence, check_floor, check_outputs, deadline_s
from peekserve.server.frontdesk import FrontDesk
from peekserve.server.wire import OUTCOMES

PARAMETER = "data"
ON_DEMAND = "on-demand"
MOST_HELD = 4096


@dataclass(frozen=True, slots=True)
class Wanted:
    """The data are wanted: `inputs` may come, under this token, by `due_at`."""

    token: str
    application: str
    inputs: tuple[str, ...]
    rows: int
    due_at: float


@dataclass(slots=True)
class _Held:
    call: InferCall
    timer: asyncio.TimerHandle


class OnDemand:
    """Calls whose evidence came and whose data may come. On the event loop's thread only.

    `short_circuit`: whether the peek's answer may be the answer where data can be had; the scheduler's switch.
    `most_held`: calls that may wait for their data.
    """

    def __init__(
        self, desk: FrontDesk, accounts: Accounts, short_circuit: bool = True, most_held: int = MOST_HELD
    ) -> None:
        self._desk = desk
        self._accounts = accounts
        self._short_circuit = short_circuit
        self._most_held = most_held
        self._held: dict[str, _Held] = {}
        self._numbers = count(1)

    def ask(self, call: InferCall) -> InferReply | Wanted:
        """What becomes of evidence alone. Raises InvalidRequest, InvalidTensor, UnknownApplication or TooFast."""
        if call.parameters[PARAMETER] != ON_DEMAND:
            raise InvalidRequest(
                f"parameter {PARAMETER} is {ON_DEMAND!r} or left out, not {call.parameters[PARAMETER]!r:.40}"
            )
        application = self._desk.find(call.application, call.pinned)
        names = [tensor.name for tensor in call.tensors]
        if names != [EVIDENCE]:
            raise InvalidRequest(
                f"a request whose data come on demand brings one tensor, {EVIDENCE!r}; this one has {names}"
            )
        if "stream" in call.parameters:
            raise InvalidRequest("data come on demand or from a stream: leave out one of the two parameters")
        check_outputs(call.outputs)
        query, budget_s = deadline_s(application, call)
        check_floor(application, call, None)
        counts = check_evidence(application, call.tensors[0], self._desk.limits.rows)
        rows = () if call.pinned else self._enough(application, np.array(counts), budget_s)
        due_at = call.arrived_at + budget_s
        if rows:
            request = Request(
                f"evidence-{next(self._numbers):x}", application.name, call.arrived_at, due_at, len(rows), query,
                inputs=(), counts=counts,
            )  # fmt: skip
            return self._answered(application, request, rows)
        if len(self._held) >= self._most_held:
            raise TooFast(
                f"{self._most_held} requests wait for their data already; send data and evidence at once"
            )
        token = token_hex(16)
        delay_s = max(due_at - self._desk.now(), 0.0)
        timer = asyncio.get_running_loop().call_later(min(delay_s, 86_400.0), self._give_up, token)
        self._held[token] = _Held(call, timer)
        inputs = tuple(spec.name for spec in application.inputs)
        return Wanted(token, application.name, inputs, len(counts), due_at)

    def bring(self, token: str, tensors: Sequence[Tensor], outputs: tuple[str, ...]) -> InferCall:
        """The data came: the whole call, to be submitted as any other. `outputs`: those asked for with the data, which
        are the ones that will be written. Raises NotWanted when nobody waits for them."""
        held = self._held.pop(token, None)
        if held is None:
            raise NotWanted("nobody waits for data under this token; its deadline may be over")
        held.timer.cancel()
        call = held.call
        parameters = {name: value for name, value in call.parameters.items() if name != PARAMETER}
        return replace(call, tensors=(*call.tensors, *tensors), parameters=parameters, outputs=outputs)

    def stop(self) -> None:
        for token in list(self._held):
            self._held[token].timer.cancel()
            self._give_up(token)

    def _enough(
        self,
        application: Application,
        counts: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
        budget_s: float,
    ) -> tuple[RowAnswer, ...]:
        """The peek's answers, if they are worth as much as any variant's that may be in time; else nothing."""
        belief = self._desk.backend.belief(application.name)
        seen = belief.believe(counts)
        if not self._short_circuit or np.isnan(seen.instant).any():
            return ()
        in_time = [
            v
            for v, variant in enumerate(application.variants)
            if not variant.timing
            or min(t.curve(0).cautious_s(1) for t in variant.timing.values() if t.curves) <= budget_s
        ]
        if in_time and (seen.accuracy[:, in_time].max(axis=1) > seen.instant).any():
            return ()
        labels = belief.answer(seen.theta)
        return tuple(
            RowAnswer(int(label), tuple(row.tolist()), Source.PEEK, None, float(worth))
            for label, row, worth in zip(labels, seen.theta, seen.instant, strict=True)
        )

    def _answered(
        self, application: Application, request: Request, rows: tuple[RowAnswer, ...]
    ) -> InferReply:
        now = self._desk.now()
        late = now > request.due_at
        outcome, reason = (Outcome.LATE, Reason.LATE) if late else (Outcome.ANSWERED, Reason.OK)
        return InferReply(
            request=request,
            application=application,
            answer=Answer(request.id, outcome, reason, rows),
            labels=np.array([row.label for row in rows], np.int64),
            scores=np.array([row.scores for row in rows], np.float32),
            finished_at=now,
        )

    def _give_up(self, token: str) -> None:
        held = self._held.pop(token, None)
        if held is not None:
            waited_s = self._desk.now() - held.call.arrived_at
            self._accounts.refused(
                held.call.application,
                OUTCOMES[Reason.DEADLINE_EXCEEDED],
                f"the data that were asked for did not come within {waited_s:.3f} s",
                "http",
                waited_s,
            )
