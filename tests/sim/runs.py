"""Whole seeded runs over two small applications with recorded answers."""

from dataclasses import replace

import numpy as np

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, OnMiss, QueryType
from peekserve.domain.request import Request, TensorRef
from peekserve.sim.driver import Settled, Simulation, SimWorker
from peekserve.sim.faults import Faults
from peekserve.sim.world import Recorded, RecordedWorld
from tests.core.stories import a_peek, an_application, takes


def applications(seed: int = 0) -> list[Application]:
    rng = np.random.default_rng(seed)

    def one(name: str, classes: int, seconds: list[float], accuracy: list[float]) -> Application:
        variants = [
            takes(
                s,
                f"v{i}",
                recall=np.clip(a + rng.normal(0, 0.05, classes), 0, 1).tolist(),
                load_s=0.01,
                size=400,
                grows=20.0,
            )
            for i, (s, a) in enumerate(zip(seconds, accuracy, strict=True))
        ]
        app = an_application(
            *variants,
            name=name,
            classes=tuple("abcdefgh"[:classes]),
            peek=a_peek(0.7, classes),
            on_miss=OnMiss.DEGRADE,
        )
        return replace(app, queries=(("default", QueryType(0.15)),))

    return [one("x", 4, [0.001, 0.004, 0.012], [0.7, 0.85, 0.95]), one("y", 2, [0.001, 0.008], [0.8, 0.95])]


def world(apps: list[Application], samples: int = 200, seed: int = 0) -> RecordedWorld:
    rng = np.random.default_rng(seed)
    recorded = {}
    for app in apps:
        classes = len(app.classes)
        labels = rng.integers(0, classes, samples)
        scores = {}
        for variant in app.variants:
            right = rng.random(samples) < np.array(variant.quality.recall)[labels]
            said = np.where(right, labels, (labels + 1) % classes)
            scores[variant.name] = np.eye(classes)[said]
        votes = np.where(
            rng.random((samples, 5)) < 0.65, labels[:, None], rng.integers(0, classes, (samples, 5))
        )
        counts = np.stack([(votes == c).sum(axis=1) for c in range(classes)], axis=1).astype(float)
        recorded[app.name] = Recorded(labels, scores, counts)
    return RecordedWorld({a.name: a for a in apps}, recorded)


def a_trace(
    apps: list[Application], rate: float, seconds: float, seed: int = 0, rows: int = 1
) -> list[Request]:
    rng = np.random.default_rng(seed)
    out: list[Request] = []
    now = 0.0
    while (now := now + rng.exponential(1 / rate)) < seconds:
        app = apps[rng.integers(len(apps))]
        key = TensorRef(str(rng.integers(200)))
        many = int(rng.integers(1, rows + 1))
        deadline = float(rng.uniform(0.02, 0.25))
        out.append(Request(f"r{len(out)}", app.name, now, now + deadline, rows=many, payload=key))
    return out


def run(
    spec: SchedulerSpec,
    trace: list[Request],
    seed: int = 0,
    workers: int = 1,
    faults: Faults | None = None,
    budget: int = 1000,
    observe=None,
    cancels=(),
) -> list[Settled]:
    apps = applications()
    fleet = [SimWorker(f"w{i}", "cpu", budget) for i in range(workers)]
    simulation = Simulation(spec.build(apps), fleet, world(apps), seed, faults, check=True, observe=observe)
    return simulation.run(trace, cancels)
