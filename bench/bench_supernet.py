"""What a switch of subnets costs: `python bench/bench_supernet.py [--json] [--rows N]`.

The large supernet of `supernets.networks` (11.9 million parameters, untrained: speed does not ask for accuracy) with
six of its subnets. For each of them, and for every way to serve them, in CPU time of one thread:

- a batch of the subnet that ran just before, and the same batch right after a batch of another subnet, the switch
  included: what is added is the switch, and what the other subnet drove out of the caches. Both are timed in turn, the
  other subnet being each of the rest in turn, so that a change of the machine's load meets both alike;
- the switch alone, from runs of 100;
- cold: a subnet's first switch and batch in a fresh process, and its second. What a way does once, when it is made, is
  not in it: of `copies` that is nearly all, of `in place` nothing;
- beside it, a model of its own for each subnet: its file (safetensors, in the page cache) read, an empty network made
  and filled from it, and its first batch. This a fleet of separate models pays where a supernet pays a switch.

Medians, and the 99th percentile of what is there for every batch. `copies` tells the caches' part from the switch's.
A way is a class with `use` and `run`: see `WAYS`.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

try:
    import torch
    from safetensors.torch import load_file, save_file
except ImportError:
    print("left out: this needs torch, pip install 'peekserve[train]'")
    sys.exit(0)

from peekserve.supernets.extract import extract
from peekserve.supernets.networks import LARGE, LARGE_SPACE, build, noise
from peekserve.supernets.operators import Supernet
from peekserve.supernets.space import Subnet, kept_units

NAMES = ("d1-1-1.w25", "d1-2-2.w50", "d2-2-2.w75", "d1-1-1.w100", "d2-2-2.w100", "d3-3-3.w100")
REPEATS, BATCHES, COLD, LOADS = 5, 60, 5, 7
IN_A_RUN = 100  # switches, too short to be timed one by one


class Way(Protocol):
    """How the subnets of one supernet are served in one process; made of the supernet, with statistics, and the
    subnets. `use` is the switch, `run` a batch float32 [n, 1, 180] of the subnet in use."""

    def __init__(self, supernet: Supernet, subnets: Sequence[Subnet]) -> None: ...
    def use(self, subnet: Subnet) -> None: ...
    def run(self, batch: torch.Tensor) -> None: ...


class InPlace:
    """Eager torch, one set of weights, every subnet prepared by its first use."""

    def __init__(self, supernet: Supernet, subnets: Sequence[Subnet]) -> None:
        self.supernet = supernet
        self.use = supernet.actuate  # nothing of ours in between

    def run(self, batch: torch.Tensor) -> None:
        self.supernet(batch)


class Apart:
    """Eager torch, a resident copy for every subnet: a switch looks one up. All their weights are in memory."""

    def __init__(self, supernet: Supernet, subnets: Sequence[Subnet]) -> None:
        self.copies = {subnet: extract(supernet, subnet) for subnet in subnets}
        self.now = self.copies[subnets[0]]

    def use(self, subnet: Subnet) -> None:
        self.now = self.copies[subnet]

    def run(self, batch: torch.Tensor) -> None:
        self.now(batch)


WAYS: dict[str, Callable[[Supernet, Sequence[Subnet]], Way]] = {"in place": InPlace, "copies": Apart}


def a_supernet(subnets: Sequence[Subnet]) -> Supernet:
    """With first weights and the statistics of some noise: every number is as costly as a trained one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    supernet = Supernet(build(LARGE_SPACE.architecture, LARGE).eval(), LARGE_SPACE)
    for subnet in subnets:
        with supernet.collecting(subnet):
            supernet(supernet.example.repeat(2, 1, 1))
    return supernet


def spent_us(*steps: Callable[[], object]) -> float:
    begin = time.thread_time_ns()
    for step in steps:
        step()
    return (time.thread_time_ns() - begin) / 1e3


def warm(way: Way, subnets: Sequence[Subnet], batch: torch.Tensor) -> dict[str, dict[str, list[float]]]:
    """Microseconds of every batch: `stay`, `switch`, and of every switch alone."""
    told: dict[str, dict[str, list[float]]] = {
        s.name: {"stay": [], "switch": [], "alone": []} for s in subnets
    }
    for subnet in subnets * 2:
        way.use(subnet)
        way.run(batch)
    for i in range(BATCHES):
        for k, subnet in enumerate(subnets):
            other = subnets[(k + 1 + i % (len(subnets) - 1)) % len(subnets)]

            def stay(subnet: Subnet = subnet) -> None:
                way.use(subnet)
                way.run(batch)
                told[subnet.name]["stay"].append(spent_us(partial(way.run, batch)))

            def switch(subnet: Subnet = subnet, other: Subnet = other) -> None:
                way.use(other)
                way.run(batch)
                steps = partial(way.use, subnet), partial(way.run, batch)
                told[subnet.name]["switch"].append(spent_us(*steps))

            for step in (stay, switch) if i % 2 else (switch, stay):
                step()
            turns = (other, subnet) * (IN_A_RUN // 2)
            told[subnet.name]["alone"].append(spent_us(*(partial(way.use, s) for s in turns)) / IN_A_RUN)
    return told


def first_uses(name: str, rows: int, seed: int, out: Any) -> None:
    """In a process of its own: (first, second) switch and batch of every subnet, microseconds, in random order."""
    subnets = [Subnet.parse(one) for one in NAMES]
    supernet = statistics_without_a_pass(subnets)
    way = WAYS[name](supernet, subnets)
    batch = noise(LARGE["shape"]).repeat(rows, 1, 1)  # type: ignore[arg-type]
    told = {}
    with torch.inference_mode():
        for i in np.random.default_rng(seed).permutation(len(subnets)):
            step = partial(way.use, subnets[i]), partial(way.run, batch)
            told[subnets[i].name] = spent_us(*step), spent_us(*step)
    out.send(told)


def statistics_without_a_pass(subnets: Sequence[Subnet]) -> Supernet:
    """As `a_supernet`, but no subnet has run in this process: the first use is the first of everything."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    supernet = Supernet(build(LARGE_SPACE.architecture, LARGE).eval(), LARGE_SPACE)
    for subnet in subnets:
        table = {}
        for name in supernet.norm_layers:
            stage = int(name.split(".")[1]) if name.startswith("stages.") else 0
            kept = kept_units(subnet.widths[stage], LARGE["channels"][stage])  # type: ignore[index]
            table[name] = (torch.zeros(kept), torch.ones(kept))
        supernet.keep_norms(subnet, table)
    return supernet


def cold(name: str, rows: int) -> dict[str, dict[str, float]]:
    told: dict[str, list[tuple[float, float]]] = {one: [] for one in NAMES}
    for seed in range(COLD):
        here, there = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(
            target=first_uses, args=(name, rows, seed, there)
        )
        process.start()
        there.close()
        for one, pair in here.recv().items():
            told[one].append(pair)
        process.join()
    return {
        one: dict(zip(("first_us", "second_us"), np.median(pairs, axis=0).tolist(), strict=True))
        for one, pairs in told.items()
    }


def separate(
    supernet: Supernet, subnets: Sequence[Subnet], batch: torch.Tensor
) -> dict[str, dict[str, float]]:
    """Medians of loading each subnet as a model of its own."""
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        for subnet in subnets:
            path = Path(folder) / f"{subnet.name}.safetensors"
            alone = extract(supernet, subnet)
            save_file({name: part.contiguous() for name, part in alone.state_dict().items()}, path)
            loads = []
            for _ in range(LOADS):
                read_us = spent_us(partial(load_file, path))
                made: list[torch.nn.Module] = []
                load_us = spent_us(partial(load_into, made, subnet, path))
                run = partial(made[0], batch)
                loads.append((read_us, load_us, spent_us(run), spent_us(run)))
            read_us, load_us, first_us, batch_us = np.median(loads, axis=0).tolist()
            told[subnet.name] = {
                "bytes": path.stat().st_size,
                "read_us": read_us,
                "load_us": load_us,
                "first_us": first_us,
                "loads_per_batch": (load_us + first_us) / batch_us,
            }
    return told


def load_into(made: list[torch.nn.Module], subnet: Subnet, path: Path) -> None:
    """Append the subnet's plain network, without first weights of its own, filled from its file."""
    channels = [kept_units(w, c) for w, c in zip(subnet.widths, LARGE["channels"], strict=True)]  # type: ignore[arg-type]
    with torch.device("meta"):
        network = build(
            LARGE_SPACE.architecture, {**LARGE, "channels": channels, "blocks": list(subnet.depths)}
        )
    network.load_state_dict(load_file(path), assign=True)
    made.append(network.eval())


def measured(rows: int) -> dict[str, Any]:
    subnets = [Subnet.parse(name) for name in NAMES]
    supernet = a_supernet(subnets)
    batch = noise(LARGE["shape"]).repeat(rows, 1, 1)  # type: ignore[arg-type]
    said: dict[str, dict[str, dict[str, list[float]]]] = {}
    ways = {name: way(supernet, subnets) for name, way in WAYS.items()}
    with torch.inference_mode():
        for _ in range(REPEATS):  # the ways in turn, so that the machine's load meets them alike
            for name, way in ways.items():
                for subnet, lists in warm(way, subnets, batch).items():
                    kept = said.setdefault(name, {}).setdefault(subnet, {key: [] for key in lists})
                    for key, values in lists.items():
                        kept[key] += values
        apart = separate(supernet, subnets, batch)
    return {
        "rows": rows,
        "ways": {
            name: {
                subnet: summary(lists) | colds[subnet]
                for colds in [cold(name, rows)]
                for subnet, lists in of_subnets.items()
            }
            for name, of_subnets in said.items()
        },
        "separate": apart,
    }


def summary(lists: dict[str, list[float]]) -> dict[str, float]:
    """Median and 99th percentile of each; `added` is the difference of the two medians, and of the two percentiles."""
    told = {}
    for key, values in lists.items():
        told[f"{key}_us"], told[f"{key}_p99_us"] = np.quantile(values, (0.5, 0.99)).tolist()
    for end in ("us", "p99_us"):
        told[f"added_{end}"] = told[f"switch_{end}"] - told[f"stay_{end}"]
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.add_argument("--rows", type=int, default=1, help="of a batch")
    given = parser.parse_args()
    table = measured(given.rows)
    if given.json:
        print(json.dumps(table))
        return
    print(
        f"microseconds of CPU: median (99th percentile) of batches of {given.rows}; {torch.__version__}, one thread"
    )
    head = f"{'':12}{'subnet':>14}{'same again':>18}{'after another':>18}{'added':>16}{'switch alone':>16}"
    print(f"{head}{'first use':>12}{'second':>10}")
    for way, of_subnets in table["ways"].items():
        for subnet, cell in of_subnets.items():
            pairs = [
                f"{cell[f'{key}_us']:.{digits}f} ({cell[f'{key}_p99_us']:.{digits}f})"
                for key, digits in (("stay", 0), ("switch", 0), ("added", 0), ("alone", 1))
            ]
            print(
                f"{way:12}{subnet:>14}{pairs[0]:>18}{pairs[1]:>18}{pairs[2]:>16}{pairs[3]:>16}"
                f"{cell['first_us']:>12.0f}{cell['second_us']:>10.0f}"
            )
    print(
        f"\n{'separate model':>26}{'MB':>8}{'read':>9}{'load':>9}{'first batch':>14}{'load + first / a batch':>25}"
    )
    for subnet, cell in table["separate"].items():
        print(
            f"{subnet:>26}{cell['bytes'] / 1e6:>8.1f}{cell['read_us']:>9.0f}{cell['load_us']:>9.0f}"
            f"{cell['first_us']:>14.0f}{cell['loads_per_batch']:>24.1f}x"
        )


if __name__ == "__main__":
    main()
