"""Overload: 1 to 20 times what the most accurate variant alone can carry, and what is served then.

The demo's digits with their peek, as they are shipped, on one worker that keeps a stated pace: 30 ms for a row of the
most accurate variant, and several times less for each of the next; a further row in a batch costs as much as the first,
so that batches save nothing and the cheapest variant alone carries less than the highest load. *Capacity* is measured:
the answers in time per second of the most accurate variant alone, offered half as much again as its pace says.

One server takes all loads, one after the other, from 1 to 20 times capacity, and once more 1; arrivals are Poisson.
Measured at each:

- realised utility per second, in the application's own measure, of what clients had; and answers that were right and in
  time per second. What is claimed is that neither falls as the load goes on rising: none lies below 95% of the highest
  that any lighter load reached.
- memory of the front and of its worker, sampled all the time (RSS, and PSS, where shared pages count in part).
- outcomes: that every request has exactly one, at the client, in the server's metrics and in its journal alike.
- of the client, a process of its own on the front's core: its share of that core, and how much later than meant it
  sent.

How many requests a second the door can turn away, when all of them are hopeless, stands beside it.

It wants the machine for itself: `peekserve experiment trust-overload`, eight minutes for each of three seeds.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.cli.launch import ServerProcess
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, best, worst
from peekserve.experiments.trust.flood import (
    Stretch,
    alone,
    capacity,
    cores_of,
    linear_in_rows,
    stretch,
    turned_away,
    workload,
)
from peekserve.experiments.trust.lab import keep_pace
from peekserve.experiments.trust.ledger import read
from peekserve.experiments.trust.yard import Yard, yard, yard_copy

LOADS = (1.0, 2.0, 5.0, 10.0, 20.0)
SECONDS = 60.0
# A row of each variant, in seconds: each is several times dearer than the next.
PACES_S = {"linear": 0.002, "mlp": 0.003, "cnn": 0.006, "committee": 0.030}
MOST_ACCURATE = "committee"
# Seconds to measure capacity, and for the door alone, which is offered so many hopeless requests a second.
PRESSED_S, DOOR_S, DOOR_RATES = 15.0, 5.0, (500.0, 1000.0, 1500.0, 2000.0, 3000.0)
UP, BACK = "up", "back"
_STREAM = 96


def job(share: float) -> Job:
    def played(seed: int) -> list[Row]:
        rng = np.random.default_rng([_STREAM, seed])
        most = capacity(yard(), MOST_ACCURATE, PACES_S[MOST_ACCURATE], max(PRESSED_S * share, 1.0), rng)
        return [
            *loads(yard(), most, max(SECONDS * share, 1.0), seed, rng),
            *door(yard(), max(DOOR_S * share, 0.5), seed, rng),
        ]

    return played


def loads(
    of: Yard,
    most: float,
    seconds: float,
    seed: int,
    rng: np.random.Generator,
    times: Sequence[float] = LOADS,
) -> list[Row]:
    """A row for each load, so many times `most` and the first once more, and one for the journal of them all."""
    found: list[tuple[float, str, Stretch]] = []
    with yard_copy(of) as own:
        keep_pace(own.root, {name: linear_in_rows(row_s) for name, row_s in PACES_S.items()})
        journal = own.log.with_name("overload.journal")
        with ServerProcess(own.root, {"log": "error", "journal": str(journal)}, own.log) as server:
            for load, way in (*((load, UP) for load in times), (times[0], BACK)):
                offered = workload(own, load * most, seconds, rng)
                found.append((load, way, stretch(server, offered, seconds, cores_of(own))))
        told = read(journal)
    asked = sum(len(one.calls) for *_, one in found)
    journalled: Row = {
        "part": "journal",
        "seed": seed,
        "asked": asked,
        "journalled": len(told.outcomes),
        "one": sum(len(each) == 1 for each in told.outcomes.values()) / asked,
        "strangers": told.strangers,
    }
    return [*(_row(one, load, way, most, seed) for load, way, one in found), journalled]


def _row(one: Stretch, load: float, way: str, most: float, seed: int) -> Row:
    many, memory = len(one.rows), one.memory
    return {
        "part": "load",
        "load": load,
        "way": way,
        "seed": seed,
        "requests": many,
        "capacity": most,
        "rate": many / one.seconds,
        "utility_per_s": sum(row.utility for row in one.rows) / one.seconds,
        "right_per_s": sum(row.correct for row in one.rows if row.in_time) / one.seconds,
        "in_time": float(np.mean([row.in_time for row in one.rows])),
        "accuracy": float(np.mean([row.correct for row in one.rows if row.in_time] or [0.0])),
        "by_peek": float(np.mean([row.by_peek for row in one.rows])),
        "most_accurate": float(np.mean([MOST_ACCURATE in row.variants for row in one.rows])),
        "without": float(np.mean([not row.variants for row in one.rows])),
        "p99_ms": float(np.quantile([(row.settled_at - row.arrived_at) * 1e3 for row in one.rows], 0.99)),
        "one": float(one.told == many == one.counted),
        "told": one.told,
        "counted": one.counted,
        "front_mib": max(memory.front),
        "workers_mib": max(memory.workers),
        "pss_mib": max(memory.pss),
        "front_end_mib": memory.front[-1],
        "client_share": one.sent.cpu_share,
        "client_us": one.sent.cpu_s / many * 1e6,
        "lag_p50_ms": one.sent.lag_s(one.calls, 0.5) * 1e3,
        "lag_p99_ms": one.sent.lag_s(one.calls, 0.99) * 1e3,
    }


def door(of: Yard, seconds: float, seed: int, rng: np.random.Generator) -> list[Row]:
    """What the door alone can refuse: every request asks for the most accurate variant within half its time."""
    rows: list[Row] = []
    with yard_copy(of) as own:
        alone(own, MOST_ACCURATE, PACES_S[MOST_ACCURATE])
        with ServerProcess(own.root, {"log": "error"}, own.log) as server:
            for rate in DOOR_RATES:
                offered = workload(own, rate, seconds, rng)
                turned = turned_away(server, offered, PACES_S[MOST_ACCURATE] / 2, cores_of(own))
                rows.append(
                    {
                        "part": "door",
                        "seed": seed,
                        "asked_per_s": rate,
                        "requests": turned.many,
                        "refused": turned.refused,
                        "refused_per_s": turned.per_s,
                        "front_us": turned.front_s / turned.many * 1e6,
                        "client_us": turned.client_s / turned.many * 1e6,
                        "p99_ms": turned.p99_s * 1e3,
                    }
                )
    return rows


# ---- what is claimed ----


def kept(table: Table, metric: str) -> Floats:
    """The least share, over all loads, of the most of this per second that any load so far had, going up."""
    loads = [float(load) for load in table.values("load")]
    each = [table.mean(metric, part="load", way=UP, load=load) for load in loads]
    return worst([one / best(each[: i + 1]) for i, one in enumerate(each)])


def _measure(table: Table) -> Mapping[str, Floats]:
    first = table.mean("pss_mib", part="load", way=UP, load=LOADS[0])
    loads = table.values("load")
    most = best([table.mean("pss_mib", part="load", load=load) for load in loads])
    return {
        "trust-overload-utility": kept(table, "utility_per_s"),
        "trust-overload-right": kept(table, "right_per_s"),
        "trust-overload-memory": np.asarray(most / first),
        "trust-overload-outcomes": table.mean("one", part="load"),
        "trust-overload-journal": table.mean("one", part="journal"),
    }


# ---- what is printed and drawn ----

_COLUMNS = (
    ("requests/s", "rate", "{:.0f}"),
    ("utility/s", "utility_per_s", "{:.1f}"),
    ("right and in time/s", "right_per_s", "{:.1f}"),
    ("in time", "in_time", "{:.3f}"),
    ("right of those", "accuracy", "{:.3f}"),
    ("by the most accurate", "most_accurate", "{:.3f}"),
    ("by the peek", "by_peek", "{:.3f}"),
    ("without an answer", "without", "{:.3f}"),
    ("p99, ms", "p99_ms", "{:.0f}"),
    ("front, MiB", "front_mib", "{:.0f}"),
    ("worker, MiB", "workers_mib", "{:.0f}"),
    ("both, PSS, MiB", "pss_mib", "{:.0f}"),
    ("client, share of a core", "client_share", "{:.2f}"),
    ("lag p50, ms", "lag_p50_ms", "{:.1f}"),
    ("lag p99, ms", "lag_p99_ms", "{:.1f}"),
    ("one outcome", "one", "{:.0f}"),
)
_DOOR = (
    ("refused/s", "refused_per_s", "{:.0f}"),
    ("refused", "refused", "{:.3f}"),
    ("front, us each", "front_us", "{:.0f}"),
    ("client, us each", "client_us", "{:.0f}"),
    ("p99, ms", "p99_ms", "{:.1f}"),
)


def _tables(table: Table) -> list[list[list[str]]]:
    lines = [["load", *(name for name, *_ in _COLUMNS)]]
    for load, way in [(load, UP) for load in table.values("load")] + [(LOADS[0], BACK)]:
        means = [table.mean(metric, part="load", load=load, way=way)[0] for _, metric, _ in _COLUMNS]
        told = [shape.format(mean) for (*_, shape), mean in zip(_COLUMNS, means, strict=True)]
        lines.append([f"{load:g} x" + ("" if way == UP else ", after it all"), *told])
    door = [["hopeless requests/s", *(name for name, *_ in _DOOR)]]
    for rate in table.values("asked_per_s"):
        means = [table.mean(metric, part="door", asked_per_s=rate)[0] for _, metric, _ in _DOOR]
        told = [shape.format(mean) for (*_, shape), mean in zip(_DOOR, means, strict=True)]
        door.append([f"{rate:g}", *told])
    most = Interval.of(table.mean("capacity", part="load"))
    return [[["capacity, answers in time/s of the most accurate alone"], [str(most)]], lines, door]


def _panels(table: Table) -> Sequence[Panel]:
    loads = [float(load) for load in table.values("load")]
    series = [
        Series(label, loads, [table.mean(metric, part="load", way=UP, load=load) for load in loads])
        for label, metric in (("utility", "utility_per_s"), ("right and in time", "right_per_s"))
    ]
    return [Panel("What is served under overload", "load, times capacity", "per second", series, log_x=True)]


EXPERIMENTS = (
    Experiment(
        "trust-overload",
        "1 to 20 times what the most accurate variant carries, live",
        lambda lab: [job(lab.share)],
        _measure,
        _panels,
        seeds=3,
        small_seeds=1,
        tables=_tables,
        times="one paced worker behind a server over loopback",
    ),
)
