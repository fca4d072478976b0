"""Windows to plan, drawn from seeds: what waits in them, and what a policy sees of it.

Half of them come from the paper's three applications on its device class, with the answers and the neighbours' votes
that were recorded of real samples; half from random services (profiles.py). Both as the paper has its windows: rows
arrive within 100 ms, the decision is at the end, deadlines are normal. The memory holds one to three models, and holds
anything at first, also nothing. Beliefs come from the evidence by way of the scheduler's own backlog.

Several workers are unlike: the second takes 1.6 times as long as the first for everything, the third 2.5 times; each
begins with weights of its own, and the others may still be busy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from peekserve.domain.application import Application
from peekserve.domain.profile import LatencyCurve, Timing
from peekserve.experiments.horizon.profiles import random_service
from peekserve.experiments.sneakpeek.lab import DEVICE, Lab, Setting, Stage
from peekserve.experiments.standing import Standing
from peekserve.policies.base import View
from peekserve.sim.driver import SimWorker
from peekserve.sim.window import Asked, a_window
from peekserve.sim.world import Recorded

PAPER, RANDOM = "paper", "random"
KINDS = (PAPER, RANDOM)
# How many models of the paper's applications fit, at the most; and how often the memory is full at first.
ROOM, WARM = 3, 0.8
# How much longer than the first each worker takes for everything, and how long the others may still be busy.
SLOWER, BUSY_S = (1.0, 1.6, 2.5), 0.03
# For every instance a generator of its own: what one draws more does not move the others.
_STREAM = 97  # other windows than those on which the search was tuned


@dataclass(frozen=True, slots=True)
class Shape:
    """What windows shall be like. `rows`: the least and the most. `penalty`: `step`, `linear` or `sigmoid`, at the
    device class's widths. `deadline_s`: the mean, None for the kind's own."""

    rows: tuple[int, int]
    penalty: str = "sigmoid"
    workers: int = 1
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """A window. `kind`: of KINDS. `seed` and `number` say which; `standing` is what waits in it."""

    kind: str
    seed: int
    number: int
    standing: Standing

    @property
    def view(self) -> View:
        return self.standing.view()


def instances(lab: Lab, shape: Shape, seed: int) -> list[Instance]:
    """As many as the laboratory has windows, of both kinds in turn. Same seed, same instances; those of another
    penalty are the same but for that."""
    return [instance(lab, shape, seed, number) for number in range(lab.windows)]


def instance(lab: Lab, shape: Shape, seed: int, number: int) -> Instance:
    """One of the paper's applications for an even number, of a random service for an odd one."""
    kind = KINDS[number % len(KINDS)]
    rng = np.random.default_rng([_STREAM, seed, number])
    rows = int(rng.integers(shape.rows[0], shape.rows[1] + 1))
    make = _of_the_paper if kind == PAPER else _at_random
    return Instance(kind, seed, number, make(lab, shape, rows, rng))


def _of_the_paper(lab: Lab, shape: Shape, rows: int, rng: np.random.Generator) -> Standing:
    setting = Setting(penalty=shape.penalty, requests=rows, deadline_s=shape.deadline_s)
    stage = Stage(replace(lab, windows=1), setting, int(rng.integers(1 << 30)))
    applications = [_on_all(app, shape.workers) for app in stage.with_penalty()]
    weights = {v.weights: 1 for app in applications for v in app.variants}
    budgets = [int(rng.integers(1, ROOM + 1)) for _ in range(shape.workers)]
    return _standing(lab, applications, stage.recorded, stage.asked[0], weights, budgets, rng)


def _at_random(lab: Lab, shape: Shape, rows: int, rng: np.random.Generator) -> Standing:
    service = random_service(rng)
    penalty, deadline_s = lab.device.penalty(shape.penalty), shape.deadline_s or service.deadline_s
    applications = service.applications(penalty, [(_device(w), SLOWER[w]) for w in range(shape.workers)])
    of = rng.integers(len(service.apps), size=rows)
    recorded, samples = {}, {}
    for i, app in enumerate(service.apps):
        many = int((of == i).sum())
        recorded[app.name] = app.recorded(app.labels(many, rng), rng)
        samples[app.name] = list(range(many))
    asked = a_window(samples, rng, lab.device.window_s, deadline_s, service.spread_s)
    budgets = [service.budget_bytes] * shape.workers
    return _standing(lab, applications, recorded, asked, service.weights, budgets, rng)


def _standing(
    lab: Lab,
    applications: Sequence[Application],
    recorded: Mapping[str, Recorded],
    asked: Sequence[Asked],
    weights: Mapping[str, int],
    budgets: Sequence[int],
    rng: np.random.Generator,
) -> Standing:
    now = lab.device.window_s
    workers = [
        SimWorker(f"gpu-{w}", _device(w), budget, _held(weights, budget, rng))
        for w, budget in enumerate(budgets)
    ]
    free_at = [now, *(now + rng.uniform(0.0, BUSY_S, len(workers) - 1)).tolist()]
    return Standing(applications, workers, recorded, asked, now, free_at)


def _held(weights: Mapping[str, int], budget: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Weights in a random order while they fit; or nothing."""
    held: list[str] = []
    names = list(weights)
    for at in rng.permutation(len(names)).tolist() if rng.random() < WARM else ():
        if sum(weights[name] for name in held) + weights[names[at]] <= budget:
            held.append(names[at])
    return tuple(held)


def _device(worker: int) -> str:
    return DEVICE if worker == 0 else f"{DEVICE}-{worker + 1}"


def _on_all(app: Application, workers: int) -> Application:
    """The same with the slower workers' times beside the first one's."""
    variants = []
    for variant in app.variants:
        own = variant.timing[DEVICE]
        timing = {_device(w): _slower(own, SLOWER[w]) for w in range(workers)}
        variants.append(replace(variant, timing=timing))
    return replace(app, variants=tuple(variants))


def _slower(timing: Timing, factor: float) -> Timing:
    curves = tuple(
        LatencyCurve(curve.batch_sizes, tuple(s * factor for s in curve.median_s)) for curve in timing.curves
    )
    return Timing(curves, timing.load_s * factor, timing.bytes)
