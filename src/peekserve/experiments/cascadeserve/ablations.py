"""What each part of a gear plan adds over a day: switching, cascades, the guard; and the plan as the paper prints it.

One part is taken away at a time, and the planner makes the best plan without it, for the same devices, loads and goal.
As printed: planned for Poisson arrivals with the whole deadline as its goal, no guard. Beside them stands the best gear
of the whole plan in hindsight, with the guard: of what is lost without switching, that much could be had back by luck.
`short` is the whole with the short rate window of traces.py.
"""

from collections.abc import Mapping, Sequence

from peekserve.experiments.cascadeserve.days import LONG_DAY
from peekserve.experiments.cascadeserve.lab import CascadeLab, Zoo
from peekserve.experiments.cascadeserve.planned import Plans
from peekserve.experiments.cascadeserve.serving import (
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
from peekserve.experiments.cascadeserve.traces import SHORT
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Table, average

CELLS = (LONG_DAY,)
WHOLE, NO_SWITCHING, NO_CASCADE, NEITHER = "gears", "no switching", "no cascade", "neither"
NO_GUARD, PRINTED = "no guard", "as printed"
LESS = (NO_SWITCHING, NO_CASCADE, NEITHER, NO_GUARD, PRINTED, HINDSIGHT)
SHORT_WINDOW = "short"
_SHOWN = (WHOLE, SHORT_WINDOW, *LESS)
_UNGUARDED = (("guard", 0.0),)


def who(zoo: Zoo, plans: Plans) -> list[Entrant]:
    """The whole, and what is left of it without each part."""
    return [
        Entrant(WHOLE, "gears", plans.gears),
        Entrant(NO_SWITCHING, "gears", plans.one_cascade),
        Entrant(NO_CASCADE, "model-switching", plans.singles),
        Entrant(NEITHER, "model-switching", plans.one_model),
        Entrant(NO_GUARD, "gears", plans.gears, _UNGUARDED),
        Entrant(PRINTED, "gears", plans.printed, _UNGUARDED),
        Entrant(SHORT_WINDOW, "gears", plans.gears, SHORT),
        *(static(plans, number) for number in plans.statics),
    ]


def _jobs(lab: CascadeLab) -> Sequence[Job]:
    return served(lab, lab.names, CELLS, who)


def _measure(table: Table) -> Mapping[str, Floats]:
    here = places(table)
    points = {name: average([more_accurate(table, WHOLE, name, p) for p in here]) for name in LESS}
    utility = {name: average([ahead(table, WHOLE, name, p) for p in here]) for name in LESS}
    return {
        "ablations-switching": points[NO_SWITCHING],
        "ablations-cascade": points[NO_CASCADE],
        "ablations-neither": points[NEITHER],
        "ablations-hindsight": points[HINDSIGHT],
        "ablations-hindsight-short": average(
            [more_accurate(table, SHORT_WINDOW, HINDSIGHT, p) for p in here]
        ),
        "ablations-guard": utility[NO_GUARD],
        "ablations-printed": utility[PRINTED],
    }


def _tables(table: Table) -> list[list[list[str]]]:
    lines = [["zoo", "trace", *(f"{n}: in time / accuracy" for n in _SHOWN)]]
    apart = [["zoo", "trace", *(f"utility over {n}" for n in LESS)]]
    for place in places(table):
        here = [str(place["application"]), str(place["cell"])]
        lines.append(
            here
            + [
                f"{attainment(table, n, **place)[0]:.4f} / {accuracy(table, n, **place)[0]:.4f}"
                for n in _SHOWN
            ]
        )
        apart.append(here + [str(Interval.of(ahead(table, WHOLE, n, place))) for n in LESS])
    return [lines, apart]


def _panels(table: Table) -> Sequence[Panel]:
    here = places(table)
    names = [f"{p['application']}, {p['cell']}" for p in here]
    bars = [Series(n, range(len(here)), [ahead(table, WHOLE, n, p) for p in here]) for n in LESS]
    return [Panel("What each part adds over a day", "", "utility lost without it", bars, names)]


EXPERIMENTS = (
    Experiment(
        "cascadeserve-ablations",
        "a day without switching, without cascades, without the guard",
        _jobs,
        _measure,
        _panels,
        seeds=4,
        small_seeds=2,
        tables=_tables,
    ),
)
