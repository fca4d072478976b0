"""What a switch may cost: attainment when changing to another subnet takes 0, 2, 20 or 100 ms, and what loading a model
takes beside running it (SuperServe, figures of its introduction).

Where a switch costs something, each subnet has weights of its own and a worker has room for one of them, so that a
switch is a load. SlackFit has no word for what a load takes, and in the paper's simulation it is not told. Here it is
served both ways: not told, and told, when the slack that it reads is what is left after the switch. `horizon` is told.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.superserve.entrants import DRAIN, HORIZON, PAPER, SLACKFIT
from peekserve.experiments.superserve.grid import LARGEST, Bursty, Functions
from peekserve.experiments.superserve.lab import SuperLab
from peekserve.experiments.superserve.worlds import Entrant, accuracy, met_of, play, requests, world_of
from peekserve.experiments.table import Floats, Interval, Row, Table, Value, best

DELAYS_MS = (0.0, 2.0, 20.0, 100.0)
UNTOLD = ", not told"
# As they stand in the tables: who, and whether it knows.
AS = (*((who, False) for who in (PAPER, SLACKFIT, DRAIN)), (SLACKFIT, True), (HORIZON, True))
NAMES = tuple(who.name + UNTOLD * (not told) for who, told in AS)
# Loads that all our supernets carry where a switch takes nothing.
CELLS = (Bursty(LARGEST, 0.75, 1.475, 8.0), Functions(LARGEST, 2.0, 12))
_TRACE, _SWITCH, _LOAD = 64, "switch", "load"


def _jobs(lab: SuperLab) -> Sequence[Job]:
    served = [
        _delayed(lab, name, cell, who, told) for name in lab.classic() for cell in CELLS for who, told in AS
    ]
    return [*served, *(_loads(lab, name) for name in lab.names)]


def _delayed(lab: SuperLab, name: str, cell: Bursty | Functions, who: Entrant, told: bool) -> Job:
    def job(seed: int) -> list[Row]:
        world = world_of(lab, name)
        rng = np.random.default_rng([_TRACE, seed])
        trace = requests(world, cell.instants(world, lab.share, rng), seed)
        return [
            met_of(
                world,
                play(world, who, trace, switch_s=ms / 1e3 if ms else None, told=told),
                part=_SWITCH,
                seed=seed,
                cell=cell.name,
                policy=who.name + UNTOLD * (not told),
                delay_ms=ms,
            )
            for ms in DELAYS_MS
        ]

    return job


def _loads(lab: SuperLab, name: str) -> Job:
    def job(seed: int) -> list[Row]:
        scored, timed = lab.scored[name], lab.timings.separate.get(name, {})
        parameters = dict(zip(scored.separate, scored.separate_parameters.tolist(), strict=True))
        return [
            {
                "part": _LOAD,
                "application": name,
                "model": model,
                "seed": seed,
                "parameters": int(parameters[model]),
                "load_ms": 1e3 * one.load_s,
                "run_ms": 1e3 * one.curve.seconds(1),
                "ratio": one.load_s / one.curve.seconds(1),
            }
            for model, one in timed.items()
            if model in parameters
        ]

    return job


def missed(table: Table, **where: Value) -> Floats:
    return np.asarray(1.0 - table.mean("attainment", part=_SWITCH, **where))


def _measure(table: Table) -> Mapping[str, Floats]:
    who = SLACKFIT.name + UNTOLD
    at_once, slow = missed(table, policy=who, delay_ms=0.0), missed(table, policy=who, delay_ms=100.0)
    ratios = [table.mean("ratio", part=_LOAD, **p) for p in _models(table)]
    return {
        "delay-100-ms": slow - at_once,
        # Of no miss at all there is no multiple: one in ten thousand stands for it.
        "delay-100-ms-times": slow / np.maximum(at_once, 1e-4),
        "delay-2-ms": missed(table, policy=who, delay_ms=2.0) - at_once,
        "delay-load": best(ratios) if ratios else np.full(2, np.nan),
    }


def _models(table: Table) -> list[dict[str, Value]]:
    seen = {(r["application"], r["model"]): None for r in table.rows if r["part"] == _LOAD}
    return [{"application": app, "model": model} for app, model in seen]


def _panels(table: Table) -> Sequence[Panel]:
    found = []
    for app in dict.fromkeys(r["application"] for r in table.rows if r["part"] == _SWITCH):
        series = [
            Series(
                who,
                range(len(DELAYS_MS)),
                [table.mean("attainment", application=app, policy=who, delay_ms=d) for d in DELAYS_MS],
            )
            for who in NAMES
        ]
        names = [f"{d:g} ms" for d in DELAYS_MS]
        found.append(Panel(str(app), "what a switch takes", "share in time", series, names))
    by_app = []
    for app in dict.fromkeys(p["application"] for p in _models(table)):
        own = [p for p in _models(table) if p["application"] == app]
        own.sort(key=lambda p: table.mean("parameters", part=_LOAD, **p)[0])
        by_app.append(
            Series(
                str(app),
                [float(table.mean("parameters", part=_LOAD, **p)[0]) for p in own],
                [table.mean("ratio", part=_LOAD, **p) for p in own],
            )
        )
    if by_app:
        found.append(
            Panel("Loading beside running", "parameters", "load over a batch of one", by_app, log_x=True)
        )
    return found


def _tables(table: Table) -> list[list[list[str]]]:
    lines = [["supernet", "load", "policy", *(f"{d:g} ms: in time / accuracy" for d in DELAYS_MS)]]
    cells = dict.fromkeys((r["application"], r["cell"]) for r in table.rows if r["part"] == _SWITCH)
    for app, cell in cells:
        for who in NAMES:
            told = []
            for d in DELAYS_MS:
                where: dict[str, Value] = {
                    "application": app, "cell": cell, "policy": who, "delay_ms": d
                }  # fmt: skip
                met = Interval.of(table.mean("attainment", **where))
                told.append(f"{met} / {accuracy(table, **where)[0]:.3f}")
            lines.append([str(app), str(cell), who, *told])
    loads = [["application", "separate model", "parameters", "load, ms", "batch of one, ms", "ratio"]]
    for p in _models(table):
        values = [table.mean(m, part=_LOAD, **p)[0] for m in ("parameters", "load_ms", "run_ms", "ratio")]
        shown = (f"{values[0]:,.0f}", f"{values[1]:.2f}", f"{values[2]:.3f}", f"{values[3]:.1f}")
        loads.append([str(p["application"]), str(p["model"]), *shown])
    return [lines, loads]


EXPERIMENTS = (
    Experiment(
        "superserve-actuation-delay",
        "what a switch may cost, and what loads cost",
        _jobs,
        _measure,
        _panels,
        seeds=6,
        small_seeds=2,
        tables=_tables,
    ),
)
