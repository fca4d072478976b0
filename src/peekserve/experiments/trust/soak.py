"""Half an hour at capacity: does memory grow, does p99, do files and threads?

One worker keeps a stated pace (the dearest variant 12 ms a row), and the load is a Poisson stream at capacity: what
that variant alone answers in time each second when far too much is asked of it, measured on the same server first.
Every piece of the run, half a minute in a full one, is a row: the latencies of its requests, what front and worker hold
(the median of looks two seconds apart) and which files and threads they have open when its clients are gone. The
first fifth is left out as warm-up: ONNX Runtime's arena is a piece of 4 MiB, whose pages batches of ever other sizes
touch one after the other in the first minutes.

*Flat* is judged twice: the last third over the first third, and the slope of a line through all pieces, told as growth
in an hour over the size. Intervals are by bootstrap over blocks of neighbouring pieces.

Answered requests that wait for their true class are remembered in a ring that grows until it is full. It is set to
8192 rows here, so that it is full before the warm-up ends; by default it holds 65,536, and the front grows by about 20
MB until then, once.

It wants the machine for itself: `peekserve experiment trust-soak`, half an hour; for another length
`python -m peekserve.experiments.trust.soak --minutes 5 --out DIR`.
"""

import argparse
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from peekserve.cli.launch import ServerProcess
from peekserve.domain.application import Application
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, best
from peekserve.experiments.trust.blows import pinned
from peekserve.experiments.trust.flatness import growth, thirds
from peekserve.experiments.trust.lab import Curve, TrustLab, keep_pace
from peekserve.experiments.trust.watching import MIB, Held, held, workers_of
from peekserve.experiments.trust.yard import Yard, yard, yard_copy
from peekserve.loadgen.apart import send_apart
from peekserve.loadgen.arrivals import poisson

MINUTES, PIECES = 30.0, 60
VARIANT = "committee"
CURVES: Mapping[str, Curve] = {
    VARIANT: {1: 0.012, 2: 0.022, 4: 0.042},
    "cnn": {1: 0.002, 2: 0.003, 4: 0.005, 8: 0.009},
    "mlp": {1: 0.001, 8: 0.002},
}
SETTINGS = {"log": "error", "limits.remembered_rows": "8192"}
FRONT, WORKER = "front", "worker"
# Asked of the dearest variant alone, over what it can do; and for how long.
_FLOOD, _FLOOD_S = 2.0, 5.0
_LOOK_S = 2.0
_WARM_UP = 0.2
_STREAM = 94


class Watch(threading.Thread):
    """Looks at some processes again and again until it is told to stop."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        super().__init__(name="watch", daemon=True)
        self._pids = pids
        self._over = threading.Event()
        self.seen: dict[str, list[Held]] = {who: [] for who in pids}

    def run(self) -> None:
        while True:
            for who, pid in self._pids.items():
                self.seen[who].append(held(pid))
            if self._over.wait(_LOOK_S):
                return

    def stop(self) -> Mapping[str, Sequence[Held]]:
        self._over.set()
        self.join()
        return self.seen


def soaked(minutes: float, seed: int) -> list[Row]:
    """A row for each piece of a run of this length."""
    with yard_copy(yard()) as here:
        keep_pace(here.root, CURVES)
        with ServerProcess(here.root, SETTINGS, here.log) as server:
            rng = np.random.default_rng([_STREAM, seed])
            capacity = capacity_of(server.http, here, rng)
            (worker,) = workers_of(server.pid)
            pids, piece_s = {FRONT: server.pid, WORKER: worker}, 60.0 * minutes / PIECES
            start_at = time.monotonic()
            return [
                {
                    "seed": seed,
                    "piece": piece,
                    "minute": (time.monotonic() - start_at) / 60.0,
                    "capacity": capacity,
                    **_piece(server.http, here, capacity, piece_s, pids, rng),
                }
                for piece in range(PIECES)
            ]


def capacity_of(base: str, here: Yard, rng: np.random.Generator) -> float:
    """What the dearest variant alone answers in time, requests a second, with too much to do."""
    instants = poisson(_FLOOD / CURVES[VARIANT][1], _FLOOD_S, rng)
    workload, calls = here.calls(instants, rng)
    sent = send_apart(base, pinned(calls, VARIANT, rng, 1.0, _deadline_s(here.application)), here.cores)
    good = [
        reply.status == 200 and reply.done_at <= workload.request(i).due_at
        for i, reply in enumerate(sent.replies)
    ]
    return sum(good) / _FLOOD_S


def _deadline_s(application: Application) -> float:
    return application.query().deadline_s


def _piece(
    base: str, here: Yard, rate: float, seconds: float, pids: Mapping[str, int], rng: np.random.Generator
) -> dict[str, float]:
    workload, calls = here.calls(poisson(rate, seconds, rng), rng)
    watch = Watch(pids)
    watch.start()
    sent = send_apart(base, calls, here.cores)
    seen = watch.stop()
    rows = workload.rows(sent.replies)
    latency_s = [row.settled_at - row.arrived_at for row in rows]
    told = {
        "requests": len(rows),
        "in_time": float(np.mean([row.in_time for row in rows])),
        "utility": float(np.mean([row.utility for row in rows])),
        "without_reply": sum(reply.status == 0 for reply in sent.replies),
        **{f"p{q}_ms": 1e3 * float(np.quantile(latency_s, q / 100.0)) for q in (50, 95, 99)},
        "client_cpu": sent.cpu_share,
        "client_lag_ms": 1e3 * sent.lag_s(calls, 0.99),
    }
    for who, pid in pids.items():
        for name in ("rss", "own", "pss"):
            told[f"{who}_{name}"] = float(np.median([getattr(one, name) for one in seen[who]])) / MIB
        # Connections of clients are files, and clients are gone now.
        now = held(pid)
        told |= {f"{who}_files": now.files, f"{who}_threads": now.threads}
    return told


# ---- flat or not ----


def kept(table: Table) -> Sequence[Row]:
    """The pieces after the warm-up, in order."""
    return table.rows[round(_WARM_UP * len(table.rows)) :]


def _measure(table: Table) -> Mapping[str, Floats]:
    rows = kept(table)

    def column(name: str) -> Floats:
        return np.array([float(row[name]) for row in rows])

    hours = column("minute") / 60.0
    third = max(len(rows) // 3, 1)
    more = [
        column(f"{who}_{what}")[-third:].max() - column(f"{who}_{what}")[:third].max()
        for who in (FRONT, WORKER)
        for what in ("files", "threads")
    ]
    return {
        **{f"soak-{who}-thirds": thirds(column(f"{who}_rss")) for who in (FRONT, WORKER)},
        **{f"soak-{who}-growth": growth(hours, column(f"{who}_rss")) for who in (FRONT, WORKER)},
        "soak-p99-thirds": thirds(column("p99_ms")),
        "soak-p99-growth": growth(hours, column("p99_ms")),
        "soak-files": np.full(2, max(more)),
        "soak-outcomes": best([table.quantile("without_reply", 1.0)]),
    }


def _tables(table: Table) -> list[list[list[str]]]:
    rows = kept(table)
    third = max(len(rows) // 3, 1)
    lines = [["", "first third", "last third", "growth in an hour, of its size"]]
    hours = np.array([float(row["minute"]) for row in rows]) / 60.0
    names = [f"{who}_{what}" for who in (FRONT, WORKER) for what in ("rss", "own")]
    for name in (*names, "p50_ms", "p95_ms", "p99_ms"):
        values = np.array([float(row[name]) for row in rows])
        lines.append(
            [
                name.replace("_", " ") + ("" if name.endswith("ms") else " MiB"),
                f"{np.median(values[:third]):.2f}",
                f"{np.median(values[-third:]):.2f}",
                str(Interval.of(growth(hours, values))),
            ]
        )
    many = sum(float(row["requests"]) for row in table.rows)
    load = [["capacity, requests/s", "requests", "in time", "client: share of a core", "its lag, p99 ms"]]
    load.append(
        [
            f"{float(table.rows[0]['capacity']):.1f}",
            f"{many:.0f}",
            f"{sum(float(r['in_time']) * float(r['requests']) for r in table.rows) / many:.3f}",
            f"{max(float(row['client_cpu']) for row in table.rows):.2f} at most",
            f"{np.median([float(row['client_lag_ms']) for row in table.rows]):.2f}",
        ]
    )
    return [lines, load]


def _panels(table: Table) -> Sequence[Panel]:
    def series(label: str, name: str) -> Series:
        return Series(
            label,
            [float(row["minute"]) for row in table.rows],
            [np.full(2, float(row[name])) for row in table.rows],
        )

    memory = [series(who, f"{who}_rss") for who in (FRONT, WORKER)]
    latency = [series(name, f"{name}_ms") for name in ("p50", "p95", "p99")]
    return [
        Panel("Memory", "minute", "resident MiB", memory),
        Panel("Latency", "minute", "ms", latency),
    ]


def _jobs(lab: TrustLab) -> Sequence[Job]:
    return [lambda seed: soaked(MINUTES * lab.share, seed)]


EXPERIMENTS = (
    Experiment(
        "trust-soak",
        "half an hour at capacity: memory, latency, files and threads over time",
        _jobs,
        _measure,
        _panels,
        seeds=1,
        small_seeds=1,
        tables=_tables,
        times="one worker at a stated pace, live, through a server over loopback",
    ),
)


def main() -> None:
    """A soak of another length."""
    from peekserve.experiments.run import run, write

    parser = argparse.ArgumentParser(description="A soak of any length.")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--out", type=Path, default=Path("results/trust-soak"))
    told = parser.parse_args()
    (experiment,) = EXPERIMENTS
    result = write(run(experiment, TrustLab(told.minutes / MINUTES), 1), told.out)
    for one in result.findings:
        print(f"{one.claim.id}: {one.interval} {'holds' if one.holds else 'does not hold'}")
    for table in _tables(result.table):
        for line in table:
            print(" | ".join(line))


if __name__ == "__main__":
    main()
