"""A supernet as it is served in the experiments: an application whose variants are its subnets, and streams of real
test samples.

All subnets share one `weights`: to the scheduler that is all there is to a supernet, and a switch costs nothing because
nothing is loaded. What is believed of a subnet comes from validation samples, what it then answers from recorded test
samples, so that the accuracy of a run is realised. Each seed resamples the groups (subjects, speakers) of the test
data and draws its requests from them; everybody who is compared gets the same requests.

The deadline is 1.5 times what the largest subnet takes for a batch of 16, which is 36 ms after stretching (lab.py);
the load 1 is what the workers could answer with the largest subnet alone, at its best batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, QueryType, Variant
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.domain.request import Request, TensorRef
from peekserve.errors import InvalidConfiguration
from peekserve.experiments.superserve.lab import SuperLab, Timed
from peekserve.experiments.superserve.record import Scored
from peekserve.experiments.table import Floats, Row, Table, Value
from peekserve.loadgen.arrivals import Instants
from peekserve.results import Row as Settled
from peekserve.results import row
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.faults import Faults
from peekserve.sim.world import Recorded, RecordedWorld

DEVICE = "stretched"
MAX_BATCH = 16
DEADLINE_S = 0.036
# Of the largest subnet's time for a full batch; the paper's 36 ms are about as much of its own.
DEADLINE_OF_LARGEST = 1.5
WORKERS = 4
SEPARATE = "separate."
# Fixed models to compare with, as in the paper.
POINTS = 6
_POOL, _DRAWN = 61, 62


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who serves. `only`: this one variant and no other; a separate model's name begins with `separate.`."""

    name: str
    policy: str
    options: tuple[tuple[str, float], ...] = ()
    only: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """One supernet and the separate models beside it. `application`: its offered subnets, in rising order of cost.
    `alone`: every offered subnet and separate model as a variant with weights of its own."""

    name: str
    application: Application
    alone: Mapping[str, Variant]
    recorded: Recorded
    groups: tuple[int, ...]
    stretch: float

    @property
    def largest(self) -> Variant:
        return self.application.variants[-1]

    @property
    def smallest(self) -> Variant:
        """The one that answers the most: by what was measured, which need not be the one with the fewest operations."""
        return min(self.application.variants, key=lambda v: (curve_of(v).seconds(MAX_BATCH), -profiled(v)))

    @property
    def span(self) -> float:
        """Between the least and the most accurate subnet, as profiled."""
        return self.highest - min(profiled(v) for v in self.application.variants)

    @property
    def highest(self) -> float:
        """The accuracy of the most accurate subnet, as profiled."""
        return max(profiled(v) for v in self.application.variants)

    def capacity(self, variant: Variant | None = None, workers: int = WORKERS) -> float:
        """Requests per second at its best batch; of the largest subnet unless another is named."""
        curve = curve_of(variant or self.largest)
        return workers * max(b / curve.seconds(b) for b in range(1, MAX_BATCH + 1))

    def points(self, many: int = POINTS) -> tuple[str, ...]:
        """Subnets spread evenly over the accuracies, the least accurate first; all where there are not as many."""
        worth = {v.name: profiled(v) for v in self.application.variants}
        chosen: list[str] = []
        # Both ends first. Of equally near ones the first, which is the cheapest of them.
        for wanted in sorted(np.linspace(min(worth.values()), max(worth.values()), many), key=self._inwards):
            left = [name for name in worth if name not in chosen]
            if left:
                chosen.append(min(left, key=lambda name: abs(worth[name] - wanted)))
        return tuple(sorted(chosen, key=lambda name: worth[name]))

    def _inwards(self, worth: float) -> float:
        known = [profiled(v) for v in self.application.variants]
        return min(worth - min(known), max(known) - worth)

    def separate(self) -> tuple[str, ...]:
        """The separately trained models, in rising order of cost."""
        return tuple(name for name in self.alone if name.startswith(SEPARATE))

    def as_asked(self, who: Entrant, switch_s: float | None = None) -> Application:
        """The application as this entrant has it. `switch_s`: what it takes to change from one subnet to another,
        None where they share their weights."""
        app = self.application
        if who.only:
            return replace(app, variants=(self.alone[who.only],))
        if switch_s is None:
            return app
        apart = (self.alone[v.name] for v in app.variants)
        return replace(
            app,
            variants=tuple(
                replace(v, timing={d: replace(t, load_s=switch_s) for d, t in v.timing.items()})
                for v in apart
            ),
        )


def profiled(variant: Variant) -> float:
    """Its accuracy on validation data."""
    if variant.quality is None:
        raise InvalidConfiguration(f"variant {variant.name!r} has no profile")
    return variant.quality.accuracy


def curve_of(variant: Variant) -> LatencyCurve:
    return variant.timing[DEVICE].curve(0)


def world_of(lab: SuperLab, name: str) -> World:
    """Made once for each supernet and laboratory: the same for all seeds."""
    return _world_of(_Same(lab), name)


class _Same:
    """A laboratory that equals itself alone."""

    def __init__(self, lab: SuperLab) -> None:
        self.lab = lab

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.lab is self.lab

    def __hash__(self) -> int:
        return id(self.lab)


@lru_cache(maxsize=16)
def _world_of(lab: _Same, name: str) -> World:
    scored, timings = lab.lab.scored[name], lab.lab.timings
    subnets, separate = timings.subnets[name], timings.separate.get(name, {})
    offered = [i for i in range(len(scored.subnets)) if scored.offered[i]]
    largest = subnets[scored.subnets[offered[-1]]]
    stretch = DEADLINE_S / (DEADLINE_OF_LARGEST * largest.curve.seconds(MAX_BATCH))
    weights = f"{name}-supernet"
    together = [
        _variant(scored.subnets[i], weights, _quality(scored, i), subnets[scored.subnets[i]], stretch)
        for i in offered
    ]
    alone = {v.name: replace(v, weights=f"{name}/{v.name}") for v in together}
    answers = {scored.subnets[i]: _answers(scored.subnets_test[i]) for i in offered}
    for m in np.argsort(scored.separate_multiply_adds, kind="stable").tolist():
        if scored.separate[m] in separate:
            own = f"{SEPARATE}{scored.separate[m]}"
            quality = _confusion(scored, scored.separate_validation[m])
            alone[own] = _variant(own, f"{name}/{own}", quality, separate[scored.separate[m]], stretch)
            answers[own] = _answers(scored.separate_test[m])
    app = Application(
        name,
        scored.classes,
        tuple(together),
        prior=_frequencies(scored.validation_labels, len(scored.classes)),
        queries=(("default", QueryType(DEADLINE_S)),),
    )
    recorded = Recorded(scored.labels, answers)
    return World(name, app, alone, recorded, tuple(scored.groups.tolist()), stretch)


def _variant(name: str, weights: str, quality: Quality, timed: Timed, stretch: float) -> Variant:
    curve = timed.curve
    stretched = LatencyCurve(curve.batch_sizes, tuple(s * stretch for s in curve.median_s))
    timing = Timing((stretched,), 0.0, 1)
    return Variant(name, weights, weights, max_batch=MAX_BATCH, quality=quality, timing={DEVICE: timing})


def _quality(scored: Scored, subnet: int) -> Quality:
    return _confusion(scored, scored.subnets_validation[subnet])


def _frequencies(labels: np.ndarray[tuple[int], np.dtype[np.int64]], classes: int) -> tuple[float, ...]:
    """The prior: how often each class is seen, in all one row for each, none without a share of its own. Nobody peeks
    here, so this is all that a policy knows which believes of rows and not of the profile: with it both are the same.
    """
    counts = np.bincount(labels, minlength=classes) + 0.5
    return tuple((counts * (len(counts) / counts.sum())).tolist())


def _confusion(scored: Scored, scores: np.ndarray[tuple[int, ...], np.dtype[np.float16]]) -> Quality:
    confusion = np.zeros((len(scored.classes), len(scored.classes)), np.int64)
    np.add.at(confusion, (scored.validation_labels, scores.argmax(axis=1)), 1)
    return Quality.from_confusion(confusion)


def _answers(scores: np.ndarray[tuple[int, ...], np.dtype[np.float16]]) -> Floats:
    values = scores.astype(np.float64)
    return np.asarray(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-9))


# ---- streams ----


def pool(world: World, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """int64 [n]: test samples of a resample of the groups."""
    groups = np.array(world.groups)
    names = np.unique(groups)
    drawn = np.random.default_rng([_POOL, seed]).choice(names, len(names))
    return np.concatenate([np.flatnonzero(groups == g) for g in drawn])


def knowing(world: World, seed: int) -> World:
    """The same where it is known of every subnet how often it is right on the samples that requests are drawn from."""
    app, own = world.application, pool(world, seed)
    truth, many = world.recorded.labels[own], len(world.application.classes)
    alone = {}
    for name, variant in world.alone.items():
        confusion = np.zeros((many, many), np.int64)
        np.add.at(confusion, (truth, world.recorded.scores[name][own].argmax(axis=1)), 1)
        alone[name] = replace(variant, quality=Quality.from_confusion(confusion))
    together = tuple(replace(v, quality=alone[v.name].quality) for v in app.variants)
    application = replace(app, variants=together, prior=_frequencies(truth, many))
    return replace(world, application=application, alone=alone)


def requests(world: World, instants: Instants, seed: int, begin_at: float = 0.0) -> list[Request]:
    """One real test sample at each instant, due after the application's deadline."""
    own = pool(world, seed)
    rng = np.random.default_rng([_DRAWN, seed])
    samples = own[rng.integers(len(own), size=len(instants))].tolist()
    deadline_s = world.application.query().deadline_s
    return [
        Request(f"r{i}", world.name, begin_at + at, begin_at + at + deadline_s, payload=TensorRef(str(s)))
        for i, (at, s) in enumerate(zip(instants.tolist(), samples, strict=True))
    ]


def spec_of(who: Entrant) -> SchedulerSpec:
    """Rolling plans without peeks; hopeless requests are turned away, whoever plans."""
    return SchedulerSpec(
        policy=who.policy,
        policy_options=dict(who.options),
        peek=False,
        preload=False,
        hang_s=float("inf"),
    )


def play(
    world: World,
    who: Entrant,
    trace: Sequence[Request],
    workers: int = WORKERS,
    faults: Faults | None = None,
    switch_s: float | None = None,
    told: bool = True,
) -> list[Settled]:
    """Every request's outcome in pretended time. `switch_s`: as in `World.as_asked`; a worker then holds one subnet.
    `told`: does who plans know what a switch takes, or believe that it takes nothing?"""
    app = world.as_asked(who, switch_s)
    believed = app if told or switch_s is None else world.as_asked(who, 0.0)
    held = (app.variants[-1].weights,)
    # Room for one model: where subnets share their weights they are one.
    fleet = [SimWorker(f"gpu-{i}", DEVICE, 1, resident=held) for i in range(workers)]
    simulated = RecordedWorld({app.name: app}, {app.name: world.recorded})
    settled = Simulation(spec_of(who).build([believed]), fleet, simulated, faults=faults).run(trace)
    return [
        row(
            s.request,
            app,
            [int(world.recorded.labels[world.recorded.sample(s.request, 0)])],
            s.answer.outcome,
            s.answer.reason,
            s.answer.rows,
            s.at,
        )
        for s in settled
    ]


# ---- what is measured ----


def met_of(world: World, served: Sequence[Settled], **where: Value) -> Row:
    """Means over all requests. `attainment`: share answered in time. `worth`: profiled accuracy of the subnet if in
    time, else 0; over `attainment` it is the paper's mean serving accuracy. `utility`: right and in time; over
    `attainment` it is the realised accuracy."""
    worth = {name: profiled(v) for name, v in world.alone.items()}
    worth |= {v.name: profiled(v) for v in world.application.variants}
    in_time = np.array([one.in_time and bool(one.variants) for one in served])
    gained = [worth[one.variants[-1]] if ok else 0.0 for one, ok in zip(served, in_time, strict=True)]
    return {
        **where,
        "application": world.name,
        "requests": len(served),
        "attainment": float(in_time.mean()),
        "worth": float(np.mean(gained)),
        "utility": float(np.mean([one.utility for one in served])),
    }


def accuracy(table: Table, **where: Value) -> Floats:
    """float64 [1 + draws]: profiled, of what was answered in time; 0 of nothing."""
    return _of_met(table.mean("worth", **where), table.mean("attainment", **where))


def realised(table: Table, **where: Value) -> Floats:
    """float64 [1 + draws]: the share that is right of what was answered in time; 0 of nothing."""
    return _of_met(table.mean("utility", **where), table.mean("attainment", **where))


def _of_met(sums: Floats, met: Floats) -> Floats:
    return np.divide(sums, met, out=np.zeros_like(sums), where=met > 0.0)
