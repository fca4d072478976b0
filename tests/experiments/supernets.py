"""A supernet drawn from stated accuracies, of the form in which real ones are recorded: not what any network said."""

import numpy as np

from peekserve.domain.profile import LatencyCurve
from peekserve.experiments.superserve.lab import SuperLab, Timed, Timings
from peekserve.experiments.superserve.record import Scored, rounded

# Depth and width in percent, and how often it is right; each costs about twice the one before.
SUBNETS = (
    ("d1-1-1.w25", 0.80), ("d1-1-1.w50", 0.84), ("d2-1-1.w50", 0.86), ("d2-2-1.w50", 0.88),
    ("d2-2-1.w75", 0.90), ("d2-2-2.w75", 0.91), ("d2-2-2.w100", 0.93), ("d3-3-3.w100", 0.95),
)  # fmt: skip
NOT_OFFERED = "d2-1-1.w50"
APART = ("d1-1-1.w25", "d2-2-1.w50", "d3-3-3.w100")
MULTIPLY_ADDS = [int(100_000 * 1.5**i) for i in range(len(SUBNETS))]
_BATCHES = (1, 4, 16)


def a_scored(classes: int = 4, samples: int = 400, seed: int = 0) -> Scored:
    rng = np.random.default_rng(seed)
    labels = [rng.integers(0, classes, n) for n in (samples, samples // 2)]
    names = tuple(name for name, _ in SUBNETS)

    def said(accuracy: float, truth: np.ndarray) -> np.ndarray:
        right = rng.random(len(truth)) < accuracy
        answer = np.where(right, truth, (truth + rng.integers(1, classes, len(truth))) % classes)
        return rounded(0.2 / classes + 0.8 * np.eye(classes)[answer])

    def all_said(models: list[float]) -> list[np.ndarray]:
        return [np.stack([said(accuracy, truth) for accuracy in models]) for truth in labels]

    worth = dict(SUBNETS)
    test, validation = all_said([worth[n] for n in names])
    # Trained by itself the small one is better: that is what sharing costs.
    apart_test, apart_validation = all_said([0.88, 0.91, 0.94])
    own = [names.index(n) for n in APART]
    parameters = [10_000 * (i + 1) for i in range(len(names))]
    return Scored(
        classes=tuple(f"c{i}" for i in range(classes)),
        subnets=names,
        separate=APART,
        offered=np.array([n != NOT_OFFERED for n in names]),
        labels=labels[0],
        groups=np.arange(samples) // 10,
        validation_labels=labels[1],
        validation_groups=np.arange(samples // 2) // 10,
        subnets_test=test,
        subnets_validation=validation,
        separate_test=apart_test,
        separate_validation=apart_validation,
        borrowed_test=np.stack([np.zeros(samples)] * (len(names) - 1) + [test[-1].argmax(axis=1)]).astype(
            np.int8
        ),
        subnets_parameters=np.array(parameters),
        subnets_multiply_adds=np.array(MULTIPLY_ADDS),
        separate_parameters=np.array([parameters[i] for i in own]),
        separate_multiply_adds=np.array([MULTIPLY_ADDS[i] for i in own]),
        supernet_cpu_s=60.0,
        supernet_work=6e9,
        separate_cpu_s=np.full(len(own), 10.0),
        separate_work=np.full(len(own), 1e9),
    )


def a_timed(multiply_adds: int) -> Timed:
    """A fixed part, and a part that grows with the batch and the network."""
    seconds = [2e-5 + 1e-10 * multiply_adds * b for b in _BATCHES]
    return Timed(LatencyCurve(_BATCHES, tuple(seconds), tuple(1.1 * s for s in seconds)), 1e-3)


def some_timings(names: tuple[str, ...] = ("ecg", "keywords")) -> Timings:
    subnets = {name: a_timed(cost) for (name, _), cost in zip(SUBNETS, MULTIPLY_ADDS, strict=True)}
    separate = {name: subnets[name] for name in APART}
    return Timings("no machine", False, dict.fromkeys(names, subnets), dict.fromkeys(names, separate))


def a_super_lab(share: float = 0.25) -> SuperLab:
    return SuperLab({"ecg": a_scored(seed=0), "keywords": a_scored(seed=1)}, some_timings(), share)
