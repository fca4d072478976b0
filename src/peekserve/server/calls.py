"""What passes between a door and the front desk: a call goes in, a reply comes out. No bytes, no status
codes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Application, Score
from peekserve.domain.messages import Answer
from peekserve.domain.request import Outcome, Request, Source

Array = npt.NDArray[np.generic]
Scalar = str | int | float | bool | None

# What every application can be asked for (design.md section 2: one output contract). Without a wish: the
# first two.
OUTPUTS = ("label", "scores", "class")
DEFAULT_OUTPUTS = OUTPUTS[:2]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named tensor as the client sent it, batch axis first."""

    name: str
    datatype: str
    data: Array


@dataclass(frozen=True, slots=True)
class InferCall:
    """One inference call, decoded but not yet checked against its application.

    `call_deadline_s`: what the transport says (a header, the gRPC call's own deadline), relative to
    `arrived_at`. `outputs`: the names asked for; empty means the default ones.
    """

    application: str
    pinned: str | None
    tensors: tuple[Tensor, ...]
    arrived_at: float
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    call_deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class StreamWindow:
    """The window of a stream that a request is about, looked at already.

    `first`: number of its first sample in the leading input. `inputs`: name -> [1, ...], padded to `bucket`.
    `counts`: what its peek counted, None without one. `ended_at`: when its last sample was taken.
    """

    stream: str
    number: int
    first: int
    ended_at: float
    inputs: Mapping[str, Array]
    lengths: Mapping[str, npt.NDArray[np.integer]] | None
    bucket: int
    counts: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class InferReply:
    """The one outcome of a call, with what the doors tell about it.

    `labels`: int64 [n]; `scores`: float32 [n, C]; both have no rows unless the call was answered.
    `finished_at`: when the front desk learnt of it. `retry_after_s`: how soon it would make sense to ask
    again; None when it would not.
    """

    request: Request
    application: Application
    answer: Answer
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    finished_at: float
    retry_after_s: int | None = None
    window: StreamWindow | None = None

    @property
    def served(self) -> bool:
        return self.answer.outcome in (Outcome.ANSWERED, Outcome.LATE)

    @property
    def met(self) -> bool:
        """In time, here at the door: on a busy machine an answer may be decided in time and still come late."""
        return self.answer.outcome is Outcome.ANSWERED and self.finished_at <= self.request.due_at

    @property
    def version(self) -> str:
        """Who answered: a variant's name, "peek", or "mixed"; "" when nobody did."""
        answerers = set(self.answerers)
        return answerers.pop() if len(answerers) == 1 else "mixed" if answerers else ""

    @property
    def answerers(self) -> list[str]:
        """Who answered each row."""
        return [row.variant or Source.PEEK.value for row in self.answer.rows]

    @property
    def queue_s(self) -> float:
        """How long the row that waited longest waited for its batch to start."""
        arrived_at = self.request.arrived_at
        return max(
            (r.started_at - arrived_at for r in self.answer.rows if r.started_at is not None), default=0.0
        )

    @property
    def compute_s(self) -> float:
        """How long the longest of its batches ran; 0 when the peek answered."""
        return max(
            (
                r.finished_at - r.started_at
                for r in self.answer.rows
                if r.started_at is not None and r.finished_at is not None
            ),
            default=0.0,
        )

    def class_names(self) -> list[str]:
        return [self.application.classes[label] for label in self.labels.tolist()]

    def parameters(self) -> dict[str, Scalar]:
        """The answer's parameters: scalars alone, as the protocol asks (conventions: docs/protocol.md)."""
        request, answer, version = self.request, self.answer, self.version
        told: dict[str, Scalar] = {"request_id": request.id, "variant": version}
        if version == "mixed":
            told["variants"] = ",".join(self.answerers)
        elif version != Source.PEEK.value:
            variant = self.application.variant(version)
            told["revision"] = variant.revision
            if variant.profiled != "complete":
                told["profile"] = variant.profiled
        sources = {row.source.value for row in answer.rows}
        told["source"] = sources.pop() if len(sources) == 1 else "mixed"
        believed = [row.expected_accuracy for row in answer.rows]
        known = [value for value in believed if value is not None]
        if known:
            one, each = value_names(self.application)
            told[one] = sum(known) / len(known)
            if len(believed) > 1:
                told[each] = ",".join("" if v is None else f"{v:.6g}" for v in believed)
        told["deadline_met"] = self.met
        told["queue_us"] = _us(self.queue_s)
        told["compute_us"] = _us(self.compute_s)
        if request.due_at != float("inf"):
            told["slack_us"] = _us(request.due_at - self.finished_at)
        if answer.predicted_at is not None:
            told["predicted_us"] = _us(answer.predicted_at - request.arrived_at)
        if self.window is not None:
            told["stream"] = self.window.stream
            told["window"] = self.window.number
            told["window_first"] = self.window.first
            told["window_age_us"] = _us(request.arrived_at - self.window.ended_at)
        if answer.explanation:
            told["explanation"] = answer.explanation
        return told


def value_names(application: Application) -> tuple[str, str]:
    """The parameters that tell what an answer was believed to be worth, of one row and of each: an accuracy where
    nothing else is weighed into it, a value where class weights or another score are."""
    if application.score is Score.ACCURACY and len(set(application.weights)) == 1:
        return "expected_accuracy", "expected_accuracies"
    return "expected_value", "expected_values"


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
