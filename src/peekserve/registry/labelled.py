"""Labelled data (`validation.npz`, `reference.npz`), checked against the application that they belong to.

An archive holds one array [n, *row shape] for each input, `labels` (class indices or class names), for an
input whose length varies also `NAME_length` (whole numbers; without it every row is as long as the array),
and if the rows belong together in groups (subjects, recordings) `groups`.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Application
from peekserve.domain.tensors import Missing, TensorSpec, pad_to_bucket
from peekserve.errors import InvalidData

Array = npt.NDArray[np.generic]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labelled:
    """`inputs`: name -> [n, *row shape], as wide as the longest row where lengths vary, in the
    application's datatype. `lengths`: int64 [n] for each such input. `labels`: int64 [n], class indices.
    `groups`: [n] numbers or texts.
    """

    inputs: Mapping[str, Array]
    labels: Ints
    lengths: Mapping[str, Ints]
    groups: Array | None = None

    @property
    def rows(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.intp] | Sequence[int]) -> "Labelled":
        """The chosen rows, in the order given."""
        index = np.asarray(rows, dtype=np.intp)
        return Labelled(
            {name: values[index] for name, values in self.inputs.items()},
            self.labels[index],
            {name: values[index] for name, values in self.lengths.items()},
            None if self.groups is None else self.groups[index],
        )


def read_labelled(path: Path, application: Application) -> Labelled:
    """An archive's data; inputs that it lacks are absent. Raises InvalidData, with every fault that was
    found.
    """
    labelled, faults = examine(path, application)
    if labelled is None:
        raise InvalidData("\n".join(f"{path}: {fault}" for fault in faults))
    return labelled


def examine(path: Path, application: Application) -> tuple[Labelled | None, list[str]]:
    """The data, or None and all that is wrong with them."""
    try:
        arrays = _arrays(path)
    except InvalidData as error:
        return None, [str(error)]
    faults: list[str] = []
    labels = _labels(arrays.get("labels"), application.classes, faults)
    rows = -1 if labels is None else len(labels)
    inputs: dict[str, Array] = {}
    lengths: dict[str, Ints] = {}
    known = {"labels", "groups"}
    for spec in application.inputs:
        known |= {spec.name, f"{spec.name}_length"} if spec.buckets else {spec.name}
        if spec.name not in arrays:
            continue
        values = _fitting(arrays[spec.name], spec, rows, faults)
        if values is None:
            continue
        inputs[spec.name] = values
        if spec.buckets:
            length = _lengths(arrays.get(f"{spec.name}_length"), spec, values, faults)
            if length is not None:
                lengths[spec.name] = length
        faults.extend(_not_numbers(values, spec, lengths.get(spec.name)))
    if not any(spec.name in arrays for spec in application.inputs):
        named = ", ".join(spec.name for spec in application.inputs)
        faults.append(f"holds none of the inputs {named}; it has {', '.join(sorted(arrays)) or 'nothing'}")
    faults.extend(
        f"holds {name!r}, which is no input of {application.name!r}" for name in sorted(set(arrays) - known)
    )
    groups = arrays.get("groups")
    if rows >= 0 and groups is not None and (groups.shape != (rows,) or groups.dtype.kind not in "iuSU"):
        faults.append(f"groups are whole numbers or texts [{rows}], not {groups.dtype} {list(groups.shape)}")
    if faults or labels is None:
        return None, faults
    return Labelled(inputs, labels, lengths, groups), []


def bucketed(
    labelled: Labelled, application: Application
) -> list[tuple[int, npt.NDArray[np.intp], dict[str, Array]]]:
    """The rows by shape bucket: (bucket, indices of its rows, inputs padded to it), buckets rising.

    A row's bucket is the largest that any of its inputs asks for, by that row's own lengths alone.
    """
    specs = [spec for spec in application.inputs if spec.name in labelled.inputs]
    own = np.zeros(labelled.rows, dtype=np.intp)
    for spec in specs:
        if spec.buckets:
            own = np.maximum(own, np.searchsorted(spec.buckets, labelled.lengths[spec.name]))
    parts = []
    for bucket in np.unique(own).tolist():
        rows = np.flatnonzero(own == bucket)
        inputs = {spec.name: _padded(labelled, spec, rows, bucket) for spec in specs}
        parts.append((int(bucket), rows, inputs))
    return parts


def _padded(labelled: Labelled, spec: TensorSpec, rows: npt.NDArray[np.intp], bucket: int) -> Array:
    values = labelled.inputs[spec.name]
    if not spec.buckets:
        return values[rows]
    axis = spec.shape.index(-1)
    out = np.empty((len(rows), *spec.row_shape(bucket)), spec.dtype)
    for i, row in enumerate(rows.tolist()):
        length = int(labelled.lengths[spec.name][row])
        out[i] = pad_to_bucket(values[row].take(range(length), axis=axis), spec, bucket)
    return out


def _arrays(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise InvalidData("there is no such file")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InvalidData("is one array and not an archive of them: use numpy.savez")
        with archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError, MemoryError) as error:
        why = "it holds Python objects" if "allow_pickle" in str(error) else str(error).splitlines()[0]
        raise InvalidData(f"is no archive of plain arrays (npz): {why}") from None


def _labels(labels: Array | None, classes: Sequence[str], faults: list[str]) -> Ints | None:
    if labels is None:
        faults.append("holds no 'labels'")
        return None
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iuSU":
        faults.append(
            f"labels are class indices or names [n], n 1 or more, not {labels.dtype} {list(labels.shape)}"
        )
        return None
    if labels.dtype.kind in "SU":
        names = [str(n, "utf-8", "replace") if isinstance(n, bytes) else str(n) for n in labels.tolist()]
        unknown = sorted(set(names) - set(classes))
        if unknown:
            row = names.index(unknown[0])
            faults.append(
                f"unknown class {unknown[0]!r} in row {row} of labels; classes: {', '.join(classes)}"
            )
            return None
        return np.array([classes.index(n) for n in names], dtype=np.int64)
    numbers: npt.NDArray[Any] = labels
    out = np.flatnonzero((numbers < 0) | (numbers >= len(classes)))
    if len(out):
        faults.append(
            f"label {labels[out[0]]} in row {out[0]} is out of range: {len(classes)} classes have the labels 0 to "
            f"{len(classes) - 1} ({len(out)} such rows)"
        )
        return None
    return labels.astype(np.int64)


def _fitting(values: Array, spec: TensorSpec, rows: int, faults: list[str]) -> Array | None:
    """The array in the application's datatype, if its shape and kind fit."""
    wanted = f"[{'n' if rows < 0 else rows}, {', '.join('any' if s == -1 else str(s) for s in spec.shape)}]"
    fits = values.ndim == 1 + len(spec.shape) and all(
        want in (-1, have) for want, have in zip(spec.shape, values.shape[1:], strict=True)
    )
    if not fits or rows not in (-1, len(values)):
        faults.append(f"input {spec.name!r} has shape {list(values.shape)}; it needs {wanted}")
        return None
    if values.dtype.kind not in "biuf" or not np.can_cast(values.dtype, spec.dtype, "same_kind"):
        faults.append(f"input {spec.name!r} is {values.dtype}; it cannot become {spec.datatype}")
        return None
    return values.astype(spec.dtype, copy=False)


def _lengths(lengths: Array | None, spec: TensorSpec, values: Array, faults: list[str]) -> Ints | None:
    widest = values.shape[1 + spec.shape.index(-1)]
    if lengths is None:
        lengths = np.full(len(values), widest, np.int64)
    if lengths.shape != (len(values),) or lengths.dtype.kind not in "iu":
        faults.append(
            f"{spec.name}_length is whole numbers [{len(values)}], not {lengths.dtype} {list(lengths.shape)}"
        )
        return None
    top = min(widest, spec.buckets[-1])
    numbers: npt.NDArray[Any] = lengths
    out = np.flatnonzero((numbers < 1) | (numbers > top))
    if len(out):
        what = "the largest bucket" if top == spec.buckets[-1] else "the array's width"
        faults.append(f"{spec.name}_length is {lengths[out[0]]} in row {out[0]}; it is 1 to {top}, {what}")
        return None
    return lengths.astype(np.int64)


def _not_numbers(values: Array, spec: TensorSpec, lengths: Ints | None) -> list[str]:
    if spec.missing is Missing.MISSING or values.dtype.kind != "f":
        return []
    nan = ~np.isfinite(values)  # infinity is refused in requests too
    if lengths is not None:
        # What lies beyond a row's own length is filling, whatever it is.
        axis = 1 + spec.shape.index(-1)
        place = np.arange(values.shape[axis]).reshape((-1,) + (1,) * (values.ndim - axis - 1))
        nan &= place < lengths.reshape((-1,) + (1,) * (values.ndim - 1))
    rows = np.flatnonzero(nan.reshape(len(values), -1).any(axis=1))
    if not len(rows):
        return []
    return [
        f"input {spec.name!r} holds NaN or infinity in {len(rows)} of {len(values)} rows, first in row {rows[0]}; "
        "write 'missing: missing' if that means a missing value"
    ]
