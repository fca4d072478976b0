"""Heartbeats of the MIT-BIH Arrhythmia Database, seven classes, split by time within every record.

`python -m peekserve.applications.ecg.load --out DIR` writes train.npz, reference.npz, validation.npz, test.npz.

A beat is 180 samples of one lead at 180 Hz, in millivolts, its R peak at sample 72. The first 60% of every record are
for training, the next 15% for validation, the last 25% for testing, and 2 s around each cut are for nothing. So the
same patients are in all parts, at other times: the paper's task, and a kind one. `load("split_interpatient")` gives
the unkind one, where no patient is in two parts.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peekserve.applications.splits import Split, Splits
from peekserve.errors import InvalidData
from peekserve.registry.datasets import dataset_file

FILE = "mitbih_beats/beats.npz"
SEED = 20_25
SYMBOLS = ("N", "L", "R", "A", "V", "/", "F")  # the order of the classes in application.yaml
MILLIVOLTS = np.float32(1 / 200)
REFERENCE = 1_000  # labelled beats that the peek has, as they come
# De Chazal's training patients that are kept aside where parts share no patient: none of the few with beats L, R or F.
VALIDATION_PATIENTS = (101, 106, 114, 203, 223)
NEEDED = ("x", "symbol", "symbols", "record", "split_time", "split_interpatient")


def beats(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of the file that are needed. Raises InvalidData for another kind of file."""
    with np.load(path, allow_pickle=False) as file:
        absent = [name for name in NEEDED if name not in file.files]
        if absent:
            raise InvalidData(f"{path} has no {', '.join(absent)}; it has {', '.join(file.files)}")
        return {name: file[name] for name in NEEDED}


def parts(found: dict[str, NDArray[np.generic]], split: str) -> NDArray[np.int64]:
    """0 train, 1 validation, 2 test, 3 nothing, for each beat."""
    part = found[split].astype(np.int64)
    if (
        split == "split_interpatient"
    ):  # 0 and 1 are DS1 and DS2, 2 the paced records, which nobody is tested on
        aside = np.isin(found["record"], VALIDATION_PATIENTS)
        part = np.select([(part == 0) & ~aside, (part == 0) & aside, part == 1], [0, 1, 2], 3)
    return part


def load(split: str = "split_time") -> Splits:
    """The four parts; a group is what one part has of one record. Raises DataUnavailable, InvalidData."""
    found = beats(dataset_file(FILE))
    names = found["symbols"][found["symbol"].astype(np.int64)]
    part, record = parts(found, split), found["record"].astype(np.int64)

    def rows(wanted: int) -> Split:
        chosen = np.flatnonzero(np.isin(names, SYMBOLS) & (part == wanted))
        labels = np.array([SYMBOLS.index(str(name)) for name in names[chosen]], dtype=np.int64)
        millivolts = found["x"][chosen].astype(np.float32) * MILLIVOLTS
        return Split({"beat": millivolts}, labels, record[chosen] * 10 + wanted)

    train = rows(0)
    drawn = np.random.default_rng(SEED).permutation(len(train))[:REFERENCE]
    return Splits(train, train.rows(np.sort(drawn)), rows(1), rows(2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    load().save(parser.parse_args().out)
