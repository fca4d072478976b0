"""Traces served by everybody, and what is told of them: the rows, tables and pictures of all experiments on loads."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from peekserve.domain.request import Request
from peekserve.experiments.spec import Job, Panel, Series
from peekserve.experiments.superserve.bound import bounds
from peekserve.experiments.superserve.entrants import SLACKFITS, SMALL_SEPARATE
from peekserve.experiments.superserve.grid import Cell
from peekserve.experiments.superserve.lab import SuperLab
from peekserve.experiments.superserve.versus import points_gained, times_attained
from peekserve.experiments.superserve.worlds import (
    DEADLINE_S,
    MAX_BATCH,
    WORKERS,
    Entrant,
    World,
    accuracy,
    curve_of,
    met_of,
    play,
    realised,
    requests,
    world_of,
)
from peekserve.experiments.table import Floats, Interval, Row, Table, Value, worst

# A cell is one that a policy carries when it meets this share of deadlines; the paper's.
CARRIED = 0.999
_TRACE = 63

Many = Callable[[World], Sequence[Entrant]]


def served(
    lab: SuperLab, name: str, cell: Cell, who: Many, seen: Callable[[World, int], World] = lambda w, _: w
) -> Job:
    """One trace of this cell for each seed, the same for everybody. `seen`: the world as those who plan believe it."""

    def job(seed: int) -> list[Row]:
        world = seen(world_of(lab, name), seed)
        rng = np.random.default_rng([_TRACE, seed])
        instants = cell.instants(world, lab.share, rng)
        smallest = bounds(instants, DEADLINE_S, curve_of(world.smallest).table(MAX_BATCH), WORKERS)
        trace = requests(world, instants, seed)
        return [
            met_of(
                world,
                play(world, one, trace),
                seed=seed,
                cell=cell.name,
                policy=one.name,
                at_least=smallest.at_least,
                at_most=smallest.at_most,
                span=world.span,
                highest=world.highest,
                could=_could(world, one, trace),
            )
            for one in who(world)
        ]

    return job


def _could(world: World, who: Entrant, trace: Sequence[Request]) -> float:
    """The share of a trace that this entrant's one model could answer at best, by its capacity; 1 with a choice."""
    if not who.only or not trace:
        return 1.0
    length_s = trace[-1].due_at - trace[0].arrived_at
    return min(world.capacity(world.alone[who.only]) * length_s / len(trace), 1.0)


def served_cells(lab: SuperLab, names: Sequence[str], cells: Sequence[Cell], who: Many) -> list[Job]:
    return [served(lab, name, cell, who) for name in names for cell in cells]


# ---- what is read off the rows ----


def places(table: Table) -> list[dict[str, Value]]:
    """Every supernet and cell that has rows, in order."""
    seen = {(row["application"], row["cell"]): None for row in table.rows}
    return [{"application": app, "cell": cell} for app, cell in seen]


def fixed_in(table: Table, place: dict[str, Value]) -> list[str]:
    """The fixed models that were served there, as the supernets have them: the separate one is not among them."""
    found = {str(row["policy"]): None for row in table.rows if _is_at(row, place)}
    return [name for name in found if name.startswith("fixed-")]


def carried(table: Table) -> list[dict[str, Value]]:
    """Where the smallest subnet can carry the load: where a plan that knows the arrivals meets the deadlines with it
    (bound.py), whatever any policy met."""
    return [p for p in places(table) if table.mean("at_least", **p)[0] >= CARRIED]


def least_attained(table: Table, who: str) -> Floats:
    """float64 [1 + draws]: the lowest attainment of a policy where the smallest subnet carries the load; nan where it
    carries none."""
    cells = carried(table)
    if not cells:
        return np.full_like(table.mean("attainment", policy=who), np.nan)
    return worst([table.mean("attainment", policy=who, **p) for p in cells])


def over_places(table: Table, of: Callable[[dict[str, Value]], Floats]) -> Floats:
    """float64 [1 + draws]: the mean over all supernets and cells."""
    return np.asarray(np.mean([of(p) for p in places(table)], axis=0))


def gained(table: Table, who: str, place: dict[str, Value]) -> Floats:
    return points_gained(table, who, fixed_in(table, place), **place)


def gained_share(table: Table, who: str, place: dict[str, Value]) -> Floats:
    """As `gained`, as a share of what lies between the supernet's least and most accurate subnet."""
    return np.asarray(gained(table, who, place) / table.mean("span", **place)[0])


def attained(table: Table, who: str, place: dict[str, Value], at_best: bool = False) -> Floats:
    return times_attained(table, who, fixed_in(table, place), at_best, **place)


# ---- tables and pictures ----


def tables(table: Table) -> list[list[list[str]]]:
    """Everybody in every cell, and SlackFit against the fixed models."""
    return [_everybody(table), _show(table)]


def _everybody(table: Table) -> list[list[str]]:
    names = [str(name) for name in table.values("policy")]
    head = [
        "supernet",
        "load",
        "the smallest could",
        *(f"{name}: in time / profiled / realised" for name in names),
    ]
    lines = [head]
    for place in places(table):
        served_here = {row["policy"] for row in table.rows if _is_at(row, place)}
        lines.append(
            [
                str(place["application"]),
                str(place["cell"]),
                _could_carry(table, place),
                *(_three(table, name, place) if name in served_here else "" for name in names),
            ]
        )
    return lines


def _could_carry(table: Table, place: dict[str, Value]) -> str:
    """What the smallest subnet could attain, at least and at most."""
    low, high = (table.mean(bound, **place)[0] for bound in ("at_least", "at_most"))
    return f"{low:.4f}" if high - low < 5e-5 else f"{low:.4f}..{high:.4f}"


def _three(table: Table, who: str, place: dict[str, Value]) -> str:
    met = table.mean("attainment", policy=who, **place)[0]
    right = accuracy(table, policy=who, **place)[0]
    right_of = realised(table, policy=who, **place)[0]
    return f"{met:.4f} / {right:.4f} / {right_of:.4f}"


def _show(table: Table) -> list[list[str]]:
    head = [
        "supernet",
        "load",
        "policy",
        "in time",
        "points at equal attainment",
        "share of the span",
        "times the attainment at equal accuracy",
        "times what fixed models could attain",
    ]
    if any(row["policy"] == SMALL_SEPARATE for row in table.rows):
        head.append("utility less the small separate model's")
    lines = [head]
    for place in places(table):
        if not fixed_in(table, place):
            continue
        for who in (one.name for one in SLACKFITS):
            line = [
                str(place["application"]),
                str(place["cell"]),
                who,
                f"{table.mean('attainment', policy=who, **place)[0]:.4f}",
                str(Interval.of(100 * gained(table, who, place))),
                f"{gained_share(table, who, place)[0]:.2f}",
                str(Interval.of(attained(table, who, place))),
                str(Interval.of(attained(table, who, place, at_best=True))),
            ]
            if len(head) > len(line):
                line.append(_less_separate(table, who, place))
            lines.append(line)
    return lines


def _less_separate(table: Table, who: str, place: dict[str, Value]) -> str:
    if not any(_is_at(row, place) and row["policy"] == SMALL_SEPARATE for row in table.rows):
        return ""
    apart = table.mean("utility", policy=who, **place) - table.mean("utility", policy=SMALL_SEPARATE, **place)
    return str(Interval.of(apart))


def panels(
    table: Table,
    who: Sequence[str],
    cells: Mapping[str, str],
    x: Sequence[float] = (),
    x_label: str = "",
) -> list[Panel]:
    """For each supernet what is missed, and how far accuracy is below the most accurate subnet's, over these cells
    (name -> label), at `x`; bars where there is no x."""
    found = []
    for app in table.values("application"):
        for of, label in ((_missed, "missed, %"), (_below, "points below the most accurate subnet, in time")):
            series = [
                Series(name, x or range(len(cells)), [of(table, name, app, cell) for cell in cells])
                for name in who
            ]
            found.append(Panel(str(app), x_label, label, series, () if x else tuple(cells.values())))
    return found


def _missed(table: Table, who: str, app: Value, cell: str) -> Floats:
    return np.asarray(100 * (1.0 - table.mean("attainment", policy=who, application=app, cell=cell)))


def _below(table: Table, who: str, app: Value, cell: str) -> Floats:
    where: dict[str, Value] = {"policy": who, "application": app, "cell": cell}
    return np.asarray(100 * (table.mean("highest", **where)[0] - accuracy(table, **where)))


def _is_at(row: Row, place: dict[str, Value]) -> bool:
    return all(row.get(key) == value for key, value in place.items())
