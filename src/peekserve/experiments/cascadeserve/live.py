"""Gear plans in real time, beside the planner's own simulation of the same requests.

Every plan is made by the planner and served by a real front with a worker process for each device. Workers wait out the
times of the zoo, slowed down until its quickest batch takes `CHEAPEST_S` or more and no plan is for more than
`HIGHEST` requests per second, which one front on a small machine keeps up with; they answer what is recorded of test
samples. The load goes up through all ranges of the plan and down again, at `EDGE` of what each ends with.

Beside each live run stand simulations, so that what errs can be told apart:

- `planned for`: the planner's simulator (planner/simulated.py) over the very arrivals and samples of the live run,
  with the times of the profile. This is the error of a simulator that is told the arrivals.
- `as it was`: the scheduler as it was served, over the same arrivals, on a machine that differs from its profile as
  the live run's journal says: batches that took longer, ways between processes, alarms that rang late. What is left of
  the error here is not the machine's.
- `other arrivals`: the planner's simulator over another draw of the same load. What this differs by from `planned for`
  is what one run of this length cannot know, whoever simulates it.

The plans were written down before the first run. Nothing is late by a guard: rows that are not certain go on, however
late that is, as the planner has it. Real models behind a real server are beside them (real.py).

It wants the machine for itself: `peekserve experiment cascadeserve-live`, about six minutes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, OnMiss, QueryType, Variant
from peekserve.domain.gears import GearPlan
from peekserve.domain.request import Request, TensorRef
from peekserve.errors import DataUnavailable
from peekserve.experiments.cascadeserve import real
from peekserve.experiments.cascadeserve.lab import DEVICE, CascadeLab, Zoo, problem
from peekserve.experiments.cascadeserve.playing import (
    AS_IT_WAS,
    LIVE,
    OTHERS,
    PACED,
    PLANNED_FOR,
    REAL,
    served,
    told,
    up_and_down,
)
from peekserve.experiments.realtime import lived, slowed
from peekserve.experiments.service import seen_in, service_of
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Row, Table, best, worst
from peekserve.planner.loads import Loads
from peekserve.planner.loop import plan as make
from peekserve.planner.problem import Slo
from peekserve.planner.simulated import Simulated, simulate
from peekserve.sim.driver import Settled, Simulation, SimWorker
from peekserve.sim.world import RecordedWorld, Service
from peekserve.workers.slots import Slot

CHEAPEST_S = 0.010
HIGHEST = 300.0
LENGTH_S = 12.0
WORLDS = (LIVE, PLANNED_FOR, AS_IT_WAS, OTHERS)
_STREAM, _OTHERS = 91, 92
_HANG_S = 60.0
# Simulated workers hold their weights by then, as live ones do.
_BEGINS_AT = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a plan is made for. `times`: the goal for the 95th percentile is so many times what the most accurate model
    takes for one sample; 0 for a goal of accuracy alone, which is that model's on validation data less `below`.
    `load`: the highest, in shares of what the devices carry with that model alone, at its best batch."""

    devices: int
    load: float
    ranges: int
    times: float = 0.0
    below: float = 0.0


ASKED = (
    Asked(1, 0.6, 1, times=8.0),
    Asked(1, 1.3, 3, times=12.0),
    Asked(2, 0.9, 2, times=5.0),
    Asked(2, 1.0, 3, below=0.02),
    Asked(3, 1.2, 4, times=6.0),
    Asked(4, 1.4, 4, times=10.0),
)


@dataclass(frozen=True, slots=True)
class Made:
    """A plan and what it was made of. `app`: slowed down, and due when the goal says."""

    zoo: Zoo
    app: Application
    plan: GearPlan

    @property
    def name(self) -> str:
        many = len(self.plan.placement)
        return f"{self.zoo.name}, {many} x, {self.plan.slo}, up to {self.plan.highest:.0f}/s"


def best_model(app: Application) -> Variant:
    """The most accurate on validation data, the first of equals."""
    return max(app.variants, key=lambda v: v.quality.accuracy if v.quality else 0.0)


def made(zoo: Zoo, asked: Asked) -> Made | None:
    """The plan; None where there is none."""
    best_of = best_model(zoo.application)
    curve = best_of.timing[DEVICE].curve(0)
    carried = max(b / curve.seconds(b) for b in range(1, best_of.max_batch + 1))
    cheapest_s = min(v.timing[DEVICE].curve(0).seconds(1) for v in zoo.application.variants)
    highest = asked.load * asked.devices * carried
    times = max(CHEAPEST_S / cheapest_s, highest / HIGHEST)
    if asked.times:
        slo = Slo(p95_s=round(asked.times * times * curve.seconds(1), 3))
    else:
        slo = Slo(accuracy=round((best_of.quality.accuracy if best_of.quality else 0.0) - asked.below, 3))
    due_s = slo.p95_s if slo.by_latency else zoo.application.query().deadline_s * times
    app = replace(slowed(zoo.application, DEVICE, times), queries=(("default", QueryType(due_s)),))
    loads = Loads.zipf(round(highest / times, 1), asked.ranges)
    about = problem(replace(zoo, application=app), slo, loads, asked.devices)
    plan = make(about, Simulated(app, zoo.validation))
    return Made(zoo, app, plan) if isinstance(plan, GearPlan) else None


def spec_of(plan: GearPlan) -> SchedulerSpec:
    """As the planner's simulator has it: no guard, and what is late is answered."""
    return SchedulerSpec(
        policy="gears",
        policy_options={"guard": 0.0},
        peek=False,
        on_miss=OnMiss.LATE,
        hang_s=_HANG_S,
        plans={plan.application: plan},
    )


def trace(what: Made, length_s: float, rng: np.random.Generator) -> list[Request]:
    """Arrivals from 0 on, through all gears, of shuffled test samples."""
    instants = up_and_down(what.plan, length_s, rng)
    samples = np.resize(rng.permutation(len(what.zoo.test.labels)), len(instants)).tolist()
    due_s = what.app.query().deadline_s
    return [
        Request(f"r{i}", what.app.name, at, at + due_s, payload=TensorRef(str(sample)))
        for i, (at, sample) in enumerate(zip(instants.tolist(), samples, strict=True))
    ]


def live(what: Made, asked: Sequence[Request], journal: Path | None = None) -> list[Settled]:
    """In real time, with a worker process for each device of the plan."""
    slots = [Slot(held.device, held.kind, held.budget_bytes) for held in what.plan.placement]
    return lived(what.app, what.zoo.test, spec_of(what.plan), slots, asked, journal)


def planned_for(what: Made, came: Sequence[Request]) -> list[Settled]:
    """By the planner's simulator, over these very arrivals."""
    first = came[0].arrived_at
    samples = [what.zoo.test.sample(request, 0) for request in came]
    how = Simulated(what.app, what.zoo.test)
    return simulate(how, what.plan, [request.arrived_at - first for request in came], samples)


def as_it_was(what: Made, came: Sequence[Request], service: Service) -> list[Settled]:
    """By the scheduler that was served, on a machine that differs from its profile by `service`."""
    ahead_s = _BEGINS_AT - came[0].arrived_at
    again = [replace(r, arrived_at=r.arrived_at + ahead_s, due_at=r.due_at + ahead_s) for r in came]
    world = RecordedWorld({what.app.name: what.app}, {what.app.name: what.zoo.test}, service=service)
    workers = [SimWorker(h.device, h.kind, h.budget_bytes, h.weights) for h in what.plan.placement]
    return Simulation(spec_of(what.plan).build([what.app]), workers, world).run(again)


# ---- the experiment ----


def _jobs(lab: CascadeLab) -> Sequence[Job]:
    length_s = LENGTH_S * lab.share
    # Real models first: they need the most of a machine, and what it lacks is better known before the rest was played.
    paced = [_job(zoo, asked, length_s) for zoo in lab.zoos.values() for asked in ASKED]
    return [*(_real(name, length_s) for name in lab.names), *paced]


def _job(zoo: Zoo, asked: Asked, length_s: float) -> Job:
    def job(seed: int) -> list[Row]:
        what = made(zoo, asked)
        return [] if what is None else played(what, length_s, [ASKED.index(asked), seed])

    return job


def _real(name: str, length_s: float) -> Job:
    def job(seed: int) -> list[Row]:
        try:
            return real.played(name, length_s, seed)
        except DataUnavailable:
            return []  # its recordings are here and its data are not: what is paced stands by itself

    return job


def played(what: Made, length_s: float, key: Sequence[int]) -> list[Row]:
    """A row for each world. `key`: of the arrivals, the seed last."""
    own = trace(what, length_s, np.random.default_rng([_STREAM, *key]))
    others = trace(what, length_s, np.random.default_rng([_OTHERS, *key]))
    with TemporaryDirectory(prefix="peekserve-") as folder:
        journal = Path(folder) / "live.journal"
        settled = live(what, own, journal)
        seen = seen_in(journal)
    came = [one.request for one in settled]
    worlds = {
        LIVE: settled,
        PLANNED_FOR: planned_for(what, came),
        AS_IT_WAS: as_it_was(what, came, service_of(seen, [seen], _BEGINS_AT)),
        OTHERS: planned_for(what, others),
    }
    return [
        told(
            what.plan,
            served(one, what.app, what.zoo.test),
            plan=what.name,
            kind=PACED,
            world=world,
            seed=key[-1],
        )
        for world, one in worlds.items()
    ]


# ---- what is claimed ----


def _plans(table: Table, kind: str = PACED) -> list[str]:
    return list(dict.fromkeys(str(row["plan"]) for row in table.rows if row["kind"] == kind))


def p95_error(table: Table, plan: str, world: str) -> Floats:
    """float64 [1 + draws]: how far a simulated 95th percentile is from the live one, in shares of the live one."""
    lived_ms = table.mean("p95_ms", plan=plan, world=LIVE)
    return np.asarray(np.abs(table.mean("p95_ms", plan=plan, world=world) - lived_ms) / lived_ms)


def accuracy_error(table: Table, plan: str, world: str) -> Floats:
    """float64 [1 + draws]: how far a simulated accuracy is from the live one."""
    was = table.mean("accuracy", plan=plan, world=LIVE)
    return np.asarray(np.abs(table.mean("accuracy", plan=plan, world=world) - was))


def _measure(table: Table) -> Mapping[str, Floats]:
    plans = _plans(table)
    return {
        "gears-live-plans": np.full_like(table.mean("p95_ms", world=LIVE), len(plans)),
        "gears-live-p95": best([p95_error(table, plan, PLANNED_FOR) for plan in plans]),
        "gears-live-p95-as-it-was": best([p95_error(table, plan, AS_IT_WAS) for plan in plans]),
        "gears-live-accuracy": best([accuracy_error(table, plan, PLANNED_FOR) for plan in plans]),
        "gears-live-answered": worst([table.mean("answered", plan=plan, world=LIVE) for plan in plans]),
    }


# ---- what is printed and drawn ----


def _panels(table: Table) -> Sequence[Panel]:
    plans = _plans(table)

    def bars(metric: str, title: str, label: str) -> Panel:
        series = [
            Series(world, range(len(plans)), [table.mean(metric, plan=p, world=world) for p in plans])
            for world in (LIVE, PLANNED_FOR, AS_IT_WAS)
        ]
        return Panel(title, "", label, series, plans)

    return [
        bars("p95_ms", "Time to an answer", "p95, ms"),
        bars("accuracy", "Accuracy", "share of right answers"),
    ]


def _tables(table: Table) -> list[list[list[str]]]:
    simulated = WORLDS[1:]
    beside = [_compared(table, REAL, simulated[:1])] if _plans(table, REAL) else []
    return [_compared(table, PACED, simulated), *beside]


def _compared(table: Table, kind: str, worlds: Sequence[str]) -> list[list[str]]:
    head = ["plan", "gears", "stages", "requests", "p95 live, ms", *(f"off, {w}" for w in worlds)]
    lines = [[*head, "in time", "accuracy live", *(f"accuracy off, {w}" for w in worlds)]]
    for plan in _plans(table, kind):
        here = [row for row in table.rows if row["plan"] == plan and row["world"] == LIVE]
        lines.append(
            [
                plan,
                *(f"{max(int(row[what]) for row in here)}" for what in ("gears", "stages")),
                f"{np.mean([float(row['requests']) for row in here]):.0f}",
                f"{table.mean('p95_ms', plan=plan, world=LIVE)[0]:.1f}",
                *(f"{100 * p95_error(table, plan, world)[0]:.1f}%" for world in worlds),
                f"{table.mean('in_time', plan=plan, world=LIVE)[0]:.3f}",
                f"{table.mean('accuracy', plan=plan, world=LIVE)[0]:.4f}",
                *(f"{accuracy_error(table, plan, world)[0]:.4f}" for world in worlds),
            ]
        )
    return lines


EXPERIMENTS = (
    Experiment(
        "cascadeserve-live",
        "gear plans in real time, beside the planner's simulation of the same requests",
        _jobs,
        _measure,
        _panels,
        seeds=1,
        small_seeds=1,
        tables=_tables,
    ),
)
