"""Requests, and the one outcome that each of them gets."""

from dataclasses import dataclass
from enum import StrEnum

from peekserve.errors import InvalidRequest


class Outcome(StrEnum):
    """Exactly one for each request, however many rows it holds."""

    ANSWERED = "answered"  # every row has an answer, by the deadline
    LATE = "late"  # every row has an answer, the last one after the deadline
    REFUSED = "refused"  # turned away: in time for none, without a place, or for worthier ones; nothing began
    EXPIRED = "expired"  # accepted, and the deadline passed without an answer
    CANCELLED = "cancelled"  # the client went away
    FAILED = "failed"  # something broke


class Reason(StrEnum):
    """Why: the stable words that clients, logs and metrics share."""

    OK = "ok"
    LATE = "late"
    DEADLINE_INFEASIBLE = "deadline_infeasible"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    OVERLOADED = "overloaded"
    CANCELLED = "cancelled"
    BACKEND_ERROR = "backend_error"
    NOT_READY = "model_not_ready"
    DRAINING = "draining"


class Source(StrEnum):
    """Who answered a row."""

    MODEL = "model"
    PEEK = "peek"
    FUSED = "fused"  # models and peek taken together: core/escalation.py


# Who goes first, as numbers: 1 before 2 before 3. A request that names none has the middle one; the doors take
# a number beyond the lowest for the lowest, so that no client makes more levels than these. The last one is for what
# must cost nobody anything, such as a copy of traffic that a new revision is tried on.
MIDDLE, LOWEST, SHADOW = 8, 15, 16


@dataclass(frozen=True, slots=True)
class TensorRef:
    """Where a request's tensors lie. The core passes it on and never looks inside."""

    key: str


@dataclass(frozen=True, slots=True)
class Request:
    """Accepted work: one deadline, one outcome, `rows` rows that are planned one by one.

    `due_at` is absolute. `inputs` are the modalities that came along; None means all. `counts`, when the
    client brought its own evidence: one tuple of C non-negative numbers for each row. `bucket`: the shape
    bucket of all its rows. `pinned`: answer with this variant and no other. `explain`: say with the answer what else
    was considered. `priority`: 1 is the highest, larger numbers are lower, 0 is the middle (`level`). `min_accuracy`:
    only variants that are profiled at it may answer. `bytes`: what its inputs take.
    """

    id: str
    application: str
    arrived_at: float
    due_at: float
    rows: int = 1
    query: str = "default"
    pinned: str | None = None
    inputs: tuple[str, ...] | None = None
    counts: tuple[tuple[float, ...], ...] | None = None
    bucket: int = 0
    payload: TensorRef | None = None
    explain: bool = False
    priority: int = 0
    min_accuracy: float = 0.0
    bytes: int = 0

    def __post_init__(self) -> None:
        if self.priority < 0 or self.bytes < 0 or not 0.0 <= self.min_accuracy <= 1.0:
            raise InvalidRequest(
                f"request {self.id!r} has priority {self.priority}, a floor of {self.min_accuracy} and "
                f"{self.bytes} bytes; a priority and bytes are 0 or more, a floor lies in [0, 1]"
            )
        if self.rows < 1:
            raise InvalidRequest(f"request {self.id!r} holds {self.rows} rows; it needs one or more")
        if self.due_at < self.arrived_at:
            raise InvalidRequest(
                f"request {self.id!r} is due {self.arrived_at - self.due_at:.6f} s before it came"
            )
        if self.counts is not None and len(self.counts) != self.rows:
            raise InvalidRequest(
                f"request {self.id!r} brings evidence for {len(self.counts)} of its {self.rows} rows"
            )

    @property
    def deadline_s(self) -> float:
        """The relative deadline: what the owner or the client asked for on arrival."""
        return self.due_at - self.arrived_at

    @property
    def level(self) -> int:
        """Where it stands in the order of precedence: 1 goes first, SHADOW last.

        >>> [Request("r", "app", 0.0, 1.0, priority=p).level for p in (1, 0, 9, 15, 16, 400)]
        [1, 8, 9, 15, 16, 16]
        """
        return min(self.priority or MIDDLE, SHADOW)

    def slack_s(self, now: float) -> float:
        return self.due_at - now


@dataclass(frozen=True, slots=True)
class RowRef:
    """One row of one request."""

    request_id: str
    row: int


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """What one row is answered with.

    `scores`: one for each class, they sum to 1. `variant` is None when the peek answered, and the last one that
    was asked for a fused answer. `expected_accuracy`: what the scheduler believed of this choice at the moment it
    made it, and of a fused answer when it had it; None without a profile.
    """

    label: int
    scores: tuple[float, ...]
    source: Source
    variant: str | None
    expected_accuracy: float | None
    batch_id: int | None = None
    started_at: float | None = None
    finished_at: float | None = None
