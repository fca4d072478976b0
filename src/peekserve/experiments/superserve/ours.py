"""`horizon` over a supernet, beside SlackFit: on every trace, with the same subnets and the same requests.

`horizon` stands twice: as it is shipped, and with `arrivals`, which counts on the rows that will come
(policies/arriving.py). Nobody has a peek here; without one there is no evidence to fuse an answer with, so that
no row is run a second time (a first trial without escalation gave the same rows). Beside the realised utility stands
the profiled one, which depends less on the test samples that chance drew. The paper's mode and its other policies stand
in the same cells of the other experiments, and not here, which would take half as long again.

Who spends time well by what validation says of the subnets may do so in vain where test samples say otherwise. So in
some cells both are served once more *told*: with what each subnet attains on the very samples that requests are drawn
from in place of its profile. What is left between them there is the policies' own.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.experiments.spec import Experiment, Job, Panel
from peekserve.experiments.superserve.entrants import ARRIVALS, DRAIN, HORIZON, SLACKFIT
from peekserve.experiments.superserve.grid import BURSTY, CV2, LARGEST, RAMPS, TRACES, Cell
from peekserve.experiments.superserve.lab import SuperLab
from peekserve.experiments.superserve.loads import wildest
from peekserve.experiments.superserve.serving import over_places, panels, places, served, served_cells
from peekserve.experiments.superserve.worlds import Entrant, knowing
from peekserve.experiments.table import Floats, Interval, Table, Value, worst

WHO = (SLACKFIT, DRAIN, HORIZON, ARRIVALS)
TOLD = tuple(Entrant(f"{who.name}, told", who.policy, who.options) for who in (SLACKFIT, ARRIVALS))
CELLS: tuple[Cell, ...] = (*BURSTY, *(ramp for ramp in RAMPS if ramp.tau > 0.5), *TRACES)
# Where all three rates over the largest are, of middling bursts.
TOLD_IN = tuple(cell for cell in BURSTY if cell.over == LARGEST and cell.cv2 == 4.0)


def _jobs(lab: SuperLab) -> Sequence[Job]:
    jobs = served_cells(lab, lab.classic(), CELLS, lambda world: WHO)
    return [
        *jobs,
        *(served(lab, name, cell, lambda world: TOLD, knowing) for name in lab.classic() for cell in TOLD_IN),
    ]


def ahead(table: Table, who: str, of: str, place: Mapping[str, Value], metric: str = "utility") -> Floats:
    """float64 [1 + draws]: in realised utility, or in profiled with metric `worth`, paired by seed."""
    return np.asarray(table.mean(metric, policy=who, **place) - table.mean(metric, policy=of, **place))


def _measure(table: Table) -> Mapping[str, Floats]:
    here = places(table)
    return {
        "versus-arrivals": worst([ahead(table, ARRIVALS.name, SLACKFIT.name, p) for p in here]),
        "versus-arrivals-profiled": worst(
            [ahead(table, ARRIVALS.name, SLACKFIT.name, p, "worth") for p in here]
        ),
        "versus-arrivals-drain": over_places(table, lambda p: ahead(table, ARRIVALS.name, DRAIN.name, p)),
        "versus-arrivals-gain": over_places(table, lambda p: ahead(table, ARRIVALS.name, HORIZON.name, p)),
        "versus-every-trace": worst([ahead(table, HORIZON.name, SLACKFIT.name, p) for p in places(table)]),
        "versus-mean": over_places(table, lambda p: ahead(table, HORIZON.name, SLACKFIT.name, p)),
        "versus-drain": over_places(table, lambda p: ahead(table, HORIZON.name, DRAIN.name, p)),
        "versus-profiled": worst(
            [ahead(table, HORIZON.name, SLACKFIT.name, p, "worth") for p in places(table)]
        ),
    }


def _panels(table: Table) -> Sequence[Panel]:
    return panels(table, [w.name for w in WHO], wildest(), x_label=f"CV^2 {max(CV2):g}")


def _tables(table: Table) -> list[list[list[str]]]:
    head = ["supernet", "load", *(f"{w.name}: utility (in time)" for w in WHO)]
    pairs = [(who, metric) for who in (HORIZON, ARRIVALS) for metric in ("utility", "worth")]
    said = {"utility": "less slackfit", "worth": "the same, profiled"}
    lines = [[*head, *(f"{who.name} {said[metric]}" for who, metric in pairs)]]
    for place in places(table):
        told = [
            f"{table.mean('utility', policy=w.name, **place)[0]:.4f} "
            f"({table.mean('attainment', policy=w.name, **place)[0]:.4f})"
            for w in WHO
        ]
        apart = [
            str(Interval.of(ahead(table, who.name, SLACKFIT.name, place, metric))) for who, metric in pairs
        ]
        lines.append([str(place["application"]), str(place["cell"]), *told, *apart])
    return [lines, _told(table)]


def _told(table: Table) -> list[list[str]]:
    slackfit, arrivals = (who.name for who in TOLD)
    lines = [
        ["supernet", "load", f"{slackfit}: utility", f"{arrivals}: utility", "apart", "apart, not being told"]
    ]
    names = {(row["application"], row["cell"]) for row in table.rows if row["policy"] == slackfit}
    for place in places(table):
        if (place["application"], place["cell"]) in names:
            lines.append(
                [
                    *map(str, place.values()),
                    *(f"{table.mean('utility', policy=w.name, **place)[0]:.4f}" for w in TOLD),
                    str(Interval.of(ahead(table, arrivals, slackfit, place))),
                    str(Interval.of(ahead(table, ARRIVALS.name, SLACKFIT.name, place))),
                ]
            )
    return lines


EXPERIMENTS = (
    Experiment(
        "superserve-horizon",
        "horizon and SlackFit over the same supernet, on every trace",
        _jobs,
        _measure,
        _panels,
        seeds=4,
        small_seeds=2,
        tables=_tables,
    ),
)
