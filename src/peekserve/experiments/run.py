"""The experiments by name: their rows, their claims, their pictures, all written to one folder."""

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from peekserve.errors import InvalidConfiguration
from peekserve.experiments.cascadeserve import ablations, cost, devices, exhaustive, traces, versus
from peekserve.experiments.cascadeserve import live as cascadeserve_live
from peekserve.experiments.cascadeserve.lab import CascadeLab, cascade_laboratory
from peekserve.experiments.claims import Finding, judge
from peekserve.experiments.horizon import (
    awareness,
    beliefs,
    escalation,
    events,
    gap,
    guard,
    realised,
    remains,
    shift,
    splits,
    trust,
    weights,
)
from peekserve.experiments.horizon import deciding as horizon_deciding
from peekserve.experiments.horizon import live as horizon_live
from peekserve.experiments.plot import draw
from peekserve.experiments.recalls import pooled
from peekserve.experiments.separation import pairs
from peekserve.experiments.sneakpeek import deciding, estimates, live, optima, schedules, sweeps, unlike
from peekserve.experiments.sneakpeek.device import PAPER, read_class
from peekserve.experiments.sneakpeek.lab import Lab
from peekserve.experiments.sneakpeek.recording import RECORDED, load
from peekserve.experiments.spec import Experiment
from peekserve.experiments.superserve import delay, fleets, front, loads, machine, norm, ours, tiny
from peekserve.experiments.superserve import live as superserve_live
from peekserve.experiments.superserve.lab import SuperLab, super_laboratory
from peekserve.experiments.table import Row, Table
from peekserve.experiments.trust import cycles, deadlines, kills, overload, pace, soak
from peekserve.experiments.trust.lab import TrustLab, trust_laboratory

# How many of how many jobs are done.
Progress = Callable[[int, int], None]

_FAMILIES = (
    *(estimates, schedules, sweeps, unlike, optima, deciding, live),
    *(gap, remains, guard, horizon_deciding, realised, events, awareness, beliefs, trust, shift, weights),
    *(escalation, splits, horizon_live),
)
_SUPERNETS = (front, norm, machine, delay, loads, fleets, tiny, ours, superserve_live)
_CASCADES = (cost, exhaustive, devices, traces, ablations, versus, cascadeserve_live)
_TRUST = (deadlines, overload, kills, cycles, soak, pace)
_ORDER = [f"sneakpeek-fig{n}" for n in range(3, 17)] + [
    "sneakpeek-optima",
    "sneakpeek-setting",
    "sneakpeek-live",
    "horizon-gap",
    "horizon-remains",
    "horizon-guard",
    "horizon-deciding",
    "horizon-realised",
    "horizon-events",
    "horizon-awareness",
    "horizon-beliefs",
    "horizon-trust",
    "horizon-shift",
    "horizon-weights",
    "horizon-escalation",
    "horizon-splits",
    "horizon-live",
    "superserve-front",
    "superserve-properties",
    "superserve-norm",
    "superserve-memory",
    "superserve-switching",
    "superserve-actuation-delay",
    "superserve-functions",
    "superserve-bursty",
    "superserve-ramps",
    "superserve-policies",
    "superserve-faults",
    "superserve-scaling",
    "superserve-oracle",
    "superserve-horizon",
    "superserve-live",
    "cascadeserve-cost",
    "cascadeserve-exhaustive",
    "cascadeserve-devices",
    "cascadeserve-traces",
    "cascadeserve-ablations",
    "cascadeserve-horizon",
    "cascadeserve-live",
    "trust-deadlines",
    "trust-overload",
    "trust-kills",
    "trust-cycles",
    "trust-soak",
    "trust-pace",
]
EXPERIMENTS: Mapping[str, Experiment] = {
    e.name: e
    for e in sorted(
        (e for family in (*_FAMILIES, *_SUPERNETS, *_CASCADES, *_TRUST) for e in family.EXPERIMENTS),
        key=lambda e: _ORDER.index(e.name),
    )
}
WINDOWS, SMALL_WINDOWS = 12, 3
Laboratory = Lab | SuperLab | CascadeLab | TrustLab


@dataclass(frozen=True, slots=True)
class Result:
    """What an experiment found. `files`: what was written."""

    experiment: Experiment
    table: Table
    findings: Sequence[Finding]
    summary: Mapping[str, object]
    files: Sequence[Path] = ()


def find(name: str) -> Experiment:
    """Raises InvalidConfiguration for an unknown name, with the nearest one."""
    if name not in EXPERIMENTS:
        near = get_close_matches(name, EXPERIMENTS, n=1, cutoff=0.0)[0]
        raise InvalidConfiguration(
            f"no experiment {name!r}; the nearest is {near!r} of {', '.join(EXPERIMENTS)}"
        )
    return EXPERIMENTS[name]


def laboratory(small: bool = False, timing: Path = PAPER, recordings: Path = RECORDED) -> Lab:
    """The recordings and a device class. Raises DataUnavailable where a recording is missing."""
    device = read_class(timing)
    recorded = {name: load(name, recordings) for name in device.applications}
    return Lab(device, recorded, SMALL_WINDOWS if small else WINDOWS)


def over_a_supernet(experiment: Experiment) -> bool:
    """Is it one of the SuperServe family, with a laboratory of its own?"""
    return any(experiment in family.EXPERIMENTS for family in _SUPERNETS)


def kind_of(experiment: Experiment) -> str:
    """Experiments of one kind share a laboratory: "profiles", "supernets", "cascades" or "trust"."""
    if any(experiment in family.EXPERIMENTS for family in _TRUST):
        return "trust"
    if over_a_supernet(experiment):
        return "supernets"
    return "cascades" if any(experiment in family.EXPERIMENTS for family in _CASCADES) else "profiles"


def laboratory_of(
    experiment: Experiment, small: bool = False, timing: Path = PAPER, recordings: Path = RECORDED
) -> Laboratory:
    """What the family of this experiment works with: only those over profiles look at `timing`, the others have times
    of their own. Raises DataUnavailable where a recording is missing."""
    kind = kind_of(experiment)
    if kind == "trust":
        return trust_laboratory(small)
    if kind == "supernets":
        return super_laboratory(small, recordings)
    if kind == "cascades":
        return cascade_laboratory(small, recordings)
    return laboratory(small, timing, recordings)


def run(
    experiment: Experiment,
    lab: Laboratory,
    seeds: int | None = None,
    small: bool = False,
    progress: Progress = lambda done, whole: None,
) -> Result:
    """All jobs of an experiment for every seed, and what its claims make of the rows. Same seeds, same rows; times to
    decide excepted, which are measured."""
    many = seeds or (experiment.small_seeds if small else experiment.seeds)
    jobs = experiment.jobs(lab)
    rows: list[Row] = []
    for number, job in enumerate(jobs):
        for seed in range(many):
            progress(number * many + seed, len(jobs) * many)
            rows.extend(job(seed))
    progress(len(jobs) * many, len(jobs) * many)
    table = Table(rows)
    findings = judge(experiment.name, experiment.measure(table))
    windows, device = 0, experiment.times
    if not device and not isinstance(lab, TrustLab):
        windows, device = lab.windows, lab.device.name
    summary: dict[str, object] = {
        "name": experiment.name,
        "what": experiment.what,
        "seeds": many,
        "windows": windows,
        "device": device,
        "claims": [{k: _finite(v) for k, v in f.as_json().items()} for f in findings],
    }
    summary["separation"] = [pair.as_json() for pair in pairs(experiment.panels(table))]
    if recalls := pooled(rows):
        summary["recalls"] = recalls
    if experiment.tables is not None:
        summary["tables"] = experiment.tables(table)
    return Result(experiment, table, findings, summary)


def write(result: Result, out: Path, png: bool = True) -> Result:
    """rows.csv, summary.json and the picture, as svg and png, into `out`. Without matplotlib there is no picture."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "rows.csv", out / "summary.json"]
    columns = dict.fromkeys(column for row in result.table.rows for column in row)
    with files[0].open("w", newline="") as stream:
        sheet = csv.DictWriter(stream, list(columns), lineterminator="\n")
        sheet.writeheader()
        sheet.writerows({k: _short(v) for k, v in row.items()} for row in result.table.rows)
    files[1].write_text(json.dumps(result.summary, indent=1) + "\n")
    pictures = [out / "figure.svg"] + [out / "figure.png"] * png
    if draw(result.experiment.panels(result.table), result.experiment.what, pictures):
        files += pictures
    return Result(result.experiment, result.table, result.findings, result.summary, files)


def _short(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def _finite(value: object) -> object:
    # JSON has no NaN: what could not be measured is null.
    return None if isinstance(value, float) and not math.isfinite(value) else value
