"""Workers that die and workers that are added: two experiments on the size of the fleet.

Faults: of four workers two are killed in mid run, a quarter and a half of the way through, and do not come back. The
load is what two workers carry only with smaller subnets. The paper kills one of eight every 12 s until half are gone.

Scaling: the largest rate at which 0.999 of all deadlines are met, by workers, as a multiple of what the fleet answers
with its largest subnet; found by halving, each step a trace of its own.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.superserve.entrants import (
    DRAIN,
    INFAAS,
    MAXBATCH,
    PAPER,
    SLACKFIT,
    drain,
    fixed,
)
from peekserve.experiments.superserve.grid import LARGEST, SMALLEST, Bursty, capacity_of
from peekserve.experiments.superserve.lab import SuperLab
from peekserve.experiments.superserve.serving import CARRIED
from peekserve.experiments.superserve.worlds import (
    DEADLINE_S,
    Entrant,
    accuracy,
    met_of,
    play,
    realised,
    requests,
    world_of,
)
from peekserve.experiments.table import Floats, Interval, Row, Table, Value, worst
from peekserve.loadgen.rates import bursty
from peekserve.sim.faults import Faults, Kill

# What half of the workers carry with smaller subnets alone: 0.7 of what they can with the smallest. The paper's 3500
# requests per second, CV^2 = 2, are 0.875 of that, which leaves a front in real time no room.
FAULTS_LOAD = Bursty(SMALLEST, 0.07, 0.28, 2.0)
FAULTS_S = 2.0
KILLED = (0.25, 0.5)
WHOLE, HALVED = "none killed", "half killed"
WHO = (PAPER, SLACKFIT, DRAIN, MAXBATCH, INFAAS)
_FAULTS, _SCALING = 65, 66
_FOREVER_S = 1e6


def kills(length_s: float, begin_at: float = 0.0) -> tuple[Kill, ...]:
    """Half of the workers, one after another, for good."""
    return tuple(Kill(f"gpu-{i}", begin_at + share * length_s, _FOREVER_S) for i, share in enumerate(KILLED))


def _fault_jobs(lab: SuperLab) -> Sequence[Job]:
    return [_faulty(lab, name) for name in lab.classic()]


def _faulty(lab: SuperLab, name: str) -> Job:
    def job(seed: int) -> list[Row]:
        world = world_of(lab, name)
        length_s = FAULTS_S * lab.share
        load, full = FAULTS_LOAD, capacity_of(world, FAULTS_LOAD.over)
        rng = np.random.default_rng([_FAULTS, seed])
        instants = bursty(load.base * full, load.varying * full, load.cv2, length_s, rng)
        trace = requests(world, instants, seed)
        rows: list[Row] = []
        for who in (*WHO, fixed(world)[-1]):
            shown = who if who in WHO else Entrant(LARGEST, who.policy, who.options, who.only)
            for state, faults in ((WHOLE, Faults()), (HALVED, Faults(kills(length_s)))):
                served = play(world, shown, trace, faults=faults)
                rows.append(met_of(world, served, seed=seed, policy=shown.name, state=state, part="all"))
                if state == HALVED:
                    after = [one for one in served if one.arrived_at >= max(KILLED) * length_s]
                    rows.append(
                        met_of(
                            world,
                            after,
                            seed=seed,
                            policy=shown.name,
                            state=state,
                            part="after the last kill",
                        )
                    )
        return rows

    return job


def fault_measures(table: Table, who: str) -> tuple[Floats, Floats]:
    """Least attainment with half of the workers killed, over supernets, and the accuracy that it costs, in points."""
    apps = table.values("application")
    halved = [table.mean("attainment", policy=who, state=HALVED, part="all", application=a) for a in apps]
    paid = [
        accuracy(table, policy=who, state=WHOLE, part="all", application=a)
        - accuracy(table, policy=who, state=HALVED, part="all", application=a)
        for a in apps
    ]
    return worst(halved), 100 * np.asarray(np.mean(paid, axis=0))


def _fault_measure(table: Table) -> Mapping[str, Floats]:
    met, paid = fault_measures(table, DRAIN.name)
    return {
        "faults-in-time": met,
        "faults-in-time-slackfit": fault_measures(table, SLACKFIT.name)[0],
        "faults-accuracy-paid": paid,
        "faults-largest": fault_measures(table, LARGEST)[0],
    }


def _fault_panels(table: Table) -> Sequence[Panel]:
    names = [str(n) for n in table.values("policy")]
    found = []
    for app in table.values("application"):
        for metric, label in (("attainment", "share in time"), ("worth", "mean profiled accuracy, in time")):
            series = []
            for state in (WHOLE, HALVED):
                where: list[dict[str, Value]] = [
                    {"application": app, "policy": n, "state": state, "part": "all"} for n in names
                ]
                values = [
                    table.mean(metric, **w) if metric == "attainment" else accuracy(table, **w) for w in where
                ]
                series.append(Series(state, range(len(names)), values))
            found.append(Panel(str(app), "", label, series, names))
    return found


def _fault_tables(table: Table) -> list[list[list[str]]]:
    lines = [["supernet", "policy", "workers", "requests", "in time", "profiled", "realised"]]
    for app in table.values("application"):
        for who in table.values("policy"):
            for state, part in ((WHOLE, "all"), (HALVED, "all"), (HALVED, "after the last kill")):
                where: dict[str, Value] = {"application": app, "policy": who, "state": state, "part": part}
                lines.append(
                    [
                        str(app),
                        str(who),
                        state,
                        part,
                        str(Interval.of(table.mean("attainment", **where))),
                        f"{accuracy(table, **where)[0]:.4f}",
                        f"{realised(table, **where)[0]:.4f}",
                    ]
                )
    return [lines]


# ---- scaling ----

SCALED = (1, 2, 4, 8)
# Of the smallest subnet's capacity. Above 1 there is no steady state: a trace of 20 deadlines hides 5% of overload.
STEPS = (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15)
SCALING_CV2 = 2.0
SCALING_S = 20 * DEADLINE_S


def _scaling_jobs(lab: SuperLab) -> Sequence[Job]:
    return [_scaled(lab, name, workers) for name in lab.classic() for workers in SCALED]


def _scaled(lab: SuperLab, name: str, workers: int) -> Job:
    who = drain(workers)

    def job(seed: int) -> list[Row]:
        world = world_of(lab, name)
        full = world.capacity(world.smallest, workers)

        def met(share: float) -> Row:
            rng = np.random.default_rng([_SCALING, seed, workers])
            rate = share * full
            instants = bursty(0.25 * rate, 0.75 * rate, SCALING_CV2, SCALING_S * lab.share, rng)
            return met_of(world, play(world, who, requests(world, instants, seed), workers), seed=seed)

        # Between the highest step that is carried and the lowest that is not.
        low, high = -1, len(STEPS)
        right = 0.0
        while high - low > 1:
            middle = (low + high) // 2
            found = met(STEPS[middle])
            if float(found["attainment"]) >= CARRIED:
                low, right = middle, float(found["worth"]) / float(found["attainment"])
            else:
                high = middle
        share = STEPS[low] if low >= 0 else 0.0
        return [
            {
                "application": name,
                "workers": workers,
                "seed": seed,
                "rate": share * full,
                "each": share * full / workers,
                "accuracy": right,
                "share": share,
            }
        ]

    return job


def _scaling_measure(table: Table) -> Mapping[str, Floats]:
    apps = table.values("application")

    def efficiency(app: Value) -> Floats:
        one, many = (table.mean("each", application=app, workers=w) for w in (SCALED[0], SCALED[-1]))
        return np.asarray(many / np.maximum(one, 1e-9))

    return {
        "scaling-efficiency": worst([efficiency(a) for a in apps]),
        "scaling-share": worst([table.mean("share", application=a, workers=8) for a in apps]),
    }


def _scaling_panels(table: Table) -> Sequence[Panel]:
    series = [
        Series(str(app), SCALED, [table.mean("rate", application=app, workers=w) for w in SCALED])
        for app in table.values("application")
    ]
    label = f"requests per second at {CARRIED} in time"
    return [Panel("Throughput by workers", "workers", label, series)]


def _scaling_tables(table: Table) -> list[list[list[str]]]:
    lines = [
        ["supernet", "workers", f"requests/s at {CARRIED}", "share of the smallest's capacity", "accuracy"]
    ]
    for app in table.values("application"):
        for w in SCALED:
            where: dict[str, Value] = {"application": app, "workers": w}
            lines.append(
                [
                    str(app),
                    str(w),
                    f"{table.mean('rate', **where)[0]:,.0f}",
                    str(Interval.of(table.mean("share", **where))),
                    f"{table.mean('accuracy', **where)[0]:.4f}",
                ]
            )
    return [lines]


EXPERIMENTS = (
    Experiment(
        "superserve-faults",
        "half of four workers killed in mid run",
        _fault_jobs,
        _fault_measure,
        _fault_panels,
        seeds=6,
        small_seeds=2,
        tables=_fault_tables,
    ),
    Experiment(
        "superserve-scaling",
        "what is answered in time, by workers",
        _scaling_jobs,
        _scaling_measure,
        _scaling_panels,
        seeds=4,
        small_seeds=2,
        tables=_scaling_tables,
    ),
)
