"""One row per request; every number in a report is made from rows by a function here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Application
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, Source

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one request. Instants are seconds on the run's own clock; `settled_at` is when its
    client knew.

    `correct`: share of its rows answered rightly. `believed`: mean expected accuracy of the choices; nan
    without an answer or a profile. `utility`: realised: right or wrong, weighed by class, less the penalty of
    the real lateness.
    """

    request_id: str
    application: str
    arrived_at: float
    due_at: float
    settled_at: float
    outcome: Outcome
    reason: Reason
    variants: tuple[str, ...]
    by_peek: bool
    correct: float
    believed: float
    utility: float

    @property
    def in_time(self) -> bool:
        return self.outcome in (Outcome.ANSWERED, Outcome.LATE) and self.settled_at <= self.due_at


def row(
    request: Request,
    application: Application,
    labels: Sequence[int],
    outcome: Outcome,
    reason: Reason,
    answers: Sequence[RowAnswer],
    settled_at: float,
) -> Row:
    """The row of one request. `labels`: the true class of each of its rows."""
    scale = len(application.classes) / sum(application.weights)
    penalty = application.query(request.query).penalty
    kept = 1.0 - penalty.at(settled_at - request.due_at, request.deadline_s) if answers else 0.0
    right = [a.label == label for a, label in zip(answers, labels, strict=True)] if answers else []
    worth = [application.weights[label] * scale * r for label, r in zip(labels, right, strict=False)]
    beliefs = [a.expected_accuracy for a in answers if a.expected_accuracy is not None]
    return Row(
        request_id=request.id,
        application=request.application,
        arrived_at=request.arrived_at,
        due_at=request.due_at,
        settled_at=settled_at,
        outcome=outcome,
        reason=reason,
        variants=tuple(dict.fromkeys(a.variant or "peek" for a in answers)),
        by_peek=bool(answers) and all(a.source is Source.PEEK for a in answers),
        correct=float(np.mean(right)) if right else 0.0,
        believed=float(np.mean(beliefs)) if beliefs else float("nan"),
        utility=kept * float(np.mean(worth)) if worth else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in numbers. `low`, `high`: 95% bootstrap interval of the mean utility. `accuracy`: of what was
    answered. `deadlines_met`, `by_peek`: shares of all requests. `p95_s`: of the time to an outcome."""

    requests: int
    utility: float
    low: float
    high: float
    accuracy: float
    deadlines_met: float
    by_peek: float
    believed: float
    p95_s: float

    def __str__(self) -> str:
        return (
            f"utility {self.utility:.3f} [{self.low:.3f}, {self.high:.3f}], {self.deadlines_met:.1%} in time, "
            f"{self.accuracy:.1%} right, {self.by_peek:.1%} answered by the peek"
        )


def summary(rows: Sequence[Row], seed: int = 0) -> Summary:
    """Summarise one run (or one application of it). Raises ValueError without rows."""
    if not rows:
        raise ValueError("no rows to summarise")
    utility = np.array([r.utility for r in rows])
    low, high = interval(utility, seed=seed)
    answered = [r for r in rows if r.outcome in (Outcome.ANSWERED, Outcome.LATE)]
    believed = np.array([r.believed for r in answered])
    return Summary(
        requests=len(rows),
        utility=float(utility.mean()),
        low=low,
        high=high,
        accuracy=float(np.mean([r.correct for r in answered])) if answered else 0.0,
        deadlines_met=float(np.mean([r.in_time for r in rows])),
        by_peek=float(np.mean([r.by_peek for r in rows])),
        believed=float(np.nanmean(believed)) if np.isfinite(believed).any() else float("nan"),
        p95_s=float(np.quantile([r.settled_at - r.arrived_at for r in rows], 0.95)),
    )


def interval(
    values: Floats, seed: int = 0, repeats: int = 2000, block: int = 10, of: Callable[..., Floats] = np.mean
) -> tuple[float, float]:
    """95% bootstrap interval of a mean over requests in order of arrival. Blocks of neighbours are drawn
    together, because what a backlog does to one it does to the next."""
    n = len(values)
    size = min(block, n)
    blocks = int(np.ceil(n / size))
    rng = np.random.default_rng(seed)
    means = np.empty(repeats)
    for i in range(repeats):
        starts = rng.integers(0, n - size + 1, blocks)
        picks = (starts[:, None] + np.arange(size)).ravel()[:n]
        means[i] = of(values[picks])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def paired_difference(rows: Sequence[Row], base: Sequence[Row], seed: int = 0) -> tuple[float, float, float]:
    """(mean, low, high) of utility(rows) - utility(base), request by request over the same arrivals.

    Raises ValueError when the two runs did not see the same requests.
    """
    if len(rows) != len(base) or any(a.application != b.application for a, b in zip(rows, base, strict=True)):
        raise ValueError(f"the runs differ: {len(rows)} and {len(base)} requests, or other applications")
    difference = np.array([a.utility - b.utility for a, b in zip(rows, base, strict=True)])
    low, high = interval(difference, seed=seed)
    return float(difference.mean()), low, high
