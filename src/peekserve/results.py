"""One row per request; every number in a report is made from rows by a function here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Application, Score
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, Source
from peekserve.domain.shares import wilson

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one request. Instants are seconds on the run's own clock; `settled_at` is when its
    client knew.

    `correct`: share of its rows answered rightly, whatever their class. `believed`: mean expected value of the
    choices, class-weighted: an accuracy where no class weighs more than another; nan
    without an answer or a profile. `utility`: realised: right or wrong, weighed by class, less the penalty of
    the real lateness; where the application's score is quadratic, what the scores are worth instead of right or
    wrong. A weighted F1 belongs to many requests: `utilities` puts it into each. `labels`: true classes; `said`:
    those answered, empty without an answer; `worth`: what each of its rows adds to `utility`, before the mean.
    `quadratic`: mean of (1 + Q) / 2 of its answers (awareness/scores.py), whatever their lateness; nan without one.
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
    score: Score = Score.ACCURACY
    labels: tuple[int, ...] = ()
    said: tuple[int, ...] = ()
    worth: tuple[float, ...] = ()
    quadratic: float = float("nan")

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
    quadratic = (
        [_quadratic(a.scores, label) for a, label in zip(answers, labels, strict=True)] if answers else []
    )
    value = quadratic if application.score is Score.QUADRATIC else right
    worth = [kept * application.weights[label] * scale * v for label, v in zip(labels, value, strict=False)]
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
        correct=_mean(right, 0.0),
        believed=_mean(beliefs),
        utility=_mean(worth, 0.0),
        score=application.score,
        labels=tuple(labels),
        said=tuple(a.label for a in answers),
        worth=tuple(worth),
        quadratic=_mean(quadratic),
    )


def _mean(values: Sequence[float], of_none: float = float("nan")) -> float:
    # Nearly all requests have one row, and an array for it takes longer than all the rest of `row`.
    if len(values) == 1:
        return float(values[0])
    return float(np.mean(values)) if values else of_none


def _quadratic(scores: Sequence[float], label: int) -> float:
    """(1 + Q) / 2 of one answer; as domain.profile.quadratic_values, without an array for a handful of numbers. nan of
    an answer without scores."""
    if not scores:
        return float("nan")
    return (1.0 + 2.0 * scores[label] - sum(p * p for p in scores)) / 2.0


def utilities(rows: Sequence[Row]) -> Floats:
    """float64 [n]: the realised utility of each request.

    Where an application wants a weighted F1, a right answer of class i counts 2 n_i / (n_i + m_i), n_i being the rows
    of that class and m_i those answered with it, over all of this application here. With everything in time the sum
    is then rows times the weighted F1 (awareness/scores.py). Rows without an answer are among the n_i.
    """
    out = np.array([r.utility for r in rows], dtype=np.float64)
    for name in {r.application for r in rows if r.score is Score.WEIGHTED_F1}:
        own = [(i, r) for i, r in enumerate(rows) if r.application == name]
        factor = _f1_factors([r for _, r in own])
        for i, r in own:
            if r.worth:
                out[i] = sum(w * factor[label] for w, label in zip(r.worth, r.labels, strict=True)) / len(
                    r.worth
                )
    return out


def weighted_f1(rows: Sequence[Row]) -> float:
    """The weighted F1 of what was answered; over several applications its mean, by rows. nan without an answer."""
    total, count = 0.0, 0
    for name in dict.fromkeys(r.application for r in rows):  # in order: a sum depends on it
        own = [r for r in rows if r.application == name and r.said]
        factor = _f1_factors(own)
        for r in own:
            total += sum(factor[a] for a, b in zip(r.labels, r.said, strict=True) if a == b)
            count += len(r.labels)
    return total / count if count else float("nan")


def _f1_factors(rows: Sequence[Row]) -> Floats:
    """2 n_i / (n_i + m_i) by class; 0 where neither is there."""
    true = np.array([label for r in rows for label in r.labels], dtype=np.int64)
    said = np.array([label for r in rows for label in r.said], dtype=np.int64)
    classes = int(max(true.max(initial=-1), said.max(initial=-1))) + 1
    n, m = np.bincount(true, minlength=classes), np.bincount(said, minlength=classes)
    return np.asarray(2.0 * n / np.maximum(n + m, 1))


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in numbers. `low`, `high`: 95% bootstrap interval of the mean utility, which is class-weighted; `accuracy`
    is not: the share of what was answered that was right. `believed`: as in Row. `deadlines_met`, `by_peek`: shares of
    all requests. `p95_s`: of the time to an outcome. `weighted_f1`, `quadratic` (as (1 + Q) / 2): of what was answered,
    like `accuracy`. `accuracy_in_time`: of what was answered in time, the share that was right. With `deadlines_met` it
    is what SuperServe measures (section 6: SLO attainment, mean serving accuracy), by answers and not by profiles."""

    requests: int
    utility: float
    low: float
    high: float
    accuracy: float
    deadlines_met: float
    by_peek: float
    believed: float
    p95_s: float
    weighted_f1: float = float("nan")
    quadratic: float = float("nan")
    accuracy_in_time: float = float("nan")

    def __str__(self) -> str:
        return (
            f"utility {self.utility:.3f} [{self.low:.3f}, {self.high:.3f}], {self.deadlines_met:.1%} in time, "
            f"{self.accuracy:.1%} right, {self.by_peek:.1%} answered by the peek"
        )


def summary(rows: Sequence[Row], seed: int = 0) -> Summary:
    """Summarise one run (or one application of it). Raises ValueError without rows."""
    if not rows:
        raise ValueError("no rows to summarise")
    utility = utilities(rows)
    low, high = interval(utility, seed=seed)
    answered = [r for r in rows if r.outcome in (Outcome.ANSWERED, Outcome.LATE)]
    believed = np.array([r.believed for r in answered])
    in_time = [r.correct for r in rows if r.in_time]
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
        weighted_f1=weighted_f1(answered),
        quadratic=float(np.mean(graded))
        if (graded := [r.quadratic for r in answered if r.said])
        else float("nan"),
        accuracy_in_time=float(np.mean(in_time)) if in_time else 0.0,
    )


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """What became of the rows that truly are of one class; plain counts, nothing here is weighted.

    `rows`: how many there were; `answered`: of these; `right`: of those, answered with this class; `found`: of those,
    in time. The intervals are Wilson's, 95%, which take rows for independent: those of one subject are not, and the
    share is then known less well than they say.
    """

    application: str
    label: int
    rows: int
    answered: int
    right: int
    found: int

    @property
    def recall(self) -> float:
        """Of what was answered, as `Summary.accuracy` is; nan of nothing."""
        return self.right / self.answered if self.answered else float("nan")

    @property
    def found_share(self) -> float:
        """Of all rows: what got no answer, or a late one, is missed too."""
        return self.found / self.rows if self.rows else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.right, self.answered)

    @property
    def found_interval(self) -> tuple[float, float]:
        return wilson(self.found, self.rows)


def per_class(rows: Sequence[Row]) -> tuple[ClassRecall, ...]:
    """The recall of every class that occurs, by application and label."""
    counts: dict[tuple[str, int], list[int]] = {}
    for r in rows:
        for i, label in enumerate(r.labels):
            count = counts.setdefault((r.application, label), [0, 0, 0, 0])
            right = bool(r.said) and r.said[i] == label
            count[0] += 1
            count[1] += bool(r.said)
            count[2] += right
            count[3] += right and r.in_time
    return tuple(ClassRecall(*key, *counts[key]) for key in sorted(counts))


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
    difference = utilities(rows) - utilities(base)
    low, high = interval(difference, seed=seed)
    return float(difference.mean()), low, high
