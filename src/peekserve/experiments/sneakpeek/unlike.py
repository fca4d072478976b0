"""Figure 15: what it is worth that an application's variants are unlike each other."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from peekserve.domain.profile import LatencyCurve, Quality
from peekserve.experiments.sneakpeek.device import Costs
from peekserve.experiments.sneakpeek.lab import (
    AWARE_SPLIT,
    GROUPED,
    LO_EDF,
    LO_PRIORITY,
    Lab,
    Made,
    Setting,
    played,
)
from peekserve.experiments.sneakpeek.recording import Recording
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Table, best

# No short-circuit here: it would hide what the variants do (6.4.5).
FOUR = (LO_EDF, LO_PRIORITY, GROUPED, AWARE_SPLIT)
APART = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)


def three(apart: float) -> Callable[[Costs, Recording, np.random.Generator], Made]:
    """The mean variant of an application, and one on either side of it in accuracy and in latency.

    A variant is right with its accuracy whatever the class, and errs evenly over the others; no accuracy passes 1.
    """

    def make(costs: Costs, base: Recording, rng: np.random.Generator) -> Made:
        accuracy = float(np.mean([base.quality(v).accuracy for v in base.variants]))
        sizes = costs.curves[0].batch_sizes
        mean_s = [float(np.mean([curve.seconds(b) for curve in costs.curves])) for b in sizes]
        load_s = float(np.mean(costs.load_s))
        classes = len(base.classes)
        curves, qualities, scores = [], {}, {}
        # Drawn once for all three, so that they differ by their accuracy and by nothing else.
        luck = rng.random(len(base.labels))
        wrong = (base.labels + rng.integers(1, classes, len(base.labels))) % classes
        for name, factor in (("low", 1.0 - apart), ("middle", 1.0), ("high", 1.0 + apart)):
            right = min(accuracy * factor, 1.0)
            curves.append(LatencyCurve(sizes, tuple(s * factor for s in mean_s)))
            qualities[name] = Quality((right,) * classes, (1.0 / classes,) * classes)
            scores[name] = np.eye(classes)[np.where(luck < right, base.labels, wrong)]
        return Made(Costs(tuple(curves), (load_s,) * 3, costs.usual), qualities, scores)

    return make


def _apart(lab: Lab) -> Sequence[Job]:
    return [played(lab, Setting(variants=three(x)), FOUR, apart=x) for x in APART]


def _measure(table: Table) -> Mapping[str, Floats]:
    def gain(who: str) -> Floats:
        far = table.mean("utility", policy=who, apart=APART[-1])
        return far - table.mean("utility", policy=who, apart=0.0)

    return {
        "fig15-grouped": gain("grouped"),
        "fig15-sneakpeek": gain("sneakpeek-sc"),
        "fig15-others": best([gain("lo-edf"), gain("lo-priority")]),
    }


def _panels(table: Table) -> Sequence[Panel]:
    series = [
        Series(
            c.name,
            [x * 100 for x in APART],
            [table.mean("utility", policy=c.name, apart=x) for x in APART],
        )
        for c in FOUR
    ]
    return [
        Panel(
            "Utility by heterogeneity",
            "accuracy and latency of the outer two, %",
            "mean realised utility",
            series,
        )
    ]


EXPERIMENTS = (
    Experiment("sneakpeek-fig15", "utility with increasingly unlike variants", _apart, _measure, _panels),
)
