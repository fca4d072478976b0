"""`horizon` over a supernet, beside SlackFit: on every trace, with the same subnets and the same requests.

`horizon` is as it is shipped. Neither has a peek here; without one there is no evidence to fuse an answer with, so that
no row is run a second time (a first trial without escalation gave the same rows). Beside the realised utility stands
the profiled one, which depends less on the test samples that chance drew.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.experiments.spec import Experiment, Job, Panel
from peekserve.experiments.superserve.entrants import DRAIN, HORIZON, INFAAS, PAPER, SLACKFIT
from peekserve.experiments.superserve.grid import BURSTY, CV2, RAMPS, TRACES, Cell
from peekserve.experiments.superserve.lab import SuperLab
from peekserve.experiments.superserve.loads import wildest
from peekserve.experiments.superserve.serving import over_places, panels, places, served_cells
from peekserve.experiments.table import Floats, Interval, Table, Value, worst

WHO = (PAPER, SLACKFIT, DRAIN, INFAAS, HORIZON)
CELLS: tuple[Cell, ...] = (*BURSTY, *(ramp for ramp in RAMPS if ramp.tau > 0.5), *TRACES)


def _jobs(lab: SuperLab) -> Sequence[Job]:
    return served_cells(lab, lab.classic(), CELLS, lambda world: WHO)


def ahead(table: Table, who: str, of: str, place: Mapping[str, Value], metric: str = "utility") -> Floats:
    """float64 [1 + draws]: in realised utility, or in profiled with metric `worth`, paired by seed."""
    return np.asarray(table.mean(metric, policy=who, **place) - table.mean(metric, policy=of, **place))


def _measure(table: Table) -> Mapping[str, Floats]:
    return {
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
    lines = [
        [
            "supernet",
            "load",
            *(f"{w.name}: utility (in time)" for w in WHO),
            "horizon less slackfit",
            "the same, profiled",
        ]
    ]
    for place in places(table):
        told = [
            f"{table.mean('utility', policy=w.name, **place)[0]:.4f} "
            f"({table.mean('attainment', policy=w.name, **place)[0]:.4f})"
            for w in WHO
        ]
        apart = [
            str(Interval.of(ahead(table, HORIZON.name, SLACKFIT.name, place, metric)))
            for metric in ("utility", "worth")
        ]
        lines.append([str(place["application"]), str(place["cell"]), *told, *apart])
    return [lines]


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
