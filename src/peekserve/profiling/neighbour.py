"""The rest of the machine, as busy as in service: a process that keeps the front's core at work while we measure.

A worker measured on an idle machine looks faster than it will be: caches, memory and (on small boxes) the clock of
the cores are shared with the front. `python -m peekserve.profiling.neighbour CORE...` is that process.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import peekserve


@contextmanager
def busy(cores: Sequence[int]) -> Iterator[None]:
    """Something runs on `cores` until the block ends; nothing does when we have none of them."""
    mine = sorted(set(cores) & os.sched_getaffinity(0))
    if not mine:
        yield
        return
    package = str(Path(next(iter(peekserve.__path__))).parent)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "peekserve.profiling.neighbour", *map(str, mine)],
        stdin=subprocess.PIPE,  # closed when we end, whichever way: then it ends too
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdout.read(1)  # it is at work now
        yield
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def _work(cores: list[int]) -> None:
    """What a front does, more or less: small objects, small arrays, and now and then a look at its doors."""
    os.sched_setaffinity(0, cores)
    os.set_blocking(0, False)
    os.write(1, b"!")
    rng = np.random.default_rng(0)
    table = rng.random((500, 16))
    while True:
        for _ in range(50):
            order = np.argsort(table @ rng.random(16))
            {f"r{i}": (i, float(table[i, 0])) for i in order[:100].tolist()}
        try:
            if not os.read(0, 1):
                return
        except BlockingIOError:
            pass


if __name__ == "__main__":
    _work([int(core) for core in sys.argv[1:]])
