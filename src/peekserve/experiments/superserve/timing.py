"""Measures what every subnet costs on this machine: `python -m peekserve.experiments.superserve.timing [NAME ...]`.

Through the runtime that serves (runtimes/onnx.py), over graphs exported for the purpose: all calibrated subnets from
one file of weights, and each separate model from its own file. Subnets and batch sizes come in a new random order in
every round, so that a batch nearly always follows one of another subnet, as when a policy switches, and a change of
the machine's load meets all alike. Medians and 95th percentiles over the rounds; a load is the session's making and its
first batch of one row, the median of a few. Inputs are noise of the right shape: dense networks take no less time for
it.

Run it when nothing else runs, and say so with `--quiet`: then it goes by the wall clock. Without, it counts the time
that the processor spent on it, which leaves out what others took but not what they did to its caches; the file that it
adds to says which was the case.
Needs the extra `train`, for the export.
"""

import argparse
import importlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from peekserve.clock import Clock, WallClock
from peekserve.domain.application import Variant
from peekserve.domain.tensors import InputMap, OutputForm, OutputMap
from peekserve.errors import DataUnavailable
from peekserve.experiments.superserve.lab import TIMINGS, Timed, Timings, read_timings
from peekserve.experiments.superserve.record import NAMES, SOURCES, load
from peekserve.profiling.device import fingerprint
from peekserve.profiling.fit import latency_curve
from peekserve.profiling.measure import Stopwatch
from peekserve.runtimes.base import Inputs, Runtime
from peekserve.runtimes.onnx import OnnxRuntime

if TYPE_CHECKING:
    from peekserve.supernets.storage import Description

BATCHES = (1, 2, 4, 8, 12, 16, 32)
ROUNDS, LOADS = 60, 5
_SEED = 71
_MAPS = (InputMap("x", "x"),)
_OUTPUT = OutputMap("logits", OutputForm.LOGITS)


class CoreClock:
    """Seconds that a core spent on this thread."""

    def now(self) -> float:
        return time.thread_time()


def alternated(
    variants: Sequence[Variant],
    classes: int,
    row: tuple[int, ...],
    runtime: Runtime,
    clock: Clock,
    rounds: int = ROUNDS,
    batches: Sequence[int] = BATCHES,
) -> dict[str, dict[int, list[float]]]:
    """Variant -> batch size -> seconds of each round. All weights must be resident. The first round does not count."""
    rng = np.random.default_rng(_SEED)
    noise = {b: {"x": rng.standard_normal((b, *row)).astype(np.float32)} for b in batches}
    stopwatch = Stopwatch(runtime, clock)
    spent: dict[str, dict[int, list[float]]] = {v.name: {b: [] for b in batches} for v in variants}
    turns = [(v, b) for v in variants for b in batches]
    for number in range(rounds + 1):
        for i in rng.permutation(len(turns)).tolist():
            variant, batch = turns[i]
            seconds = stopwatch.run(variant, classes, noise[batch])
            if number:
                spent[variant.name][batch].append(seconds)
    return spent


def loaded_s(variant: Variant, classes: int, one: Inputs, runtime: Runtime, clock: Clock) -> float:
    """The median of a few loads with a batch of one each; it stays loaded."""
    stopwatch, taken = Stopwatch(runtime, clock), []
    for number in range(LOADS):
        if number:
            stopwatch.unload(variant.weights)
        seconds, _ = stopwatch.load(variant, classes)
        taken.append(seconds + stopwatch.run(variant, classes, one))
    return median(taken)


def measured(
    folder: Path, subnets: Sequence[str], separate: Sequence[str], clock: Clock, rounds: int = ROUNDS
) -> tuple[dict[str, Timed], dict[str, Timed]]:
    """Times of these subnets of the supernet in `folder`, and of these separate models beside it (`separate/*.onnx`).
    A subnet's load is that of its separate model's kind: a session of its own from a file of its own."""
    # Torch is for the export alone.
    from peekserve.supernets.export import export
    from peekserve.supernets.space import Subnet
    from peekserve.supernets.storage import load as load_supernet
    from peekserve.supernets.storage import read_description

    described: Description = read_description(folder)
    classes, row = len(described.classes), described.row
    one = {"x": np.zeros((1, *row), np.float32)}
    with tempfile.TemporaryDirectory() as place:
        export(load_supernet(folder), [Subnet.parse(name) for name in subnets], Path(place))
        runtime = OnnxRuntime()
        shared = [_variant(name, "supernet", place, subnet=name) for name in subnets]
        together_s = loaded_s(shared[0], classes, one, runtime, clock)
        own = [
            _variant(f"separate.{name}", f"separate/{name}", str(folder / "separate" / f"{name}.onnx"))
            for name in separate
        ]
        loads = {v.name: loaded_s(v, classes, one, runtime, clock) for v in own}
        spent = alternated([*shared, *own], classes, row, runtime, clock, rounds)
    curves = {name: latency_curve(samples) for name, samples in spent.items()}
    # All subnets are loaded as one; each has its part of that.
    each_s = together_s / len(shared)
    return (
        {v.name: Timed(curves[v.name], each_s) for v in shared},
        {name: Timed(curves[v.name], loads[v.name]) for name, v in zip(separate, own, strict=True)},
    )


def _variant(name: str, weights: str, model: str, subnet: str = "") -> Variant:
    return Variant(
        name,
        weights,
        weights,
        inputs=_MAPS,
        output=_OUTPUT,
        model=model,
        max_batch=max(BATCHES),
        subnet=subnet,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", choices=[*NAMES, []], help="all that are recorded, if none is named"
    )
    parser.add_argument("--out", type=Path, default=TIMINGS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quiet", action="store_true", help="nothing else runs on this machine now")
    given = parser.parse_args()
    try:
        known = read_timings(given.out)
    except DataUnavailable:
        known = Timings(fingerprint(), given.quiet, {}, {})
    for name in given.names or NAMES:
        application, supernet = SOURCES[name]
        home: Path = importlib.import_module(f"peekserve.applications.{application}.supernet").HOME
        try:
            scored = load(name)
        except DataUnavailable as error:
            print(f"{name}: {error}")
            continue
        subnets, separate = measured(
            home / supernet,
            scored.subnets,
            scored.separate,
            WallClock() if given.quiet else CoreClock(),
            given.rounds,
        )
        known = replace(
            known,
            machine=fingerprint(),
            # One that was measured among others spoils the word for all.
            quiet=given.quiet and (known.quiet or not known.subnets or set(known.subnets) == {name}),
            subnets={**known.subnets, name: subnets},
            separate={**known.separate, name: separate},
        )
        known.write(given.out)
        print(f"{name}: {len(subnets)} subnets and {len(separate)} separate models; {given.out}")


if __name__ == "__main__":
    main()
