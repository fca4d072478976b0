"""How far plans are from the best that there is: experiment `horizon-gap`.

Every policy plans the same windows (instances.py) with the same switches: all read the row's own belief, and either all
may answer by the peek or none. Utility is what they believe, which is what they maximise; the exact solver
(kernel/exact.py) believes the same. The gap of a plan is what it lacks of the optimum, as a share of the optimum.

The solver counts its work, and on some windows it runs out. These are counted beside the others and take no part in
means and quantiles, for there the gap is not known: it is at least what the plan lacks of the best plan that anybody
found, and that is reported apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peekserve.experiments.horizon.instances import Instance, Shape, instances
from peekserve.experiments.sneakpeek.lab import Lab
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, Value
from peekserve.policies import make
from peekserve.policies.base import Switches
from peekserve.policies.optimal import Optimal
from peekserve.policies.worth import evaluate

OURS = "horizon"
NAMES = ("lo-edf", "grouped", "sneakpeek", OURS)
PENALTIES = ("step", "linear", "sigmoid")
ROWS = {"4-8": (4, 8), "12": (12, 12)}
CIRCUIT = {"yes": True, "no": False}
# As many labels as a window may cost: some 20 seconds.
LABELS = 3_000_000.0
# Sums of the same numbers in another order differ by less.
SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table. `size`: of ROWS. `circuit`: of CIRCUIT."""

    size: str
    circuit: str
    penalty: str
    workers: int = 1

    @property
    def where(self) -> dict[str, str | int]:
        """The columns by which its rows are found."""
        return {
            "size": self.size,
            "circuit": self.circuit,
            "penalty": self.penalty,
            "workers": self.workers,
        }

    @property
    def shape(self) -> Shape:
        return Shape(ROWS[self.size], self.penalty, self.workers)

    @property
    def switches(self) -> Switches:
        return Switches(aware=True, short_circuit=CIRCUIT[self.circuit])


CASES = [Case(size, circuit, penalty) for size in ROWS for circuit in CIRCUIT for penalty in PENALTIES]
# Several machines multiply what the solver looks at: small windows alone.
SHARED = [
    Case("4-8", circuit, penalty, workers)
    for workers in (2, 3)
    for circuit in CIRCUIT
    for penalty in PENALTIES
]


def gaps(one: Instance, case: Case, labels: float = LABELS) -> list[Row]:
    """A row for each policy, on one instance."""
    view, switches = one.view, case.switches
    plans = [make(name, switches).plan(view) for name in NAMES]
    worth = [float(evaluate(view, plan, switches)[0].sum()) for plan in plans]
    best = Optimal(switches, max_labels=labels).best(view, plans)
    rows: list[Row] = []
    for name, utility in zip(NAMES, worth, strict=True):
        least = max(best.utility - utility, 0.0) / best.utility if best.utility > 0.0 else 0.0
        row: dict[str, str | int | float] = {
            "seed": one.seed,
            "number": one.number,
            "kind": one.kind,
            **case.where,
            "rows": view.size,
            "policy": name,
            "utility": utility,
            "best": best.utility,
            "proven": int(best.proven),
            "labels": best.labels,
            "at_least": least,
        }
        if best.proven:
            # Not clipped: a plan above the optimum would be an error, and shows.
            gap = (best.utility - utility) / best.utility if best.utility > 0.0 else 0.0
            row |= {"gap": gap, "exact": int(gap < SAME)}
        rows.append(row)
    return rows


def _jobs(lab: Lab) -> Sequence[Job]:
    def of(case: Case) -> Job:
        def job(seed: int) -> list[Row]:
            return [row for one in instances(lab, case.shape, seed) for row in gaps(one, case)]

        return job

    return [of(case) for case in (*CASES, *SHARED)]


def _measure(table: Table) -> Mapping[str, Floats]:
    found: dict[str, Floats] = {}
    for case in CASES:
        name = f"{case.size.split('-')[-1]}-{'sc' if CIRCUIT[case.circuit] else 'all'}-{case.penalty}"
        found[f"gap-{name}"] = _percent(table.mean("gap", policy=OURS, **case.where))
        if CIRCUIT[case.circuit]:
            found[f"gap-p95-{name}"] = _percent(table.quantile("gap", 0.95, policy=OURS, **case.where))
    return found


def _percent(share: Floats) -> Floats:
    return 100.0 * share


def _panels(table: Table) -> Sequence[Panel]:
    panels = []
    for size in ROWS:
        for circuit in CIRCUIT:
            cases = [c for c in CASES if (c.size, c.circuit) == (size, circuit)]
            series = [
                Series(
                    name,
                    range(len(cases)),
                    [_percent(table.mean("gap", policy=name, **case.where)) for case in cases],
                )
                for name in NAMES
            ]
            title = f"{size} rows, {'with' if CIRCUIT[circuit] else 'without'} short-circuit"
            panels.append(Panel(title, "", "mean gap to the optimum, %", series, PENALTIES, log_y=True))
    return panels


def _tables(table: Table) -> list[list[list[str]]]:
    """Ours in all cases; the others beside it; ours by the kind of instance."""
    return [_ours(table), _all(table), _by_kind(table)]


def _ours(table: Table) -> list[list[str]]:
    head = ["workers", "rows", "short-circuit", "penalty", f"{OURS}: mean gap, %", "p95, %", "worst, %"]
    lines = [[*head, "exactly optimal", "instances", "not solved", "mean with these at least, %"]]
    for case in (*CASES, *SHARED):
        where = {**case.where, "policy": OURS}
        own = _rows(table, where)
        solved = [row for row in own if row["proven"]]
        cells = ["not measured"] * 4
        if solved:
            worst = max(solved, key=lambda row: float(row["gap"]))
            cells = [
                str(Interval.of(_percent(table.mean("gap", **where)))),
                f"{100.0 * table.quantile('gap', 0.95, **where)[0]:.2f}",
                f"{100.0 * float(worst['gap']):.2f} (seed {worst['seed']}, window {worst['number']})",
                f"{table.mean('exact', **where)[0]:.3f}",
            ]
        at_least = f"{100.0 * table.mean('at_least', **where)[0]:.3f}"
        lines.append([*_names(case), *cells, str(len(own)), str(len(own) - len(solved)), at_least])
    return lines


def _all(table: Table) -> list[list[str]]:
    lines = [
        ["workers", "rows", "short-circuit", "penalty", *(f"{name}: mean gap, % (p95)" for name in NAMES)]
    ]
    for case in (*CASES, *SHARED):
        cells = []
        for name in NAMES:
            where = {**case.where, "policy": name}
            if any(row["proven"] for row in _rows(table, where)):
                p95 = 100.0 * table.quantile("gap", 0.95, **where)[0]
                cells.append(f"{Interval.of(_percent(table.mean('gap', **where)))} ({p95:.2f})")
            else:
                cells.append("not measured")
        lines.append([*_names(case), *cells])
    return lines


def _by_kind(table: Table) -> list[list[str]]:
    lines = [
        ["applications", "workers", "rows", "short-circuit", "penalty", f"{OURS}: mean gap, %", "worst, %"]
    ]
    for kind in table.values("kind"):
        for case in (*CASES, *SHARED):
            where = {**case.where, "policy": OURS, "kind": kind}
            known = [100.0 * float(row["gap"]) for row in _rows(table, where) if row["proven"]]
            if known:
                mean = str(Interval.of(_percent(table.mean("gap", **where))))
                lines.append([str(kind), *_names(case), mean, f"{max(known):.2f}"])
    return lines


def _names(case: Case) -> list[str]:
    return [str(case.workers), case.size, case.circuit, case.penalty]


def _rows(table: Table, where: Mapping[str, Value]) -> list[Row]:
    return [row for row in table.rows if all(row.get(k) == v for k, v in where.items())]


EXPERIMENTS = (
    Experiment(
        "horizon-gap",
        "how far plans are from the exact optimum",
        _jobs,
        _measure,
        _panels,
        small_seeds=2,
        tables=_tables,
    ),
)
