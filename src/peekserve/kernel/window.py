"""A window as plain arrays, for `exact.py`: the rows that wait, what may serve them, and the machines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Weights that are resident, the least recently used first.
Held = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lane:
    """`weights`, `max_batch`: i8[V], of each variant."""

    weights: Sequence[int]
    max_batch: Sequence[int]


@dataclass(frozen=True, slots=True)
class Machine:
    """One worker. `latency_s`: one f8[V, max batch + 1] for each lane. `load_s`, `bytes`: f8[M]. `free_s`: seconds
    from now. `resident`: weights, the least recently used first. `budget`: bytes."""

    latency_s: tuple[Floats, ...]
    load_s: Floats
    bytes: Floats
    budget: float
    free_s: float
    resident: Held


@dataclass(frozen=True, slots=True)
class Window:
    """n rows. `lane`: i8[n]. `due_s`: f8[n], seconds from now. `kind`, `width_s`: i8[n], f8[n], the penalty, as in
    `loops.penalty`, with `tables` = (x, p, start). `accuracy`: f8[n, V]; `allowed`: bool[n, V]. `without`: f8[n], 0 or
    more, what a row is worth that gets no place. `drop`: no place for a row that is late and loses all."""

    lanes: tuple[Lane, ...]
    machines: tuple[Machine, ...]
    lane: Ints
    due_s: Floats
    kind: Ints
    width_s: Floats
    accuracy: Floats
    allowed: npt.NDArray[np.bool_]
    without: Floats
    tables: tuple[Floats, Floats, Ints]
    drop: bool


def used(machine: Machine, held: Held, weights: int) -> Held:
    """The residency after a batch that needs these weights: least recently used ones make room."""
    if weights in held:
        return (*(h for h in held if h != weights), weights)
    left = list(held)
    size = sum(float(machine.bytes[h]) for h in left)
    while left and size + float(machine.bytes[weights]) > machine.budget:
        size -= float(machine.bytes[left.pop(0)])
    return (*left, weights)
