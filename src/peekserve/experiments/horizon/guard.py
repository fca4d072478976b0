"""Is a plan ever believed to be worth less than SneakPeek's from the same state: experiment `horizon-guard`.

Ten thousand states (instances.py): 1 to 120 waiting rows, every penalty, one to three workers, with and without
short-circuit, with hopeless work dropped and with all of it run. Both policies plan each state with the same switches,
and both plans are carried out on paper. That a single plan is never worse says nothing of whole runs, in which what the
workers hold goes its own way after the first difference.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.experiments.horizon.gap import CIRCUIT, OURS, PENALTIES, SAME
from peekserve.experiments.horizon.instances import Instance, Shape, instances
from peekserve.experiments.sneakpeek.lab import Lab
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, average
from peekserve.policies import make
from peekserve.policies.base import Switches
from peekserve.policies.worth import evaluate

# (rows, workers)
SHAPES = (((1, 4), 1), ((5, 12), 1), ((13, 40), 1), ((41, 120), 1), ((1, 12), 2), ((13, 40), 2), ((5, 40), 3))
# Sums of the same numbers in another order differ in the last bits.
DIGITS = 9


def compared(one: Instance, switches: Switches) -> tuple[float, float]:
    """What ours and SneakPeek's plans of one state are believed to be worth, sums over its rows."""
    view = one.view
    ours, theirs = (
        float(evaluate(view, make(name, switches).plan(view), switches)[0].sum())
        for name in (OURS, "sneakpeek")
    )
    return ours, theirs


def _jobs(lab: Lab) -> Sequence[Job]:
    def of(rows: tuple[int, int], workers: int, circuit: str, penalty: str) -> Job:
        def job(seed: int) -> list[Row]:
            found: list[Row] = []
            for one in instances(lab, Shape(rows, penalty, workers), seed):
                drop = one.number // 2 % 2 == 0  # of both kinds half
                ours, theirs = compared(one, Switches(True, CIRCUIT[circuit], drop=drop))
                found.append(
                    {
                        "seed": seed,
                        "number": one.number,
                        "kind": one.kind,
                        "size": _size(rows),
                        "workers": workers,
                        "circuit": circuit,
                        "penalty": penalty,
                        "drop": "yes" if drop else "no",
                        "utility": ours,
                        "sneakpeek": theirs,
                        "ahead": float(np.round(ours - theirs, DIGITS)) / one.view.size,
                        "better": int(ours - theirs > SAME),
                    }
                )
            return found

        return job

    return [
        of(rows, workers, circuit, penalty)
        for rows, workers in SHAPES
        for circuit in CIRCUIT
        for penalty in PENALTIES
    ]


def _size(rows: tuple[int, int]) -> str:
    return f"{rows[0]}-{rows[1]}"


def _measure(table: Table) -> Mapping[str, Floats]:
    least = table.quantile("ahead", 0.0)
    return {"guard-least": least, "guard-states": np.full(len(least), float(len(table.rows)))}


def _panels(table: Table) -> Sequence[Panel]:
    names = [f"{_size(rows)} / {w}" for rows, w in SHAPES]
    series = [
        Series(
            f"{'with' if CIRCUIT[circuit] else 'without'} short-circuit",
            range(len(SHAPES)),
            [
                average(
                    [
                        table.mean("ahead", size=_size(rows), workers=w, circuit=circuit, penalty=penalty)
                        for penalty in PENALTIES
                    ]
                )
                for rows, w in SHAPES
            ],
        )
        for circuit in CIRCUIT
    ]
    return [Panel(f"{OURS} less sneakpeek", "rows / workers", "believed utility of a row", series, names)]


def _tables(table: Table) -> list[list[list[str]]]:
    lines = [
        [
            "rows",
            "workers",
            "short-circuit",
            "penalty",
            "states",
            "worse",
            "better",
            "ahead, of a row's utility",
        ]
    ]
    for rows, workers in SHAPES:
        for circuit in CIRCUIT:
            for penalty in PENALTIES:
                where: dict[str, str | int] = {
                    "size": _size(rows),
                    "workers": workers,
                    "circuit": circuit,
                    "penalty": penalty,
                }
                own = [row for row in table.rows if all(row.get(k) == v for k, v in where.items())]
                worse = sum(float(row["ahead"]) < 0.0 for row in own)
                better = sum(int(row["better"]) for row in own)
                ahead = str(Interval.of(table.mean("ahead", **where)))
                what = [_size(rows), str(workers), circuit, penalty]
                lines.append([*what, str(len(own)), str(worse), str(better), ahead])
    return [lines]


EXPERIMENTS = (
    Experiment(
        "horizon-guard",
        "single plans beside SneakPeek's, from ten thousand states",
        _jobs,
        _measure,
        _panels,
        seeds=20,
        small_seeds=2,
        tables=_tables,
    ),
)
