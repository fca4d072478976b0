"""What happened (events, in the past tense) and what to do about it (commands, in the imperative).

    Arrived -> Peek -> Peeked -> Woke -> [Unload, Load,] RunBatch -> BatchDone -> Answer

These values are all that passes between the scheduler and its drivers, live, simulated or replayed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Application
from peekserve.domain.feedback import Lesson, Verdict
from peekserve.domain.gears import Stop
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, RowRef

Floats = npt.NDArray[np.float64]


# ---- events ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    """A valid request came in."""

    request: Request


@dataclass(frozen=True, slots=True)
class Peeked:
    """The peek is done. `counts`: float64 [rows, C], evidence for each class; None when the peek failed."""

    request_id: str
    counts: Floats | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The client went away."""

    request_id: str


@dataclass(frozen=True, slots=True)
class BatchDone:
    """A batch ended. `scores`: float64 [n, C] in the order of the batch's rows."""

    batch_id: int
    scores: Floats
    started_at: float
    finished_at: float


@dataclass(frozen=True, slots=True)
class BatchFailed:
    """The runtime raised; the worker lives on."""

    batch_id: int
    error: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Weights are resident; `seconds` is what it took, `bytes` what it holds."""

    worker: str
    weights: str
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Unloaded:
    """Weights are forgotten, and their memory is given back as far as their worker can."""

    worker: str
    weights: str


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """This worker could not make these weights resident."""

    worker: str
    weights: str
    error: str


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """A worker is ready and holds nothing. `device` is the key of its timing profiles."""

    worker: str
    device: str
    budget_bytes: int


@dataclass(frozen=True, slots=True)
class WorkerDown:
    """A worker is gone, with all it held and ran."""

    worker: str
    error: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The true classes of a request's rows became known: an index for each row, None where it is still unknown."""

    request_id: str
    labels: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was confirmed before this scheduler began, the oldest first."""

    lessons: tuple[Lesson, ...]


@dataclass(frozen=True, slots=True)
class Registered:
    """An application joined, or another revision of one: from now on requests may name its key. It is not loaded before
    work comes for it."""

    application: Application


@dataclass(frozen=True, slots=True)
class Offered:
    """The owner lets new requests use these variants of an application, by its key, and no others: what was accepted
    before ends as it was accepted. Weights that nobody may use any more are unloaded. Those that are offered are loaded
    where they fit, but where some are taken away, only those that were not offered until now; an earlier failure to
    load them is forgotten."""

    application: str
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Woke:
    """The instant asked for by the last WakeAt has come."""


Event = (
    Arrived
    | Peeked
    | Cancelled
    | BatchDone
    | BatchFailed
    | Loaded
    | LoadFailed
    | Unloaded
    | WorkerUp
    | WorkerDown
    | Confirmed
    | Recalled
    | Registered
    | Offered
    | Woke
)


# ---- commands --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Peek:
    """Look at this request's data and report Peeked."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Forget these weights."""

    worker: str
    weights: str


@dataclass(frozen=True, slots=True)
class Load:
    """Make the weights of this variant resident. `warm`: nothing waits for them, so larger batches shall run once,
    too."""

    worker: str
    weights: str
    application: str
    variant: str
    warm: bool = False


@dataclass(frozen=True, slots=True)
class RunBatch:
    """Run these rows together. `closed`: why the batch was not made larger (full, deadline, idle, window,
    policy)."""

    batch_id: int
    worker: str
    application: str
    variant: str
    bucket: int
    rows: tuple[RowRef, ...]
    predicted_s: float
    closed: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The one outcome of a request. `rows` is empty unless it was answered or late. `explanation`: JSON, for a request
    that asked (core/explaining.py)."""

    request_id: str
    outcome: Outcome
    reason: Reason
    rows: tuple[RowAnswer, ...] = ()
    detail: str = ""
    predicted_at: float | None = None
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Restart:
    """This worker hangs: end it and start another."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell who confirmed a request what became of it, and keep what was learnt, one lesson for each row.
    `application`: empty for a request that is not remembered."""

    request_id: str
    verdict: Verdict
    application: str = ""
    lessons: tuple[Lesson, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Report Woke at this instant. The newest replaces all before it: there is one timer for everything."""

    at: float


Command = Peek | Unload | Load | RunBatch | Answer | Acknowledge | Restart | WakeAt


# ---- plans -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows to run together: indices into the View that the plan was made from. `stop`: what becomes of them when the
    batch ends; None answers them all, or leaves that to escalation."""

    worker: int
    lane: int
    variant: int
    rows: Sequence[int]
    closed: str = "policy"
    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a policy wants: batches in the order of each worker's queue, rows answered by the peek at once,
    and rows not worth a place. A row that stands nowhere stays in the backlog; `again_at`, later than now, is when
    a policy that makes rows wait on purpose wants to be asked about them again, if nothing changes before."""

    batches: Sequence[Batch] = ()
    instant: Sequence[int] = field(default=())
    refuse: Sequence[int] = field(default=())
    again_at: float = float("inf")
