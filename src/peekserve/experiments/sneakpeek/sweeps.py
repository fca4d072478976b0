"""How utility moves with the workload: figures 11 (deadlines), 12 (applications), 13 (arrivals), 14 (penalties) and 16
(workers)."""

from collections.abc import Mapping, Sequence

from peekserve.experiments.sneakpeek.decisions import timed
from peekserve.experiments.sneakpeek.lab import FOUR, Lab, Setting, played
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Table, Value, average, best, worst

_NAMES = tuple(c.name for c in FOUR)
_ONE_BY_ONE = ("lo-edf", "lo-priority")
_OBLIVIOUS = (*_ONE_BY_ONE, "grouped")
UTILITY = "mean realised utility"


def curves(
    table: Table, column: str, metric: str = "utility", scale: float = 1.0, **where: Value
) -> list[Series]:
    """A curve for each approach over the values of a column."""
    found = dict.fromkeys(
        float(row[column])
        for row in table.rows
        if column in row and all(row.get(name) == value for name, value in where.items())
    )
    xs = sorted(found)
    return [
        Series(
            name,
            [x * scale for x in xs],
            [table.mean(metric, policy=name, **where, **{column: x}) for x in xs],
        )
        for name in _NAMES
    ]


def by_number(table: Table, column: str, numbers: Sequence[int]) -> list[list[list[str]]]:
    """Utility and decision time of each approach, a line for each number."""
    head = [column, *_NAMES, *(f"{n}, ms" for n in _NAMES)]
    rows = [head]
    for number in numbers:
        where: dict[str, Value] = {column: number}
        utility = [f"{table.mean('utility', policy=n, **where)[0]:.3f}" for n in _NAMES]
        spent = [f"{table.mean('decision_ms', policy=n, **where)[0]:.2f}" for n in _NAMES]
        rows.append([str(number), *utility, *spent])
    return [rows]


# ---- figure 11 ----

DEADLINES = (60, 80, 100, 120, 150, 200, 250, 300, 400, 500)
SPREADS = (0, 15, 30, 45, 60, 80)
SHORT = (60, 80, 100, 120, 150)


def _deadlines(lab: Lab) -> Sequence[Job]:
    a = [played(lab, Setting(deadline_s=d / 1e3), FOUR, part="a", deadline_ms=d) for d in DEADLINES]
    b = [played(lab, Setting(spread_s=s / 1e3), FOUR, part="b", spread_ms=s) for s in SPREADS]
    return a + b


def _measure_deadlines(table: Table) -> Mapping[str, Floats]:
    def at(who: str, deadline: int) -> Floats:
        return table.mean("utility", policy=who, part="a", deadline_ms=deadline)

    def lead(who: str, deadline: int) -> Floats:
        return at(who, deadline) - best([at(n, deadline) for n in _ONE_BY_ONE])

    def change(who: str) -> Floats:
        widest = table.mean("utility", policy=who, part="b", spread_ms=80)
        return widest - table.mean("utility", policy=who, part="b", spread_ms=0)

    long = [at(n, 400) for n in _OBLIVIOUS]
    return {
        "fig11-grouped-short": worst([lead("grouped", d) for d in SHORT]),
        "fig11-sneakpeek": worst([lead("sneakpeek", d) for d in DEADLINES]),
        "fig11-converge": best(long) - worst(long),
        "fig11-spread": best([change(n) for n in _NAMES]),
    }


def _deadline_panels(table: Table) -> Sequence[Panel]:
    return [
        Panel("a. Deadline", "mean deadline, ms", UTILITY, curves(table, "deadline_ms", part="a")),
        Panel(
            "b. Spread of deadlines around 150 ms",
            "standard deviation, ms",
            UTILITY,
            curves(table, "spread_ms", part="b"),
        ),
    ]


# ---- figure 12 ----

APPLICATIONS = (3, 5, 6, 9, 12, 18, 24)


def _applications(lab: Lab) -> Sequence[Job]:
    jobs: list[Job] = []
    for n in APPLICATIONS:
        setting = Setting(applications=n, requests=24, deadline_s=0.2)
        jobs += [played(lab, setting, FOUR, applications=n), timed(lab, setting, FOUR, applications=n)]
    return jobs


def _measure_applications(table: Table) -> Mapping[str, Floats]:
    def at(who: str, n: int) -> Floats:
        return table.mean("utility", policy=who, applications=n)

    def spent(who: str, n: int) -> Floats:
        return table.mean("decision_ms", policy=who, applications=n)

    def lead(who: str, n: int) -> Floats:
        return at(who, n) - at("lo-priority", n)

    few, many = APPLICATIONS[0], APPLICATIONS[-1]
    last = [spent(n, many) for n in _NAMES]
    return {
        "fig12-grouped-degrades": lead("grouped", many) - lead("grouped", few),
        "fig12-sneakpeek-degrades": lead("sneakpeek", many) - lead("sneakpeek", few),
        "fig12-like-priority": lead("grouped", many),
        "fig12-consistent": average([at(n, many) - at(n, few) for n in _ONE_BY_ONE]),
        "fig12-fast": best([spent(name, n) for name in _NAMES for n in APPLICATIONS]),
        "fig12-exact-five": spent("grouped", 5),
        "fig12-grouped-time": spent("grouped", few) - spent("lo-edf", few),
        "fig12-aware-time": spent("sneakpeek", few) - spent("grouped", few),
        "fig12-time-converges": best(last) / worst(last),
    }


def _application_panels(table: Table) -> Sequence[Panel]:
    return [
        Panel("a. Utility", "applications (24 requests)", UTILITY, curves(table, "applications")),
        Panel(
            "b. Time to decide",
            "applications (24 requests)",
            "ms",
            curves(table, "applications", "decision_ms"),
            log_y=True,
        ),
    ]


# ---- figure 13 ----

REQUESTS = (3, 6, 12, 24, 36, 48, 72)


def _arrivals(lab: Lab) -> Sequence[Job]:
    jobs: list[Job] = []
    for n in REQUESTS:
        setting = Setting(requests=n, deadline_s=0.2)
        jobs += [played(lab, setting, FOUR, arrivals=n), timed(lab, setting, FOUR, arrivals=n)]
    return jobs


def _measure_arrivals(table: Table) -> Mapping[str, Floats]:
    def at(who: str, n: int) -> Floats:
        return table.mean("utility", policy=who, arrivals=n)

    def spent(who: str, n: int) -> Floats:
        return table.mean("decision_ms", policy=who, arrivals=n)

    busy = [n for n in REQUESTS if n >= 12]
    groups = {n: worst([at("grouped", n), at("sneakpeek", n)]) for n in busy}
    singles = {n: best([at(name, n) for name in _ONE_BY_ONE]) for n in busy}
    return {
        "fig13-degrade": best([at(n, 72) - at(n, 6) for n in _NAMES]),
        "fig13-grouped-best": worst([groups[n] - singles[n] for n in busy]),
        "fig13-priority": average([at("lo-priority", n) - at("lo-edf", n) for n in busy]),
        "fig13-time": worst([spent(n, 72) / spent(n, 6) for n in _NAMES]),
        "fig13-grouped-time": spent("sneakpeek", 12) - spent("lo-edf", 12),
    }


def _arrival_panels(table: Table) -> Sequence[Panel]:
    return [
        Panel("a. Utility", "requests in a window", UTILITY, curves(table, "arrivals")),
        Panel(
            "b. Time to decide",
            "requests in a window",
            "ms",
            curves(table, "arrivals", "decision_ms"),
            log_y=True,
        ),
    ]


# ---- figure 14 ----

PENALTIES = ("step", "sigmoid", "linear")
_PENALTY_DEADLINES = (80, 100, 120, 150, 200, 300, 400)


def _penalties(lab: Lab) -> Sequence[Job]:
    return [
        played(lab, Setting(penalty=p, deadline_s=d / 1e3), FOUR, penalty=p, deadline_ms=d)
        for p in PENALTIES
        for d in _PENALTY_DEADLINES
    ]


def _measure_penalties(table: Table) -> Mapping[str, Floats]:
    def at(who: str, penalty: str, deadline: int) -> Floats:
        return table.mean("utility", policy=who, penalty=penalty, deadline_ms=deadline)

    def lead(who: str, others: Sequence[str], penalty: str, deadline: int) -> Floats:
        return at(who, penalty, deadline) - best([at(n, penalty, deadline) for n in others])

    short = [d for d in _PENALTY_DEADLINES if d <= 150]
    return {
        "fig14-step": worst([lead("sneakpeek", _OBLIVIOUS, "step", d) for d in _PENALTY_DEADLINES]),
        "fig14-step-short": average([lead("grouped", _ONE_BY_ONE, "step", d) for d in short]),
        "fig14-step-long": lead("grouped", _ONE_BY_ONE, "step", 400),
        "fig14-sigmoid": worst([lead("sneakpeek", _OBLIVIOUS, "sigmoid", d) for d in _PENALTY_DEADLINES]),
        "fig14-sigmoid-short": average([lead("grouped", _ONE_BY_ONE, "sigmoid", d) for d in short]),
    }


def _penalty_panels(table: Table) -> Sequence[Panel]:
    return [
        Panel(p.capitalize(), "mean deadline, ms", UTILITY, curves(table, "deadline_ms", penalty=p))
        for p in PENALTIES
    ]


# ---- figure 16 ----

_WORKER_DEADLINES = (60, 80, 100, 120, 150, 200, 300, 400)
WORKERS = (1, 2, 3, 4)


def _workers(lab: Lab) -> Sequence[Job]:
    a = [
        played(lab, Setting(workers=2, deadline_s=d / 1e3), FOUR, part="a", deadline_ms=d)
        for d in _WORKER_DEADLINES
    ]
    return a + [played(lab, Setting(workers=w), FOUR, part="b", workers=w) for w in WORKERS]


def _measure_workers(table: Table) -> Mapping[str, Floats]:
    def at(who: str, deadline: int) -> Floats:
        return table.mean("utility", policy=who, part="a", deadline_ms=deadline)

    def by(who: str, workers: int) -> Floats:
        return table.mean("utility", policy=who, part="b", workers=workers)

    def relative(workers: int) -> Floats:
        return by("grouped", workers) / by("lo-edf", workers)

    def adds(workers: int) -> Floats:
        return by("sneakpeek", workers) - by("grouped", workers)

    return {
        "fig16-grouped": average([at("grouped", d) - at("lo-edf", d) for d in SHORT]),
        "fig16-aware": average(
            [at("sneakpeek", d) - at("grouped", d) for d in _WORKER_DEADLINES if d >= 200]
        ),
        "fig16-workers": relative(4) - relative(1),
        "fig16-aware-workers": adds(4) - adds(1),
    }


def _worker_panels(table: Table) -> Sequence[Panel]:
    return [
        Panel("a. Two workers", "mean deadline, ms", UTILITY, curves(table, "deadline_ms", part="a")),
        Panel("b. Deadlines of 150 ms", "workers", UTILITY, curves(table, "workers", part="b")),
    ]


EXPERIMENTS = (
    Experiment(
        "sneakpeek-fig11",
        "utility by deadline and by spread of deadlines",
        _deadlines,
        _measure_deadlines,
        _deadline_panels,
    ),
    Experiment(
        "sneakpeek-fig12",
        "utility and decision time by number of applications",
        _applications,
        _measure_applications,
        _application_panels,
        tables=lambda table: by_number(table, "applications", APPLICATIONS),
    ),
    Experiment(
        "sneakpeek-fig13",
        "utility and decision time by arrivals in a window",
        _arrivals,
        _measure_arrivals,
        _arrival_panels,
        tables=lambda table: by_number(table, "arrivals", REQUESTS),
    ),
    Experiment(
        "sneakpeek-fig14", "utility by penalty and deadline", _penalties, _measure_penalties, _penalty_panels
    ),
    Experiment("sneakpeek-fig16", "utility with several workers", _workers, _measure_workers, _worker_panels),
)
