"""PLAID's current waveforms as sktime packages them, split so that no run of measurements is cut.

`python -m peekserve.applications.appliances.load --out DIR` writes train.npz, reference.npz, validation.npz, test.npz.

The files do not say whose appliance a waveform is of, and their own halves are of no use here: each appliance was
measured three to six times, and its waveforms were dealt out to both. But both halves kept the order of the original
collection within each class, where the measurements of one appliance are neighbours. So the halves are laid into one
another again, each class is cut in that order into long pieces for training, validation and test, and the rows next
to a cut, which may be of one appliance, are thrown away.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peekserve.applications.splits import Split, Splits
from peekserve.errors import DataUnavailable

LONGEST = 1344
CUTS = (0.5, 0.75)  # of every class: half for training, a quarter each for validation and test
GUARD = 2  # rows left out on either side of a cut
RUN = 6  # rows to a group: the most measurements that were made of one appliance in one state


def packaged(name: str) -> Path:
    """Where sktime keeps a file of PLAID; sktime itself is not imported, since the file is plain text."""
    found = importlib.util.find_spec("sktime")
    if found is None or not found.submodule_search_locations:
        raise DataUnavailable("the data of 'appliances' come with sktime: pip install 'peekserve[demo]'")
    path = Path(found.submodule_search_locations[0]) / "datasets" / "data" / "PLAID" / name
    if not path.exists():
        raise DataUnavailable(f"this sktime has no {path}; the version of 'peekserve[demo]' does")
    return path


def waveforms(path: Path) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
    """A .ts file's rows: after the line `@data`, comma-separated values, a colon, the class."""
    lines = path.read_text(encoding="utf-8").splitlines()
    begin = next(i for i, line in enumerate(lines) if line.strip().lower() == "@data")
    rows = [line.rsplit(":", 1) for line in lines[begin + 1 :] if line.strip()]
    return [np.array(values.split(","), dtype=np.float32) for values, _ in rows], np.array(
        [int(c) for _, c in rows]
    )


def padded(rows: list[NDArray[np.float32]], labels: NDArray[np.int64], groups: NDArray[np.int64]) -> Split:
    values = np.zeros((len(rows), LONGEST), dtype=np.float32)
    for i, row in enumerate(rows):
        values[i, : len(row)] = row
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return Split({"current": values}, labels.astype(np.int64), groups.astype(np.int64), {"current": lengths})


def load() -> Splits:
    """The four parts; a group is `RUN` neighbouring rows of a class."""
    halves = [waveforms(packaged(f"PLAID_{half}.ts")) for half in ("TRAIN", "TEST")]
    rows = [row for half, _ in halves for row in half]
    labels = np.concatenate([half for _, half in halves])
    chosen: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    groups = np.zeros(len(rows), dtype=np.int64)
    for c in np.unique(labels):
        # The rank of a row within its own half and class, 0..1, puts both halves back into one order.
        rank = np.concatenate(
            [(np.arange(n) + 0.5) / n for _, half in halves if (n := int((half == c).sum()))]
        )
        order = np.flatnonzero(labels == c)[np.argsort(rank, kind="stable")]
        groups[order] = 1000 * c + np.arange(len(order)) // RUN
        first, second = (RUN * round(cut * len(order) / RUN) for cut in CUTS)
        chosen["train"] += order[: first - GUARD].tolist()
        chosen["validation"] += order[first + GUARD : second - GUARD].tolist()
        chosen["test"] += order[second + GUARD :].tolist()
    whole = padded(rows, labels, groups)
    train, validation, test = (whole.rows(np.array(chosen[part])) for part in ("train", "validation", "test"))
    return Splits(train, train, validation, test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    load().save(parser.parse_args().out)
