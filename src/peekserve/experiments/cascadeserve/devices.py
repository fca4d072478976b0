"""How many devices it takes: gear plans against single models that are switched by load (Model-Switching), over the
plane of latency and accuracy, up to sixteen like devices (CascadeServe, section 6.1).

For each goal of latency and each number of devices there is a plan of gears, one of single models that change with the
load, and one of a single model for all loads. All are made by the same planner on validation data, each gear judged by
its formula (planner/estimate.py), which is quick and rather too careful. Then the accuracy of each plan over the
expected loads is counted on test samples, and a cell of the plane needs the fewest devices whose plan is as accurate as
it asks for. The levels of accuracy lie evenly between the smallest model and the best one, on the same test samples.

Seed 0 has all test samples once; every other seed resamples their groups. The plans are the same for every seed.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from peekserve.cascades.cascade import Answers, Cascade
from peekserve.domain.gears import GearPlan
from peekserve.experiments.cascadeserve.exhaustive import carried
from peekserve.experiments.cascadeserve.lab import CascadeLab, Zoo, problem
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, Value
from peekserve.planner.loads import Loads
from peekserve.planner.problem import Slo
from peekserve.planner.whatif import Line, Made, what_if

# The plane, written down before the first run.
P95_MS = (30, 50, 100, 200, 400, 800)
LEVELS = tuple(round(0.1 * n, 1) for n in range(11))
MOST, RANGES = 16, 6
# The highest load is what so many devices carry with the base model alone. It was 12 for a first small look, in which
# most cells took one to three devices, too few to tell a ratio by.
OF_BASE = 36
SMALL_P95_MS, SMALL_MOST, SMALL_RANGES = (50, 400), 6, 3
GEARS, SINGLES, ONE = "gears", "single models, switched", "one model"
_POOL = 71
# So many devices, or more: it was not reached.
_BEYOND = 0


def _jobs(lab: CascadeLab) -> Sequence[Job]:
    goals, most, ranges = (
        (SMALL_P95_MS, SMALL_MOST, SMALL_RANGES) if lab.share < 1.0 else (P95_MS, MOST, RANGES)
    )
    return [_column(lab.zoos[name], ms, most, ranges) for name in lab.names for ms in goals]


def _column(zoo: Zoo, ms: int, most: int, ranges: int) -> Job:
    @lru_cache(maxsize=1)
    def lines() -> list[Line]:
        base = problem(zoo, Slo(ms / 1e3), Loads.zipf(1.0, ranges), OF_BASE)
        highest = carried(base, zoo.sizes[-1])
        return what_if(problem(zoo, Slo(ms / 1e3), Loads.zipf(highest, ranges)), most)

    def job(seed: int) -> list[Row]:
        judge = _Judge(zoo, seed)
        least, best = judge.single(zoo.sizes[0]), max(judge.single(size) for size in zoo.sizes)
        got = {
            GEARS: [judge.accuracy(line.gears) for line in lines()],
            SINGLES: [judge.accuracy(line.singles) for line in lines()],
            ONE: [judge.accuracy(line.one) for line in lines()],
        }
        rows: list[Row] = []
        for level in LEVELS:
            asked = least + level * (best - least)
            for who, each in got.items():
                needed = next((n for n, a in enumerate(each, 1) if a >= asked - 1e-12), _BEYOND)
                rows.append(
                    {
                        "application": zoo.name,
                        "p95_ms": ms,
                        "level": level,
                        "seed": seed,
                        "who": who,
                        "devices": needed,
                        "accuracy": asked,
                        "most": most,
                        "highest": max(each),
                    }
                )
        return rows

    return job


class _Judge:
    """Test samples of one seed, and how often a plan is right on them."""

    def __init__(self, zoo: Zoo, seed: int) -> None:
        self._answers = Answers.recorded(zoo.test.scores, zoo.test.labels)
        groups = np.array(zoo.test_groups)
        self._drawn = np.arange(len(groups))
        if seed:
            names = np.unique(groups)
            picked = np.random.default_rng([_POOL, seed]).choice(names, len(names))
            self._drawn = np.concatenate([np.flatnonzero(groups == g) for g in picked])

    def single(self, model: str) -> float:
        return self._right(Cascade((model,)))

    def accuracy(self, made: Made) -> float:
        """Over the expected loads; 0 where there is no plan."""
        if not isinstance(made, GearPlan):
            return 0.0
        each = [self._right(Cascade(gear.stages, gear.thresholds)) for gear in made.gears]
        return float(np.dot([gear.weight for gear in made.gears], each))

    def _right(self, cascade: Cascade) -> float:
        return float((cascade.said(self._answers) == self._answers.labels)[self._drawn].mean())


# ---- what is read off the rows ----


def cells(
    table: Table, seed: int, application: Value | None = None
) -> dict[tuple[Value, ...], dict[str, int]]:
    """By zoo, p95 and level: who needs how many devices, 0 for more than there are."""
    found: dict[tuple[Value, ...], dict[str, int]] = {}
    for row in table.rows:
        if row["seed"] == seed and application in (None, row["application"]):
            cell = found.setdefault((row["application"], row["p95_ms"], row["level"]), {})
            cell[str(row["who"])] = int(row["devices"])
    return found


def ratios(
    found: Mapping[tuple[Value, ...], Mapping[str, int]], most: int, than: str = SINGLES
) -> list[float]:
    """Devices that `than` needs over those that gears need, in each cell that either reaches. Who does not reach it
    counts as one device more than there are, which is the least that it needs."""
    return [
        (cell[than] or most + 1) / (cell[GEARS] or most + 1)
        for cell in found.values()
        if cell[than] or cell[GEARS]
    ]


def _most(table: Table) -> int:
    return int(table.rows[0]["most"])


def _over_seeds(table: Table, of: str, application: Value | None = None, than: str = SINGLES) -> Floats:
    """float64 [1 + seeds]: of the ratios, by seed; seed 0 first, as what was measured."""
    each = []
    for seed in table.seeds:
        found = cells(table, seed, application)
        got = np.array(ratios(found, _most(table), than))
        each.append(
            {
                "median": float(np.median(got)) if len(got) else float("nan"),
                "twice": float(np.mean(got >= 2.0 - 1e-9)) if len(got) else float("nan"),
                "more": float(np.mean(got < 1.0 - 1e-9)) if len(got) else float("nan"),
                "nobody": 1.0 - len(got) / len(found),
            }[of]
        )
    return np.array([each[0], *each])


def _measure(table: Table) -> Mapping[str, Floats]:
    return {
        "devices-median": _over_seeds(table, "median"),
        "devices-twice": _over_seeds(table, "twice"),
        "devices-more": _over_seeds(table, "more"),
        "devices-one": _over_seeds(table, "median", than=ONE),
        "devices-nobody": _over_seeds(table, "nobody"),
    }


def _panels(table: Table) -> Sequence[Panel]:
    """For each zoo the devices over the level of accuracy, at the middle goal of latency."""
    found = []
    goals = [int(ms) for ms in table.values("p95_ms")]
    middle = goals[len(goals) // 2]
    for app in table.values("application"):
        own = cells(table, 0, app)
        series = []
        for who in (GEARS, SINGLES, ONE):
            got = [(level, own[app, middle, level][who]) for level in LEVELS]
            reached = [(level, many) for level, many in got if many]
            if reached:
                values = [np.full(2, float(many)) for _, many in reached]
                series.append(Series(who, [level for level, _ in reached], values))
        title = f"{app}: p95 of {middle} ms"
        found.append(Panel(title, "accuracy, from the smallest model to the best", "devices", series))
    return found


def _tables(table: Table) -> list[list[list[str]]]:
    lines = [["zoo", "median ratio", "cells at 2 times or more", "cells where gears need more", "reached by nobody",
              "median ratio to one model"]]  # fmt: skip
    for app in (*table.values("application"), None):
        lines.append(
            [
                "all" if app is None else str(app),
                *(
                    str(Interval.of(_over_seeds(table, of, app)))
                    for of in ("median", "twice", "more", "nobody")
                ),
                str(Interval.of(_over_seeds(table, "median", app, ONE))),
            ]
        )
    plane = [["zoo", "accuracy", *(f"p95 {ms} ms: gears / singles" for ms in table.values("p95_ms"))]]
    for app in table.values("application"):
        own = cells(table, 0, app)
        for level in LEVELS:
            asked = next(
                float(r["accuracy"])
                for r in table.rows
                if r["application"] == app and r["level"] == level and r["seed"] == 0
            )
            of = [own[app, ms, level] for ms in table.values("p95_ms")]
            plane.append(
                [str(app), f"{asked:.4f}", *(f"{_told(c[GEARS])} / {_told(c[SINGLES])}" for c in of)]
            )
    return [lines, plane]


def _told(devices: int) -> str:
    return str(devices) if devices else "-"


EXPERIMENTS = (
    Experiment(
        "cascadeserve-devices",
        "devices that gears and single models need over the plane of latency and accuracy",
        _jobs,
        _measure,
        _panels,
        seeds=50,
        small_seeds=3,
        tables=_tables,
    ),
)
