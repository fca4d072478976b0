"""One application's peek: features and evidence, how they are built, and what they are worth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from peekserve.awareness.calibrate import Sampled, fit, smoothed
from peekserve.awareness.estimate import leading
from peekserve.awareness.posterior import posterior_mean
from peekserve.clock import Clock
from peekserve.domain.application import CHOSEN, Application, PeekSpec
from peekserve.domain.profile import Calibration, LatencyCurve, Quality
from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.peeking.base import Counts, Evidence, Glance, Inputs, Lengths, Sees
from peekserve.peeking.choosing import MOST_ASKED, Choice, choose_k, folds, nearest_outside, spread
from peekserve.peeking.decision import Decision, ModelScores, Runs
from peekserve.peeking.features import Features
from peekserve.peeking.neighbours import Neighbours, tally
from peekserve.peeking.seeing import Varying

Labels = npt.NDArray[np.integer]
Groups = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Peek:
    """Looks at raw inputs and counts what they say for each class. `choice`: how its k was found, where it was not
    written."""

    features: Sees
    evidence: Evidence
    choice: Choice | None = None

    def look(self, inputs: Inputs, lengths: Lengths | None = None) -> Counts:
        """float64 [m, C] for m rows of one shape. Raises InvalidTensor when they cannot be looked at."""
        return self.evidence.counts(self.features.transform(inputs, lengths))

    def look_all(self, glances: Sequence[Glance]) -> list[Counts]:
        """The counts of each glance. Glances of one shape share their features' arithmetic, and all share one
        search."""
        if len(glances) == 1:
            return [self.look(glances[0].inputs, glances[0].lengths)]
        alike: dict[tuple[tuple[str, tuple[int, ...]], ...], list[int]] = {}
        for index, glance in enumerate(glances):
            shapes = tuple((name, values.shape[1:]) for name, values in glance.inputs.items())
            alike.setdefault(shapes, []).append(index)
        features = [self._together([glances[i] for i in indices]) for indices in alike.values()]
        counts = self.evidence.counts(np.concatenate(features) if len(features) > 1 else features[0])
        found: list[Counts] = [counts] * len(glances)
        start = 0
        for index in (i for indices in alike.values() for i in indices):
            found[index] = counts[start : start + glances[index].rows]
            start += glances[index].rows
        return found

    def _together(self, glances: Sequence[Glance]) -> npt.NDArray[np.float32]:
        first = glances[0]
        if len(glances) == 1:
            return self.features.transform(first.inputs, first.lengths)
        inputs = {name: np.concatenate([glance.inputs[name] for glance in glances]) for name in first.inputs}
        lengths = {
            name: np.concatenate([glance.lengths[name] for glance in glances]) for name in first.lengths
        }
        return self.features.transform(inputs, lengths)


def build_peek(
    spec: PeekSpec,
    application: Application,
    inputs: Inputs,
    labels: Labels,
    lengths: Lengths | None = None,
    models: Path = Path(),
    groups: npt.NDArray[np.generic] | None = None,
) -> Peek:
    """Fit the features and index the labelled reference of one application.

    `inputs`: name -> [n, *row shape], padded to one length where it varies, with the true `lengths` int [n]
    of each such input; `labels`: int [n]; `models`: the application's folder, which `onnx` steps name their
    model in; `groups` [n]: which rows belong together, for a k that is chosen.

    Raises InvalidConfiguration for a spec that cannot be, InvalidData for a reference that does not fit.
    """
    known = {tensor.name: tensor for tensor in application.inputs}
    varying: dict[str, Varying] = {}
    if spec.decision:
        raise InvalidConfiguration(
            f"the peek of {application.name!r} is a model's decision, which needs no reference"
        )
    for name in spec.inputs:
        if name not in known:
            raise InvalidConfiguration(
                f"the peek of {application.name!r} reads {name!r}; its inputs are "
                f"{', '.join(known) or 'none'}"
            )
        if name not in inputs:
            raise InvalidData(
                f"the reference of {application.name!r} holds no {name!r}, which the peek reads"
            )
        shape = known[name].shape
        if -1 in shape:
            if name not in (lengths or {}):
                raise InvalidData(
                    f"the reference of {application.name!r} holds no lengths for {name!r}, which varies"
                )
            varying[name] = Varying(shape.index(-1), max(known[name].buckets, default=0))
    if not spec.inputs:
        raise InvalidConfiguration(f"the peek of {application.name!r} names no input")
    chosen = {name: inputs[name] for name in spec.inputs}
    true = {name: values for name, values in (lengths or {}).items() if name in varying}
    if any(len(values) != len(labels) for values in chosen.values()):
        rows = {name: len(values) for name, values in chosen.items()}
        raise InvalidData(f"the reference of {application.name!r} has {len(labels)} labels for rows {rows}")
    features = Features.fit(spec.features, chosen, true, varying, models)
    reference = features.transform(chosen, true)
    choice, k = None, spec.neighbours
    if k == CHOSEN:
        choice = choose_k(reference, labels, groups, application.prior)
        k = choice.k
    return Peek(features, Neighbours(reference, labels, len(application.classes), k, spec.index), choice)


def deciding_peek(spec: PeekSpec, application: Application, runtime: Runs) -> Peek:
    """A peek whose evidence is the decision of the model `spec.decision`, which `runtime` runs.

    Raises InvalidConfiguration, and what the runtime raises for a model that it cannot load.
    """
    if spec.decision is None:
        raise InvalidConfiguration(f"the peek of {application.name!r} names no model that decides")
    scores = ModelScores(spec.decision, application, runtime)
    return Peek(scores, Decision(len(application.classes)))


def calibrate(
    application: Application,
    votes: Counts,
    labelled: Labels,
    groups: Groups | None,
    known: Groups | None,
    beside: Sampled | None = None,
) -> Calibration:
    """What a peek's votes on labelled data are worth, `votes` float64 [n, C], `labelled` int [n].

    `groups` [n]: which rows belong together; `known`: those of the peek's reference. A row whose group is in both has
    neighbours of its own kind and is left out, unless nothing is left then (`strangers`). `beside`: from
    `votes_on_reference`; the mix of classes stays that of the labelled data. Raises InvalidData.
    """
    rows = strangers(len(labelled), groups, known)
    own = Sampled(votes[rows], labelled[rows], None if groups is None else groups[rows])
    both = own.beside(beside)
    if both is own:
        return fit(own.counts, own.labels, own.groups, application.prior, application.expected)
    mix = tuple(smoothed(own.labels[own.counts.sum(axis=1) > 0.0], len(application.prior)).tolist())
    found = fit(both.counts, both.labels, both.groups, application.prior, application.expected or mix)
    return replace(found, frequencies=mix)


def votes_on_reference(
    peek: Peek, inputs: Inputs, labels: Labels, groups: Groups | None, lengths: Lengths | None = None
) -> Sampled | None:
    """How its reference's own rows are voted on by rows of other groups: what votes are worth on many more groups than
    validation data has. None where the reference names no groups, or too few, or is no reference of neighbours.

    `inputs`, `labels` int [n], `groups` [n], `lengths`: the reference. Of a large one not every row is looked up.
    Raises InvalidTensor when it cannot be looked at.
    """
    if groups is None or not isinstance(peek.evidence, Neighbours):
        return None
    fold, k = folds(groups), peek.evidence.k
    if len(labels) - int(np.bincount(fold).max()) < k:
        return None
    asked = spread(labels, MOST_ASKED)
    nearest = nearest_outside(peek.features.transform(inputs, lengths), labels, fold, asked, k)
    return Sampled(tally(nearest, peek.evidence.classes), labels[asked], groups[asked])


def strangers(
    samples: int, groups: Groups | None, known: Groups | None
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """bool [samples]: those whose group is not in the peek's reference, and all of them where that leaves none or
    groups are not named. What votes are worth is measured on these alone.

    >>> strangers(3, np.array([0, 1, 1]), np.array([0, 7])).tolist()
    [False, True, True]
    """
    if groups is None or known is None or np.isin(groups, known).all():
        return np.ones(samples, dtype=np.bool_)
    return np.asarray(~np.isin(groups, known))


class PeekProfile(NamedTuple):
    """What a peek is worth and costs. `votes`: float64 [n, C], its counts for each validation sample."""

    quality: Quality
    latency: LatencyCurve
    votes: Counts


def profile_peek(
    peek: Peek,
    alpha: Sequence[float],
    inputs: Inputs,
    labels: Labels,
    clock: Clock,
    sizes: Sequence[int] = (1, 8, 32),
    lengths: Lengths | None = None,
    rounds: int = 50,
) -> PeekProfile:
    """Measure a peek on validation data that it has no neighbours in.

    Its answer is the most probable class under the posterior mean, of equals the first; its quality is that
    answer's confusion matrix, since a peek is believed by its profile and never by its own belief (SneakPeek,
    5.3.1). Its latency is that of `look`, features included, over `rounds` batches of each size, walking
    through the data so that no batch is the one just seen. Sizes above the number of samples are measured on
    repeated rows.

    Raises InvalidData for labels that do not fit.
    """
    classes = len(alpha)
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise InvalidData(f"validation labels are one or more, in 0 .. {classes - 1}")
    if any(len(values) != len(labels) for values in inputs.values()):
        raise InvalidData(
            f"{len(labels)} validation labels for rows { {n: len(v) for n, v in inputs.items()} }"
        )
    votes = peek.look(inputs, lengths)
    spread = [_measured(peek, inputs, lengths, size, rounds, clock) for size in sizes]
    median, p95, p99 = (tuple(float(np.quantile(s, q)) for s in spread) for q in (0.5, 0.95, 0.99))
    return PeekProfile(
        peek_quality(alpha, votes, labels), LatencyCurve(tuple(sizes), median, p95, p99), votes
    )


def peek_quality(alpha: Sequence[float], votes: Counts, labels: Labels) -> Quality:
    """What the answers are worth that follow from votes float64 [n, C] on rows of these true classes, int [n]."""
    theta = posterior_mean(alpha, votes)
    confusion = np.zeros((len(alpha), len(alpha)), dtype=np.int64)
    np.add.at(confusion, (labels, leading(theta)), 1)
    return Quality.from_confusion(confusion).scored(labels, theta)


def _measured(
    peek: Peek, inputs: Inputs, lengths: Lengths | None, size: int, rounds: int, clock: Clock
) -> list[float]:
    """Seconds of each round at one batch size, two unmeasured rounds before."""
    samples = len(next(iter(inputs.values())))
    seconds = []
    for number in range(rounds + 2):
        rows = (np.arange(size) + number * size) % samples
        batch = {name: values[rows] for name, values in inputs.items()}
        true = {name: values[rows] for name, values in (lengths or {}).items()}
        started_at = clock.now()
        peek.look(batch, true)
        if number >= 2:
            seconds.append(clock.now() - started_at)
    return seconds
