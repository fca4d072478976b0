"""Traces served under gear plans and beside them: one row for each policy, trace and seed.

Each seed resamples the groups (subjects, speakers, writers) of the test data, draws a trace and the samples that come
with it; everybody who is compared gets the same requests. Times vary around their medians as they were measured to.
What nothing can answer in time any more is turned away, whoever plans; without the guard what was forwarded is answered
late.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application
from peekserve.domain.gears import GearPlan
from peekserve.domain.messages import Command, Event, RunBatch
from peekserve.domain.request import Request, TensorRef
from peekserve.experiments.cascadeserve.days import Cell
from peekserve.experiments.cascadeserve.lab import DEVICE, CascadeLab, Zoo
from peekserve.experiments.cascadeserve.planned import DEVICES, Plans, plans_of
from peekserve.experiments.spec import Job
from peekserve.experiments.table import Floats, Row, Table, Value
from peekserve.loadgen.arrivals import Instants
from peekserve.policies.gears import Gears
from peekserve.results import row
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.world import RecordedWorld

# The hindsight gear is the best of those that carry a trace, and a policy carries one with this share in time.
CARRIED = 0.999
# Workers are up, and hold their models, before the first request comes.
_BEGINS_AT = 1.0
_TRACE, _POOL, _DRAWN = 181, 182, 183
HINDSIGHT = "static in hindsight"
_STATIC = "gear "


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who serves. `plan`: the gear plan that it carries out, None for a policy that has none. `application`: in place
    of the zoo's own. `escalate`: as in SchedulerSpec."""

    name: str
    policy: str
    plan: GearPlan | None = None
    options: tuple[tuple[str, float], ...] = ()
    application: Application | None = None
    escalate: bool | None = None

    @property
    def guarded(self) -> bool:
        return dict(self.options).get("guard", 1.0) > 0.0

    def unguarded(self) -> "Entrant":
        """The same without the guard."""
        return replace(self, name=f"{self.name}, no guard", options=(*self.options, ("guard", 0.0)))


def static(plans: Plans, number: int) -> Entrant:
    """One gear of the whole plan, whatever the load."""
    return Entrant(f"{_STATIC}{number}", "static", plans.gears, (("gear", float(number)),))


Many = Callable[[Zoo, Plans], Sequence[Entrant]]


def served(lab: CascadeLab, names: Sequence[str], cells: Sequence[Cell], who: Many) -> list[Job]:
    """A job for each zoo and cell: one trace for each seed, the same for everybody. Where gears are served one by one,
    the best of them stands in a row of its own, with the guard and without."""
    return [_job(lab, name, cell, who) for name in names for cell in cells]


def _job(lab: CascadeLab, name: str, cell: Cell, who: Many) -> Job:
    def job(seed: int) -> list[Row]:
        zoo = lab.zoos[name]
        plans = plans_of(zoo)
        rng = np.random.default_rng([_TRACE, seed])
        trace = requests(zoo, cell.instants(plans.highest, lab.share, rng), seed)
        rows = [play(zoo, one, trace, seed, application=name, cell=cell.name) for one in who(zoo, plans)]
        for guarded in (True, False):
            rows += in_hindsight([one for one in rows if _is_static(one, guarded)])
        return rows

    return job


def _is_static(one: Row, guarded: bool) -> bool:
    return str(one["policy"]).startswith(_STATIC) and bool(one["guard"]) == guarded


def in_hindsight(rows: Sequence[Row]) -> list[Row]:
    """The best of these rows of static gears, under a name of its own: by utility among those that carry the trace;
    where none does, by attainment. Empty of nothing."""
    if not rows:
        return []
    carried = [one for one in rows if float(one["attainment"]) >= CARRIED]
    best = max(carried or rows, key=lambda one: float(one["utility" if carried else "attainment"]))
    name = HINDSIGHT if best["guard"] else f"{HINDSIGHT}, no guard"
    return [{**best, "policy": name, "which": best["policy"]}]


def requests(zoo: Zoo, instants: Instants, seed: int) -> list[Request]:
    """One real test sample at each instant, of a resample of the groups, due after the application's deadline."""
    groups = np.array(zoo.test_groups)
    names = np.unique(groups)
    drawn = np.random.default_rng([_POOL, seed]).choice(names, len(names))
    pool = np.concatenate([np.flatnonzero(groups == g) for g in drawn])
    samples = pool[np.random.default_rng([_DRAWN, seed]).integers(len(pool), size=len(instants))].tolist()
    deadline_s = zoo.application.query().deadline_s
    return [
        Request(f"r{i}", zoo.name, at, at + deadline_s, payload=TensorRef(str(sample)))
        for i, (at, sample) in enumerate(zip((_BEGINS_AT + instants).tolist(), samples, strict=True))
    ]


def play(zoo: Zoo, who: Entrant, trace: Sequence[Request], seed: int = 0, **where: Value) -> Row:
    """One run in pretended time. `attainment`: share in time. `utility`: right and in time. `right`: of what was in
    time. `forwarded`: model runs for each request that was answered, less one. `changes`: of gear."""
    app = who.application or zoo.application
    spec = SchedulerSpec(
        policy=who.policy,
        policy_options=dict(who.options),
        peek=False,
        preload=False,
        hang_s=float("inf"),
        plans={} if who.plan is None else {app.name: who.plan},
        escalate=who.escalate,
    )
    held = tuple(variant.weights for variant in app.variants)
    fleet = [SimWorker(f"{DEVICE}:{i}", DEVICE, resident=held) for i in range(DEVICES.get(zoo.name, 2))]
    catalogue, policy = spec.catalogue([app]), spec.made()
    ran, changes, gear = 0, 0, 0

    def observe(event: Event, now: float, commands: Sequence[Command]) -> None:
        nonlocal ran, changes, gear
        for command in commands:
            if isinstance(command, RunBatch):
                ran += len(command.rows)
                box = policy.boxes.get(app.name) if isinstance(policy, Gears) else None
                if box is not None and box.number != gear:
                    changes, gear = changes + 1, box.number

    world = RecordedWorld({app.name: app}, {app.name: zoo.test}, jitter=True)
    scheduler = spec.over(catalogue, policy)
    settled = Simulation(scheduler, fleet, world, seed, observe=observe).run(trace)
    rows = [
        row(
            s.request,
            app,
            [int(zoo.test.labels[zoo.test.sample(s.request, 0)])],
            s.answer.outcome,
            s.answer.reason,
            s.answer.rows,
            s.at,
        )
        for s in settled
    ]
    in_time = np.array([one.in_time for one in rows])
    right = np.array([one.correct for one in rows])
    answered = max(sum(bool(one.said) for one in rows), 1)
    return {
        **where,
        "seed": seed,
        "policy": who.name,
        "guard": int(who.guarded),
        "which": "",
        "requests": len(rows),
        "attainment": float(in_time.mean()),
        "utility": float(np.mean([one.utility for one in rows])),
        "right": float((right * in_time).mean()),
        "forwarded": ran / answered - 1.0,
        "changes": changes,
    }


# ---- what is read off the rows ----


def places(table: Table) -> list[dict[str, Value]]:
    """Every zoo and cell that has rows, in order."""
    seen = {(one["application"], one["cell"]): None for one in table.rows}
    return [{"application": app, "cell": cell} for app, cell in seen]


def accuracy(table: Table, who: str, **where: Value) -> Floats:
    """float64 [1 + draws]: the share that is right of what was in time; 0 of nothing."""
    right, met = (table.mean(metric, policy=who, **where) for metric in ("right", "attainment"))
    return np.divide(right, met, out=np.zeros_like(right), where=met > 0.0)


def attainment(table: Table, who: str, **where: Value) -> Floats:
    """float64 [1 + draws]: the share that was in time."""
    return table.mean("attainment", policy=who, **where)


def ahead(table: Table, who: str, of: str, place: dict[str, Value], metric: str = "utility") -> Floats:
    """float64 [1 + draws]: the metric of one less that of another, paired by seed."""
    return np.asarray(table.mean(metric, policy=who, **place) - table.mean(metric, policy=of, **place))


def more_accurate(table: Table, who: str, of: str, place: dict[str, Value]) -> Floats:
    """float64 [1 + draws]: by so many points, of what each answered in time."""
    return np.asarray(100.0 * (accuracy(table, who, **place) - accuracy(table, of, **place)))
