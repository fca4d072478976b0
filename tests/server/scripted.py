"""A backend that does as it is told, applications small enough to see through, and the doors in front of them."""

import asyncio
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from peekserve.clock import ManualClock
from peekserve.core.beliefs import Belief, make
from peekserve.core.catalogue import Catalogue
from peekserve.domain.application import Application, QueryType, Variant
from peekserve.domain.messages import Answer, Arrived, BatchDone, Cancelled, RunBatch
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, RowRef, Source
from peekserve.domain.tensors import InputMap, Missing, Padding, TensorSpec
from peekserve.server.accounting import Accounts
from peekserve.server.calls import Array
from peekserve.server.describe import Descriptions
from peekserve.server.frontdesk import FrontDesk, Limits, Observer
from peekserve.server.http_api import make_app
from peekserve.server.logs import make_logger
from peekserve.server.observing import Following
from peekserve.server.statistics import Statistics
from peekserve.server.telemetry import Telemetry

QUICK_S = 0.010


def a_variant(name: str, *inputs: str, seconds: float = QUICK_S) -> Variant:
    return Variant(
        name,
        revision=f"sha-{name}",
        weights=f"w-{name}",
        inputs=tuple(InputMap(source, source) for source in inputs),
        quality=Quality((0.9, 0.8, 0.7), (0.4, 0.3, 0.3)),
        timing={"cpu": Timing((LatencyCurve((1, 8), (seconds, 2 * seconds)),))},
        max_batch=8,
    )


# One fixed input of four floats, two variants.
PLAIN = Application(
    "plain",
    classes=("low", "mid", "high"),
    variants=(a_variant("small", "x"), a_variant("large", "x", seconds=0.05)),
    prior=(0.5, 0.5, 0.5),
    inputs=(TensorSpec("x", "FP32", (4,)),),
    queries=(("default", QueryType(0.2)), ("urgent", QueryType(0.05))),
    max_deadline_s=2.0,
)
# Two modalities, a length that varies, NaN means missing.
SENSED = Application(
    "sensed",
    classes=("a", "b", "c"),
    variants=(a_variant("motion", "accel"), a_variant("fusion", "accel", "gyro"), a_variant("spin", "gyro")),
    prior=(1.0, 1.0, 1.0),
    inputs=(
        TensorSpec("accel", "FP32", (-1, 2), buckets=(4, 8), missing=Missing.MISSING),
        TensorSpec("gyro", "FP32", (3,), missing=Missing.MISSING),
    ),
)
TYPED = Application(
    "typed",
    classes=("no", "yes"),
    variants=(a_variant("only", "wave", "mask"),),
    prior=(1.0, 1.0),
    inputs=(
        TensorSpec("wave", "INT16", (-1,), buckets=(2, 4), pad=Padding.EDGE),
        TensorSpec("mask", "BOOL", (2,)),
    ),
)

Script = Callable[[Request, Mapping[str, Array]], Answer]


def by_first_value(request: Request, inputs: Mapping[str, Array]) -> Answer:
    """Each row's class is its first value; the pinned variant answers, or else the first."""
    variant = request.pinned or {"plain": "small", "sensed": "motion", "typed": "only"}[request.application]
    first = next(iter(inputs.values())).reshape(request.rows, -1)[:, 0]
    rows = tuple(
        RowAnswer(
            label=int(value),
            scores=tuple(float(i == int(value)) for i in range(2 if request.application == "typed" else 3)),
            source=Source.MODEL,
            variant=variant,
            expected_accuracy=0.75,
            batch_id=1,
            started_at=request.arrived_at + 0.002,
            finished_at=request.arrived_at + 0.012,
        )
        for value in first
    )
    return Answer(request.id, Outcome.ANSWERED, Reason.OK, rows, predicted_at=request.arrived_at + 0.011)


def each_row_its_own(request: Request, inputs: Mapping[str, Array]) -> Answer:
    """The first row from `small`, the last from the peek."""
    answer = by_first_value(request, inputs)
    peeked = replace(
        answer.rows[-1], source=Source.PEEK, variant=None, batch_id=None, started_at=None, finished_at=None
    )
    return replace(answer, rows=(*answer.rows[:-1], peeked))


def never(outcome: Outcome, reason: Reason, detail: str = "") -> Script:
    return lambda request, _: Answer(request.id, outcome, reason, detail=detail)


@dataclass
class Submitted:
    request: Request
    inputs: Mapping[str, Array]
    lengths: Mapping[str, Array] | None


class ScriptedBackend:
    """Answers at once by its script; with `script` None it holds on to every request until it is cancelled."""

    def __init__(self, script: Script | None = by_first_value) -> None:
        self.applications: Mapping[str, Application] = {a.name: a for a in (PLAIN, SENSED, TYPED)}
        self.script = script
        self.clock = ManualClock(100.0)
        self.submitted: list[Submitted] = []
        self.cancelled: list[str] = []
        self.held: dict[str, asyncio.Future[Answer]] = {}
        self.up = True
        self.beliefs = "dirichlet"
        self.observers: list[Observer] = []

    @property
    def last(self) -> Submitted:
        return self.submitted[-1]

    def submit(
        self, request: Request, inputs: Mapping[str, Array], lengths: Mapping[str, Array] | None
    ) -> asyncio.Future[Answer]:
        self.submitted.append(Submitted(request, inputs, lengths))
        self._tell(Arrived(request))
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self.script is None:
            self.held[request.id] = future
            return future
        answer = self.script(request, inputs)
        ran = [row for row in answer.rows if row.variant is not None]
        if ran:
            refs = tuple(RowRef(request.id, i) for i in range(len(ran)))
            batch = RunBatch(1, "cpu:0", request.application, ran[0].variant or "", 0, refs, 0.009, "idle")
            self._command(batch)
            scores = np.array([row.scores for row in ran])
            self._tell(BatchDone(1, scores, ran[0].started_at or 0.0, ran[0].finished_at or 0.0))
        self.clock.advance(0.012)
        self._command(answer)
        future.set_result(answer)
        return future

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)
        self._tell(Cancelled(request_id))
        future = self.held.pop(request_id, None)
        if future is not None and not future.done():
            answer = Answer(request_id, Outcome.CANCELLED, Reason.CANCELLED)
            self._command(answer)
            future.set_result(answer)

    def belief(self, application: str) -> Belief:
        return make(self.beliefs, Catalogue([self.applications[application]]))[0]

    def now(self) -> float:
        return self.clock.now()

    def live(self) -> bool:
        return self.up

    def ready(self, application: str | None = None, variant: str | None = None) -> bool:
        return self.up

    def state(self, application: str, variant: str) -> tuple[str, str]:
        return ("READY", "") if self.up else ("UNAVAILABLE", "no worker is up")

    def observe(self, observer: Observer) -> None:
        self.observers.append(observer)

    def _tell(self, event: Arrived | BatchDone | Cancelled) -> None:
        for observer in self.observers:
            observer.event(event, self.now())

    def _command(self, command: RunBatch | Answer) -> None:
        for observer in self.observers:
            observer.commands([command], self.now())


class Doors:
    """Everything that stands in front of a backend, wired as the server wires it."""

    def __init__(self, backend: ScriptedBackend, limits: Limits | None = None) -> None:
        self.backend = backend
        self.log = io.StringIO()
        self.telemetry = Telemetry("0.0.0")
        self.statistics = Statistics(unix_ms=lambda: 1_700_000_000_000)
        backend.observe(Following([self.telemetry, self.statistics]))
        self.desk = FrontDesk(backend, boot="test", limits=limits)
        self.accounts = Accounts(self.telemetry, make_logger(self.log))
        self.descriptions = Descriptions(self.desk, self.statistics, "0.0.0")
        self.app = make_app(self.desk, self.accounts, self.descriptions)

    def metrics(self) -> str:
        return self.telemetry.exposition("")[0].decode()
