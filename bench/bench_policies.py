"""CPU time of one decision: `python bench/bench_policies.py [--json]`.

Views of 12 to 500 waiting rows of three applications (5, 4 and 3 variants, 2 to 7 likely classes), drawn from
fixed seeds: deadlines of 20 to 200 ms, a quarter of them too short for anything but the quickest variant,
weights that do not all fit, sigmoid and step penalties. The figure is the thread's CPU time of
policy.plan(view), arrays for the kernel and the plan's own objects included; making the view is not part of
it.
"""

import argparse
import json
import time

import numpy as np

from peekserve import kernel
from peekserve.domain.utility import PenaltyKind, PenaltyTables
from peekserve.policies import POLICIES, Switches, make
from peekserve.policies.base import LaneView, View, WorkerView

ROWS = (12, 24, 100, 500)
VIEWS, REPEATS = 40, 5
LANES = (  # (classes, variants: (seconds for one row, accuracy))
    (2, ((0.002, 0.70), (0.006, 0.80), (0.012, 0.86), (0.020, 0.90), (0.030, 0.93))),
    (6, ((0.003, 0.72), (0.007, 0.82), (0.013, 0.88), (0.022, 0.92))),
    (7, ((0.004, 0.75), (0.009, 0.86), (0.018, 0.91))),
)
FORMS = {
    "plain": Switches(),
    "aware": Switches(aware=True),
    "aware, short-circuit": Switches(aware=True, short_circuit=True),
}


def a_view(rows: int, seed: int, workers: int = 1, max_batch: int = 32) -> View:
    """Waiting rows as a busy scheduler would show them."""
    rng = np.random.default_rng([rows, seed])
    wide = max(len(variants) for _, variants in LANES)
    lanes, latency, load_s, weights = [], [], [], 0
    for i, (_, variants) in enumerate(LANES):
        own = np.arange(weights, weights + len(variants), dtype=np.int32)
        weights += len(variants)
        profiled = np.array([accuracy for _, accuracy in variants])
        names = tuple(f"v{v}" for v in range(len(variants)))
        lanes.append(
            LaneView(f"app{i}", i, 0, names, profiled, own, np.full(len(variants), max_batch, np.int32))
        )
        sizes = np.arange(max_batch)
        latency.append(np.array([[0.0, *(s * (1 + 0.3 * sizes))] for s, _ in variants]))
        load_s += [2.0 * s for s, _ in variants]
    fleet = tuple(
        WorkerView(f"cpu:{w}", 50.0, (0, 5), 6.0, tuple(latency), np.array(load_s), np.ones(weights))
        for w in range(workers)
    )
    lane = rng.integers(len(LANES), size=rows).astype(np.int32)
    accuracy, likely = np.zeros((rows, wide)), np.full(rows, -1, np.int32)
    allowed = np.zeros((rows, wide), np.bool_)
    for i, (classes, variants) in enumerate(LANES):
        here = lane == i
        spread = rng.normal(0.0, 0.06, (classes + 1, len(variants)))
        likely[here] = rng.integers(-1, classes, here.sum())
        believed = (
            np.array([a for _, a in variants]) + spread[likely[here]] + rng.normal(0.0, 0.01, (here.sum(), 1))
        )
        accuracy[here, : len(variants)] = np.clip(believed, 0.0, 1.0)
        allowed[here, : len(variants)] = True
    deadline_s = rng.uniform(0.02, 0.2, rows)
    kind = rng.choice([PenaltyKind.STEP, PenaltyKind.SIGMOID], rows).astype(np.int32)
    return View(
        now=50.0,
        lanes=tuple(lanes),
        workers=fleet,
        lane=lane,
        arrived_at=np.sort(50.0 - rng.uniform(0.0, 0.02, rows)),
        due_at=50.0 + deadline_s * rng.uniform(0.7, 1.0, rows),
        deadline_s=deadline_s,
        penalty=kind,
        width_s=np.where(kind == PenaltyKind.STEP, deadline_s, 0.1 * deadline_s),
        tables=PenaltyTables.of([]),
        accuracy=accuracy,
        allowed=allowed,
        instant=np.where(rng.random(rows) < 0.95, 0.65, np.nan),
        likely=likely,
    )


def measured(name: str, switches: Switches, rows: int) -> dict[str, float]:
    """Median and p95 over views and repeats, microseconds."""
    policy = make(name, switches)
    spent = []
    for seed in range(VIEWS):
        view = a_view(rows, seed)
        policy.plan(view)
        for _ in range(REPEATS):
            begin = time.thread_time_ns()
            policy.plan(view)
            spent.append((time.thread_time_ns() - begin) / 1e3)
    return {"median_us": float(np.median(spent)), "p95_us": float(np.quantile(spent, 0.95))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    as_json = parser.parse_args().json
    table = {
        f"{name} ({form})": {rows: measured(name, switches, rows) for rows in ROWS}
        for name in POLICIES
        for form, switches in FORMS.items()
    }
    if as_json:
        print(json.dumps({"compiled": kernel.COMPILED, "plan": table}))
        return
    form = "compiled" if kernel.COMPILED else "interpreted"
    print(f"CPU time of policy.plan(view), us: median (p95); kernel {form}")
    print(f"{'':36}" + "".join(f"{f'{rows} rows':>18}" for rows in ROWS))
    for label, line in table.items():
        cells = (f"{cell['median_us']:.0f} ({cell['p95_us']:.0f})" for cell in line.values())
        print(f"{label:36}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
