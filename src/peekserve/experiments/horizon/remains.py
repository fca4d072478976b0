"""What is left where no solver goes: experiment `horizon-remains`, at 30 and at 60 rows.

From below: what the same search finds with a hundredfold budget. From above: what no plan can be worth more than
(bound.py). The optimum lies between; the first says what thinking longer could still bring, the second at most how much
any plan could.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.experiments.horizon.bound import above
from peekserve.experiments.horizon.gap import CIRCUIT, OURS, PENALTIES, Case
from peekserve.experiments.horizon.instances import Instance, Shape, instances
from peekserve.experiments.sneakpeek.lab import Lab
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, best
from peekserve.policies import make
from peekserve.policies.horizon import Horizon
from peekserve.policies.worth import evaluate

SIZES = (30, 60)
LONGER = 100.0
CASES = [Case(str(n), circuit, penalty) for n in SIZES for circuit in CIRCUIT for penalty in PENALTIES]
# The columns of a row: what is measured, and what it is called.
SHARES = {
    "sneakpeek": "lost by sneakpeek",
    "remains": "found by a budget 100 times larger",
    "between": "up to the bound",
    "alone": "up to each row alone",
}


def remains(one: Instance, case: Case) -> Row:
    """One instance: what the longer search finds beyond the usual one, as a share of what that has; what the bound
    still allows above the better of the two, as a share of itself; likewise with each row alone on the machine."""
    view, switches = one.view, case.switches

    def worth(name: str, **options: float) -> float:
        plan = make(name, switches, **options).plan(view)
        return float(evaluate(view, plan, switches)[0].sum())

    ours, paper = worth(OURS), worth("sneakpeek")
    found = max(worth(OURS, budget=LONGER * Horizon.OPTIONS["budget"]), ours)
    most = above(view, switches, found)
    alone = above(view, switches, steps=0)
    return {
        "seed": one.seed,
        "number": one.number,
        "kind": one.kind,
        **case.where,
        "rows": view.size,
        "utility": ours,
        "found": found,
        "most": most,
        "sneakpeek": _share(ours - paper, ours),
        "remains": _share(found - ours, found),
        "between": _share(most - ours, most),
        "alone": _share(alone - ours, alone),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else 0.0


def _jobs(lab: Lab) -> Sequence[Job]:
    def of(case: Case) -> Job:
        shape = Shape((int(case.size), int(case.size)), case.penalty)
        return lambda seed: [remains(one, case) for one in instances(lab, shape, seed)]

    return [of(case) for case in CASES]


def _measure(table: Table) -> Mapping[str, Floats]:
    return {
        f"remains-{size}-{'sc' if CIRCUIT[circuit] else 'all'}": 100.0
        * best([table.mean("remains", **c.where) for c in CASES if (c.size, c.circuit) == (size, circuit)])
        for size in map(str, SIZES)
        for circuit in CIRCUIT
    }


def _panels(table: Table) -> Sequence[Panel]:
    panels = []
    for circuit in CIRCUIT:
        cases = [c for c in CASES if c.circuit == circuit]
        series = [
            Series(label, range(len(cases)), [100.0 * table.mean(column, **c.where) for c in cases])
            for column, label in SHARES.items()
        ]
        title = f"{'With' if CIRCUIT[circuit] else 'Without'} short-circuit"
        names = [f"{c.size}, {c.penalty}" for c in cases]
        panels.append(Panel(title, "rows, penalty", "% of utility", series, names))
    return panels


def _tables(table: Table) -> list[list[list[str]]]:
    head = ["rows", "short-circuit", "penalty", *(f"{label}, %" for label in SHARES.values())]
    lines = [[*head, "found: p95, %", "worst, %", "instances"]]
    for case in CASES:
        own = [row for row in table.rows if all(row.get(k) == v for k, v in case.where.items())]
        shares = [str(Interval.of(100.0 * table.mean(column, **case.where))) for column in SHARES]
        p95 = 100.0 * float(table.quantile("remains", 0.95, **case.where)[0])
        most = 100.0 * float(np.max([float(row["remains"]) for row in own]))
        what = [case.size, case.circuit, case.penalty]
        lines.append([*what, *shares, f"{p95:.2f}", f"{most:.2f}", str(len(own))])
    return [lines]


EXPERIMENTS = (
    Experiment(
        "horizon-remains",
        "what a search a hundred times longer finds, and what no search can",
        _jobs,
        _measure,
        _panels,
        small_seeds=2,
        tables=_tables,
    ),
)
