"""One row through a model, or through each subnet of a supernet, in a process that is thrown away."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import numpy as np

from peekserve.domain.application import Application, Variant
from peekserve.errors import PeekserveError
from peekserve.runtimes.base import Runtime

# What went wrong with each of some variants that become resident together; empty when nothing did.
Probe = Callable[[Application, Sequence[Variant]], tuple[str, ...]]
PATIENCE_S = 120.0

# What a row of zeros in an absurd shape ends with.
_NO_ROW = (MemoryError, ValueError, OverflowError)


def probe_here(application: Application, variants: Sequence[Variant]) -> tuple[str, ...]:
    """Load the first in this process, and with it the others; run one row of zeros through each, in the smallest
    shape bucket."""
    try:
        from peekserve.runtimes.onnx import OnnxRuntime
    except ImportError as error:
        return (f"cannot be tried: {error}; pip install 'peekserve[serve]'",) * len(variants)
    runtime = OnnxRuntime()
    try:
        runtime.load(variants[0], len(application.classes))
    except PeekserveError as error:
        return (str(error),) * len(variants)
    return tuple(_fault(application, variant, runtime) for variant in variants)


def _fault(application: Application, variant: Variant, runtime: Runtime) -> str:
    known = {spec.name: spec for spec in application.inputs}
    classes = len(application.classes)
    try:
        rows = {n: np.zeros((1, *known[n].row_shape(0)), known[n].dtype) for n in variant.needs}
        scores = runtime.run(variant, classes, rows)
    except PeekserveError as error:
        return str(error)
    except _NO_ROW as error:
        return f"cannot be given one row: {error}"
    if scores.shape != (1, classes):
        return f"gives scores of shape {list(scores.shape)}; {classes} classes need [1, {classes}]"
    return ""


@contextmanager
def probing() -> Iterator[Probe]:
    """A probe that lives in one spare process, and in a new one after a model has brought that down."""
    pools: list[ProcessPoolExecutor] = []

    def probe(application: Application, variants: Sequence[Variant]) -> tuple[str, ...]:
        if not pools:
            pools.append(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
        try:
            return pools[-1].submit(probe_here, application, variants).result(PATIENCE_S)
        except BrokenProcessPool:
            pools.pop().shutdown(wait=False)
            fault = "brings its process down when it is loaded or run"
        except TimeoutError:
            _end(pools.pop())
            fault = f"gives no answer in {PATIENCE_S:g} s"
        except _NO_ROW as error:
            fault = f"cannot be loaded: {error}"
        return (fault,) * len(variants)

    try:
        yield probe
    finally:
        for pool in pools:
            pool.shutdown()


def _end(pool: ProcessPoolExecutor) -> None:
    """Kill a pool whose one process hangs: shutdown would wait for it."""
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=False)
