"""seglearn's watch data: ten people, seven shoulder exercises, one wristwatch; split by person, cut in windows.

`python -m peekserve.applications.watch.load --out DIR` writes train.npz, reference.npz, validation.npz, test.npz.
seglearn reads its own pickled file, and with pandas: run this in a process of its own, never in a server.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peekserve.applications.splits import Split, Splits, a_few_of_each

SEED = 20_25
WINDOW = 100  # samples at 50 Hz: two seconds, rather less than one repetition of an exercise
REFERENCE_PER_CLASS = 40
VALIDATION_PEOPLE = (3, 7)
TEST_PEOPLE = (2, 6, 10)


def windows(recordings: dict[str, Any], people: NDArray[np.int64], step: int) -> Split:
    """Every window of these people's recordings that starts at a multiple of `step`; a group is a person."""
    cut, labels, groups = [], [], []
    for signal, label, person in zip(recordings["X"], recordings["y"], recordings["subject"], strict=True):
        if int(person) in people:
            starts = range(0, len(signal) - WINDOW + 1, step)
            cut += [signal[start : start + WINDOW] for start in starts]
            labels += [int(label)] * len(starts)
            groups += [int(person)] * len(starts)
    values = np.array(cut, dtype=np.float32)
    inputs = {"accelerometer": values[:, :, :3].copy(), "gyroscope": values[:, :, 3:].copy()}
    return Split(inputs, np.array(labels, dtype=np.int64), np.array(groups, dtype=np.int64))


def load() -> Splits:
    """The four parts. Only training windows overlap, and only with each other."""
    from seglearn.datasets import load_watch

    recordings = load_watch()
    everybody = np.unique(recordings["subject"]).astype(np.int64)
    held_out = np.array(VALIDATION_PEOPLE + TEST_PEOPLE)
    others = np.setdiff1d(everybody, held_out)
    return Splits(
        windows(recordings, others, WINDOW // 4),
        a_few_of_each(windows(recordings, others, WINDOW), REFERENCE_PER_CLASS, SEED),
        windows(recordings, np.array(VALIDATION_PEOPLE), WINDOW),
        windows(recordings, np.array(TEST_PEOPLE), WINDOW),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    load().save(parser.parse_args().out)
