"""Profiles: what a variant is worth (portable) and what it costs (on one device)."""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidData


@dataclass(frozen=True, slots=True)
class LatencyCurve:
    """Seconds to run a batch, by batch size, measured at a few sizes and linear in between.

    Beyond the largest measured size the last slope goes on; below two sizes it is proportional.

    >>> curve = LatencyCurve((1, 4), (0.010, 0.016))
    >>> round(curve.seconds(2), 4), round(curve.seconds(6), 4)
    (0.012, 0.02)
    """

    batch_sizes: tuple[int, ...]
    median_s: tuple[float, ...]
    p95_s: tuple[float, ...] = ()
    p99_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.batch_sizes or len(self.batch_sizes) != len(self.median_s):
            raise InvalidData("a latency curve needs one median for each of its batch sizes")
        if any(b <= a for a, b in zip((0, *self.batch_sizes), self.batch_sizes, strict=False)):
            raise InvalidData(
                f"a latency curve's batch sizes start at 1 or more and rise: {self.batch_sizes}"
            )
        if any(not 0.0 < s < float("inf") for s in self.median_s):
            raise InvalidData(f"a latency is a positive, finite time: {self.median_s}")

    def seconds(self, batch_size: int) -> float:
        """The median."""
        return self._at(batch_size, self.median_s)

    def cautious_s(self, batch_size: int) -> float:
        """The 95th percentile: what to plan with where being late costs more than being early; the median where
        percentiles were not measured."""
        return self._at(batch_size, self.p95_s or self.median_s)

    def table(self, max_batch: int, cautious: bool = False) -> npt.NDArray[np.float64]:
        """float64 [max_batch + 1]: seconds by number of rows; entry 0 is 0. Never falls, so that a bigger batch is
        never believed quicker because of noise in a measurement."""
        seconds = self.cautious_s if cautious else self.seconds
        raw = np.array([0.0, *(seconds(b) for b in range(1, max_batch + 1))])
        return np.maximum.accumulate(raw)

    def literal(self) -> "LatencyCurve":
        """The cost of SneakPeek's eq. 1 taken at its word: it knows no batches, and b rows take b times as long as
        one.

        >>> round(LatencyCurve((1, 4), (0.010, 0.016)).literal().seconds(4), 4)
        0.04
        """

        def alone(values: tuple[float, ...]) -> tuple[float, ...]:
            return (self._at(1, values),) if values else ()

        return LatencyCurve((1,), alone(self.median_s), alone(self.p95_s), alone(self.p99_s))

    def _at(self, batch_size: int, values: tuple[float, ...]) -> float:
        sizes = self.batch_sizes
        if batch_size <= sizes[-1]:
            return float(np.interp(batch_size, sizes, values))
        if len(sizes) == 1:
            return values[0] * batch_size / sizes[0]
        slope = (values[-1] - values[-2]) / (sizes[-1] - sizes[-2])
        return values[-1] + max(slope, 0.0) * (batch_size - sizes[-1])

    def spread_s(self) -> float:
        """p95 - median at the smallest batch: the margin that this variant's jitter asks for; 0 when not
        measured."""
        return max(self.p95_s[0] - self.median_s[0], 0.0) if self.p95_s else 0.0


@dataclass(frozen=True, slots=True)
class Timing:
    """What a variant costs on one device. `curves`: one for each shape bucket of the application. `load_s`: the median
    of its loads. `load_p95_s`: their 95th percentile, 0 where it was not measured."""

    curves: tuple[LatencyCurve, ...]
    load_s: float = 0.0
    bytes: int = 0
    runtime: str = ""
    provisional: bool = False
    load_p95_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.curves:
            raise InvalidData("a timing has a latency curve for each shape bucket, and this one has none")

    def curve(self, bucket: int) -> LatencyCurve:
        return self.curves[min(bucket, len(self.curves) - 1)]

    @property
    def cautious_load_s(self) -> float:
        """What to plan with, as `LatencyCurve.cautious_s`."""
        return max(self.load_s, self.load_p95_s)

    def literal(self) -> "Timing":
        """The same with batches that save nothing."""
        return replace(self, curves=tuple(curve.literal() for curve in self.curves))


@dataclass(frozen=True, slots=True)
class Quality:
    """What a variant is worth, by class.

    `recall`: per class, in [0, 1]. `frequencies`: of the classes in the data it was measured on; they sum to
    1. `confusion`: counts, row = true class, when measured. `guessed`: classes without a validation sample, whose
    recall is smoothed (papers/notes.md 5.2 point 18), never measured. `quadratic`: by class, the mean of (1 + Q) / 2
    over its samples, Q = 2 p_true - sum_j p_j^2 the quadratic score of the class scores p; empty where only the
    decisions are known. `by_agreement`: [B + 1][C], recalls apart by how many of the peek's votes were for the
    class (awareness/agreement.py), rising from none, and last whatever they say, with as much trust as the groups that
    they were counted on deserve (awareness/witnesses.py); empty where that was not measured.
    """

    recall: tuple[float, ...]
    frequencies: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...] = ()
    guessed: tuple[int, ...] = field(default=())
    quadratic: tuple[float, ...] = ()
    by_agreement: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        classes = len(self.recall)
        for number, row in enumerate(self.by_agreement):
            if len(row) != classes or any(not 0.0 <= r <= 1.0 for r in row):
                raise InvalidData(
                    f"recalls by agreement are {classes} for each bin, from 0 to 1; bin {number} has {list(row)}"
                )

    @classmethod
    def from_confusion(cls, confusion: npt.NDArray[np.int64]) -> "Quality":
        """Recall per class of a confusion matrix int64 [C, C] (SneakPeek, eq. 8). A class with no sample gets
        the Laplace estimate (0 + 1) / (0 + C) and is listed in `guessed`.

        >>> Quality.from_confusion(np.array([[3, 1], [0, 0]])).recall
        (0.75, 0.5)
        """
        if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1] or confusion.sum() <= 0:
            raise InvalidData(
                f"a confusion matrix is square and holds samples; this one has shape {confusion.shape}"
            )
        rows = confusion.sum(axis=1)
        classes = len(rows)
        recall = [float(confusion[i, i] / rows[i]) if rows[i] else 1.0 / classes for i in range(classes)]
        return cls(
            tuple(recall),
            tuple(float(r) for r in rows / rows.sum()),
            tuple(tuple(int(z) for z in row) for row in confusion),
            tuple(i for i in range(classes) if not rows[i]),
        )

    def scored(self, labels: npt.NDArray[np.integer], scores: npt.NDArray[np.float64]) -> "Quality":
        """The same with what the class scores float64 [n, C] of the samples with these labels are worth. A class
        without a sample has what a right or wrong answer at its smoothed recall has.

        >>> quality = Quality.from_confusion(np.array([[1, 0], [0, 1]]))
        >>> quality.scored(np.array([0, 1]), np.array([[0.5, 0.5], [0.0, 1.0]])).quadratic
        (0.75, 1.0)
        """
        values = quadratic_values(labels, scores)
        by_class = [values[labels == i] for i in range(len(self.recall))]
        return replace(
            self,
            quadratic=tuple(
                float(v.mean()) if len(v) else r for v, r in zip(by_class, self.recall, strict=True)
            ),
        )

    @property
    def accuracy(self) -> float:
        """Accuracy on the data it was measured on: recall . frequencies (SneakPeek, eq. 9)."""
        return float(sum(r * f for r, f in zip(self.recall, self.frequencies, strict=True)))

    def reaches(self, floor: float) -> bool:
        """Is it at least as accurate as a client asks for? To the four digits that the metadata tell."""
        return round(self.accuracy, 4) >= floor


@dataclass(frozen=True, slots=True)
class Calibration:
    """How much the votes of a peek are worth, measured on labelled data (awareness/calibrate.py).

    `votes`: [C][C], the chance that a vote names a class, row = true class; positive, each row sums to 1.
    `temperature`: what share of a vote counts as a new one, 0 or more. `most`: the most votes that a sample had.
    `edges`: between the bins of agreement, rising. `frequencies`: [C], of the classes in that data, smoothed; they sum
    to 1. `settled`: the share of the doubt about the class that the votes settle, above 0 and at most 1. `fitted_on`:
    samples. `loss_before`, `loss`: mean -log of what the belief gave the true class, in nats, of the
    Dirichlet and of this, its own group left out for each sample. `fusion`: what share the weaker voices keep when
    models have spoken too (awareness/fusion.py), None where that was not measured. `escalates`: is a second
    model's answer shown to bring more right ones, None where that was not measured. `pull`: how strongly a mix that is
    learnt from these beliefs is held to where it began (awareness/calibrate.py), None where that was not measured.
    """

    votes: tuple[tuple[float, ...], ...]
    temperature: float
    most: float
    edges: tuple[float, ...]
    frequencies: tuple[float, ...]
    fitted_on: int
    loss_before: float
    loss: float
    settled: float = 1.0
    fusion: float | None = None
    pull: float | None = None
    escalates: bool | None = None

    def __post_init__(self) -> None:
        classes = len(self.frequencies)
        if len(self.votes) != classes or any(
            len(row) != classes or any(not z > 0.0 for z in row) or abs(sum(row) - 1.0) > 1e-6
            for row in self.votes
        ):
            raise InvalidData(
                f"a vote confusion has {classes} rows of {classes} positive chances that sum to 1, not {self.votes}"
            )
        if not (0.0 <= self.temperature < float("inf") and 0.0 < self.most < float("inf")):
            raise InvalidData(
                f"a temperature is 0 or more and some votes were counted, not {self.temperature} of {self.most}"
            )
        if not 0.0 < self.settled <= 1.0:
            raise InvalidData(f"votes settle a share of the doubt above 0 and at most 1, not {self.settled}")
        if any(not 0.0 < f <= 1.0 for f in self.frequencies) or abs(sum(self.frequencies) - 1.0) > 1e-6:
            raise InvalidData(f"class frequencies are positive and sum to 1, not {list(self.frequencies)}")
        if any(b <= a for a, b in zip((0.0, *self.edges), (*self.edges, 1.0), strict=True)):
            raise InvalidData(f"edges of agreement rise between 0 and 1, not {list(self.edges)}")


def quadratic_values(
    labels: npt.NDArray[np.integer], scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """float64 [n]: (1 + Q) / 2 with the quadratic score Q = 2 p_true - sum_j p_j^2, from 0 to 1. One minus half of
    Brier's score; of a plain decision, 1 where it is right and 0 where it is wrong.

    >>> quadratic_values(np.array([0, 0]), np.array([[1.0, 0.0], [0.0, 1.0]])).tolist()
    [1.0, 0.0]
    """
    true = scores[np.arange(len(scores)), labels]
    return np.asarray((1.0 + 2.0 * true - (scores * scores).sum(axis=1)) / 2.0)
