"""The policies beside the best that could be done with a trace known beforehand: the paper's zero-one program
(oracle.py) on tiny traces.

A trace is six or seven requests on one or two workers, in one burst or in two, over four of the offered subnets, so
that the optimum can be proven. To make so few of them compete, a batch holds three at most and the deadline is 1.5
times what the largest subnet takes for two. What counts is the paper's own objective: profiled accuracy, in time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from peekserve.domain.application import QueryType
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.superserve.entrants import (
    DRAIN,
    HORIZON,
    INFAAS,
    MAXACC,
    MAXBATCH,
    PAPER,
    SLACKFIT,
)
from peekserve.experiments.superserve.lab import SuperLab
from peekserve.experiments.superserve.oracle import Instance, solve
from peekserve.experiments.superserve.worlds import (
    DEADLINE_OF_LARGEST,
    Entrant,
    World,
    curve_of,
    met_of,
    play,
    profiled,
    requests,
    world_of,
)
from peekserve.experiments.table import Floats, Interval, Row, Table, Value, average

WHO = (PAPER, SLACKFIT, DRAIN, MAXBATCH, MAXACC, INFAAS, HORIZON)
SUBNETS, LARGEST_BATCH, OF_BATCH = 4, 3, 2
# (requests, workers, bursts): few enough that every optimum is proven within seconds.
SHAPES = ((6, 1, 1), (6, 1, 2), (7, 1, 1), (6, 2, 2))
INSTANCES = 3
OPTIMUM = "optimum"
_TRACE = 67


def thinned(world: World) -> World:
    """The same with a few subnets, spread over the accuracies, with small batches and a deadline for small batches."""
    kept, app = world.points(SUBNETS), world.application
    deadline_s = DEADLINE_OF_LARGEST * curve_of(world.largest).seconds(OF_BATCH)
    return replace(
        world,
        application=replace(
            app,
            variants=tuple(replace(v, max_batch=LARGEST_BATCH) for v in app.variants if v.name in kept),
            queries=(("default", QueryType(deadline_s)),),
        ),
    )


def _jobs(lab: SuperLab) -> Sequence[Job]:
    return [_tiny(lab, name, *shape) for name in lab.classic() for shape in SHAPES]


def _tiny(lab: SuperLab, name: str, many: int, workers: int, bursts: int) -> Job:
    def job(seed: int) -> list[Row]:
        world = thinned(world_of(lab, name))
        rows: list[Row] = []
        for number in range(INSTANCES):
            rng = np.random.default_rng([_TRACE, seed, number, many, workers, bursts])
            instants = tiny(world, many, workers, bursts, rng)
            trace = requests(world, instants, seed)
            best = solve(_instance(world, instants, workers))
            where: Row = {"shape": f"{many} on {workers}, {bursts}", "seed": seed, "number": number}
            rows.append(
                {
                    **where,
                    "application": name,
                    "policy": OPTIMUM,
                    "requests": many,
                    "worth": best.utility / many,
                    "proven": int(best.proven),
                }
            )
            for who in WHO:
                mine = _with(who, workers)
                met = met_of(world, play(world, mine, trace, workers), policy=who.name, **where)
                rows.append({**met, "of": float(met["worth"]) * many / best.utility})
        return rows

    return job


def _with(who: Entrant, workers: int) -> Entrant:
    options = tuple((k, float(workers) if k == "workers" else v) for k, v in who.options)
    return replace(who, options=options)


def tiny(world: World, many: int, workers: int, bursts: int, rng: np.random.Generator) -> Floats:
    """float64 [n]: bursts of a few milliseconds within a deadline, so dense that not all can have the largest."""
    one_s = curve_of(world.largest).seconds(1)
    # A burst is as wide as a batch of one of the largest subnet; the next begins when a few of those could be done.
    begins = np.arange(bursts) * 2.0 * one_s
    of = np.sort(rng.integers(bursts, size=many))
    at = begins[of] + rng.uniform(0.0, one_s, many)
    return np.asarray(np.sort(at))


def _instance(world: World, instants: Floats, workers: int) -> Instance:
    app = world.application
    latency = np.stack([curve_of(v).table(LARGEST_BATCH) for v in app.variants])
    return Instance(
        instants,
        instants + app.query().deadline_s,
        latency,
        np.array([profiled(v) for v in app.variants]),
        workers,
    )


def _measure(table: Table) -> Mapping[str, Floats]:
    return {
        "oracle-slackfit": table.mean("of", policy=SLACKFIT.name),
        "oracle-slackfit-paper": table.mean("of", policy=PAPER.name),
        "oracle-horizon": table.mean("of", policy=HORIZON.name),
        "oracle-proven": table.mean("proven", policy=OPTIMUM),
    }


def _panels(table: Table) -> Sequence[Panel]:
    names = [who.name for who in WHO]
    series = [
        Series(str(app), range(len(names)), [table.mean("of", policy=n, application=app) for n in names])
        for app in table.values("application")
    ]
    return [Panel("Share of the optimum (profiled accuracy in time)", "", "of the optimum", series, names)]


def _tables(table: Table) -> list[list[list[str]]]:
    lines = [["requests on workers, bursts", "optimum", *(who.name for who in WHO)]]
    for shape in table.values("shape"):
        where: dict[str, Value] = {"shape": shape}
        told = [str(Interval.of(table.mean("of", policy=who.name, **where))) for who in WHO]
        lines.append([str(shape), f"{table.mean('worth', policy=OPTIMUM, **where)[0]:.4f}", *told])
    every = [Interval.of(average([table.mean("of", policy=who.name)])) for who in WHO]
    lines.append(["all", f"{table.mean('worth', policy=OPTIMUM)[0]:.4f}", *(str(i) for i in every)])
    return [lines]


EXPERIMENTS = (
    Experiment(
        "superserve-oracle",
        "policies beside the zero-one program, on tiny traces",
        _jobs,
        _measure,
        _panels,
        seeds=10,
        small_seeds=2,
        tables=_tables,
    ),
)
