"""One setting of the paper's experiments: applications, a stream, workers, a penalty; and what a policy makes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from peekserve.awareness.priors import uninformative
from peekserve.domain.application import Application, PeekSpec, QueryType, Variant
from peekserve.domain.profile import Quality, Timing
from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidData
from peekserve.experiments.recalls import counted
from peekserve.experiments.sneakpeek.device import Costs, DeviceClass
from peekserve.experiments.sneakpeek.recording import Floats, Ints, Recording
from peekserve.experiments.table import Row, Value
from peekserve.policies.base import Switches
from peekserve.sim.driver import SimWorker
from peekserve.sim.window import Asked, Got, Windows, a_window
from peekserve.sim.world import Recorded

DEVICE = "paper"
PAPER_WINDOW_S = 0.1


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy as it stands in a figure."""

    name: str
    policy: str
    switches: Switches
    options: Mapping[str, float]


# As the paper has them: everything is run, however late; requests one by one are not batched (eq. 1); a group is
# decided by its mean utility and always split by likely label.
_PLAIN = Switches(drop=False, merge=False)
_AWARE = Switches(aware=True, drop=False, merge=False)
_SHORT = Switches(aware=True, short_circuit=True, drop=False, merge=False)
_ALONE = {"rescue": 0.0}
_SPLIT = {"rescue": 0.0, "min_gain": -1.0}

MAXACC = Contender("maxacc-edf", "maxacc-edf", _PLAIN, _ALONE)
LO_EDF = Contender("lo-edf", "lo-edf", _PLAIN, _ALONE)
LO_PRIORITY = Contender("lo-priority", "lo-priority", _PLAIN, _ALONE)
GROUPED = Contender("grouped", "grouped", _PLAIN, _ALONE)
SNEAKPEEK = Contender("sneakpeek", "sneakpeek", _SHORT, _SPLIT)
AWARE_SPLIT = Contender("sneakpeek-sc", "sneakpeek", _AWARE, _SPLIT)
# How it is shipped: hopeless work is dropped, neighbours share a batch, rows are rescued, a split must pay.
SHIPPED = Contender("as shipped", "sneakpeek", replace(_SHORT, drop=True, merge=True), {})
FIVE = (MAXACC, LO_EDF, LO_PRIORITY, GROUPED, SNEAKPEEK)
FOUR = FIVE[1:]


def aware(plain: Contender, short_circuit: bool = False) -> Contender:
    """A baseline with data-awareness, and maybe the peek's answer as a candidate. Grouping is then split by label."""
    if plain.policy == "grouped":
        return replace(
            SNEAKPEEK if short_circuit else AWARE_SPLIT, name=f"grouped+aware{'+sc' * short_circuit}"
        )
    name = f"{plain.name}+aware{'+sc' * short_circuit}"
    return replace(plain, name=name, switches=_SHORT if short_circuit else _AWARE)


@dataclass(frozen=True, slots=True)
class Lab:
    """What all experiments of one run share. `windows`: for each seed and point."""

    device: DeviceClass
    recordings: Mapping[str, Recording]
    windows: int = 15

    @property
    def scale(self) -> float:
        """How long the device's window is beside the paper's: by this factor the times of a Setting are meant."""
        return self.device.window_s / PAPER_WINDOW_S

    @property
    def names(self) -> list[str]:
        return list(self.recordings)


@dataclass(frozen=True, slots=True)
class Setting:
    """What differs from point to point; None: as the device class has it. Times are the paper's: on a device with
    another window they are longer or shorter by as much as that is.

    `resident`: models that fit at once; 0 means all. `warm`: the memory is full when a window begins, with the best
    variants of the applications in turn. `applications`: copies with weights of their own beyond the recorded ones.
    `believed`: a stated accuracy of each of the peek's votes, in place of the recorded neighbours. `variants`: makes
    other variants of an application. `swap`, `slower`: factors on loads and latencies.
    """

    penalty: str = "sigmoid"
    width_s: float | None = None
    deadline_s: float | None = None
    spread_s: float | None = None
    requests: int | None = None
    resident: int | None = None
    warm: bool = True
    workers: int = 1
    applications: int | None = None
    believed: float | None = None
    variants: Callable[[Costs, Recording, np.random.Generator], "Made"] | None = None
    swap: float = 1.0
    slower: float = 1.0
    slope: float | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """Variants in place of an application's own: costs, profiles, and answers float64 [N, C] to its test samples."""

    costs: Costs
    qualities: Mapping[str, Quality]
    scores: Mapping[str, Floats]


class Stage:
    """A setting as one seed sees it: the applications, the seed's own stream, the workers."""

    def __init__(self, lab: Lab, setting: Setting, seed: int) -> None:
        self._lab, self._setting = lab, setting
        device = lab.device
        many = setting.applications or len(lab.recordings)
        requests = setting.requests or device.requests
        self.applications: list[Application] = []
        self.recorded: dict[str, Recorded] = {}
        each = [requests // many + (i < requests % many) for i in range(many)]
        for i in range(many):
            base = lab.recordings[lab.names[i % len(lab.names)]]
            name = base.name if i < len(lab.names) else f"{base.name}-{i // len(lab.names) + 1}"
            # A generator for each application and use: what one draws more does not move what the others draw.
            chance = (np.random.default_rng([7, seed, i]), np.random.default_rng([8, seed, i]))
            app, recorded = _one(name, base, lab, setting, each[i] * lab.windows, chance)
            self.applications.append(app)
            self.recorded[name] = recorded
        self.asked = [self._window(w, each, seed) for w in range(lab.windows)]
        self.workers = self._workers()

    @property
    def penalty(self) -> Penalty:
        """The setting's penalty, at its own width if it has one."""
        own = self._lab.device.penalty(self._setting.penalty)
        return (
            own
            if self._setting.width_s is None
            else replace(own, width=self._setting.width_s * self._lab.scale)
        )

    def with_penalty(self) -> list[Application]:
        """The applications, their queries penalised as the setting has it."""
        query = ("default", QueryType(self._lab.device.deadline_s, self.penalty))
        return [replace(app, queries=(query,)) for app in self.applications]

    def windows(self, who: Contender) -> Windows:
        """The simulated windows of one contender."""
        return Windows(
            self.applications,
            self.recorded,
            who.policy,
            workers=self.workers,
            switches=who.switches,
            options=who.options,
            penalty=self.penalty,
            length_s=self._lab.device.window_s,
        )

    def play(self, who: Contender) -> list[Got]:
        """All windows of this seed, one after another, each by itself."""
        windows = self.windows(who)
        return [got for asked in self.asked for got in windows.run(asked)]

    def _window(self, number: int, each: Sequence[int], seed: int) -> list[Asked]:
        device, setting = self._lab.device, self._setting
        samples = {
            app.name: list(range(number * n, (number + 1) * n))
            for app, n in zip(self.applications, each, strict=True)
        }
        scale = self._lab.scale
        deadline_s = device.deadline_s if setting.deadline_s is None else setting.deadline_s * scale
        spread_s = device.spread_s if setting.spread_s is None else setting.spread_s * scale
        rng = np.random.default_rng([11, seed, number])
        return a_window(samples, rng, device.window_s, deadline_s, spread_s)

    def _workers(self) -> list[SimWorker]:
        ranked = [
            sorted(app.variants, key=lambda v: -(v.quality.accuracy if v.quality else 0.0))
            for app in self.applications
        ]
        most = max(len(variants) for variants in ranked)
        in_turn = [
            variants[rank].weights for rank in range(most) for variants in ranked if rank < len(variants)
        ]
        resident = self._lab.device.resident if self._setting.resident is None else self._setting.resident
        room = resident or len(in_turn)
        held = tuple(in_turn[:room]) if self._setting.warm else ()
        return [SimWorker(f"gpu-{i}", DEVICE, room, resident=held) for i in range(self._setting.workers)]


def _one(
    name: str,
    base: Recording,
    lab: Lab,
    setting: Setting,
    samples: int,
    chance: tuple[np.random.Generator, np.random.Generator],
) -> tuple[Application, Recorded]:
    """An application of this name on the recording `base`, and the stream that this seed draws for it."""
    if base.name not in lab.device.applications:
        raise InvalidData(f"the device class {lab.device.name!r} says nothing of {base.name!r}")
    costs = lab.device.applications[base.name]
    qualities: Mapping[str, Quality] = {v: base.quality(v) for v in base.variants}
    scores = base.scores
    if setting.variants is not None:
        made = setting.variants(costs, base, chance[1])
        costs, qualities, scores = made.costs, made.qualities, made.scores
    if len(costs.curves) != len(scores):
        raise InvalidData(f"{base.name} has {len(scores)} variants, the device class {len(costs.curves)}")
    drawn = stream(base, costs.usual, samples, chance[0])
    alpha = uninformative(len(base.classes))
    counts, peek = _evidence(base, drawn, lab, setting, alpha, chance[1])
    variants = []
    for variant, curve, load_s in zip(scores, costs.curves, costs.load_s, strict=True):
        seconds = {b: s * setting.slower for b, s in zip(curve.batch_sizes, curve.median_s, strict=True)}
        if setting.slope is not None:
            one = curve.seconds(1) * setting.slower
            seconds = {1: one, lab.device.max_batch: one * (1 + (lab.device.max_batch - 1) * setting.slope)}
        timed = replace(
            curve, batch_sizes=tuple(seconds), median_s=tuple(seconds.values()), p95_s=(), p99_s=()
        )
        weights = f"{name}/{variant}"
        variants.append(
            Variant(
                variant,
                weights,
                weights,
                max_batch=lab.device.max_batch,
                quality=qualities[variant],
                timing={DEVICE: Timing((timed,), load_s * setting.swap, 1)},
            )
        )
    app = Application(
        name,
        base.classes,
        tuple(variants),
        prior=alpha,
        queries=(("default", QueryType(lab.device.deadline_s)),),
        peek=PeekSpec((), (), neighbours=lab.device.neighbours, quality=peek),
    )
    answers = {variant: said[drawn] for variant, said in scores.items()}
    return app, Recorded(base.labels[drawn], answers, counts)


def stream(base: Recording, usual: float | None, samples: int, rng: np.random.Generator) -> Ints:
    """int64 [samples]: test samples in the paper's mix of labels, from a resample of the test data's groups."""
    names = np.unique(base.groups)
    pool = rng.choice(names, len(names))
    by_class = []
    for label in range(len(base.classes)):
        own = base.groups[base.labels == label]
        rows = np.flatnonzero(base.labels == label)
        chosen = np.concatenate([rows[own == g] for g in pool])
        # A class that no drawn group has: one group that has it joins.
        by_class.append(chosen if len(chosen) else rows[own == rng.choice(own)])
    classes = len(base.classes)
    share = np.full(classes, 1.0 / classes)
    if usual is not None:
        share = np.full(classes, (1.0 - usual) / (classes - 1))
        share[0] = usual
    labels = rng.choice(classes, samples, p=share)
    return np.array([by_class[label][rng.integers(len(by_class[label]))] for label in labels], np.int64)


def _evidence(
    base: Recording,
    drawn: Ints,
    lab: Lab,
    setting: Setting,
    alpha: Sequence[float],
    rng: np.random.Generator,
) -> tuple[Floats, Quality]:
    """The votes for each drawn sample, and the peek's own profile."""
    k = lab.device.neighbours
    if setting.believed is None:
        quality = base.peek_quality(base.validation_counts(k), base.validation_labels, alpha)
        return base.counts(k)[drawn], quality
    counts = stated_votes(base.labels[drawn], setting.believed, k, len(base.classes), rng)
    many = np.repeat(np.arange(len(base.classes)), 1000)
    profiled = stated_votes(many, setting.believed, k, len(base.classes), rng)
    return counts, base.peek_quality(profiled, many, alpha)


def stated_votes(labels: Ints, accuracy: float, k: int, classes: int, rng: np.random.Generator) -> Floats:
    """float64 [n, classes]: k votes for each label, each right with this probability and else spread evenly over the
    other classes (6.3.2)."""
    right = rng.random((len(labels), k)) < accuracy
    wrong = (labels[:, None] + rng.integers(1, classes, (len(labels), k))) % classes
    said = np.where(right, labels[:, None], wrong)
    return np.stack([(said == c).sum(axis=1) for c in range(classes)], axis=1).astype(np.float64)


def rows_of(got: Sequence[Got], who: str, seed: int, **where: Value) -> list[Row]:
    """A row for each application: the means of what its requests got, and counts by class (experiments/recalls.py)."""
    by_app: dict[str, list[Got]] = {}
    for one in got:
        by_app.setdefault(one.row.application, []).append(one)
    rows: list[Row] = []
    for name, own in by_app.items():
        late_s = np.array([max(g.row.settled_at - g.row.due_at, 0.0) for g in own])
        rows.append(
            {
                **where,
                "policy": who,
                "application": name,
                "seed": seed,
                "requests": len(own),
                "utility": float(np.mean([g.row.utility for g in own])),
                "expected": float(np.mean([g.expected for g in own])),
                "accuracy": float(np.mean([g.row.correct for g in own])),
                "late": float(np.mean(late_s > 1e-9)),
                "violation_ms": float(late_s.mean() * 1e3),
                "by_peek": float(np.mean([g.row.by_peek for g in own])),
                **counted([g.row for g in own]),
            }
        )
    return rows


def played(
    lab: Lab, setting: Setting, who: Sequence[Contender], **where: Value
) -> Callable[[int], list[Row]]:
    """The job that lets each contender serve one seed's stream in this setting."""

    def job(seed: int) -> list[Row]:
        stage = Stage(lab, setting, seed)
        return [row for one in who for row in rows_of(stage.play(one), one.name, seed, **where)]

    return job
