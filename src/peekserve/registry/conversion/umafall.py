"""UMAFall, as it is published, to trials of 15 s: a phone's acceleration at 50 Hz, four body sensors' at 20 Hz.

The zip holds a text file for each trial, `UMAFall_Subject_01_ADL_Walking_1_DATE_TIME.csv`: remarks that begin with %,
then lines of time in milliseconds, number, three axes, kind of sensor (0 acceleration in g, 1 rotation in degrees a
second, 2 magnetic field) and who wore it (0 the phone in the right trouser pocket, 1 chest, 2 waist, 3 wrist, 4 ankle).
"""

import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from peekserve.errors import InvalidData

SECONDS = 15
PHONE_HZ, PHONE_TAPS = 50, 4  # recorded at about 200 Hz: the mean of four
TAG_HZ = 20
ACCELERATION, ROTATION = 2000, 16  # steps in a g and in a degree a second
POSITIONS = ("chest", "waist", "wrist", "ankle")
NAME = re.compile(r"UMAFall_Subject_(\d+)_(ADL|Fall)_(.+)_(\d+)_\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}\.csv")
LEFT_OUT = (13,)  # a person whose numbers are damaged in the copy that our cards were measured on
PARTS = (
    (1, 2, 7, 8, 12, 16, 18, 19),
    (3, 5, 14),
    (4, 6, 9, 10, 11, 15, 17),
)  # people: train, validation, test
UNREADABLE = 0.01  # of the lines of a trial, at most
FEWEST = 20  # samples that a sensor must have to count as worn

Arrays = dict[str, NDArray[np.generic]]
Samples = NDArray[np.float64]


def convert(archive: Path) -> Arrays:
    """The arrays of trials.npz from the zip, trials in the order of their files' names.

    Raises InvalidData for what is no such archive, and for a trial that cannot be read.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = {PurePosixPath(name).name: name for name in zipped.namelist()}
            said = {name: found.groups() for name in sorted(members) if (found := NAME.fullmatch(name))}
            wanted = [name for name in said if int(said[name][0]) not in LEFT_OUT]
            if not wanted:
                raise InvalidData(
                    f"{archive} has no files named UMAFall_Subject_NN_KIND_ACTIVITY_N_DATE_TIME.csv"
                )
            trials = [trial(zipped.read(members[name]), name) for name in wanted]
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InvalidData(f"{archive} is no whole zip archive: {error}") from error
    subject = np.array([int(said[name][0]) for name in wanted])
    activities = sorted({said[name][2] for name in wanted})
    return {
        "phone_acc": np.stack([phone for phone, _, _ in trials]),
        "tag": np.stack([tag for _, tag, _ in trials]),
        "tag_present": np.stack([present for _, _, present in trials]),
        "tag_position": np.array(POSITIONS),
        "is_fall": np.array([said[name][1] == "Fall" for name in wanted], dtype=np.uint8),
        "activity": np.array([activities.index(said[name][2]) for name in wanted], dtype=np.uint8),
        "activity_names": np.array(activities),
        "subject": subject.astype(np.uint8),
        "trial": np.array([int(said[name][3]) for name in wanted], dtype=np.uint8),
        "split": np.select([np.isin(subject, people) for people in PARTS], [0, 1, 2], 0).astype(np.uint8),
    }


def trial(content: bytes, where: str) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.bool_]]:
    """One file: the phone [3, 750], the body sensors [4, 6, 300] (acceleration, then rotation) and which were worn."""
    rows = samples(content, where)
    kind, wearer = rows[:, 5], rows[:, 6]
    phone = rows[(kind == 0) & (wearer == 0)]
    if len(phone) < FEWEST:
        raise InvalidData(f"{where} has {len(phone)} samples of the phone's acceleration")
    fine = resampled(phone, PHONE_HZ * PHONE_TAPS)
    tags = np.zeros((len(POSITIONS), 6, SECONDS * TAG_HZ))
    present = np.zeros(len(POSITIONS), dtype=bool)
    for i in range(len(POSITIONS)):
        moved, turned = (rows[(kind == k) & (wearer == i + 1)] for k in (0, 1))
        present[i] = min(len(moved), len(turned)) >= FEWEST
        if present[i]:
            tags[i, :3] = resampled(moved, TAG_HZ) * ACCELERATION
            tags[i, 3:] = resampled(turned, TAG_HZ) * ROTATION
    coarse = fine.reshape(3, -1, PHONE_TAPS).mean(2) * ACCELERATION
    return in_steps(coarse), in_steps(tags), present


def samples(content: bytes, where: str) -> Samples:
    """The lines of a trial as float64 [n, 7]; remarks and headings are passed over."""
    rows, unreadable = [], 0
    for line in content.decode("utf-8", "replace").splitlines():
        if not line[:1].isdigit():
            continue
        try:
            time, number, x, y, z, kind, wearer = line.rstrip("; ").split(";")
            rows.append(
                (float(time), float(number), float(x), float(y), float(z), float(kind), float(wearer))
            )
        except ValueError:
            unreadable += 1
    if not rows or unreadable > UNREADABLE * len(rows):
        raise InvalidData(f"{where}: {unreadable} of {len(rows) + unreadable} lines are not seven numbers")
    return np.array(rows)


def resampled(rows: Samples, rate: int) -> Samples:
    """Three axes at `rate` from the file's own zero on, [3, SECONDS * rate]: straight lines between samples, the first
    and last value before and after them. Several samples may have one time, since the clock reads milliseconds late."""
    ordered = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    at = np.arange(SECONDS * rate) / rate * 1e3
    return np.stack([np.interp(at, ordered[:, 0], ordered[:, axis]) for axis in (2, 3, 4)])


def in_steps(values: Samples) -> NDArray[np.int16]:
    return np.clip(np.rint(values), -32768, 32767).astype(np.int16)
