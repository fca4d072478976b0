"""The search for cascades: which models, in which order, with which thresholds; the front of cost and accuracy.

Thresholds are chosen on validation data, and the best of many looks better there than it is. So a candidate is ranked
by a one-sided lower bound (cascades/bounds.py), not by its mean. With `against`, the bound is that of its distance from
one named variant, sample by sample, on top of that variant's accuracy: a cascade that answers most samples as that
variant does is known much better beside it than by itself, and one that seems to beat it has to show it.

Candidates have one to three stages, each dearer than the one before, and thresholds at quantiles of the stage's own
certainty. A candidate is grown stage by stage. A *label* is what is known on the way: the stages so far, which
samples are still on their way at the last of them, and what each sample is worth if it stops here. `exhaustive` grows
every label. `search` grows a third stage only from those (first stage, threshold) that lie on the front of the shorter
ones, or next to it on the grid: a first stage that no good pair has is not good for three either, as a rule and not a
law, so tests compare the two.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.cascades.bounds import lower, mean_and_error
from peekserve.cascades.cascade import CONFIDENCE, Answers, Cascade, Judged
from peekserve.errors import InvalidConfiguration, ProfileMissing

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

STEPS, MOST_STAGES = 9, 3


def grid(certainty: Floats, steps: int = STEPS) -> Floats:
    """Thresholds at `steps` inner quantiles of certainties float64 [N], rising, each once.

    >>> grid(np.linspace(0.0, 1.0, 101), 3).tolist()
    [0.25, 0.5, 0.75]
    """
    return np.unique(np.quantile(certainty, np.arange(1, steps + 1) / (steps + 1)))


def front(found: Iterable[Judged]) -> tuple[Judged, ...]:
    """Those that nothing else beats in cost and score, the cheapest first; both rise from one to the next."""
    kept: list[Judged] = []
    for one in sorted(
        found, key=lambda j: (j.cost_s, -j.score, len(j.reach), j.cascade.stages, j.cascade.thresholds)
    ):
        if not kept or one.score > kept[-1].score:
            kept.append(one)
    return tuple(kept)


def exhaustive(
    answers: Answers,
    seconds: Mapping[str, float],
    against: str | None = None,
    stages: int = MOST_STAGES,
    steps: int = STEPS,
    confidence: float = CONFIDENCE,
) -> tuple[Judged, ...]:
    """The front over every candidate. `seconds`: for a sample, by variant. Raises InvalidConfiguration, or
    ProfileMissing for a variant without a cost."""
    return _Growing(answers, seconds, against, stages, steps, confidence).all()


def search(
    answers: Answers,
    seconds: Mapping[str, float],
    against: str | None = None,
    stages: int = MOST_STAGES,
    steps: int = STEPS,
    confidence: float = CONFIDENCE,
) -> tuple[Judged, ...]:
    """The front over candidates that grow out of good shorter ones. Otherwise as `exhaustive`."""
    return _Growing(answers, seconds, against, stages, steps, confidence).grown()


def cheapest(found: Sequence[Judged], least: float) -> Judged | None:
    """The cheapest of a front whose score is at least this; None if there is none."""
    return next((one for one in found if one.score >= least), None)


@dataclass(frozen=True, slots=True)
class _Label:
    """`stages`: indices. `worth`: float64 [N], if every sample stops here. `here`: bool [N], which reach the last
    stage. `cost_s`: with the last stage. `cuts`: which thresholds of its stage's grid each is."""

    stages: tuple[int, ...]
    cuts: tuple[int, ...]
    worth: Floats
    here: Bools
    cost_s: float


class _Growing:
    def __init__(
        self,
        answers: Answers,
        seconds: Mapping[str, float],
        against: str | None,
        stages: int,
        steps: int,
        confidence: float,
    ) -> None:
        if not 1 <= stages <= MOST_STAGES or steps < 1 or not 0.5 <= confidence < 1.0:
            raise InvalidConfiguration(
                f"a search has 1 to {MOST_STAGES} stages, a grid of one threshold or more, and a confidence from 0.5 "
                f"to below 1; not {stages}, {steps} and {confidence:g}"
            )
        missing = [name for name in answers.variants if name not in seconds]
        if missing:
            raise ProfileMissing(f"no seconds for a sample of {', '.join(missing)}: profile first")
        self.answers, self.seconds = answers, seconds
        self.against, self.stages, self.confidence = against, stages, confidence
        self.each = np.array([seconds[name] for name in answers.variants])
        # The cheapest first; a stage is followed by dearer ones alone.
        self.order = sorted(range(len(self.each)), key=lambda v: (self.each[v], answers.variants[v]))
        self.grids = [grid(sure, steps) for sure in answers.certainty]
        self.worth = answers.worth(against)
        self.base = 0.0 if against is None else float(answers.worth()[answers.index(against)].mean())
        self.found: list[tuple[float, float, tuple[int, ...], tuple[int, ...]]] = []

    def all(self) -> tuple[Judged, ...]:
        for label in self._singles():
            self._grow(label, self.stages - 1)
        return self._front()

    def grown(self) -> tuple[Judged, ...]:
        singles = {label.stages[0]: label for label in self._singles()}
        for label in singles.values():
            self._grow(label, min(self.stages - 1, 1))
        if self.stages > 2:
            good = sorted({(s[0], c[0]) for _, _, s, c in self._best() if c})
            near = {(v, cut + by) for v, cut in good for by in (-1, 0, 1)}
            for v, cut in sorted(near):
                if 0 <= cut < len(self.grids[v]):
                    for following in self._after(v):
                        self._grow(self._extended(singles[v], cut, following), 1)
        return self._front()

    def _singles(self) -> list[_Label]:
        everything = np.ones(self.answers.samples, np.bool_)
        labels = [_Label((v,), (), self.worth[v], everything, float(self.each[v])) for v in self.order]
        reach_s = np.array([label.cost_s for label in labels])
        scores = self._scores(np.array([label.worth for label in labels]))
        for label, cost, score in zip(labels, reach_s.tolist(), scores.tolist(), strict=True):
            own = self.answers.variants[label.stages[0]] == self.against
            self.found.append((cost, self.base if own else score, label.stages, ()))
        return labels

    def _after(self, variant: int) -> list[int]:
        return [v for v in self.order if self.each[v] > self.each[variant]]

    def _grow(self, label: _Label, more: int) -> None:
        """Note every candidate with up to so many stages more."""
        if not more:
            return
        last = label.stages[-1]
        cuts = self.grids[last]
        onwards = label.here & (self.answers.certainty[last] < cuts[:, None])
        share = onwards.mean(axis=1)
        for following in self._after(last):
            if following in label.stages:
                continue
            worth = np.where(onwards, self.worth[following], label.worth)
            costs = (label.cost_s + share * self.each[following]).tolist()
            for cut, (cost, score) in enumerate(zip(costs, self._scores(worth).tolist(), strict=True)):
                # Where everything stops, it is the shorter cascade.
                if share[cut] > 0.0:
                    self.found.append((cost, score, (*label.stages, following), (*label.cuts, cut)))
            if more > 1:
                for cut in range(len(cuts)):
                    self._grow(self._extended(label, cut, following), more - 1)
            self.found = self._best()

    def _extended(self, label: _Label, cut: int, following: int) -> _Label:
        last = label.stages[-1]
        here = label.here & (self.answers.certainty[last] < self.grids[last][cut])
        return _Label(
            (*label.stages, following),
            (*label.cuts, cut),
            np.where(here, self.worth[following], label.worth),
            here,
            label.cost_s + float(here.mean()) * float(self.each[following]),
        )

    def _scores(self, worth: Floats) -> Floats:
        mean, error = mean_and_error(worth, self.answers.starts)
        bound = lower(mean, error, self.answers.samples, len(self.answers.starts), self.confidence)
        return np.asarray(self.base + bound)

    def _best(self) -> list[tuple[float, float, tuple[int, ...], tuple[int, ...]]]:
        """The front so far; without it a fine grid would fill the memory."""
        kept: list[tuple[float, float, tuple[int, ...], tuple[int, ...]]] = []
        for one in sorted(self.found, key=lambda f: (f[0], -f[1], len(f[2]), f[2], f[3])):
            if not kept or one[1] > kept[-1][1]:
                kept.append(one)
        return kept

    def _front(self) -> tuple[Judged, ...]:
        names = self.answers.variants
        judged = []
        for _, _, stages, cuts in self._best():
            thresholds = tuple(float(self.grids[v][cut]) for v, cut in zip(stages, cuts, strict=False))
            cascade = Cascade(tuple(names[v] for v in stages), thresholds)
            judged.append(cascade.judged(self.answers, self.seconds, self.against, self.confidence))
        return front(judged)
