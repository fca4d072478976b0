"""What `horizon` realises in isolated windows: the paper's setting, then random services. Show 3.

A seed is two things at once: a resample of the paper's streams, and the number of a random service. So an interval over
seeds covers subjects, samples and arrivals in the first part, and services in the second.

A service is one where `horizon` is *worse* if the 95% interval of the difference between window means, paired window by
window, lies below zero: a negative estimate alone may be chance, and is counted beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from peekserve.domain.shares import Z95
from peekserve.experiments.horizon.profiles import random_service
from peekserve.experiments.horizon.worlds import (
    Entrant,
    Scene,
    known_of_a_service,
    of_a_service,
    of_the_paper,
)
from peekserve.experiments.sneakpeek.lab import LO_EDF, SHIPPED, SNEAKPEEK, Lab, Setting, rows_of
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, Value
from peekserve.sim.window import Got

CALIBRATED = "calibrated"
EDF = Entrant.of(LO_EDF)
EDF_DROPS = Entrant.of(
    replace(LO_EDF, switches=replace(LO_EDF.switches, drop=True)), "lo-edf, dropping doomed work"
)
PUBLISHED = Entrant.of(SNEAKPEEK)
AS_SHIPPED = Entrant.of(SHIPPED, "sneakpeek as shipped")
TRUSTED = Entrant.of(SNEAKPEEK, "sneakpeek, calibrated", CALIBRATED)
EQUAL = Entrant.of(SHIPPED, "sneakpeek as shipped, calibrated", CALIBRATED)
SEARCH = Entrant("horizon, dirichlet", "horizon", None, {})
HORIZON = Entrant("horizon", "horizon", None, {}, CALIBRATED)
ENTRANTS = (EDF, EDF_DROPS, PUBLISHED, AS_SHIPPED, TRUSTED, EQUAL, SEARCH, HORIZON)
# Whom `horizon` is set beside, service by service: the paper's, and the best that has the same beliefs.
BESIDE = (PUBLISHED, EQUAL)
# One factor at a time: what it is called, with it and without it.
FACTORS = (
    ("the search, dropping and merging", SEARCH, PUBLISHED),
    ("calibrated beliefs", TRUSTED, PUBLISHED),
    ("both", HORIZON, PUBLISHED),
    ("the search beside sneakpeek as shipped, dirichlet", SEARCH, AS_SHIPPED),
    ("the search beside sneakpeek as shipped, calibrated", HORIZON, EQUAL),
    ("calibrated beliefs under the search", HORIZON, SEARCH),
)

PENALTIES = ("step", "sigmoid", "linear")
RESIDENT = (1, 2)
# Of random services: penalties, rows in a window, and windows for each of the laboratory's.
RANDOM_PENALTIES, RANDOM_ROWS, TIMES = ("step", "sigmoid"), (12, 24), 5
SERVICES = 40
_SERVICE = 61


def _jobs(lab: Lab) -> Sequence[Job]:
    paper = [_paper(lab, penalty, resident) for penalty in PENALTIES for resident in RESIDENT]
    return [*paper, _random(lab)]


def _paper(lab: Lab, penalty: str, resident: int) -> Job:
    def job(seed: int) -> list[Row]:
        scene = of_the_paper(lab, Setting(penalty=penalty, resident=resident), seed)
        where: dict[str, Value] = {"part": "paper", "penalty": penalty, "resident": resident}
        return _played(scene, where, seed)[0]

    return job


def _random(lab: Lab) -> Job:
    def job(seed: int) -> list[Row]:
        service = random_service(np.random.default_rng([_SERVICE, seed]))
        known = known_of_a_service(service, seed)
        made: list[Row] = []
        for name in RANDOM_PENALTIES:
            for rows in RANDOM_ROWS:
                penalty = lab.device.penalty(name)
                scene = of_a_service(lab, service, known, penalty, rows, TIMES * lab.windows, seed)
                where: dict[str, Value] = {"part": "random", "penalty": name, "rows": rows}
                own, got = _played(scene, where, seed)
                made += own
                made += [
                    beside(got[HORIZON.name], got[w.name], {**where, "against": w.name, "seed": seed})
                    for w in BESIDE
                ]
        return made

    return job


def _played(
    scene: Scene, where: Mapping[str, Value], seed: int
) -> tuple[list[Row], dict[str, list[list[Got]]]]:
    """The rows of all entrants, and what each got by windows."""
    got = {who.name: scene.play(who) for who in ENTRANTS}
    rows = [
        row
        for name, windows in got.items()
        for row in rows_of([one for window in windows for one in window], name, seed, **where)
    ]
    return rows, got


def beside(own: Sequence[Sequence[Got]], other: Sequence[Sequence[Got]], where: Mapping[str, Value]) -> Row:
    """The difference between two entrants on one service, with its interval over windows."""
    apart = np.array(
        [
            np.mean([g.row.utility for g in a]) - np.mean([g.row.utility for g in b])
            for a, b in zip(own, other, strict=True)
        ]
    )
    mean, error = float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(len(apart)))
    low, high = mean - Z95 * error, mean + Z95 * error
    return {
        **where,
        "difference": mean,
        "low": low,
        "high": high,
        "worse": float(high < 0.0),
        "negative": float(mean < 0.0),
    }


# ---- what is claimed ----


def _measure(table: Table) -> Mapping[str, Floats]:
    found = {
        f"realised-{penalty}-{resident}": _ratio(table, PUBLISHED, penalty=penalty, resident=resident)
        for penalty in PENALTIES
        for resident in RESIDENT
    }
    found["realised-lo-edf"] = _ratio(table, EDF_DROPS, penalty="step", resident=1)
    for penalty in RANDOM_PENALTIES:
        for rows in RANDOM_ROWS:
            found[f"realised-random-{penalty}-{rows}"] = table.mean(
                "difference", against=PUBLISHED.name, penalty=penalty, rows=rows
            )
    found["realised-none-worse"] = _number(table, "worse", against=PUBLISHED.name)
    return found


def _ratio(table: Table, other: Entrant, **where: Value) -> Floats:
    """Utility of `horizon` over another's, in the paper's setting."""
    own = table.mean("utility", policy=HORIZON.name, part="paper", **where)
    return own / table.mean("utility", policy=other.name, part="paper", **where)


def _number(table: Table, metric: str, **where: Value) -> Floats:
    """On how many services, rows of the table added up, this is so."""
    many = sum(metric in row and all(row.get(k) == v for k, v in where.items()) for row in table.rows)
    return table.mean(metric, **where) * many


# ---- what is printed and drawn ----


def _tables(table: Table) -> list[list[list[str]]]:
    places: list[tuple[str, dict[str, Value]]] = [
        (f"{p}, {r} resident", {"part": "paper", "penalty": p, "resident": r})
        for p in PENALTIES
        for r in RESIDENT
    ]
    random: list[tuple[str, dict[str, Value]]] = [
        (f"random, {p}, {n} rows", {"part": "random", "penalty": p, "rows": n})
        for p in RANDOM_PENALTIES
        for n in RANDOM_ROWS
    ]
    return [
        _utilities(table, places + random),
        _ratios(table, places),
        _factors(table, places + random),
        _worse(table),
    ]


_Places = Sequence[tuple[str, Mapping[str, Value]]]


def _utilities(table: Table, places: _Places) -> list[list[str]]:
    rows = [["utility", *(who.name for who in ENTRANTS)]]
    for name, where in places:
        rows.append([name, *(f"{table.mean('utility', policy=w.name, **where)[0]:.3f}" for w in ENTRANTS)])
    return rows


def _ratios(table: Table, places: _Places) -> list[list[str]]:
    rows = [["horizon over", PUBLISHED.name, EDF.name, EDF_DROPS.name]]
    for name, where in places:
        own = table.mean("utility", policy=HORIZON.name, **where)
        others = [table.mean("utility", policy=w.name, **where) for w in (PUBLISHED, EDF, EDF_DROPS)]
        rows.append([name, *(str(Interval.of(own / other)) for other in others)])
    return rows


def _factors(table: Table, places: _Places) -> list[list[str]]:
    """What each factor adds to the utility."""
    rows = [["added utility", *(name for name, _, _ in FACTORS)]]
    for name, where in places:
        added = [
            table.mean("utility", policy=having.name, **where)
            - table.mean("utility", policy=lacking.name, **where)
            for _, having, lacking in FACTORS
        ]
        rows.append([name, *(str(Interval.of(a)) for a in added)])
    return rows


def _worse(table: Table) -> list[list[str]]:
    head = ["services", "against", "mean difference", "worst service", "worse", "below zero", "of"]
    rows = [head]
    for other in BESIDE:
        for penalty in RANDOM_PENALTIES:
            for many in RANDOM_ROWS:
                where: dict[str, Value] = {"against": other.name, "penalty": penalty, "rows": many}
                found = _services(table, where)
                rows.append(
                    [
                        f"{penalty}, {many} rows",
                        other.name,
                        str(Interval.of(table.mean("difference", **where))),
                        f"{min(float(r['difference']) for r in found):+.3f}",
                        f"{sum(float(r['worse']) for r in found):.0f}",
                        f"{sum(float(r['negative']) for r in found):.0f}",
                        str(len(found)),
                    ]
                )
    return rows


def _services(table: Table, where: Mapping[str, Value]) -> list[Row]:
    """The rows of single services, the least difference first."""
    found = [r for r in table.rows if "difference" in r and all(r.get(k) == v for k, v in where.items())]
    return sorted(found, key=lambda r: float(r["difference"]))


def _panels(table: Table) -> Sequence[Panel]:
    shown = (EDF_DROPS, PUBLISHED, TRUSTED, SEARCH, HORIZON)
    places = [(p, r) for p in PENALTIES for r in RESIDENT]
    bars = [
        Series(
            who.name,
            range(len(places)),
            [table.mean("utility", policy=who.name, part="paper", penalty=p, resident=r) for p, r in places],
        )
        for who in shown
    ]
    paper = Panel(
        "The paper's setting: penalty, models resident",
        "",
        "mean realised utility",
        bars,
        [f"{p}, {r}" for p, r in places],
    )
    return [paper, *(_of_services(table, rows) for rows in RANDOM_ROWS)]


def _of_services(table: Table, rows: int) -> Panel:
    """The difference on each service, the worst first, each with its own interval."""
    series = []
    for penalty in RANDOM_PENALTIES:
        found = _services(table, {"against": PUBLISHED.name, "penalty": penalty, "rows": rows})
        values = [_with_interval(float(r["difference"]), float(r["low"]), float(r["high"])) for r in found]
        series.append(Series(penalty, range(1, len(found) + 1), values))
    return Panel(f"Random services, {rows} rows", "service, by rank", "horizon less sneakpeek", series)


def _with_interval(value: float, low: float, high: float) -> Floats:
    """Draws whose 95% interval is the one that is known already."""
    return np.array([value, *([low] * 50), *([high] * 50)])


EXPERIMENTS = (
    Experiment(
        "horizon-realised",
        "what horizon realises beside sneakpeek",
        _jobs,
        _measure,
        _panels,
        seeds=SERVICES,
        tables=_tables,
    ),
)
