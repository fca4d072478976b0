"""What a policy is: one method, plan(view); and all that it may see.

A view is plain arrays, read-only, one entry for each waiting row in order of arrival: nothing in it is an
object per request, so that 500 waiting rows cost no 500 objects. A *lane* is the unit that can share a batch:
an application and a shape bucket (one lane for each application where no length varies).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.domain.messages import Plan
from peekserve.domain.utility import PenaltyTables

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LaneView:
    """What is the same for all rows of one lane.

    `profiled`: float64 [V], recall . test-set frequencies of each variant, class-weighted: what a
    data-oblivious policy believes. `weights`: int32 [V], which weights each variant needs. `max_batch`: int32
    [V]. `application`: index of its application; lanes of one application differ only in their shape bucket.
    """

    name: str
    application: int
    bucket: int
    variants: tuple[str, ...]
    profiled: Floats
    weights: Ints
    max_batch: Ints


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker that can take work.

    `free_at`: when it should have done all that was committed to it, never before now. `resident`: indices of
    the weights it will hold by then, the least recently used first. `latency_s`: one float64 [V, max batch +
    1] for each lane, seconds by number of rows. `load_s`: float64 [W], seconds to make weights
    resident; `bytes`: float64 [W]. `budget`: bytes that may be resident at once.
    """

    name: str
    free_at: float
    resident: tuple[int, ...]
    budget: float
    latency_s: tuple[Floats, ...]
    load_s: Floats
    bytes: Floats


@dataclass(frozen=True, slots=True)
class View:
    """All that a policy may see, `now` included. Columns have one entry for each of the n waiting rows.

    `lane`: int32. `due_at`: float64, what the plan must keep (margins are taken off already). `deadline_s`: float64,
    the relative deadline. `penalty`, `width_s`: int32 and float64, the kind (PenaltyKind) and its width or level; for
    a table, `width_s` is its index in `tables`. `accuracy`: float64 [n, V], the expected accuracy of each variant
    under the row's belief, class-weighted; V is the largest number of variants of any lane, and what lies beyond a
    lane's own is 0. `allowed`: bool [n, V], false where a variant lacks an input or the client pinned another.
    `instant`: float64, what is expected of the answer that can be given at once, in the same unit: the peek's own, by
    its profile or by its calibrated belief, or what a model has said already; nan where there is none yet. `likely`:
    int32, the class whose posterior mean passes one half, or -1. `arrived_at`: float64.
    """

    now: float
    lanes: tuple[LaneView, ...]
    workers: tuple[WorkerView, ...]
    lane: Ints
    arrived_at: Floats
    due_at: Floats
    deadline_s: Floats
    penalty: Ints
    width_s: Floats
    tables: PenaltyTables
    accuracy: Floats
    allowed: Bools
    instant: Floats
    likely: Ints

    @property
    def size(self) -> int:
        return len(self.lane)


class Policy(Protocol):
    """A choice of variant, order and batch for every waiting row. Pure: the same view, the same plan, on any
    machine."""

    def plan(self, view: View) -> Plan: ...


@dataclass(frozen=True, slots=True)
class Switches:
    """What every policy that reads an accuracy can be given (SneakPeek, sections 4.2 and 5.3; B.1 of our
    notes).

    `aware`: believe the row's own expected accuracies instead of the profile's. `short_circuit`: the peek's
    answer is a candidate of latency 0. `drop`: rows that nothing can finish in time take no place, and rows
    that would be late in a batch and worthless do not go into it. `merge`: neighbours of one variant share a
    batch.
    """

    aware: bool = False
    short_circuit: bool = False
    drop: bool = True
    merge: bool = True


class PolicyMaker(Protocol):
    """Makes a policy from its switches and its own options."""

    def __call__(self, switches: Switches, **options: float) -> Policy: ...
