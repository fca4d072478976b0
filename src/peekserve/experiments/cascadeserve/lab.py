"""What the experiments on cascades share: an application's zoo of five models, as a planner and a simulator see it.

Times are measured, through the runtime that serves, on small networks; the paper's are of BERT on a GPU. So all times
of a zoo are *stretched* by one factor, such that its base model takes `BASE_S` for one sample: rates in requests per
second, a gear period of 100 ms and a deadline of `DEADLINE_S` then mean what they mean there. What the sizes cost
beside one another, and what a batch saves, stay as they were measured.

Models are believed by what they said of validation samples; what they then answer are recorded test samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from peekserve.cascades.cascade import Answers
from peekserve.domain.application import Application, QueryType, Variant
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.experiments.cascadeserve.record import (
    NAMES,
    SIZES,
    Part,
    Said,
    machine,
    said,
    said_beside,
    said_by_subnets,
)
from peekserve.experiments.superserve.lab import SMALL
from peekserve.experiments.superserve.lab import Device as Machine
from peekserve.experiments.superserve.record import RECORDED
from peekserve.planner.loads import Loads
from peekserve.planner.problem import Device, Problem, Slo, models
from peekserve.sim.world import Recorded

__all__ = [
    "BASE_S",
    "DEADLINE_S",
    "DEVICE",
    "MAX_BATCH",
    "NAMES",
    "SIZES",
    "CascadeLab",
    "Zoo",
    "cascade_laboratory",
    "problem",
    "zoo",
]

DEVICE = "stretched"
MAX_BATCH = 32
# About what BERT base takes for one short text on the paper's GPU; the deadline is that of its example.
BASE_S, DEADLINE_S = 0.010, 0.400
_BYTES = 4  # of a weight


@dataclass(frozen=True, slots=True)
class Zoo:
    """`application`: five variants by size, each timed on `DEVICE` and with its quality on validation data. `answers`:
    of these on validation data, in the order of their groups, for a planner. `validation`, `test`: the recorded samples
    themselves, `test_groups` int64 [N] of the latter; simulations serve `test`. `sizes`: tiny to base. `stretch`:
    stretched over measured seconds."""

    name: str
    application: Application
    answers: Answers
    validation: Recorded
    test: Recorded
    test_groups: tuple[int, ...]
    sizes: tuple[str, ...]
    stretch: float


@lru_cache(maxsize=len(NAMES))
def zoo(name: str) -> Zoo:
    """The zoo of this application. Raises DataUnavailable where a recording is missing."""
    return zoo_of(said(name))


def zoo_of(recorded: Said) -> Zoo:
    """A zoo of these recordings."""
    sizes = tuple(recorded.models)
    stretch = BASE_S / recorded.timed[sizes[-1]].curve.seconds(1)
    variants = tuple(_variant(recorded, size, stretch) for size in sizes)
    application = Application(
        recorded.name,
        recorded.classes,
        variants,
        prior=(1.0,) * len(recorded.classes),
        queries=(("default", QueryType(DEADLINE_S)),),
    )
    validation = recorded.validation
    return Zoo(
        recorded.name,
        application,
        Answers.recorded(validation.scores, validation.labels, validation.groups),
        Recorded(validation.labels, validation.scores),
        Recorded(recorded.test.labels, recorded.test.scores),
        tuple(recorded.test.groups.tolist()),
        sizes,
        stretch,
    )


@dataclass(frozen=True, slots=True)
class CascadeLab:
    """The laboratory of this family. `said`: what is recorded of each zoo, `subnets` of five subnets of each supernet,
    `beside` of the separate models of their sizes. `machine`: whose times they are. `share`: of the usual length of
    traces; a quick look takes less. `folder`: where the recordings lie. `windows`: there are none here."""

    zoos: Mapping[str, Zoo]
    said: Mapping[str, Said]
    subnets: Mapping[str, Said]
    machine: str
    share: float = 1.0
    folder: Path = RECORDED
    windows: int = 0
    beside: Mapping[str, Said] = field(default_factory=dict)

    @property
    def device(self) -> Machine:
        return Machine(f"{self.machine}; stretched to {1e3 * BASE_S:g} ms for one sample of the base model")

    @property
    def names(self) -> list[str]:
        return list(self.zoos)


def cascade_laboratory(small: bool = False, recordings: Path = RECORDED) -> CascadeLab:
    """All zoos. Raises DataUnavailable where a recording is missing."""
    recorded = {name: said(name, recordings) for name in NAMES}
    # Those in the package are asked for by name elsewhere, too: one zoo each.
    zoos = {name: zoo(name) if recordings == RECORDED else zoo_of(one) for name, one in recorded.items()}
    subnets = {name: said_by_subnets(name, recordings) for name in NAMES}
    beside = {name: said_beside(name, recordings) for name in NAMES}
    share = SMALL if small else 1.0
    return CascadeLab(zoos, recorded, subnets, machine(recordings), share, recordings, beside=beside)


def problem(zoo: Zoo, slo: Slo, loads: Loads, devices: int = 1) -> Problem:
    """What a planner is asked for this zoo on a number of like devices, with room for all its models on each."""
    return Problem(
        zoo.name,
        models(zoo.application, (DEVICE,)),
        zoo.answers,
        tuple(Device(f"{DEVICE}:{i}", DEVICE) for i in range(devices)),
        slo,
        loads,
    )


def _variant(recorded: Said, size: str, stretch: float) -> Variant:
    timed = recorded.timed[size]
    curve = LatencyCurve(
        timed.curve.batch_sizes,
        tuple(s * stretch for s in timed.curve.median_s),
        tuple(s * stretch for s in timed.curve.p95_s),
    )
    timing = Timing((curve,), timed.load_s * stretch, recorded.parameters[size] * _BYTES)
    return Variant(
        size,
        recorded.models[size],
        f"{recorded.name}/{size}",
        max_batch=MAX_BATCH,
        quality=quality(recorded.validation, size, len(recorded.classes)),
        timing={DEVICE: timing},
    )


def quality(part: Part, size: str, classes: int) -> Quality:
    """What a size is worth on these samples."""
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (part.labels, part.scores[size].argmax(axis=1)), 1)
    return Quality.from_confusion(confusion)
