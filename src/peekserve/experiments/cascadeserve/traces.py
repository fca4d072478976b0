"""Gear plans on bursty and day-shaped traces, beside one gear for all loads, single models and dynamic batching.

The grid of traces stands in days.py, what the plans are made for in planned.py. Everybody is served with the guard (a
row is forwarded only if that can be in time) and without. `gears, short` measures the rate over half the time and looks
the plan up at 0.8 of it: plans leave room for their goal without the guard, and with it that room can be used. Both
numbers were chosen with validation samples on traces of other seeds (1000 and up); the shipped ones are the paper's.
`static in hindsight` is, for each trace, the best of all gears of the plan served alone, which nobody could know.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.experiments.cascadeserve.days import CELLS
from peekserve.experiments.cascadeserve.lab import CascadeLab, Zoo
from peekserve.experiments.cascadeserve.planned import Plans, model_number
from peekserve.experiments.cascadeserve.serving import (
    CARRIED,
    HINDSIGHT,
    Entrant,
    accuracy,
    ahead,
    attainment,
    more_accurate,
    places,
    served,
    static,
)
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Table, Value, average, worst

GEARS, SHORT_GEARS, SWITCHING, DYNBA = "gears", "gears, short", "model-switching", "dynba"
BARE = ", no guard"
SHORT = (("period_s", 0.05), ("margin", 0.8))
SHOWN = (GEARS, SHORT_GEARS, HINDSIGHT, SWITCHING, DYNBA)
# Of a paper's goal, a 95th percentile: as many are to be in time.
P95 = 0.95


def who(zoo: Zoo, plans: Plans) -> list[Entrant]:
    """Everybody with the guard, and everybody without."""
    own = (("model", float(model_number(zoo, plans.one_model.gears[0].stages[0]))),)
    guarded = [
        Entrant(GEARS, "gears", plans.gears),
        Entrant(SHORT_GEARS, "gears", plans.gears, SHORT),
        *(static(plans, number) for number in plans.statics),
        Entrant(SWITCHING, "model-switching", plans.singles),
        Entrant(DYNBA, "dynba", None, own),
    ]
    return [*guarded, *(one.unguarded() for one in guarded)]


def _jobs(lab: CascadeLab) -> Sequence[Job]:
    return served(lab, lab.names, CELLS, who)


def carried(table: Table) -> list[dict[str, Value]]:
    """Where the best gear in hindsight, with the guard, carries the traces."""
    return [p for p in places(table) if attainment(table, HINDSIGHT, **p)[0] >= CARRIED]


def _least(table: Table, name: str) -> Floats:
    """float64 [1 + draws]: the lowest attainment where a gear in hindsight carries the traces; nan where none does."""
    cells = carried(table)
    if not cells:
        return np.full_like(table.mean("attainment", policy=name), np.nan)
    return worst([attainment(table, name, **p) for p in cells])


def _gained(table: Table, name: str, of: str, cells: Sequence[str]) -> Floats:
    """float64 [1 + draws]: points of accuracy of one less another's, mean over zoos and these cells."""
    here = [p for p in places(table) if p["cell"] in cells]
    return average([more_accurate(table, name, of, p) for p in here])


def _measure(table: Table) -> Mapping[str, Floats]:
    every = [cell.name for cell in CELLS]
    days = [cell.name for cell in CELLS if cell.changes]
    here = places(table)

    def mean(name: str, of: str) -> Floats:
        return average([ahead(table, name, of, p) for p in here])

    return {
        "traces-in-time": _least(table, GEARS),
        "traces-in-time-short": _least(table, SHORT_GEARS),
        "traces-p95-no-guard": _least(table, GEARS + BARE),
        "traces-day-static": _gained(table, GEARS, HINDSIGHT, days),
        "traces-day-static-short": _gained(table, SHORT_GEARS, HINDSIGHT, days),
        "traces-static": _gained(table, GEARS, HINDSIGHT, every),
        "traces-static-utility": mean(GEARS, HINDSIGHT),
        "traces-guard-utility": mean(GEARS, GEARS + BARE),
        "traces-guard-accuracy": _gained(table, GEARS, GEARS + BARE, every),
        "traces-switching": _gained(table, GEARS, SWITCHING, days),
        "traces-dynba": _gained(table, GEARS, DYNBA, days),
    }


# ---- what is printed and drawn ----


def _tables(table: Table) -> list[list[list[str]]]:
    return [_everybody(table), _against(table), _gears(table)]


def _everybody(table: Table) -> list[list[str]]:
    names = [*SHOWN, *(name + BARE for name in SHOWN)]
    lines = [["zoo", "trace", *(f"{name}: in time / accuracy" for name in names)]]
    for place in places(table):
        told = [
            f"{attainment(table, name, **place)[0]:.4f} / {accuracy(table, name, **place)[0]:.4f}"
            for name in names
        ]
        lines.append([str(place["application"]), str(place["cell"]), *told])
    return lines


def _against(table: Table) -> list[list[str]]:
    """Accuracy against the static gear, and against the same without the guard; utility likewise."""
    rivals = {
        "points over the static gear": (GEARS, HINDSIGHT),
        "the same, short": (SHORT_GEARS, HINDSIGHT),
        "points over no guard": (GEARS, GEARS + BARE),
    }
    worth = {"utility over the static gear": rivals["points over the static gear"]} | {
        "utility over no guard": rivals["points over no guard"]
    }
    lines = [["zoo", "trace", *rivals, *worth]]
    for place in places(table):
        points = [str(Interval.of(more_accurate(table, a, b, place))) for a, b in rivals.values()]
        utility = [f"{ahead(table, a, b, place)[0]:+.4f}" for a, b in worth.values()]
        lines.append([str(place["application"]), str(place["cell"]), *points, *utility])
    return lines


def _gears(table: Table) -> list[list[str]]:
    """What was forwarded, how often the gear changed, and which gears were best in hindsight."""
    lines = [["zoo", "trace", "forwarded", "no guard", "hindsight", "changes of gear", "short", "best gears"]]
    for place in places(table):
        shares = [
            f"{table.mean('forwarded', policy=name, **place)[0]:.3f}"
            for name in (GEARS, GEARS + BARE, HINDSIGHT)
        ]
        changes = [f"{table.mean('changes', policy=name, **place)[0]:.0f}" for name in (GEARS, SHORT_GEARS)]
        own = [one for one in table.rows if all(one[key] == value for key, value in place.items())]
        best = sorted({str(one["which"]) for one in own if one["policy"] == HINDSIGHT})
        lines.append([str(place["application"]), str(place["cell"]), *shares, *changes, ", ".join(best)])
    return lines


def _panels(table: Table) -> Sequence[Panel]:
    """For each zoo what each misses, and what it is more accurate by than the static gear."""
    found = []
    cells = [str(cell) for cell in table.values("cell")]
    for app in table.values("application"):
        where = [{"application": app, "cell": cell} for cell in cells]
        others = [name for name in SHOWN if name != HINDSIGHT]
        found.append(
            Panel(
                f"{app}: accuracy less the static gear's",
                "",
                "points",
                [
                    Series(
                        name,
                        range(len(cells)),
                        [more_accurate(table, name, HINDSIGHT, place) for place in where],
                    )
                    for name in others
                ],
                cells,
            )
        )
    return found


EXPERIMENTS = (
    Experiment(
        "cascadeserve-traces",
        "gears over bursty and day-shaped traces, with the guard and without",
        _jobs,
        _measure,
        _panels,
        seeds=4,
        small_seeds=2,
        tables=_tables,
    ),
)
