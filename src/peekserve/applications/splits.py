"""Labelled data in four parts that have nobody and nothing in common."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peekserve.errors import InvalidData

PARTS = ("train", "reference", "validation", "test")


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of one part: `inputs[name]` is float32 [n, ...], `labels` int64 [n], `groups` int64 [n].

    A group is whatever must not be on both sides of a line: a writer, a subject, a stretch of a recording, a run of
    measurements. An input whose rows differ in length is zero-padded at its end to the longest, and `lengths[name]`
    (int64 [n]) says how much of each row is real.
    """

    inputs: dict[str, NDArray[np.float32]]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    lengths: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = {name: len(column) for name, column in self.columns().items()}
        for name, n in rows.items():
            if n != len(self.labels):
                raise InvalidData(f"{name!r} has {n} rows, but there are {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> "Split":
        """The chosen rows (indices or a mask), in the order given."""
        return Split(
            {name: values[chosen] for name, values in self.inputs.items()},
            self.labels[chosen],
            self.groups[chosen],
            {name: values[chosen] for name, values in self.lengths.items()},
        )

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """What is written to an npz file: the inputs by name, `NAME_length` where ragged, `labels`, `groups`."""
        lengths = {f"{name}_length": values for name, values in self.lengths.items()}
        return {**self.inputs, **lengths, "labels": self.labels, "groups": self.groups}

    def save(self, path: Path) -> None:
        np.savez(path, allow_pickle=False, **self.columns())

    @staticmethod
    def read(path: Path) -> "Split":
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        labels, groups = columns.pop("labels"), columns.pop("groups")
        lengths = {name[:-7]: columns.pop(name) for name in list(columns) if name.endswith("_length")}
        return Split(columns, labels, groups, lengths)


@dataclass(frozen=True, slots=True)
class Splits:
    """`train` fits the variants, `reference` is what the peek looks among, `validation` makes profiles, and `test`
    is only ever reported. The reference may be some of the training rows; no other two parts share a group."""

    train: Split
    reference: Split
    validation: Split
    test: Split

    def part(self, name: str) -> Split:
        parts: dict[str, Split] = {part: getattr(self, part) for part in PARTS}
        return parts[name]

    def save(self, directory: Path) -> None:
        """Write PART.npz for each part."""
        directory.mkdir(parents=True, exist_ok=True)
        for name in PARTS:
            self.part(name).save(directory / f"{name}.npz")

    @staticmethod
    def read(directory: Path) -> "Splits":
        return Splits(*(Split.read(directory / f"{name}.npz") for name in PARTS))


def a_few_of_each(split: Split, each: int, seed: int) -> Split:
    """At most `each` rows of every class, drawn with `seed`: a reference that its owner could label in an hour."""
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(split.labels == c))[:each] for c in np.unique(split.labels)]
    return split.rows(np.sort(np.concatenate(chosen)))
