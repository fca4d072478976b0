"""Random services: applications, models and a device that nobody has, so that no result hangs on three real ones.

A service has 2 to 5 applications with 2 to 7 classes and 1 to 5 variants each. A variant takes 5 to 90 ms for one row
and the same slope for each further one, 5 to 40 ms to load, and a size of its own; the device's memory holds one to
three of them or so. Slower variants are better on the mean, not at every class. Half of the streams are uniform over
the classes, the other half have one usual class. Profiles are of equally frequent classes, and so differ from those
streams, as a validation set does.

Evidence is the votes of neighbours. They agree more often than independent ones would, because some samples lie among
their own kind and others do not: each sample draws its own chances from a Dirichlet around its class's row of the
confusion, and its neighbours vote by those.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.awareness.estimate import leading
from peekserve.awareness.posterior import posterior_mean
from peekserve.awareness.priors import uninformative
from peekserve.domain.application import Application, PeekSpec, QueryType, Variant
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.domain.utility import Penalty
from peekserve.experiments.sneakpeek.lab import DEVICE
from peekserve.sim.world import Recorded

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NEIGHBOURS, CONCENTRATION = 5, 3.0
MAX_BATCH = 32
# Samples of each class on which the peek of a random service was profiled.
PROFILED = 200
DEADLINES_S = (0.10, 0.15, 0.20)


@dataclass(frozen=True, slots=True)
class RandomVariant:
    """`one_s`: a batch of one row. `slope`: of each further row, in shares of that. `recall`: float, by class.
    `bytes`: its size."""

    name: str
    one_s: float
    slope: float
    load_s: float
    bytes: int
    recall: tuple[float, ...]

    def timing(self, slower: float = 1.0) -> Timing:
        """What it costs on a device that takes `slower` times as long for all."""
        one_s = self.one_s * slower
        curve = LatencyCurve((1, MAX_BATCH), (one_s, one_s * (1.0 + (MAX_BATCH - 1) * self.slope)))
        return Timing((curve,), self.load_s * slower, self.bytes)


@dataclass(frozen=True, slots=True)
class RandomApplication:
    """`frequencies`: of the classes in the stream. `votes`: float [C, C], the mean chance of a neighbour's label by
    true class. `peek`: what answering by the most probable class is worth, at Jeffreys' prior."""

    name: str
    frequencies: tuple[float, ...]
    variants: tuple[RandomVariant, ...]
    votes: tuple[tuple[float, ...], ...]
    peek: Quality

    @property
    def classes(self) -> int:
        return len(self.frequencies)

    def labels(self, samples: int, rng: np.random.Generator) -> Ints:
        """int64 [samples]: true classes of a stream."""
        return rng.choice(self.classes, samples, p=self.frequencies).astype(np.int64)

    def counts(self, labels: Ints, rng: np.random.Generator) -> Floats:
        """float64 [n, C]: the votes for samples of these classes, int64 [n]."""
        return overdispersed(np.array(self.votes), labels, rng)

    def recorded(self, labels: Ints, rng: np.random.Generator) -> Recorded:
        """A simulation's world: what every variant says of samples of these classes, and their votes. A wrong answer
        is any other class."""
        scores = {}
        for variant in self.variants:
            right = rng.random(len(labels)) < np.array(variant.recall)[labels]
            other = (labels + rng.integers(1, self.classes, len(labels))) % self.classes
            scores[variant.name] = np.eye(self.classes)[np.where(right, labels, other)]
        return Recorded(labels, scores, self.counts(labels, rng))


@dataclass(frozen=True, slots=True)
class Service:
    """`budget_bytes`: of the device. `deadline_s`: the mean of the relative deadlines, `spread_s` their deviation."""

    apps: tuple[RandomApplication, ...]
    budget_bytes: int
    deadline_s: float
    spread_s: float

    @property
    def weights(self) -> dict[str, int]:
        """The size of all weights, by the names that the applications have for them."""
        return {f"{app.name}/{v.name}": v.bytes for app in self.apps for v in app.variants}

    def applications(
        self, penalty: Penalty, slower: Sequence[tuple[str, float]] = ((DEVICE, 1.0),)
    ) -> tuple[Application, ...]:
        """What a scheduler is given. `slower`: for each device its name and how much longer it takes than the
        profile says."""
        return tuple(_application(app, self.deadline_s, penalty, slower) for app in self.apps)


def random_service(rng: np.random.Generator) -> Service:
    """Draw one. The same generator state gives the same service."""
    apps = tuple(_random_application(f"app{i}", rng) for i in range(int(rng.integers(2, 6))))
    sizes = [v.bytes for app in apps for v in app.variants]
    room = int(rng.integers(1, 4))
    # Room for so many of the usual size, and always for the largest.
    budget = max(max(sizes), int(room * np.median(sizes)))
    return Service(apps, budget, float(rng.choice(DEADLINES_S)), 0.015)


def overdispersed(votes: Floats, labels: Ints, rng: np.random.Generator) -> Floats:
    """float64 [n, C]: the votes of NEIGHBOURS neighbours for each label, from a Dirichlet-multinomial around its row
    of `votes`, float64 [C, C]."""
    chance = rng.standard_gamma(CONCENTRATION * votes[labels] + 1e-9)
    chance /= chance.sum(axis=1, keepdims=True)
    return rng.multinomial(NEIGHBOURS, chance).astype(np.float64)


def _random_application(name: str, rng: np.random.Generator) -> RandomApplication:
    classes, many = int(rng.integers(2, 8)), int(rng.integers(1, 6))
    one_s = np.sort(np.exp(rng.uniform(np.log(0.005), np.log(0.090), many)))
    load_s = rng.uniform(0.005, 0.040, many)
    slope = float(rng.uniform(0.1, 0.6))
    # 30 to 100 MB: the slower the larger, more or less.
    slowness = np.log(one_s / 0.005) / np.log(0.090 / 0.005)
    size = (1e6 * (30.0 + 70.0 * (slowness + rng.random(many)) / 2.0)).astype(np.int64)
    low, high = rng.uniform(0.55, 0.85), rng.uniform(0.88, 0.98)
    mean = np.sort(rng.uniform(low, high, many))
    variants = []
    for v in range(many):
        recall = np.clip(mean[v] + rng.normal(0.0, 0.07, classes), 0.02, 0.995)
        variants.append(
            RandomVariant(
                f"v{v}",
                float(one_s[v]),
                slope,
                float(load_s[v]),
                int(size[v]),
                tuple(recall.tolist()),
            )
        )
    frequencies = np.full(classes, 1.0 / classes)
    if rng.random() < 0.5:
        usual = rng.uniform(0.6, 0.95)
        frequencies = np.full(classes, (1.0 - usual) / (classes - 1))
        frequencies[int(rng.integers(classes))] = usual
    votes = _votes(classes, rng)
    labels = np.repeat(np.arange(classes), PROFILED)
    alpha = uninformative(classes)
    said = leading(posterior_mean(alpha, overdispersed(votes, labels, rng)))
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, said), 1)
    return RandomApplication(
        name,
        tuple(frequencies.tolist()),
        tuple(variants),
        tuple(tuple(row) for row in votes.tolist()),
        Quality.from_confusion(confusion),
    )


def _votes(classes: int, rng: np.random.Generator) -> Floats:
    """float64 [C, C]: each neighbour is right with 0.35 to 0.9, or by chance if that is more."""
    right = np.clip(rng.uniform(0.35, 0.9) + rng.normal(0.0, 0.05, classes), 1.0 / classes, 0.98)
    wrong = rng.dirichlet(np.ones(classes), classes) + 1e-3
    np.fill_diagonal(wrong, 0.0)
    wrong *= ((1.0 - right) / wrong.sum(axis=1))[:, None]
    votes: Floats = wrong + np.diag(right)
    return votes


def _application(
    app: RandomApplication, deadline_s: float, penalty: Penalty, slower: Sequence[tuple[str, float]]
) -> Application:
    even = (1.0 / app.classes,) * app.classes
    variants = tuple(
        Variant(
            v.name,
            f"{app.name}/{v.name}",
            f"{app.name}/{v.name}",
            max_batch=MAX_BATCH,
            quality=Quality(v.recall, even),
            timing={device: v.timing(factor) for device, factor in slower},
        )
        for v in app.variants
    )
    return Application(
        app.name,
        tuple(f"c{i}" for i in range(app.classes)),
        variants,
        prior=uninformative(app.classes),
        queries=(("default", QueryType(deadline_s, penalty)),),
        peek=PeekSpec((), (), neighbours=NEIGHBOURS, quality=app.peek),
    )
