"""Nexus' squishy bin packing: sessions into duty cycles, one for each worker.

A session that asks for more than a worker can do gets whole workers. What is left over is a node by itself, with the
largest batch that is gathered and run within its deadline; then nodes are merged, best fit decreasing: two sessions
share a worker in the shorter of their cycles, with batches shrunk to what comes in that time, if both keep their
deadlines and the worker has the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from peekserve.policies.base import Floats

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Session:
    """`key`: lane and variant. `latency_s`: f8[b + 1], by batch size, up to the largest with 2 latency <= deadline."""

    key: Key
    rate: float
    deadline_s: float
    latency_s: Floats
    load_s: float = 0.0
    bytes: float = 0.0

    @property
    def most(self) -> int:
        return len(self.latency_s) - 1


@dataclass(frozen=True, slots=True)
class Node:
    """What one worker does: each session in turn, with a batch of so many, once every `duty_s`. `busy_s`: how much of
    that is work."""

    sessions: tuple[Session, ...]
    batches: tuple[int, ...]
    duty_s: float
    busy_s: float

    @property
    def occupancy(self) -> float:
        return round(self.busy_s / self.duty_s, 12)


def largest(latency_s: Floats, deadline_s: float) -> int:
    """The largest batch with 2 latency(b) <= deadline; 1 where none is. `latency_s`: f8[most + 1].

    >>> largest(np.array([0.0, 0.010, 0.015, 0.020]), 0.030)
    2
    """
    return max(int(np.count_nonzero(2.0 * latency_s[1:] <= deadline_s)), 1)


def pack(sessions: Sequence[Session], budget: float) -> list[Node]:
    """Whole workers for saturated sessions, duty cycles for the rest; the busiest first. `budget`: bytes of a
    worker."""
    whole, rest = [], []
    for session in sessions:
        full_s = float(session.latency_s[session.most])
        many = int(session.rate * full_s / session.most + 1e-9)
        whole += [Node((session,), (session.most,), full_s, full_s)] * many
        left = session.rate - many * session.most / full_s
        if left > 1e-9:
            rest.append(_alone(session, left))
    rest.sort(key=lambda node: (-node.occupancy, node.sessions[0].key))
    nodes: list[Node] = []
    for node in rest:
        merged = [(i, both) for i, other in enumerate(nodes) if (both := _merged(other, node, budget))]
        if merged:
            i, both = max(merged, key=lambda found: (found[1].occupancy, -found[0]))
            nodes[i] = both
        else:
            nodes.append(node)
    nodes.sort(key=lambda node: (-node.occupancy, node.sessions[0].key))
    return whole + nodes


def fitted(sessions: Sequence[Session], budget: float, workers: int) -> list[Node]:
    """A packing for at most so many workers, with all rates multiplied by the largest factor at which there is one.

    Where there is none at 1/1024 of the demand, the busiest nodes of that.
    """

    def at(factor: float) -> list[Node]:
        return pack([replace(s, rate=s.rate * factor) for s in sessions], budget)

    low, high = 2.0**-10, 2.0**10
    best = at(low)
    if len(best) > workers:
        return best[:workers]
    for _ in range(20):
        middle = (low * high) ** 0.5
        found = at(middle)
        if len(found) <= workers:
            low, best = middle, found
        else:
            high = middle
    return best


def _alone(session: Session, rate: float) -> Node:
    """The largest batch that is gathered and run within the deadline: latency(b) + b / rate <= deadline."""
    own = replace(session, rate=rate)
    sizes = np.arange(1, session.most + 1)
    kept = np.flatnonzero(session.latency_s[1:] + sizes / rate <= session.deadline_s)
    size = int(kept[-1]) + 1 if len(kept) else 1
    one_s = float(session.latency_s[size])
    # A seldom asked session cannot wait for company: its cycle is what the deadline leaves.
    duty_s = size / rate if len(kept) else max(session.deadline_s - one_s, one_s)
    if duty_s < one_s:  # nearly saturated: such batches would be too small to keep up
        full_s = float(session.latency_s[session.most])
        return Node((own,), (session.most,), full_s, full_s)
    return Node((own,), (size,), duty_s, one_s)


def _merged(one: Node, two: Node, budget: float) -> Node | None:
    """Both on one worker, in the shorter cycle of the two, with batches to match; None where that cannot be."""
    sessions = (*one.sessions, *two.sessions)
    duty_s = min(one.duty_s, two.duty_s)
    batches = tuple(max(ceil(duty_s * s.rate - 1e-9), 1) for s in sessions)
    if any(b > s.most for b, s in zip(batches, sessions, strict=True)):
        return None
    swaps = sum(s.bytes for s in sessions) > budget
    times = [
        float(s.latency_s[b]) + (s.load_s if swaps else 0.0) for b, s in zip(batches, sessions, strict=True)
    ]
    if sum(times) > duty_s or any(duty_s + t > s.deadline_s for t, s in zip(times, sessions, strict=True)):
        return None
    return Node(sessions, batches, duty_s, sum(times))
