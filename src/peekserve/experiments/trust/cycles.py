"""Two hundred loads and unloads: does the memory come back?

**Through the server.** All variants of an application, one of them of tens of MiB, are unloaded and loaded again by the
protocol's calls; after each load every variant answers a request. Front and worker are looked at after each unload
and after each load.

**A worker alone.** A worker process is told to load and unload directly: the dearest of the demo's models, the large
one, and all in an order drawn by chance, so that blocks of one model lie between those of another; batches of several
sizes are run in between.

What is compared with the start are resident pages (RSS) and those of them that are the process's own (anonymous): no
code, which grows with what was ever run. The share of shared pages that is charged to a process (PSS) is in the rows;
it moves when neighbours that map the same libraries come and go.

It wants the machine for itself: `peekserve experiment trust-cycles`, about eight minutes.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from peekserve.cli.launch import ServerProcess
from peekserve.domain.application import Variant
from peekserve.errors import NotReady
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Row, Table, best, worst
from peekserve.experiments.trust.lab import TrustLab
from peekserve.experiments.trust.large import BIG
from peekserve.experiments.trust.watching import MIB, Held, held, workers_of
from peekserve.experiments.trust.yard import NAME, SETTINGS, Yard, ask, yard
from peekserve.workers.remote import RemoteRuntime
from peekserve.workers.slots import Slot
from peekserve.workers.warmup import blank

CYCLES, SEEDS = 200, 2
SERVER, ANY_ORDER = "server", "any order"
FRONT, WORKER = "front", "worker"
FULL, EMPTY = "loaded", "unloaded"
MEMORY = ("rss", "own")
# What the end is: the median of so many last cycles.
_LAST = 10
_SIZES = (1, 8, 3)
_STREAM = 93
# A worker that held the same twice, this long apart, has done what it was told; it gets this long for it.
_LOOK_S, _REST_S = 0.05, 2.0

Samples = Mapping[tuple[str, str], Sequence[Held]]


def through_server(where: Yard, cycles: int, seed: int) -> list[Row]:
    """Load and unload by the protocol's calls. Raises NotReady where the server refuses one."""
    samples: dict[tuple[str, str], list[Held]] = {
        (who, state): [] for who in (FRONT, WORKER) for state in (FULL, EMPTY)
    }
    with ServerProcess(where.root, SETTINGS, where.log) as server:
        (worker,) = workers_of(server.pid)

        def look(state: str) -> None:
            samples[FRONT, state].append(held(server.pid))
            samples[WORKER, state].append(_at_rest(worker))

        _answers(server.http, where)
        look(FULL)
        for _ in range(cycles):
            _by_hand(server.http, "unload")
            look(EMPTY)
            _by_hand(server.http, "load")
            _answers(server.http, where)
            look(FULL)
    return _rows(SERVER, samples, _bytes(where.application.variants), seed)


def _at_rest(worker: int) -> Held:
    """What it holds when it has done what it was told: a front says that models are unloaded when it has said so to its
    worker."""
    before, until_at = held(worker), time.monotonic() + _REST_S
    while True:
        time.sleep(_LOOK_S)
        now = held(worker)
        if now == before or time.monotonic() > until_at:
            return now
        before = now


def _by_hand(base: str, what: str) -> None:
    status, told = ask(base, "POST", f"/v2/repository/models/{NAME}/{what}", {})
    if status != 200:
        raise NotReady(f"a server would not {what} {NAME}: {status} {told}")


def _answers(base: str, where: Yard) -> None:
    """Every variant answers a request."""
    image = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}
    for variant in where.application.variants:
        path = f"/v2/models/{NAME}/versions/{variant.name}/infer"
        status, told = ask(base, "POST", path, {"inputs": [image], "parameters": {"deadline_ms": 9000}})
        if status != 200:
            raise NotReady(f"{variant.name} does not answer: {status} {told}")


def alone(where: Yard, names: Sequence[str], cycles: int, seed: int) -> list[Row]:
    """A worker process loads and unloads these variants. Several are loaded and unloaded in an order drawn anew each
    time."""
    rng = np.random.default_rng([_STREAM, seed])
    variants = [where.application.variant(name) for name in names]
    full: list[Held] = []
    empty: list[Held] = []
    with RemoteRuntime(Slot("cpu:0"), where.application.inputs) as runtime:
        for _ in range(cycles + 1):
            for i in rng.permutation(len(variants)).tolist():
                runtime.load(variants[i], len(where.application.classes))
                _batches(runtime, where, variants[i])
            full.append(held(runtime.pid))
            for i in rng.permutation(len(variants)).tolist():
                runtime.unload(variants[i].weights)
            empty.append(held(runtime.pid))
    part = names[0] if len(names) == 1 else ANY_ORDER
    return _rows(part, {(WORKER, FULL): full, (WORKER, EMPTY): empty[1:]}, _bytes(variants), seed)


def _batches(runtime: RemoteRuntime, where: Yard, variant: Variant) -> None:
    for size in _SIZES:
        for inputs in blank(variant, where.application.inputs, size):
            runtime.run(variant, len(where.application.classes), inputs)


def _bytes(variants: Sequence[Variant]) -> float:
    return float(sum(Path(variant.model).stat().st_size for variant in variants))


def _rows(part: str, samples: Samples, weights: float, seed: int) -> list[Row]:
    """A row for each look, MiB; and for each process how the end stands to the start."""
    rows: list[Row] = []
    for (who, state), each in samples.items():
        for cycle, one in enumerate(each):
            sizes = {name: value / MIB for name, value in asdict(one).items() if name in (*MEMORY, "pss")}
            many = {"files": one.files, "threads": one.threads}
            rows.append(
                {"part": part, "who": who, "state": state, "seed": seed, "cycle": cycle, **sizes, **many}
            )
    for who in dict.fromkeys(who for who, _ in samples):
        row: dict[str, float | int | str] = {"part": part, "who": who, "seed": seed, "end": 1}
        for name in MEMORY:
            full, empty = (_of(samples[who, state], name) for state in (FULL, EMPTY))
            row[f"{name}_ratio"] = max(_end(full) / full[0], _end(empty) / empty[0])
        full, empty = (_of(samples[who, state], "rss") for state in (FULL, EMPTY))
        row["given_back"] = (_end(full) - _end(empty)) / weights
        row["more_files"] = samples[who, FULL][-1].files - samples[who, FULL][0].files
        row["more_threads"] = samples[who, FULL][-1].threads - samples[who, FULL][0].threads
        rows.append(row)
    return rows


def _of(samples: Sequence[Held], name: str) -> list[float]:
    return [float(getattr(one, name)) for one in samples]


def _end(values: Sequence[float]) -> float:
    return float(np.median(values[-_LAST:]))


# ---- the experiment ----


def _jobs(lab: TrustLab) -> Sequence[Job]:
    cycles = max(round(CYCLES * lab.share), _LAST)

    def of(names: Sequence[str]) -> Job:
        return lambda seed: alone(yard(big=True), names or _all(), cycles, seed)

    def server(seed: int) -> list[Row]:
        return through_server(yard(big=True), cycles, seed)

    return [server, of(["committee"]), of([BIG]), of([])]


def _all() -> list[str]:
    return [variant.name for variant in yard(big=True).application.variants]


def _measure(table: Table) -> Mapping[str, Floats]:
    parts = [(str(row["part"]), str(row["who"])) for row in table.rows if row.get("end")]
    ends = list(dict.fromkeys(parts))

    def most(column: str, who: str) -> Floats:
        return best([table.quantile(column, 1.0, part=p, who=w, end=1) for p, w in ends if w == who])

    given = [table.quantile("given_back", 0.0, part=p, who=w, end=1) for p, w in ends if w == WORKER]
    return {
        "cycles-worker-rss": most("rss_ratio", WORKER),
        "cycles-worker-own": most("own_ratio", WORKER),
        "cycles-front-rss": most("rss_ratio", FRONT),
        "cycles-front-own": most("own_ratio", FRONT),
        "cycles-given-back": worst(given),
        "cycles-files": best([most(c, w) for c in ("more_files", "more_threads") for w in (FRONT, WORKER)]),
    }


def _tables(table: Table) -> list[list[list[str]]]:
    lines = [["part", "process", "state", "first MiB (RSS, own, PSS)", "last", "end over start: RSS", "own"]]
    for row in table.rows:
        if not row.get("end") or row["seed"] != table.seeds[0]:
            continue
        for state in (FULL, EMPTY):
            own = [
                r
                for r in table.rows
                if all(r.get(c) == row[c] for c in ("part", "who", "seed")) and r.get("state") == state
            ]
            sizes = [" ".join(f"{float(r[c]):.1f}" for c in (*MEMORY, "pss")) for r in (own[0], own[-1])]
            ratios = [f"{float(row[f'{name}_ratio']):.3f}" for name in MEMORY]
            lines.append([str(row["part"]), str(row["who"]), state, *sizes, *ratios])
    return [lines]


def _panels(table: Table) -> Sequence[Panel]:
    panels = []
    for part in table.values("part"):
        series = []
        for who in (FRONT, WORKER):
            for state in (FULL, EMPTY):
                own = [
                    row
                    for row in table.rows
                    if (row["part"], row["who"], row.get("state")) == (part, who, state)
                    and row["seed"] == table.seeds[0]
                ]
                if own:
                    values = [np.full(2, float(row["rss"])) for row in own]
                    series.append(Series(f"{who}, {state}", [float(row["cycle"]) for row in own], values))
        panels.append(Panel(str(part), "cycle", "resident MiB", series))
    return panels


EXPERIMENTS = (
    Experiment(
        "trust-cycles",
        f"{CYCLES} loads and unloads: what memory comes back",
        _jobs,
        _measure,
        _panels,
        seeds=SEEDS,
        small_seeds=1,
        tables=_tables,
        times="this machine's own, live, through a server over loopback",
    ),
)
