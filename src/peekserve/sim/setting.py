"""Two small applications for fault campaigns, made so that everything a scheduler can do has a reason to happen.

`x` has a peek with calibrated votes, two subnets that share their weights, a model of its own, one that needs a second
input, and two shape buckets. `y` is small: no peek, unlike class weights. Three kinds of device: a `little` one is
twice as slow, an `older` one four times and cannot run x's best model. Scores are soft, so that certainty says
something, and qualities are counted on the very samples that are served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from peekserve.awareness.calibrate import fit
from peekserve.core.catalogue import Catalogue
from peekserve.domain.application import Application, OnMiss, PeekSpec, QueryType, Variant, public
from peekserve.domain.gears import Expected, Gear, GearPlan, Holding, Planned, Share
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.domain.request import Request
from peekserve.domain.tensors import InputMap, TensorSpec
from peekserve.domain.utility import Penalty
from peekserve.sim.world import Floats, Recorded

SAMPLES = 200
DEVICES: Mapping[str, float] = {"cpu": 1.0, "little": 2.0, "older": 4.0}
# By application: name, weights, seconds for a row, skill, needs a second input.
_X = (
    ("v0", "x-net", 0.001, 1.5, False),
    ("v1", "x-net", 0.004, 2.5, False),
    ("v2", "x-large", 0.012, 4.0, False),
    ("v3", "x-both", 0.007, 3.5, True),
)
_Y = (("v0", "y-small", 0.001, 1.5, False), ("v1", "y-large", 0.008, 3.5, False))
WEIGHT_BYTES = 400
LOAD_S = 0.01


EDITION = "two"
JOINING = f"x@{EDITION}"


@cache
def recorded() -> Mapping[str, Recorded]:
    """What everything says of every sample, by application."""
    rng = np.random.default_rng(20250711)
    x = _recorded(_X, 4, True, rng)
    return {"x": x, "y": _recorded(_Y, 2, False, rng), JOINING: x}


@cache
def applications(x: OnMiss, y: OnMiss) -> tuple[Application, ...]:
    """Both, and what each does of rows that cannot be in time."""
    seen = recorded()["x"]
    assert seen.counts is not None
    peek = PeekSpec(
        ("x",),
        (),
        quality=_quality(seen.counts, seen, 4),
        latency=LatencyCurve((1,), (0.001,)),
        calibration=fit(seen.counts, seen.labels, None, (0.5,) * 4),
    )
    inputs = (TensorSpec("x", "FP32", (-1,), buckets=(8, 16)), TensorSpec("z", "FP32", (1,)))
    sigmoid = QueryType(0.2, Penalty.sigmoid())
    return (
        replace(_application("x", _X, 4, x), peek=peek, inputs=inputs),
        replace(
            _application("y", _Y, 2, y),
            class_weights=(1.0, 2.0),
            queries=(("default", QueryType(0.2)), ("soft", sigmoid)),
        ),
    )


@cache
def joining(x: OnMiss) -> Application:
    """A revision of x that joins while requests run: its subnets are the same, its best model is another one."""
    app = applications(x, OnMiss.REJECT)[0]
    variants = tuple(replace(v, weights="x-larger") if v.weights == "x-large" else v for v in app.variants)
    return replace(app, edition=EDITION, variants=variants)


def reachable(request: Request) -> tuple[float, ...]:
    """The accuracies of all that may answer this request."""
    app = next(a for a in applications(OnMiss.LATE, OnMiss.LATE) if a.name == public(request.application))
    able = [
        v.quality
        for v in app.variants
        if request.pinned in (None, v.name)
        and (request.inputs is None or set(v.needs) <= set(request.inputs))
    ]
    return tuple(round(quality.accuracy, 4) for quality in able if quality is not None)


@cache
def catalogue(x: OnMiss, y: OnMiss, normalise: bool) -> Catalogue:
    """Of both; shared, since it is read-only."""
    return Catalogue(applications(x, y), normalise)


def gear_plans(workers: Sequence[tuple[str, str]], single: bool = False) -> Mapping[str, GearPlan]:
    """For these workers, (name, device): x is asked cheaply first and then, where it is not sure, for more; above 150 a
    second with less. y has one stage, and so has x if they shall be `single` models."""
    expected = Expected((1.0, 0.4), 0.9, 0.01, 0.88, 0.05, 0.5)
    every = tuple(Share(name, 1.0 / len(workers)) for name, _ in workers)
    able = tuple(Share(name, 1.0) for name, device in workers if device != "older")[:1] or every[:1]
    onto = "v2" if any(device != "older" for _, device in workers) else "v1"
    calm = Gear(0.0, 150.0, ("v0", onto), (0.6,), (1, 1), (every, able), expected)
    rush = Gear(150.0, 900.0, ("v0", "v1"), (0.3,), (3, 4), (every, every), expected)
    if single:
        calm, rush = (
            replace(gear, stages=("v0",), thresholds=(), queues=gear.queues[:1], shares=(every,))
            for gear in (calm, rush)
        )
    y = Gear(0.0, 900.0, ("v1",), (), (2,), (every,), expected)
    return {
        "x": _gear_plan("x", _X, workers, (calm, rush)),
        "y": _gear_plan("y", _Y, workers, (y,)),
    }


_Rows = Sequence[tuple[str, str, float, float, bool]]


def _gear_plan(
    name: str, rows: _Rows, workers: Sequence[tuple[str, str]], gears: tuple[Gear, ...]
) -> GearPlan:
    models = tuple(Planned(variant, f"sha-{name}-{variant}", weights) for variant, weights, *_ in rows)
    weights = tuple(dict.fromkeys(one.weights for one in models))
    held = tuple(Holding(worker, device, 1 << 40, weights) for worker, device in workers)
    return GearPlan(name, "margin", "p95=200ms", "made", models, held, gears, share=0.5)


def _application(name: str, rows: _Rows, classes: int, on_miss: OnMiss) -> Application:
    seen = recorded()[name]
    variants = tuple(
        Variant(
            variant,
            f"sha-{name}-{variant}",
            weights,
            inputs=(InputMap("x", "x"), InputMap("z", "z")) if both else (InputMap("x", "x"),),
            max_batch=8,
            quality=_quality(seen.scores[variant], seen, classes),
            timing={
                device: Timing((_curve(seconds, slower), _curve(2 * seconds, slower)), LOAD_S, WEIGHT_BYTES)
                for device, slower in DEVICES.items()
                if not (device == "older" and weights == "x-large")
            },
        )
        for variant, weights, seconds, _, both in rows
    )
    prior = (0.5,) * classes
    queries = (("default", QueryType(0.2)),)
    return Application(name, tuple("abcd"[:classes]), variants, prior, queries=queries, on_miss=on_miss)


def _curve(seconds: float, slower: float) -> LatencyCurve:
    return LatencyCurve((1, 8), (seconds * slower, 4 * seconds * slower))


def _recorded(rows: _Rows, classes: int, peeked: bool, rng: np.random.Generator) -> Recorded:
    labels = rng.integers(0, classes, SAMPLES)
    difficulty = rng.exponential(1.0, SAMPLES)
    scores: dict[str, Floats] = {}
    for variant, _, _, skill, _ in rows:
        logits = rng.normal(0.0, 1.0, (SAMPLES, classes))
        logits[np.arange(SAMPLES), labels] += skill + 1.0 - difficulty
        raised = np.exp(logits)
        scores[variant] = raised / raised.sum(axis=1, keepdims=True)
    if not peeked:
        return Recorded(labels, scores)
    votes = np.where(rng.random((SAMPLES, 5)) < 0.65, labels[:, None], rng.integers(0, classes, (SAMPLES, 5)))
    counts = (votes[:, :, None] == np.arange(classes)).sum(axis=1).astype(np.float64)
    return Recorded(labels, scores, counts)


def _quality(scores: Floats, seen: Recorded, classes: int) -> Quality:
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (seen.labels, scores.argmax(axis=1)), 1)
    return Quality.from_confusion(confusion)
