"""One row through one model, in a process that is thrown away."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import numpy as np

from peekserve.domain.application import Application, Variant
from peekserve.errors import PeekserveError

# What went wrong with a variant; empty when nothing did.
Probe = Callable[[Application, Variant], str]
PATIENCE_S = 120.0


def probe_here(application: Application, variant: Variant) -> str:
    """Load the model in this process and run one row of zeros in the smallest shape bucket."""
    try:
        from peekserve.runtimes.onnx import OnnxRuntime
    except ImportError as error:
        return f"cannot be tried: {error}; pip install 'peekserve[serve]'"
    runtime = OnnxRuntime()
    known = {spec.name: spec for spec in application.inputs}
    classes = len(application.classes)
    try:
        runtime.load(variant, classes)
        rows = {n: np.zeros((1, *known[n].row_shape(0)), known[n].dtype) for n in variant.needs}
        scores = runtime.run(variant, classes, rows)
    except PeekserveError as error:
        return str(error)
    if scores.shape != (1, classes):
        return f"gives scores of shape {list(scores.shape)}; {classes} classes need [1, {classes}]"
    return ""


@contextmanager
def probing() -> Iterator[Probe]:
    """A probe that lives in one spare process, and in a new one after a model has brought that down."""
    pools: list[ProcessPoolExecutor] = []

    def probe(application: Application, variant: Variant) -> str:
        if not pools:
            pools.append(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
        try:
            return pools[-1].submit(probe_here, application, variant).result(PATIENCE_S)
        except BrokenProcessPool:
            pools.pop().shutdown(wait=False)
            return "brings its process down when it is loaded or run"
        except TimeoutError:
            _end(pools.pop())
            return f"gives no answer in {PATIENCE_S:g} s"
        except (MemoryError, ValueError, OverflowError) as error:
            return f"cannot be given one row: {error}"

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
