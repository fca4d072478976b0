"""Measuring one variant: how long its batches take, and how often it is right.

Timings count where they will be used: in a worker's process, on its core, with the front's core at work.

    with RemoteRuntime(slot, application.inputs) as runtime, busy(front_cores):
        timing = measure_timing(variant, classes, samples, WorkerStopwatch(runtime), clock=WallClock())
        runtime.load(variant, classes)
        quality, scores = measure_quality(variant, classes, labelled, runtime)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.clock import Clock
from peekserve.domain.application import Variant
from peekserve.domain.profile import Quality, Timing
from peekserve.errors import InvalidData
from peekserve.profiling import fit
from peekserve.runtimes.base import Inputs, Runtime, Scores

BATCH_SIZES = (1, 2, 4, 8, 16, 32)

Progress = Callable[[str], None]


class Timed(Protocol):
    """Something that can be timed: seconds and bytes of one load, seconds of one batch."""

    def load(self, variant: Variant, classes: int) -> tuple[float, int]: ...

    def run(self, variant: Variant, classes: int, inputs: Inputs) -> float: ...

    def unload(self, weights: str) -> None: ...


class Stopwatch:
    """A runtime in this very process, timed by a clock (Timed)."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock

    def load(self, variant: Variant, classes: int) -> tuple[float, int]:
        started_at = self._clock.now()
        held = self._runtime.load(variant, classes)
        return self._clock.now() - started_at, held

    def run(self, variant: Variant, classes: int, inputs: Inputs) -> float:
        started_at = self._clock.now()
        self._runtime.run(variant, classes, inputs)
        return self._clock.now() - started_at

    def unload(self, weights: str) -> None:
        self._runtime.unload(weights)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure. At each batch size: `least` batches, then on until `most` or until `seconds` are spent.

    `loads`: how often the model is loaded for its load time.
    """

    least: int = 5
    most: int = 200
    seconds: float = 1.5
    loads: int = 8

    @classmethod
    def quick(cls) -> "Effort":
        """About a fifth of a second for a variant of a few milliseconds."""
        return cls(least=3, most=30, seconds=0.03, loads=1)


def measure_timing(
    variant: Variant,
    classes: int,
    samples: Sequence[Inputs],
    timed: Timed,
    *,
    effort: Effort | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    runtime: str = "",
    clock: Clock,
    progress: Progress = lambda step: None,
) -> Timing:
    """What a variant costs where `timed` runs it.

    `samples`: one for each shape bucket, the application's inputs as [N, *row] arrays with N of 1 or more; batches
    are cut from them, around again when they run out. `batch_sizes` beyond the variant's own largest are left out,
    and that one is measured always. `clock` only bounds the effort. The first batch of each size is not counted.
    Raises InvalidModel and BackendError from the runtime, InvalidData when there are no samples.
    """
    effort = effort or Effort()
    if not samples:
        raise InvalidData(f"variant {variant.name!r}: no sample inputs to measure it with")
    loads = []
    for turn in range(max(effort.loads, 1)):
        if turn:
            timed.unload(variant.weights)
        progress(f"{variant.name}: load")
        loads.append(timed.load(variant, classes))
    sizes = sorted({b for b in batch_sizes if b < variant.max_batch} | {variant.max_batch})
    curves = []
    for bucket, inputs in enumerate(samples):
        by_size: dict[int, list[float]] = {}
        for size in sizes:
            progress(f"{variant.name}: bucket {bucket}, batch {size}")
            batches = batches_of(inputs, size)
            timed.run(variant, classes, next(batches))
            once = partial(_next, timed, variant, classes, batches)
            by_size[size] = _repeat(once, effort, clock)
        curves.append(fit.latency_curve(by_size))
    timed.unload(variant.weights)
    # The first load takes most: the file is not in the system's cache yet. The scheduler meets the later ones.
    later = [s for s, _ in loads[1:]]
    return Timing(
        tuple(curves),
        median(s for s, _ in loads),
        max(held for _, held in loads),
        runtime,
        load_p95_s=float(np.quantile(later, 0.95, method="higher")) if len(later) > 1 else 0.0,
    )


def _next(timed: Timed, variant: Variant, classes: int, batches: Iterator[Inputs]) -> float:
    return timed.run(variant, classes, next(batches))


def _repeat(once: Callable[[], float], effort: Effort, clock: Clock) -> list[float]:
    until = clock.now() + effort.seconds
    taken: list[float] = []
    while len(taken) < effort.least or (len(taken) < effort.most and clock.now() < until):
        taken.append(once())
    return taken


def batches_of(inputs: Inputs, size: int) -> Iterator[Inputs]:
    """Batches of `size` rows without end: the next rows each time, from the top again after the last."""
    total = len(next(iter(inputs.values())))
    start = 0
    while True:
        rows = np.arange(start, start + size) % total
        yield {name: x[rows] for name, x in inputs.items()}
        start = (start + size) % total


def measure_quality(
    variant: Variant,
    classes: int,
    inputs: Sequence[tuple[Inputs, npt.NDArray[np.integer]]],
    runtime: Runtime,
    *,
    batch: int = 32,
    progress: Progress = lambda step: None,
) -> tuple[Quality, Scores]:
    """How often a variant is right, class by class, on labelled data: (quality, scores float64 [n, C]).

    `inputs`: one (inputs, labels int [n]) for each shape bucket, since rows of different buckets do not stack; the
    scores follow in the same order. The weights must be resident.
    """
    scores: list[Scores] = []
    labels: list[npt.NDArray[np.integer]] = []
    size = min(batch, variant.max_batch)
    for arrays, truth in inputs:
        if any(len(x) != len(truth) for x in arrays.values()):
            shapes = {name: len(x) for name, x in arrays.items()}
            raise InvalidData(f"{len(truth)} labels for inputs of {shapes} rows")
        labels.append(truth)
        for start in range(0, len(truth), size):
            progress(f"{variant.name}: validation")
            rows = {name: x[start : start + size] for name, x in arrays.items()}
            scores.append(runtime.run(variant, classes, rows))
    if not scores:
        raise InvalidData(f"variant {variant.name!r}: no labelled data to measure it with")
    all_scores = np.concatenate(scores)
    return fit.quality(np.concatenate(labels), all_scores.argmax(axis=1), classes), all_scores


def steps(samples: Sequence[Inputs], batch_sizes: Sequence[int], max_batch: int, effort: Effort) -> int:
    """How often measure_timing calls `progress`: for a progress bar."""
    sizes = {b for b in batch_sizes if b < max_batch} | {max_batch}
    return max(effort.loads, 1) + len(samples) * len(sizes)
