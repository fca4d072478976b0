"""What the demo's models and peeks said of all labelled samples that nothing was trained on, and what they cost.

`recorded/demo-NAME.npz`, one for each application, is an `Answered`; `recorded/demo-timing.json` is the `Box` that they
are served from. `python -m peekserve.experiments.horizon.record REPO` makes both anew.

Unlike the recordings of the paper's applications these do not say which samples profiles come from: validation and test
samples were answered alike, and whoever uses them decides which are profiled and which are served.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from peekserve.awareness.agreement import by_agreement
from peekserve.awareness.calibrate import Sampled
from peekserve.awareness.fusion import with_share
from peekserve.awareness.priors import uninformative
from peekserve.domain.application import Application, OnMiss, PeekSpec, QueryType, Variant
from peekserve.domain.profile import LatencyCurve, Timing
from peekserve.domain.tensors import TensorSpec
from peekserve.domain.utility import Penalty
from peekserve.errors import DataUnavailable
from peekserve.experiments.sneakpeek.recording import RECORDED, votes
from peekserve.peeking.peek import calibrate, peek_quality
from peekserve.profiling.fit import quality
from peekserve.sim.world import Recorded

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NAMES = ("appliances", "digits", "watch")
DEVICE = "cpu"
TIMING = "demo-timing.json"


@dataclass(frozen=True, slots=True)
class Cost:
    """One application as the demo declares it. `sigmoid_s`: the width of its penalty. `buckets`: lengths of its inputs,
    one where none varies. `neighbours`: its peek's k. `variants`: name -> what it costs, in the order of its file."""

    deadline_s: float
    sigmoid_s: float
    max_batch: int
    buckets: tuple[int, ...]
    neighbours: int
    peek: LatencyCurve
    variants: dict[str, Timing]


@dataclass(frozen=True, slots=True)
class Box:
    """One worker. `machine`: whose times these are, and `measured`: how, in words. `margin_s`: taken off deadlines."""

    machine: str
    measured: str
    budget_bytes: int
    margin_s: float
    applications: dict[str, Cost]

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """N samples of C classes, V variants; K nearest rows of a reference of R.

    `labels`, `groups`: int64 [N]; `test`: bool [N], is it of the demo's test data, or of its validation data?
    `buckets`: int64 [N], its shape bucket. `scores`: float64 [V, N, C]. `nearest`: int64 [N, K], labels of the
    reference rows nearest to it, the nearest first. `reference_labels`, `reference_groups`: int64 [R];
    `reference_nearest`: int64 [R, K], of those of other groups than its own (peeking.peek.votes_on_reference). No
    group of the reference is one of the samples'.
    """

    name: str
    classes: tuple[str, ...]
    variants: tuple[str, ...]
    labels: Ints
    groups: Ints
    test: Bools
    buckets: Ints
    scores: Floats
    nearest: Ints
    reference_labels: Ints
    reference_groups: Ints
    reference_nearest: Ints

    def profiled(self, cost: Cost, rows: Ints) -> Application:
        """The application with the profiles that these samples alone give, as `peekserve profile` takes them."""
        alpha = uninformative(len(self.classes))
        labels, groups, counts = self.labels[rows], self.groups[rows], self._counts(cost)[rows]
        said = self.scores.argmax(axis=2)[:, rows]
        beside = Sampled(
            votes(self.reference_nearest, cost.neighbours, len(self.classes)),
            self.reference_labels,
            self.reference_groups,
        )
        plain = Application(
            self.name,
            self.classes,
            tuple(
                Variant(v, v, f"{self.name}/{v}", max_batch=cost.max_batch, timing={DEVICE: cost.variants[v]})
                for v in self.variants
            ),
            prior=alpha,
            inputs=(TensorSpec("x", "FP32", (-1,), buckets=cost.buckets),),
            queries=(("default", QueryType(cost.deadline_s, Penalty.sigmoid(cost.sigmoid_s))),),
            on_miss=OnMiss.DEGRADE,
        )
        known = calibrate(plain, counts, labels, groups, self.reference_groups, beside)
        known = with_share(known, counts, said, labels, groups, plain.expected, beside)
        apart = by_agreement(said, labels, groups, counts, known.edges)
        worth = [quality(labels, own, len(self.classes)) for own in said]
        peek = PeekSpec(
            (),
            (),
            neighbours=cost.neighbours,
            quality=peek_quality(alpha, counts, labels),
            latency=cost.peek,
            calibration=known,
        )
        pairs = zip(plain.variants, worth, apart, strict=True)
        variants = tuple(replace(v, quality=replace(q, by_agreement=a)) for v, q, a in pairs)
        return replace(plain, variants=variants, peek=peek)

    def served(self, cost: Cost, rows: Ints) -> Recorded:
        """What a simulation knows of these samples."""
        scores = dict(zip(self.variants, self.scores[:, rows], strict=True))
        return Recorded(self.labels[rows], scores, self._counts(cost)[rows], self.buckets[rows])

    def _counts(self, cost: Cost) -> Floats:
        return votes(self.nearest, cost.neighbours, len(self.classes))

    def save(self, folder: Path) -> None:
        np.savez_compressed(
            folder / f"demo-{self.name}.npz",
            classes=np.array(self.classes),
            variants=np.array(self.variants),
            labels=self.labels.astype(np.int16),
            groups=self.groups.astype(np.int32),
            test=self.test,
            buckets=self.buckets.astype(np.int8),
            scores=self.scores.astype(np.float16),
            nearest=self.nearest.astype(np.int16),
            reference_labels=self.reference_labels.astype(np.int16),
            reference_groups=self.reference_groups.astype(np.int32),
            reference_nearest=self.reference_nearest.astype(np.int16),
        )


def load(name: str, folder: Path = RECORDED) -> Answered:
    """Raises DataUnavailable where there is no such recording."""
    with np.load(_there(folder / f"demo-{name}.npz")) as arrays:
        ints = ("labels", "groups", "buckets", "nearest")
        reference = ("reference_labels", "reference_groups", "reference_nearest")
        return Answered(
            name=name,
            classes=tuple(str(c) for c in arrays["classes"]),
            variants=tuple(str(v) for v in arrays["variants"]),
            test=arrays["test"],
            scores=arrays["scores"].astype(np.float64),
            **{key: arrays[key].astype(np.int64) for key in (*ints, *reference)},
        )


def load_box(folder: Path = RECORDED) -> Box:
    """Raises DataUnavailable where it is not there."""
    return msgspec.json.decode(_there(folder / TIMING).read_bytes(), type=Box)


def _there(path: Path) -> Path:
    if not path.is_file():
        raise DataUnavailable(
            f"{path} is not there: prepare the demo (peekserve demo --prepare REPO), then run "
            "python -m peekserve.experiments.horizon.record REPO"
        )
    return path
