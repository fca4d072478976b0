"""What was measured of a supernet of more than 10 million parameters on one machine: memory, and the cost of a switch.

Both take a quiet machine, files and fresh processes; so they are measured by commands of their own, kept as data with
the machine's name, and told from that:

    python -m peekserve.experiments.superserve.machine memory FOLDER       # FOLDER: of a supernet (memory.py)
    python bench/bench_supernet.py --json | python -m peekserve.experiments.superserve.machine switching
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from peekserve.errors import DataUnavailable
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.superserve.lab import SuperLab, measured_file
from peekserve.experiments.superserve.record import RECORDED
from peekserve.experiments.table import Floats, Row, Table, best, worst
from peekserve.profiling.device import fingerprint

MEMORY, SWITCHING = "memory", "switching"
SUBNETS, APART = "subnets", "separate"
IN_PLACE = "in place"
MIB = 2**20


def _once(value: float) -> Floats:
    """A value that was measured once."""
    return np.full(2, value)


# ---- memory ----


def _memory_jobs(lab: SuperLab) -> Sequence[Job]:
    return [lambda seed: [{"seed": seed, **_without_none(line)} for line in _told(lab, MEMORY)["lines"]]]


def _told(lab: SuperLab, what: str) -> Mapping[str, Any]:
    if what not in lab.measured:
        raise DataUnavailable(
            f"{measured_file(lab.folder, what)} is not there: python -m {__name__} {what} makes it"
        )
    return lab.measured[what]


def _without_none(line: Mapping[str, Any]) -> dict[str, float | int | str]:
    return {k: v for k, v in line.items() if v is not None}


def _memory_measure(table: Table) -> Mapping[str, Floats]:
    """Of the lines for six and for all models; a mode's first word says whether its models share weights."""
    separate = [r for r in table.rows if str(r["mode"]).startswith(APART)]
    few, every = (pick(separate, key=lambda r: int(r["models"])) for pick in (min, max))
    together = {
        str(r["mode"]): r
        for r in sorted(table.rows, key=lambda r: int(r["models"]))
        if str(r["mode"]).startswith(SUBNETS)
    }

    def times(of: Row, metric: str) -> Floats:
        return worst([_once(float(of[metric]) / max(float(r[metric]), 1.0)) for r in together.values()])

    more = [float(r["one_more_bytes"]) for r in together.values() if "one_more_bytes" in r]
    return {
        "memory-weights": times(few, "weights_bytes"),
        "memory-growth": times(few, "growth_bytes"),
        "memory-growth-all": times(every, "growth_bytes"),
        "memory-one-more": _once(max(more) / MIB) if more else _once(float("nan")),
    }


def _memory_panels(table: Table) -> Sequence[Panel]:
    names = [f"{r['mode']}, {r['models']}" for r in table.rows]
    series = [
        Series(label, range(len(names)), [_once(float(r[key]) / MIB) for r in table.rows])
        for label, key in (
            ("weights", "weights_bytes"),
            ("growth of the process", "growth_bytes"),
            ("of that, its own pages", "own_bytes"),
        )
    ]
    return [Panel("What a worker holds", "", "MiB", series, names)]


def _memory_tables(table: Table) -> list[list[list[str]]]:
    head = ["how", "models", "weights, MiB", "growth above an empty worker, MiB", "of that, its own pages",
            "an empty worker", "one more model"]  # fmt: skip
    lines = [head]
    for r in table.rows:
        more = f"{float(r['one_more_bytes']) / MIB:.2f}" if "one_more_bytes" in r else ""
        keys = ("weights_bytes", "growth_bytes", "own_bytes", "empty_bytes")
        lines.append([str(r["mode"]), str(r["models"]), *(f"{float(r[k]) / MIB:.1f}" for k in keys), more])
    return [lines]


# ---- switching ----


def _switching_jobs(lab: SuperLab) -> Sequence[Job]:
    def job(seed: int) -> list[Row]:
        told = _told(lab, SWITCHING)
        rows: list[Row] = []
        for way, of_subnets in told["ways"].items():
            rows += [{"seed": seed, "way": way, "subnet": s, **cell} for s, cell in of_subnets.items()]
        rows += [{"seed": seed, "way": APART, "subnet": s, **cell} for s, cell in told["separate"].items()]
        return rows

    return [job]


def _switching_measure(table: Table) -> Mapping[str, Floats]:
    def most(key: str, way: str) -> Floats:
        return best([_once(float(r[key]) / 1e3) for r in table.rows if r["way"] == way])

    loads = [float(r["load_us"]) + float(r["first_us"]) for r in table.rows if r["way"] == APART]
    added = [float(r["added_us"]) for r in table.rows if r["way"] == IN_PLACE]
    cold = [
        _once((float(r["first_us"]) - float(r["second_us"])) / 1e3)
        for r in table.rows
        if r["way"] == IN_PLACE
    ]
    return {
        "switching-median": most("added_us", IN_PLACE),
        "switching-p99": most("added_p99_us", IN_PLACE),
        "switching-alone": most("alone_us", IN_PLACE),
        "switching-cold": best(cold),
        "switching-load": _once(min(loads) / max(*added, 1.0)),
    }


def _switching_panels(table: Table) -> Sequence[Panel]:
    names = [str(r["subnet"]) for r in table.rows if r["way"] == IN_PLACE]
    found = []
    for way in (w for w in table.values("way") if w != APART):
        series = [
            Series(
                label,
                range(len(names)),
                [_once(max(table.mean(key, way=way, subnet=s)[0], 0.0)) for s in names],
            )
            for label, key in (("same again", "stay_us"), ("after another", "switch_us"))
        ]
        found.append(Panel(f"Batches, {way}", "", "us, median", series, names))
    loads = [Series("load", range(len(names)), [table.mean("load_us", way=APART, subnet=s) for s in names])]
    found.append(Panel("Loading a separate model", "", "us, median", loads, names))
    return found


def _switching_tables(table: Table) -> list[list[list[str]]]:
    lines = [["way", "subnet", "same again, us", "after another", "added, median", "added, p99", "switch alone",
              "cold: first", "second"]]  # fmt: skip
    keys = ("stay_us", "switch_us", "added_us", "added_p99_us", "alone_us", "first_us", "second_us")
    for r in table.rows:
        if r["way"] != APART:
            shown = (f"{float(r[k]):.1f}" for k in keys)
            lines.append([str(r["way"]), str(r["subnet"]), *shown])
    loads = [["separate model", "MB", "load, us", "first batch, us", "both, in batches"]]
    for r in table.rows:
        if r["way"] == APART:
            loads.append(
                [
                    str(r["subnet"]),
                    f"{float(r['bytes']) / 1e6:.1f}",
                    f"{float(r['load_us']):.0f}",
                    f"{float(r['first_us']):.0f}",
                    f"{float(r['loads_per_batch']):.1f}",
                ]
            )
    return [lines, loads]


EXPERIMENTS = (
    Experiment(
        "superserve-memory",
        "what a worker holds: one supernet, or models of their own",
        _memory_jobs,
        _memory_measure,
        _memory_panels,
        seeds=1,
        small_seeds=1,
        tables=_memory_tables,
    ),
    Experiment(
        "superserve-switching",
        "what a batch takes longer after another subnet's",
        _switching_jobs,
        _switching_measure,
        _switching_panels,
        seeds=1,
        small_seeds=1,
        tables=_switching_tables,
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=(MEMORY, SWITCHING))
    parser.add_argument("folder", nargs="?", type=Path, help="of a supernet, for its memory")
    given = parser.parse_args()
    if given.what == SWITCHING:
        told = json.load(sys.stdin)
    elif given.folder is None:
        parser.error("memory is measured of a supernet: name its folder")
    else:
        # Torch and workers are for this alone.
        from peekserve.experiments.superserve.memory import measure

        with tempfile.TemporaryDirectory() as work:
            told = {"lines": [asdict(held) for held in measure(given.folder, Path(work))]}
    path = measured_file(RECORDED, given.what)
    path.write_text(json.dumps({"machine": fingerprint(), **told}, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
