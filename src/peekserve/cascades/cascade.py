"""A cascade: models in order, with a threshold of certainty between one and the next (CascadeServe, section 3).

A sample is answered by the first model whose certainty reaches its threshold, or by the last. So what a cascade
answers, how much of the load reaches each of its models, and what that costs all follow from what each model said of
the same samples on its own: nothing is run again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
import numpy.typing as npt

from peekserve.cascades.bounds import lower, mean_and_error
from peekserve.cascades.certainty import certainty
from peekserve.domain.profile import LatencyCurve
from peekserve.errors import InvalidConfiguration, InvalidData, UnknownVariant

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Answers:
    """What each variant said of the same N labelled samples, in the order of their groups.

    `certainty`: float64 [V, N] by the `measure` of that name. `said`: int64 [V, N], class indices. `labels`: int64 [N].
    `starts`: int64 [G], where each group begins.
    """

    variants: tuple[str, ...]
    certainty: Floats
    said: Ints
    labels: Ints
    starts: Ints
    measure: str

    @classmethod
    def recorded(
        cls,
        scores: Mapping[str, Floats],
        labels: npt.NDArray[np.integer],
        groups: npt.NDArray[np.generic] | None = None,
        measure: str = "margin",
    ) -> "Answers":
        """From recorded class scores, float64 [N, C] by variant, labels [N] and, where samples belong together, groups
        [N] of any kind. Raises InvalidData where these do not fit."""
        if not scores:
            raise InvalidData("a cascade needs the recorded scores of one variant or more")
        shapes = {np.shape(said) for said in scores.values()}
        if len(shapes) > 1 or any(len(s) != 2 or s[0] != len(labels) for s in shapes):
            told = ", ".join(f"{name} {list(np.shape(said))}" for name, said in scores.items())
            raise InvalidData(
                f"scores are [{len(labels)}, C] for each variant, one row for each label, not {told}"
            )
        if not len(labels):
            raise InvalidData("there is no labelled sample to judge a cascade by")
        if groups is not None and len(groups) != len(labels):
            raise InvalidData(f"{len(groups)} groups for {len(labels)} samples")
        order, starts = np.arange(len(labels)), np.arange(len(labels))
        if groups is not None:
            _, of = np.unique(groups, return_inverse=True)
            order = np.argsort(of, kind="stable")
            starts = np.flatnonzero(np.diff(of[order], prepend=-1))
        sure = certainty(measure)
        ordered = [np.asarray(said, np.float64)[order] for said in scores.values()]
        return cls(
            tuple(scores),
            np.array([sure(said) for said in ordered]),
            np.array([said.argmax(axis=1) for said in ordered]),
            np.asarray(labels, np.int64)[order],
            starts.astype(np.int64),
            measure,
        )

    @property
    def samples(self) -> int:
        return len(self.labels)

    def index(self, variant: str) -> int:
        if variant not in self.variants:
            raise UnknownVariant(f"no recorded answers of {variant!r}; there are {', '.join(self.variants)}")
        return self.variants.index(variant)

    def only(self, variants: Sequence[str]) -> "Answers":
        """The same of these variants alone."""
        rows = [self.index(name) for name in variants]
        return Answers(
            tuple(variants), self.certainty[rows], self.said[rows], self.labels, self.starts, self.measure
        )

    def worth(self, against: str | None = None) -> Floats:
        """float64 [V, N]: 1 where a variant is right and 0 where not; less the same of the variant `against`, if one is
        named. A cascade's worth of a sample is that of the variant which answers it, so a mean over these is its
        accuracy, or how far it lies above that variant's, sample by sample."""
        right = (self.said == self.labels).astype(np.float64)
        return right if against is None else np.asarray(right - right[self.index(against)])

    def best(self) -> str:
        """The most accurate variant, the first of equals."""
        return self.variants[int(self.worth().mean(axis=1).argmax())]


@dataclass(frozen=True, slots=True)
class Judged:
    """A cascade on labelled samples. `reach`: the share of samples that each stage is asked about; the first is 1.
    `accuracy`, `error`: the share of right answers and its standard error, by groups. `bound`: a one-sided lower bound
    of the accuracy. `score`: what a search ranks it by. `cost_s`: seconds for a sample."""

    cascade: "Cascade"
    reach: tuple[float, ...]
    accuracy: float
    error: float
    bound: float
    score: float
    cost_s: float


@dataclass(frozen=True, slots=True)
class Cascade:
    """Variants by name, and a threshold on each but the last: a sample goes on while its certainty is below it.

    >>> Cascade(("tiny", "large"), (0.5,)).name
    'tiny <0.5> large'
    """

    stages: tuple[str, ...]
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.stages or len(self.thresholds) != len(self.stages) - 1:
            raise InvalidConfiguration(
                f"a cascade of {len(self.stages)} stages has a threshold on each but the last, not "
                f"{len(self.thresholds)}"
            )
        if len(set(self.stages)) != len(self.stages):
            raise InvalidConfiguration(f"a cascade asks no variant twice: {', '.join(self.stages)}")
        if any(isnan(threshold) for threshold in self.thresholds):
            raise InvalidConfiguration(f"a threshold is a number, not one of {list(self.thresholds)}")

    @property
    def name(self) -> str:
        parts = [self.stages[0]]
        for threshold, stage in zip(self.thresholds, self.stages[1:], strict=True):
            parts += [f"<{threshold:.3g}>", stage]
        return " ".join(parts)

    def answered_at(self, answers: Answers) -> Ints:
        """int64 [N]: the stage that answers each sample."""
        stage = np.zeros(answers.samples, np.int64)
        for k, threshold in enumerate(self.thresholds):
            unsure = answers.certainty[answers.index(self.stages[k])] < threshold
            stage[(stage == k) & unsure] = k + 1
        return stage

    def said(self, answers: Answers) -> Ints:
        """int64 [N]: the class that it names for each sample."""
        variants = np.array([answers.index(stage) for stage in self.stages])
        return np.asarray(answers.said[variants[self.answered_at(answers)], np.arange(answers.samples)])

    def reach(self, answers: Answers) -> tuple[float, ...]:
        """The share of samples that each stage is asked about."""
        stage = self.answered_at(answers)
        return tuple(float((stage >= k).mean()) for k in range(len(self.stages)))

    def judged(
        self,
        answers: Answers,
        seconds: Mapping[str, float],
        against: str | None = None,
        confidence: float = CONFIDENCE,
    ) -> Judged:
        """What it is worth on these samples, at `seconds` for a sample of each variant. `against`: rank it by a bound
        of its distance from that variant, sample by sample, on top of that variant's accuracy."""
        stage = self.answered_at(answers)
        variants = np.array([answers.index(name) for name in self.stages])
        rows = (variants[stage], np.arange(answers.samples))
        reach = tuple(float((stage >= k).mean()) for k in range(len(self.stages)))
        right = answers.worth()
        mean, error = mean_and_error(right[rows][None, :], answers.starts)
        bound = lower(mean, error, answers.samples, len(answers.starts), confidence)
        score = float(bound[0])
        if against is not None:
            reference = right[answers.index(against)]
            score = float(reference.mean())
            if self.stages != (against,):  # that one is as good as itself, without any doubt
                gain, of = mean_and_error((right[rows] - reference)[None, :], answers.starts)
                score += float(lower(gain, of, answers.samples, len(answers.starts), confidence)[0])
        spent = sum(share * seconds[name] for share, name in zip(reach, self.stages, strict=True))
        return Judged(self, reach, float(mean[0]), float(error[0]), float(bound[0]), score, spent)


def per_sample_s(curve: LatencyCurve, batch_size: int) -> float:
    """Seconds for a sample in batches of this size.

    >>> per_sample_s(LatencyCurve((1, 4), (0.010, 0.016)), 4)
    0.004
    """
    return curve.seconds(batch_size) / batch_size
