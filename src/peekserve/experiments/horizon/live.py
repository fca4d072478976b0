"""`horizon` beside `sneakpeek`, live: the demo's applications and overload, over divisions of their groups.

What splits.py simulates happens here: real models behind a real server, with the load coming over loopback. Each seed
is the split of the same seed there (its people, writers and appliances divided by chance, half of them profiled, half
served), with arrivals of its own. The repository is the demo's; only its validation and test archives are
written anew for each split, and profiled anew. Everybody serves the same arrivals, each on a fresh server; whose turn
comes first changes from split to split, so that a slow minute of the machine falls on all alike.

It wants the machine for itself: `peekserve experiment horizon-live`, about ten minutes.

**What an interval covers.** As in splits.py: chance in dividing, in arrivals and in what the machine did, and not other
people than those in the data.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from peekserve.applications.prepare import prepare
from peekserve.cli.assembly import lay_out, open_store, read_profiled
from peekserve.domain.application import Application
from peekserve.errors import DataUnavailable
from peekserve.experiments.comparison import Contender, capacity
from peekserve.experiments.horizon.answered import NAMES, Answered, Bools
from peekserve.experiments.horizon.splits import (
    HORIZON,
    OVERLOAD,
    SNEAKPEEK,
    SPLITS,
    TRUSTED,
    drawn,
    shipped,
)
from peekserve.experiments.recalls import counted
from peekserve.experiments.served import served
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, Value
from peekserve.experiments.workload import Workload
from peekserve.loadgen.arrivals import mixed, poisson, shares_of
from peekserve.registry.labelled import Array, read_labelled
from peekserve.registry.settings import ServerSettings, read_settings
from peekserve.results import Row as Served

ENTRANTS = (SNEAKPEEK, TRUSTED, HORIZON)
FACTORS = (
    ("the whole", HORIZON, SNEAKPEEK),
    ("the beliefs alone", TRUSTED, SNEAKPEEK),
    ("the search, both calibrated", HORIZON, TRUSTED),
)
# Of a run, for each of the laboratory's windows: about the demo's.
SECONDS = 0.3
_PARTS = ("validation", "test")
_STREAM = 83


@dataclass(frozen=True, slots=True)
class Shop:
    """The demo's repository, prepared once; `folder` goes with it. `rate`: requests a second for everybody. `quick`:
    profiled with few repeats."""

    folder: TemporaryDirectory[str]
    root: Path
    settings: ServerSettings
    rate: float
    quick: bool


@lru_cache(maxsize=1)
def shop(quick: bool) -> Shop:
    """Prepared and profiled on the demo's own division, whose best variants say what an overload is. Raises
    DataUnavailable where a package with data is missing."""
    folder = TemporaryDirectory(prefix="peekserve-live-")
    root = Path(folder.name) / "repository"
    prepare(root, list(NAMES))
    settings, _ = read_settings(root, os.environ)
    applications = _profiled(root, settings, quick)
    _, answered = shipped()
    buckets = {
        name: (
            np.bincount(own.buckets[own.test], minlength=applications[name].buckets) / own.test.sum()
        ).tolist()
        for name, own in answered.items()
    }
    device = lay_out(settings).slots[0].device
    return Shop(
        folder,
        root,
        settings,
        OVERLOAD * capacity(applications, device, shares_of(sorted(NAMES)), buckets),
        quick,
    )


def divide(folder: Path, answered: Answered, profiled: Bools) -> None:
    """Write the validation and test archives of an application anew. `profiled`: bool [N], over the samples of both as
    they were recorded. Raises DataUnavailable where these archives are not those that were recorded."""
    pooled = folder / "pooled.npz"
    if not pooled.is_file():
        parts = [dict(np.load(folder / f"{part}.npz")) for part in _PARTS]
        _write(pooled, {key: np.concatenate([part[key] for part in parts]) for key in parts[0]})
    with np.load(pooled) as arrays:
        if not np.array_equal(arrays["labels"], answered.labels):
            raise DataUnavailable(
                f"the data of {answered.name} are not those of recorded/demo-{answered.name}.npz: record them again "
                "with python -m peekserve.experiments.horizon.record"
            )
        for part, rows in zip(_PARTS, (profiled, ~profiled), strict=True):
            _write(folder / f"{part}.npz", {key: arrays[key][rows] for key in arrays.files})


def _write(path: Path, arrays: Mapping[str, Array]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def workload(where: Shop, seconds: float, seed: int) -> Workload:
    """The split of this seed, written into the repository and profiled, and arrivals over its test data."""
    _, answered = shipped()
    for name, profiled in drawn(answered, seed).items():
        divide(where.root / name, answered[name], profiled)
    applications = _profiled(where.root, where.settings, where.quick)
    labelled = {
        name: read_labelled(where.root / name / "test.npz", app) for name, app in applications.items()
    }
    rng = np.random.default_rng([_STREAM, seed])
    many = {name: data.rows for name, data in labelled.items()}
    arrivals = mixed(poisson(where.rate, seconds, rng), shares_of(sorted(many)), many, rng)
    return Workload(applications, labelled, arrivals)


def _profiled(root: Path, settings: ServerSettings, quick: bool) -> Mapping[str, Application]:
    # In a process of its own: it prints, and binds itself to cores.
    command = [sys.executable, "-m", "peekserve.cli.main", "profile", str(root), "--json"] + [
        "--quick"
    ] * quick
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    device = lay_out(settings).slots[0].device
    with open_store(root, settings) as store:
        return {app.name: app for app in read_profiled(root, store, [device], lambda _: None)}


def rows_of(rows: Sequence[Served], who: Contender, seed: int) -> list[Row]:
    """A row for each application: the means of what its clients saw."""
    found: list[Row] = []
    for name in NAMES:
        own = [one for one in rows if one.application == name]
        found.append(
            {
                "policy": who.name,
                "application": name,
                "seed": seed,
                "requests": len(own),
                "utility": float(np.mean([one.utility for one in own])),
                "accuracy": float(np.mean([one.correct for one in own])),
                "in_time": float(np.mean([one.settled_at <= one.due_at for one in own])),
                "by_peek": float(np.mean([one.by_peek for one in own])),
                **counted(own),
            }
        )
    return found


def turns(seed: int) -> Sequence[Contender]:
    """Who serves when: each of them first in every third split."""
    first = seed % len(ENTRANTS)
    return (*ENTRANTS[first:], *ENTRANTS[:first])


def job(seconds: float, quick: bool = False) -> Job:
    def played(seed: int) -> list[Row]:
        where = shop(quick)
        offered = workload(where, seconds, seed)
        front = lay_out(where.settings).front
        return [
            row for who in turns(seed) for row in rows_of(served(where.root, who, offered, front), who, seed)
        ]

    return played


# ---- what is claimed ----


def _less(table: Table, one: Contender, other: Contender, **where: Value) -> Floats:
    return table.mean("utility", policy=one.name, **where) - table.mean("utility", policy=other.name, **where)


def _measure(table: Table) -> Mapping[str, Floats]:
    found = {"live-lead": _less(table, HORIZON, SNEAKPEEK)}
    for name in NAMES:
        found[f"live-{name}"] = _less(table, HORIZON, SNEAKPEEK, application=name)
    found["live-beliefs"] = _less(table, TRUSTED, SNEAKPEEK)
    found["live-search"] = _less(table, HORIZON, TRUSTED)
    return found


# ---- what is printed and drawn ----


def _tables(table: Table) -> list[list[list[str]]]:
    means = [["", *(who.name for who in ENTRANTS)]]
    for metric in ("utility", "accuracy", "in_time", "by_peek"):
        means.append(
            [metric.replace("_", " "), *(f"{table.mean(metric, policy=w.name)[0]:.3f}" for w in ENTRANTS)]
        )
    added = [["added utility", "all", *NAMES, "splits behind"]]
    for name, one, other in FACTORS:
        each = [str(Interval.of(_less(table, one, other, application=app))) for app in NAMES]
        ahead, behind = (table.each("utility", policy=who.name)[1:] for who in (one, other))
        lost = f"{int((ahead < behind).sum())} of {len(ahead)}"
        added.append([name, str(Interval.of(_less(table, one, other))), *each, lost])
    return [means, added]


def _panels(table: Table) -> Sequence[Panel]:
    everywhere: dict[str, dict[str, Value]] = {"all": {}, **{name: {"application": name} for name in NAMES}}
    bars = [
        Series(name, range(len(everywhere)), [_less(table, a, b, **where) for where in everywhere.values()])
        for name, a, b in FACTORS
    ]
    return [Panel("What is added, live", "", "realised utility", bars, list(everywhere))]


EXPERIMENTS = (
    Experiment(
        "horizon-live",
        "the demo's applications, divided anew into what is profiled and what is served, live",
        lambda lab: [job(SECONDS * lab.windows)],
        _measure,
        _panels,
        seeds=SPLITS,
        small_seeds=3,
        tables=_tables,
        times="this machine's own, live, through a server over loopback",
    ),
)
