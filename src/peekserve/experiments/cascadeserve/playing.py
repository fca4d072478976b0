"""What live runs of gear plans share: the load that goes through all gears, and what is told of a run."""

from collections.abc import Sequence

import numpy as np

from peekserve.domain.application import Application
from peekserve.domain.gears import GearPlan
from peekserve.experiments.table import Row, Value
from peekserve.loadgen.arrivals import Instants
from peekserve.loadgen.rates import steps
from peekserve.results import Row as Served
from peekserve.results import row
from peekserve.sim.driver import Settled
from peekserve.sim.world import Recorded

# Of what a range ends with.
EDGE = 0.9
LIVE, PLANNED_FOR, AS_IT_WAS, OTHERS = "live", "planned for", "as it was", "other arrivals"
# Workers that wait out times and answer from recordings, or models behind a server.
PACED, REAL = "paced", "real"


def up_and_down(plan: GearPlan, length_s: float, rng: np.random.Generator) -> Instants:
    """float64 [n]: Poisson arrivals from 0 on, as long in each range: up through all of them and down again."""
    up = [gear.high * EDGE for gear in plan.gears]
    return steps(np.array([*up, *up[-2::-1]]), length_s, 1.0, rng)


def served(settled: Sequence[Settled], app: Application, recorded: Recorded) -> list[Served]:
    """The same as rows, with what is true of each request's sample."""
    return [
        row(
            one.request,
            app,
            [int(recorded.labels[recorded.sample(one.request, 0)])],
            one.answer.outcome,
            one.answer.reason,
            one.answer.rows,
            one.at,
        )
        for one in settled
    ]


def told(plan: GearPlan, rows: Sequence[Served], /, **where: Value) -> Row:
    """One row for a run. `p95_ms`: to an answer. `answered`: the share that got one. `planned_p95_ms`: the slowest
    gear's. `gears`: how many differ."""
    return {
        **where,
        "application": plan.application,
        "requests": len(rows),
        "p95_ms": float(np.quantile([one.settled_at - one.arrived_at for one in rows], 0.95)) * 1e3,
        "accuracy": float(np.mean([one.correct for one in rows])),
        "in_time": float(np.mean([one.in_time for one in rows])),
        "answered": float(np.mean([bool(one.said) for one in rows])),
        "planned_p95_ms": max(gear.expected.p95_s for gear in plan.gears) * 1e3,
        "planned_accuracy": plan.accuracy,
        "gears": len({(gear.stages, gear.thresholds) for gear in plan.gears}),
        "stages": max(len(gear.stages) for gear in plan.gears),
    }
