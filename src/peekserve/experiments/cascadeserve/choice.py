"""Which single model and which cascade somebody would choose from validation data, and what these are worth on others.

The best model is the most accurate one. Both the single model and the cascade may be one standard error below it: of
the single models the cheapest whose accuracy is no lower; of the cascades the cheapest whose *score* is no
lower. A score is the accuracy of the best model plus a one-sided lower bound of the distance from it, sample by sample
(cascades/thresholds.py); a rule says how cautious that bound is, and what an error is taken by.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from peekserve.cascades.bounds import mean_and_error, student
from peekserve.cascades.cascade import CONFIDENCE, Answers, Cascade
from peekserve.cascades.thresholds import cheapest, search
from peekserve.domain.profile import LatencyCurve
from peekserve.experiments.cascadeserve.record import Part, Said


@dataclass(frozen=True, slots=True)
class Rule:
    """How a cascade is chosen. `confidence`: of the bound; 0.5 is the mean itself. `grouped`: do samples of one subject
    count as alike?"""

    name: str
    confidence: float = CONFIDENCE
    grouped: bool = True

    def of(self, answers: Answers) -> Answers:
        """The answers as this rule looks at them."""
        return answers if self.grouped else replace(answers, starts=np.arange(answers.samples))


LOOKS = Rule("as it looks", 0.5)
SAMPLES = Rule("bound by samples", grouped=False)
GROUPS = Rule("bound by groups")
RULES = (LOOKS, SAMPLES, GROUPS)


@dataclass(frozen=True, slots=True)
class Chosen:
    """`best`: the most accurate model. `single`: the cheapest within one standard error of it. `cascade`: the cheapest
    that is promised to be. `most`: the one with the highest score. `front`: all that nothing else beats in cost and
    score, the cheapest first. `promised`: the cascade's accuracy less the best model's, where it was chosen."""

    best: str
    single: str
    cascade: Cascade
    most: Cascade
    front: tuple[Cascade, ...]
    promised: float


def chosen(answers: Answers, seconds: Mapping[str, float], rule: Rule = GROUPS) -> Chosen:
    """From answers on labelled samples, at `seconds` for a sample of each variant."""
    answers = rule.of(answers)
    accuracy, error = mean_and_error(answers.worth(), answers.starts)
    at = answers.index(best := answers.best())
    least = float(accuracy[at] - error[at])
    enough = [v for v, a in zip(answers.variants, accuracy.tolist(), strict=True) if a >= least]
    found = search(answers, seconds, against=best, confidence=rule.confidence)
    # The best model is on the front or beaten there, and its own score is its accuracy.
    cascade = cheapest(found, least) or found[-1]
    return Chosen(
        best,
        min(enough, key=lambda v: (seconds[v], v)),
        cascade.cascade,
        found[-1].cascade,
        tuple(one.cascade for one in found),
        cascade.accuracy - float(accuracy[at]),
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """What was chosen, on other samples. Accuracies: shares of right answers; costs: seconds for a sample. `lowest`: of
    the best model's 95% interval, by groups."""

    accuracy: float
    single: float
    best: float
    most: float
    lowest: float
    cost_s: float
    single_s: float
    best_s: float

    @property
    def within(self) -> bool:
        """Is the cascade within the best model's interval, or above it?"""
        return self.accuracy >= self.lowest


def kept(choice: Chosen, answers: Answers, seconds: Mapping[str, float]) -> Kept:
    """What a choice is worth on these samples."""
    accuracy, error = mean_and_error(answers.worth(), answers.starts)
    best, single = answers.index(choice.best), answers.index(choice.single)
    groups = len(answers.starts)
    wide = student(0.975, groups - 1) * float(error[best]) if groups > 1 else np.inf
    cascade = choice.cascade.judged(answers, seconds)
    return Kept(
        cascade.accuracy,
        float(accuracy[single]),
        float(accuracy[best]),
        choice.most.judged(answers, seconds).accuracy,
        float(accuracy[best]) - wide,
        cascade.cost_s,
        seconds[choice.single],
        seconds[choice.best],
    )


def at_best_batch(curve: LatencyCurve) -> float:
    """Seconds for a sample at the measured batch size that makes them fewest."""
    return min(curve.seconds(b) / b for b in curve.batch_sizes)


def one_by_one(curve: LatencyCurve) -> float:
    """Seconds for a sample alone."""
    return curve.seconds(1)


# ---- other divisions of the same data ----

_DIVISION, _SOME, _DRAWN = 81, 82, 83


def divided(said: Said, seed: int) -> tuple[Part, Part]:
    """Validation and test data: with seed 0 as they are, else divided anew, by groups, as many on either side as there
    are samples. No model was trained on either."""
    if seed == 0:
        return said.validation, said.test
    whole = joined(said.validation, said.test)
    groups = np.unique(whole.groups)
    share = len(said.validation.labels) / len(whole.labels)
    many = min(max(round(share * len(groups)), 1), len(groups) - 1)
    first = np.random.default_rng([_DIVISION, seed]).permutation(groups)[:many]
    of_first = np.isin(whole.groups, first)
    return rows_of(whole, np.flatnonzero(of_first)), rows_of(whole, np.flatnonzero(~of_first))


def some(part: Part, share: float, seed: int) -> Part:
    """A share of the samples, drawn without returning any."""
    n = len(part.labels)
    drawn = np.random.default_rng([_SOME, seed]).permutation(n)[: max(round(share * n), 1)]
    return part if share >= 1.0 else rows_of(part, np.sort(drawn))


def resampled(part: Part, seed: int) -> Part:
    """A resample of the groups; with seed 0 all of them, once each."""
    if seed == 0:
        return part
    names = np.unique(part.groups)
    drawn = np.random.default_rng([_DRAWN, seed]).choice(names, len(names))
    return rows_of(part, np.concatenate([np.flatnonzero(part.groups == g) for g in drawn]))


def joined(one: Part, other: Part) -> Part:
    """Both; no group of one is a group of the other."""
    beyond = int(one.groups.max()) + 1 - int(other.groups.min())
    return Part(
        np.concatenate([one.labels, other.labels]),
        np.concatenate([one.groups, other.groups + beyond]),
        {name: np.concatenate([scores, other.scores[name]]) for name, scores in one.scores.items()},
    )


def rows_of(part: Part, chosen: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Part:
    """These samples, int64 [n], in this order."""
    return Part(
        part.labels[chosen], part.groups[chosen], {n: scores[chosen] for n, scores in part.scores.items()}
    )


def answers_of(part: Part, certainty: str = "margin") -> Answers:
    """As a search for cascades takes them."""
    return Answers.recorded(part.scores, part.labels, part.groups, certainty)
