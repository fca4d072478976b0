"""How long a decision takes: experiment `horizon-deciding`, and what bench/bench_horizon.py prints.

A decision is what the server's scheduler does when it plans: the backlog shows what waits (`Backlog.view`), the policy
plans, all of its guard included. The device stays as it is while more rows wait, so the load grows with them; deadlines
are 200 ms, so that at 1000 rows most have to be answered by the peek. Times are of this thread's CPU alone, by its own
clock; no test looks at them.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from peekserve.experiments.horizon.gap import OURS
from peekserve.experiments.horizon.instances import Instance, Shape, instances
from peekserve.experiments.sneakpeek.lab import Lab
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table
from peekserve.policies import make
from peekserve.policies.base import Switches
from peekserve.policies.worth import evaluate

NAMES = (OURS, "sneakpeek")
SIZES = (12, 24, 100, 500, 1000)
WORKERS = (1, 2, 3)
DEADLINE_S = 0.2
SWITCHES = Switches(aware=True, short_circuit=True)
# Of so many goes at one decision the middle one counts.
GOES = 5
_LIMITED = (24, 100, 500)


def cpu_ms(work: Callable[[], object]) -> float:
    """The middle one of GOES, after one that does not count."""
    work()
    spent = []
    for _ in range(GOES):
        began = time.thread_time_ns()
        work()
        spent.append((time.thread_time_ns() - began) / 1e6)
    return float(np.median(spent))


def decisions(one: Instance, rows: int, workers: int) -> list[Row]:
    """For each policy: a whole decision, and the plan alone, on one instance."""
    view = one.view
    found: list[Row] = []
    least = 0.0
    for name in reversed(NAMES):
        policy = make(name, SWITCHES)
        utility = float(evaluate(view, policy.plan(view), SWITCHES)[0].sum()) / view.size
        least = utility if name == "sneakpeek" else least
        found.append(
            {
                "seed": one.seed,
                "number": one.number,
                "kind": one.kind,
                "rows": rows,
                "workers": workers,
                "policy": name,
                "decision_ms": cpu_ms(lambda policy=policy: policy.plan(one.view)),  # type: ignore[misc]
                "plan_ms": cpu_ms(lambda policy=policy: policy.plan(view)),  # type: ignore[misc]
                "utility": utility,
                "ahead": utility - least,
            }
        )
    return found[::-1]


def _jobs(lab: Lab) -> Sequence[Job]:
    def of(rows: int, workers: int) -> Job:
        shape = Shape((rows, rows), "sigmoid", workers, DEADLINE_S)
        return lambda seed: [
            row for one in instances(lab, shape, seed) for row in decisions(one, rows, workers)
        ]

    return [of(rows, workers) for workers in WORKERS for rows in SIZES]


def median(table: Table, metric: str, **where: str | int) -> Floats:
    """float64 [1 + draws], ms."""
    return table.quantile(metric, 0.5, **where)


def slope(table: Table, metric: str, **where: str | int) -> Floats:
    """float64 [1 + draws]: of the logarithm of the median time by that of the rows, least squares."""
    x = np.log(np.array(SIZES, np.float64))
    y = np.stack([np.log(median(table, metric, rows=rows, **where)) for rows in SIZES], axis=1)
    off = x - x.mean()
    found: Floats = (y @ off) / (off @ off)
    return found


def _measure(table: Table) -> Mapping[str, Floats]:
    ours: dict[str, str | int] = {"policy": OURS, "workers": 1}
    found = {f"deciding-{n}": median(table, "decision_ms", rows=n, **ours) for n in _LIMITED}
    return {**found, "deciding-slope": slope(table, "decision_ms", **ours)}


def _panels(table: Table) -> Sequence[Panel]:
    return [
        Panel(
            f"{workers} worker{'s' * (workers > 1)}",
            "waiting rows",
            "median CPU time of a decision, ms",
            [
                Series(
                    name,
                    SIZES,
                    [median(table, "decision_ms", policy=name, workers=workers, rows=n) for n in SIZES],
                )
                for name in NAMES
            ],
            log_y=True,
            log_x=True,
        )
        for workers in WORKERS
    ]


def _tables(table: Table) -> list[list[list[str]]]:
    lines = [["policy", "workers", "what", *(f"{n} rows" for n in SIZES), "log-log slope"]]
    more = [["workers", *(f"{OURS} less sneakpeek, {n} rows" for n in SIZES)]]
    for workers in WORKERS:
        for name in NAMES:
            for metric, what in (("decision_ms", "view, plan"), ("plan_ms", "plan alone")):
                where: dict[str, str | int] = {"policy": name, "workers": workers}
                cells = []
                for rows in SIZES:
                    middle = median(table, metric, rows=rows, **where)[0]
                    p95 = table.quantile(metric, 0.95, rows=rows, **where)[0]
                    cells.append(f"{middle:.3f} ({p95:.3f})")
                rate = str(Interval.of(slope(table, metric, **where)))
                lines.append([name, str(workers), f"{what}: median (p95), ms", *cells, rate])
        ahead = [table.mean("ahead", policy=OURS, workers=workers, rows=n) for n in SIZES]
        more.append([str(workers), *(str(Interval.of(a)) for a in ahead)])
    return [lines, more]


EXPERIMENTS = (
    Experiment(
        "horizon-deciding",
        "CPU time of a decision by waiting rows",
        _jobs,
        _measure,
        _panels,
        small_seeds=2,
        tables=_tables,
    ),
)
