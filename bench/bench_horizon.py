"""CPU time of one decision, view and guard included: `python bench/bench_horizon.py [--json]`.

Backlogs of 12 to 1000 waiting rows, half of the paper's applications and half of random services, on one, two and three
unlike workers; deadlines of 200 ms. As experiment horizon-deciding measures it, in fewer windows.
"""

import argparse
import json

import numpy as np

from peekserve import kernel
from peekserve.experiments.horizon.deciding import DEADLINE_S, NAMES, SIZES, WORKERS, decisions
from peekserve.experiments.horizon.instances import Shape, instance
from peekserve.experiments.run import laboratory

WINDOWS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    as_json = parser.parse_args().json
    lab = laboratory()
    spent: dict[tuple[str, int], dict[int, list[float]]] = {}
    for workers in WORKERS:
        for rows in SIZES:
            shape = Shape((rows, rows), "sigmoid", workers, DEADLINE_S)
            for number in range(WINDOWS):
                for row in decisions(instance(lab, shape, 0, number), rows, workers):
                    line = spent.setdefault((str(row["policy"]), workers), {})
                    line.setdefault(rows, []).append(1e3 * float(row["decision_ms"]))
    table = {
        f"{name}, {workers} worker{'s' * (workers > 1)}": {
            "us": {
                rows: {
                    "median": float(np.median(spent[name, workers][rows])),
                    "p95": float(np.quantile(spent[name, workers][rows], 0.95)),
                }
                for rows in SIZES
            },
            "slope": float(
                np.polyfit(np.log(SIZES), np.log([np.median(spent[name, workers][n]) for n in SIZES]), 1)[0]
            ),
        }
        for workers in WORKERS
        for name in NAMES
    }
    if as_json:
        print(json.dumps({"compiled": kernel.COMPILED, "decision": table}))
        return
    form = "compiled" if kernel.COMPILED else "interpreted"
    print(f"CPU time of a decision, view and guard included, us: median (p95); kernel {form}")
    print(f"{'':24}" + "".join(f"{f'{rows} rows':>16}" for rows in SIZES) + f"{'slope':>8}")
    for label, line in table.items():
        cells = (f"{cell['median']:.0f} ({cell['p95']:.0f})" for cell in line["us"].values())
        print(f"{label:24}" + "".join(f"{cell:>16}" for cell in cells) + f"{line['slope']:>8.2f}")


if __name__ == "__main__":
    main()
