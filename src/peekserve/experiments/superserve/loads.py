"""Four experiments on loads: the Functions-like trace, the bursty grid, the ramps, and the policies by CV^2."""

from collections.abc import Mapping, Sequence

from peekserve.experiments.spec import Experiment, Job, Panel
from peekserve.experiments.superserve.entrants import (
    DRAIN,
    INFAAS,
    MAXACC,
    MAXBATCH,
    PAPER,
    POLICIES,
    SLACKFIT,
    everyone,
)
from peekserve.experiments.superserve.grid import BURSTY, CV2, LARGEST, RAMPS, TRACES
from peekserve.experiments.superserve.grid import POLICIES as BY_CV2
from peekserve.experiments.superserve.lab import SuperLab
from peekserve.experiments.superserve.serving import (
    attained,
    gained,
    gained_share,
    least_attained,
    over_places,
    panels,
    places,
    served_cells,
    tables,
)
from peekserve.experiments.table import Floats, Table, average, best

_NAMES = tuple(who.name for who in POLICIES)
_SHOWN = (PAPER.name, SLACKFIT.name, DRAIN.name, MAXBATCH.name, INFAAS.name)
_RAMPED = (PAPER, SLACKFIT, DRAIN, MAXBATCH, INFAAS)
_STEEPEST = 2.5


# ---- the Functions-like trace ----


def _functions(lab: SuperLab) -> Sequence[Job]:
    return served_cells(lab, lab.traced(), TRACES, everyone)


def _functions_measure(table: Table) -> Mapping[str, Floats]:
    who = SLACKFIT.name
    return {
        "functions-accuracy": over_places(table, lambda p: 100 * gained(table, who, p)),
        "functions-accuracy-share": over_places(table, lambda p: gained_share(table, who, p)),
        "functions-accuracy-paper-mode": over_places(table, lambda p: 100 * gained(table, PAPER.name, p)),
        "functions-attainment": over_places(table, lambda p: attained(table, who, p)),
        "functions-attainment-at-best": over_places(table, lambda p: attained(table, who, p, at_best=True)),
        "functions-in-time": least_attained(table, DRAIN.name),
    }


def _functions_panels(table: Table) -> Sequence[Panel]:
    return panels(table, (*_SHOWN, "fixed-3"), {c.name: c.name for c in TRACES})


# ---- the bursty grid ----


def _bursty(lab: SuperLab) -> Sequence[Job]:
    return served_cells(lab, lab.classic(), BURSTY, everyone)


def _bursty_measure(table: Table) -> Mapping[str, Floats]:
    who = SLACKFIT.name
    return {
        "bursty-accuracy": over_places(table, lambda p: 100 * gained(table, who, p)),
        "bursty-accuracy-most": best([100 * gained(table, who, p) for p in places(table)]),
        "bursty-accuracy-share": over_places(table, lambda p: gained_share(table, who, p)),
        "bursty-attainment": over_places(table, lambda p: attained(table, who, p)),
        "bursty-attainment-at-best": over_places(table, lambda p: attained(table, who, p, at_best=True)),
        "bursty-in-time": least_attained(table, who),
        "bursty-in-time-drain": least_attained(table, DRAIN.name),
        "bursty-in-time-paper-mode": least_attained(table, PAPER.name),
        "bursty-repairs": over_places(
            table,
            lambda p: table.mean("utility", policy=who, **p) - table.mean("utility", policy=PAPER.name, **p),
        ),
    }


def _bursty_panels(table: Table) -> Sequence[Panel]:
    return panels(table, (*_SHOWN, "fixed-3"), wildest(), x_label=f"CV^2 {max(CV2):g}")


def wildest() -> dict[str, str]:
    """Of the bursty grid the cells with the highest CV^2: name -> label."""
    return {c.name: f"{c.base + c.varying:.3g} {c.over}" for c in BURSTY if c.cv2 == max(CV2)}


# ---- the ramps ----


def _ramps(lab: SuperLab) -> Sequence[Job]:
    return served_cells(lab, lab.classic(), RAMPS, lambda world: _RAMPED)


def _ramps_measure(table: Table) -> Mapping[str, Floats]:
    return {
        "ramps-in-time": least_attained(table, SLACKFIT.name),
        "ramps-in-time-drain": least_attained(table, DRAIN.name),
        "ramps-in-time-paper-mode": least_attained(table, PAPER.name),
        "ramps-accuracy": over_places(
            table,
            lambda p: (
                table.mean("utility", policy=SLACKFIT.name, **p)
                - table.mean("utility", policy=INFAAS.name, **p)
            ),
        ),
    }


def _ramps_panels(table: Table) -> Sequence[Panel]:
    steep = [ramp for ramp in RAMPS if ramp.over == LARGEST and ramp.tau == _STEEPEST]
    ends = [ramp.end for ramp in steep]
    x = f"load at the ramp's end, in capacities of the largest subnet ({_STEEPEST:g} more each second)"
    return panels(table, [w.name for w in _RAMPED], {r.name: r.name for r in steep}, ends, x)


# ---- the policies by CV^2 ----


def _policies(lab: SuperLab) -> Sequence[Job]:
    return served_cells(lab, lab.classic(), BY_CV2, lambda world: POLICIES)


def _policies_measure(table: Table) -> Mapping[str, Floats]:
    def ahead(of: str, cells: Sequence[str]) -> Floats:
        """In attainment, the mean over the supernets and these cells."""
        here = [p for p in places(table) if p["cell"] in cells]
        own = [table.mean("attainment", policy=SLACKFIT.name, **p) for p in here]
        others = [table.mean("attainment", policy=of, **p) for p in here]
        return average(own) - average(others)

    every = [c.name for c in BY_CV2]
    wildest = [c.name for c in BY_CV2 if c.cv2 == max(CV2)]
    return {
        "policies-slackfit": least_attained(table, SLACKFIT.name),
        "policies-slackfit-drain": least_attained(table, DRAIN.name),
        "policies-maxbatch": ahead(MAXBATCH.name, wildest),
        "policies-maxacc": ahead(MAXACC.name, every),
    }


def _policies_panels(table: Table) -> Sequence[Panel]:
    cells = {c.name: c.name for c in BY_CV2 if c.over == LARGEST}
    return panels(table, _NAMES, cells, CV2, "CV^2 of the varying part of the load")


EXPERIMENTS = (
    Experiment(
        "superserve-functions",
        "a Functions-like trace end to end",
        _functions,
        _functions_measure,
        _functions_panels,
        seeds=8,
        small_seeds=2,
        tables=tables,
    ),
    Experiment(
        "superserve-bursty",
        "bursts over a base, by rate and CV^2",
        _bursty,
        _bursty_measure,
        _bursty_panels,
        seeds=6,
        small_seeds=2,
        tables=tables,
    ),
    Experiment(
        "superserve-ramps",
        "rates that rise, by end and slope",
        _ramps,
        _ramps_measure,
        _ramps_panels,
        seeds=4,
        small_seeds=2,
        tables=tables,
    ),
    Experiment(
        "superserve-policies",
        "the policies over one supernet, by CV^2",
        _policies,
        _policies_measure,
        _policies_panels,
        seeds=8,
        small_seeds=2,
        tables=tables,
    ),
)
