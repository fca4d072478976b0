"""`horizon` beside `sneakpeek` on the demo's applications, over many divisions into what is profiled and what is not.

The demo has one division: profiles from its validation data, requests from its test data. In watch these are two people
and three others, in digits three writers and three others. Whoever is ahead there may owe it to who happened to be on
which side. So here the groups of both (people, writers, runs of an appliance's measurements) are put together and
divided anew by chance, half of them to be profiled and half to be served; a seed is one such *split*, with arrivals of
its own. Beside the splits every seed serves the demo's own division, and the reverse of it, on new arrivals.

Everybody has the same profile, and no sample of a served group is in it. Two of the four that are served differ from
`sneakpeek` by one thing each, the search or the beliefs.

The load is the demo's: Poisson over the three applications alike, on one worker with room for one of the dear models,
planned at every event, in shares of what the most accurate variants alone could carry (as in the demo, by the profile
of its own division). Times are drawn around the medians with the spread of their 95th percentiles.

**What an interval covers.** Splits are drawn from the same 5 people, 6 writers and 93 runs of measurements: intervals
over splits say what chance in dividing and arriving does, and not what other people would have shown. Those of the
demo's own division and of its reverse cover arrivals alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application
from peekserve.domain.request import Request, TensorRef
from peekserve.experiments.comparison import SHORT, Contender, capacity
from peekserve.experiments.horizon.answered import (
    DEVICE,
    NAMES,
    Answered,
    Bools,
    Box,
    Ints,
    load,
    load_box,
)
from peekserve.experiments.sneakpeek.lab import Lab, rows_of
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, Value
from peekserve.experiments.workload import LOADED_BY_S
from peekserve.loadgen.arrivals import mixed, poisson, shares_of
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.window import got_of
from peekserve.sim.world import Recorded, RecordedWorld

SNEAKPEEK = Contender("sneakpeek", "sneakpeek", SHORT)
TRUSTED = Contender("sneakpeek, calibrated", "sneakpeek", SHORT, beliefs="calibrated")
SEARCH = Contender("horizon, dirichlet", "horizon", SHORT, beliefs="dirichlet")
HORIZON = Contender("horizon", "horizon", SHORT)
ENTRANTS = (SNEAKPEEK, TRUSTED, SEARCH, HORIZON)
# What is added, with it and without it.
FACTORS = (
    ("the whole", HORIZON, SNEAKPEEK),
    ("the beliefs alone", TRUSTED, SNEAKPEEK),
    ("the search alone", SEARCH, SNEAKPEEK),
    ("the search, both calibrated", HORIZON, TRUSTED),
    ("the beliefs, under the search", HORIZON, SEARCH),
)
SPLIT, DEMO, REVERSE = "split", "the demo's", "the reverse"
# In shares of what the best variants alone can carry; the last is the demo's.
LOADS = (0.5, 1.0, 1.5)
OVERLOAD = LOADS[-1]
SPLITS = 24
# Of a stream, for each of the laboratory's windows.
SECONDS = 0.5
# As in cli.assembly: a worker gets its next batch this long before the running one should end.
LEAD_S = 0.003
_SPLIT, _STREAM = 81, 82


@dataclass(frozen=True, slots=True)
class Division:
    """Of each application: the profiled application and what is known of the samples that are served."""

    applications: Mapping[str, Application]
    served: Mapping[str, Recorded]


@lru_cache(maxsize=1)
def shipped() -> tuple[Box, Mapping[str, Answered]]:
    """Raises DataUnavailable."""
    return load_box(), {name: load(name) for name in NAMES}


def halves(labels: Ints, groups: Ints, rng: np.random.Generator) -> Bools:
    """bool [n]: which rows are profiled. Whole groups, half of them; of an odd number chance says who gets more.

    Where each group has one class alone, half of those of each class, so that no class with two groups is missing on a
    side. Such groups are runs of a class's measurements in the order of their numbers, and neighbouring ones may be of
    one appliance: so the half of a class is one run, too, on a circle and from a random start.
    """
    names, own = np.unique(groups, return_inverse=True)
    own = own.reshape(-1)
    pure = all(len(np.unique(labels[own == g])) == 1 for g in range(len(names)))
    kind = np.array([labels[own == g][0] if pure else -1 for g in range(len(names))])
    profiled = np.zeros(len(names), np.bool_)
    for one in np.unique(kind):
        alike = np.flatnonzero(kind == one)
        order = np.roll(alike, -int(rng.integers(len(alike)))) if pure else rng.permutation(alike)
        profiled[order[: (len(alike) + int(rng.integers(2))) // 2]] = True
    return np.asarray(profiled[own])


def divided(box: Box, answered: Mapping[str, Answered], profiled: Mapping[str, Bools]) -> Division:
    applications, served = {}, {}
    for name, own in answered.items():
        cost, some = box.applications[name], profiled[name]
        applications[name] = own.profiled(cost, np.flatnonzero(some))
        served[name] = own.served(cost, np.flatnonzero(~some))
    return Division(applications, served)


def a_division(box: Box, answered: Mapping[str, Answered], which: str, seed: int) -> Division:
    """`which`: SPLIT, DEMO or REVERSE; chance is in the first alone."""
    if which == SPLIT:
        return divided(box, answered, drawn(answered, seed))
    return divided(
        box, answered, {name: own.test if which == REVERSE else ~own.test for name, own in answered.items()}
    )


def drawn(answered: Mapping[str, Answered], seed: int) -> dict[str, Bools]:
    """bool [N] for each application: which samples are profiled in the split of this seed."""
    rng = np.random.default_rng([_SPLIT, seed])
    return {name: halves(own.labels, own.groups, rng) for name, own in answered.items()}


@lru_cache(maxsize=2)
def _fixed(which: str) -> Division:
    return a_division(*shipped(), which, 0)


def carried(division: Division) -> float:
    """Requests a second that the most accurate variants alone could carry."""
    buckets = {
        name: (
            np.bincount(own.buckets, minlength=division.applications[name].buckets) / len(own.labels)
        ).tolist()
        for name, own in division.served.items()
        if own.buckets is not None
    }
    return capacity(division.applications, DEVICE, shares_of(sorted(division.applications)), buckets)


def play(box: Box, division: Division, rate: float, seconds: float, seed: int, **where: Value) -> list[Row]:
    """Everybody on the same arrivals: a row for each and each application."""
    rng = np.random.default_rng([_STREAM, seed])
    many = {name: len(own.labels) for name, own in division.served.items()}
    arrivals = mixed(poisson(rate, seconds, rng), shares_of(sorted(many)), many, rng)
    trace = []
    for i, one in enumerate(arrivals):
        buckets, at = division.served[one.application].buckets, LOADED_BY_S + one.at
        due_at = at + box.applications[one.application].deadline_s
        payload, bucket = TensorRef(str(one.sample)), int(buckets[one.sample]) if buckets is not None else 0
        trace.append(Request(f"r{i}", one.application, at, due_at, payload=payload, bucket=bucket))
    base = SchedulerSpec(lead_s=LEAD_S, margin_s=box.margin_s)
    world = RecordedWorld(division.applications, division.served, jitter=True)
    workers = [SimWorker("cpu-0", DEVICE, box.budget_bytes)]
    rows: list[Row] = []
    for who in ENTRANTS:
        scheduler = who.spec(base).build(division.applications.values())
        got = [
            got_of(s, division.applications[s.request.application], division.served[s.request.application])
            for s in Simulation(scheduler, workers, world, seed).run(trace)
        ]
        rows += rows_of(got, who.name, seed, **where)
    return rows


def _jobs(lab: Lab) -> Sequence[Job]:
    seconds = SECONDS * lab.windows

    def split(seed: int) -> list[Row]:
        box, answered = shipped()
        division, most = a_division(box, answered, SPLIT, seed), carried(_fixed(DEMO))
        return [
            row
            for share in LOADS
            for row in play(box, division, share * most, seconds, seed, part=SPLIT, load=share)
        ]

    def fixed(which: str) -> Job:
        def job(seed: int) -> list[Row]:
            rate = OVERLOAD * carried(_fixed(DEMO))
            return play(shipped()[0], _fixed(which), rate, seconds, seed, part=which, load=OVERLOAD)

        return job

    return [split, fixed(DEMO), fixed(REVERSE)]


# ---- what is claimed ----


def _less(table: Table, one: Contender, other: Contender, **where: Value) -> Floats:
    """What `one` realises less `other`, on the same arrivals."""
    return table.mean("utility", policy=one.name, **where) - table.mean("utility", policy=other.name, **where)


def _measure(table: Table) -> Mapping[str, Floats]:
    found = {f"splits-{share:g}": _less(table, HORIZON, SNEAKPEEK, part=SPLIT, load=share) for share in LOADS}
    at: dict[str, Value] = {"part": SPLIT, "load": OVERLOAD}
    for name in NAMES:
        found[f"splits-{name}"] = _less(table, HORIZON, SNEAKPEEK, application=name, **at)
    found["splits-beliefs"] = _less(table, TRUSTED, SNEAKPEEK, **at)
    found["splits-search"] = _less(table, SEARCH, SNEAKPEEK, **at)
    found["splits-search-calibrated"] = _less(table, HORIZON, TRUSTED, **at)
    found["splits-demo"] = _less(table, HORIZON, SNEAKPEEK, part=DEMO)
    found["splits-reverse"] = _less(table, HORIZON, SNEAKPEEK, part=REVERSE)
    return found


# ---- what is printed and drawn ----

_SPLITS: dict[str, dict[str, Value]] = {
    f"splits, load {share:g}": {"part": SPLIT, "load": share} for share in LOADS
}
_FIXED: dict[str, dict[str, Value]] = {
    f"{which} division, load {OVERLOAD:g}": {"part": which, "load": OVERLOAD} for which in (DEMO, REVERSE)
}
_PLACES = (*_SPLITS.items(), *_FIXED.items())


def _tables(table: Table) -> list[list[list[str]]]:
    utilities = [["utility", *(who.name for who in ENTRANTS)]]
    factors = [["added utility", *(name for name, _, _ in FACTORS)]]
    by_app = [["horizon less sneakpeek", *NAMES, "splits behind"]]
    for name, where in _PLACES:
        utilities.append(
            [name, *(f"{table.mean('utility', policy=w.name, **where)[0]:.3f}" for w in ENTRANTS)]
        )
        factors.append([name, *(str(Interval.of(_less(table, a, b, **where))) for _, a, b in FACTORS)])
        own = [str(Interval.of(_less(table, HORIZON, SNEAKPEEK, application=n, **where))) for n in NAMES]
        by_app.append([name, *own, _behind(table, where)])
    return [utilities, factors, by_app]


def _behind(table: Table, where: Mapping[str, Value]) -> str:
    own, other = (table.each("utility", policy=who.name, **where)[1:] for who in (HORIZON, SNEAKPEEK))
    return f"{int((own < other).sum())} of {len(own)}"


def _panels(table: Table) -> Sequence[Panel]:
    bars = [
        Series(name, range(len(_PLACES)), [_less(table, a, b, **where) for _, where in _PLACES])
        for name, a, b in FACTORS[:3]
    ]
    return [Panel("What is added to sneakpeek", "", "realised utility", bars, [name for name, _ in _PLACES])]


EXPERIMENTS = (
    Experiment(
        "horizon-splits",
        "the demo's applications, divided anew into what is profiled and what is served",
        _jobs,
        _measure,
        _panels,
        seeds=SPLITS,
        small_seeds=3,
        tables=_tables,
        times="the demo's box, processor time (recorded/demo-timing.json); streams, no windows",
    ),
)
