"""The columns of the backlog: what is known of each row, by slot, and how they grow."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)

FREE, PENDING, WAITING, RUNNING = 0, 1, 2, 3

# A row's numbers lie side by side, so that one assignment writes them all: eight of its own would cost more than
# everything else that an arrival asks for.
REALS = (
    "arrived_at",
    "due_at",
    "told_at",
    "deadline_s",
    "quickest_s",
    "doom_at",
    "ready_at",
    "width_s",
    "instant",
    "floor",
    "bytes",
)
WHOLES = (
    "application",
    "lane",
    "penalty",
    "likely",
    "attempts",
    "first",
    "head",
    "degrades",
)


class Columns:
    """`variants`, `classes`: the most of any application."""

    state: npt.NDArray[np.int8]
    sequence: npt.NDArray[np.int64]
    application: npt.NDArray[np.int32]
    lane: npt.NDArray[np.int32]
    arrived_at: npt.NDArray[np.float64]
    due_at: npt.NDArray[np.float64]
    told_at: npt.NDArray[np.float64]
    deadline_s: npt.NDArray[np.float64]
    quickest_s: npt.NDArray[np.float64]
    doom_at: npt.NDArray[np.float64]
    ready_at: npt.NDArray[np.float64]
    penalty: npt.NDArray[np.int32]
    width_s: npt.NDArray[np.float64]
    allowed: npt.NDArray[np.bool_]
    theta: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    instant: npt.NDArray[np.float64]
    likely: npt.NDArray[np.int32]
    attempts: npt.NDArray[np.int32]
    first: npt.NDArray[np.int32]
    floor: npt.NDArray[np.float64]
    bytes: npt.NDArray[np.float64]
    gain: npt.NDArray[np.float64]
    work_s: npt.NDArray[np.float64]
    level: npt.NDArray[np.int32]
    head: npt.NDArray[np.int32]
    size: npt.NDArray[np.int32]
    degrades: npt.NDArray[np.int32]
    begun: npt.NDArray[np.bool_]
    granted: npt.NDArray[np.bool_]
    in_hand: npt.NDArray[np.bool_]
    looked: npt.NDArray[np.bool_]
    said: npt.NDArray[np.int16]
    gains: npt.NDArray[np.bool_]
    _reals: npt.NDArray[np.float64]
    _wholes: npt.NDArray[np.int32]

    def __init__(self, variants: int, classes: int, capacity: int) -> None:
        self._variants, self._classes = variants, classes
        self._capacity = 0
        self._free: list[int] = []
        self.request: list[str] = []
        self.row: list[int] = []
        self._grow(capacity)

    def _grow(self, capacity: int) -> None:
        old, n = self._capacity, capacity
        blank: dict[str, npt.NDArray[np.generic]] = {
            "state": np.zeros(n, np.int8),
            "sequence": np.zeros(n, np.int64),
            "_reals": np.zeros((n, len(REALS))),
            "_wholes": np.zeros((n, len(WHOLES)), np.int32),
            "allowed": np.zeros((n, self._variants), np.bool_),
            "theta": np.zeros((n, self._classes)),
            "accuracy": np.zeros((n, self._variants)),
            "begun": np.zeros(n, np.bool_),
            # Alone, because core/shedding.py reads them for all rows at once.
            "level": np.zeros(n, np.int32),
            "size": np.zeros(n, np.int32),
            "gain": np.zeros(n),
            "work_s": np.zeros(n),
            "granted": np.zeros(n, np.bool_),
            "in_hand": np.zeros(n, np.bool_),
            "looked": np.zeros(n, np.bool_),
            "said": np.zeros((n, self._variants), np.int16),
            "gains": np.zeros((n, self._variants), np.bool_),
        }
        for name, column in blank.items():
            if old:
                column[:old] = getattr(self, name)
            setattr(self, name, column)
        for i, name in enumerate(REALS):
            setattr(self, name, self._reals[:, i])
        for i, name in enumerate(WHOLES):
            setattr(self, name, self._wholes[:, i])
        self.request += [""] * (n - old)
        self.row += [0] * (n - old)
        self._free += list(range(n - 1, old - 1, -1))
        self._capacity = n

    def _widen(self, variants: int, classes: int) -> None:
        """An application with more variants or classes joined."""
        for name in ("allowed", "accuracy", "said", "gains"):
            setattr(self, name, _wider(getattr(self, name), variants))
        self.theta = _wider(self.theta, classes)
        self._variants, self._classes = max(variants, self._variants), max(classes, self._classes)


def _wider(column: npt.NDArray[Scalar], width: int) -> npt.NDArray[Scalar]:
    """The same rows with zeros beside them."""
    if width <= column.shape[1]:
        return column
    wide = np.zeros((len(column), width), column.dtype)
    wide[:, : column.shape[1]] = column
    return wide
