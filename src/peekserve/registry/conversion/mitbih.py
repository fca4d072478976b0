"""The MIT-BIH Arrhythmia Database, as PhysioNet publishes it, to windows of one second around every beat.

Lead MLII (V5 where a record has none), minus the record's median, half the rate, one window to each annotated beat with
the R peak at sample 72; of every symbol at most 600 beats of a record.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from peekserve.errors import InvalidData
from peekserve.registry.conversion import wfdb

RATE = 360.0
WINDOW, PEAK = 180, 72  # at half the rate: one second
PER_MILLIVOLT = 200
AT_MOST = 600
SEED = 20250101
SYMBOLS = ("N", "L", "R", "e", "j", "A", "a", "J", "S", "V", "E", "F", "/", "f", "Q")
AAMI_NAMES = ("N", "S", "V", "F", "Q")  # ANSI/AAMI EC57
AAMI = (0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 4, 4)
CUTS = (0.6, 0.75)  # of every record: training, validation, test
GUARD = 720  # samples on either side of a cut that are in no part
# The patients that de Chazal et al. (IEEE TBME 2004) train on; the others are tested on, but for the paced.
DS1 = (
    101, 106, 108, 109, 112, 114, 115, 116, 118, 119, 122, 124, 201, 203, 205, 207, 208, 209, 215, 220, 223, 230,
)  # fmt: skip
PACED = (102, 104, 107, 217)
TAPS = 41

Arrays = dict[str, NDArray[np.generic]]


def official_sums() -> dict[str, str]:
    """sha256 of every file of the 48 records, as PhysioNet states them."""
    path = Path(__file__).with_name("mitdb-1.0.0.json")
    sums: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return sums


def convert(archive: Path, sums: Mapping[str, str] | None = None) -> Arrays:
    """The arrays of beats.npz from the zip; `sums` (the official ones) has a line for every file that must be there.

    Raises InvalidData for what is no zip, lacks a file, or holds one with another checksum.
    """
    wanted = official_sums() if sums is None else sums
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = {PurePosixPath(name).name: name for name in zipped.namelist()}
            records = sorted({name.split(".")[0] for name in wanted})
            parts = [
                _record(
                    int(record), {end: _member(zipped, members, f"{record}.{end}", wanted) for end in FILES}
                )
                for record in records
            ]
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InvalidData(f"{archive} is no whole zip archive: {error}") from error
    together = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**together, "symbols": np.array(SYMBOLS), "aami_names": np.array(AAMI_NAMES)}


FILES = ("hea", "dat", "atr")


def _member(
    zipped: zipfile.ZipFile, members: Mapping[str, str], name: str, wanted: Mapping[str, str]
) -> bytes:
    if name not in members:
        raise InvalidData(f"the archive has no {name}")
    content = zipped.read(members[name])
    found = hashlib.sha256(content).hexdigest()
    if found != wanted[name]:
        raise InvalidData(f"{name} has the sha256 {found}; it should be {wanted[name]}")
    return content


def _record(record: int, files: Mapping[str, bytes]) -> Arrays:
    """The windows of one record, in order of time."""
    about = wfdb.header(files["hea"].decode("ascii", "replace"), f"{record}.hea")
    if about.rate != RATE or any(signal.layout != 212 for signal in about.signals):
        raise InvalidData(f"{record}.hea: this reads format 212 at {RATE:.0f} Hz, not what it says")
    raw = wfdb.samples_212(files["dat"], len(about.signals), f"{record}.dat")
    names = [signal.name for signal in about.signals]
    lead = next((names.index(name) for name in ("MLII", "V5") if name in names), 0)
    column = wfdb.verified(raw, about, f"{record}.dat")[:, lead].astype(np.float64)
    halved = decimated(column - np.median(column)) * (PER_MILLIVOLT / about.signals[lead].gain)
    at, symbols = wfdb.beats(files["atr"], f"{record}.atr")
    chosen = np.array(list(_chosen(record, at, symbols, len(halved))), dtype=np.int64)
    places = at[chosen]
    index = np.array([SYMBOLS.index(symbols[i]) for i in chosen], dtype=np.uint8)
    windows = halved[(places // 2 - PEAK)[:, None] + np.arange(WINDOW)]
    gaps = np.diff(at, prepend=at[:1], append=at[-1:]) * 1000 // int(RATE)
    rr = np.stack([gaps[:-1], gaps[1:]], 1)[chosen]
    one = np.ones(len(chosen))
    return {
        "x": np.clip(np.rint(windows), -32768, 32767).astype(np.int16),
        "symbol": index,
        "aami": np.array(AAMI, dtype=np.uint8)[index],
        "record": (one * record).astype(np.uint16),
        "sample": places.astype(np.uint32),
        "rr_ms": np.minimum(rr, 65535).astype(np.uint16),
        "split_time": by_time(places, len(column)),
        "split_interpatient": (one * by_patient(record)).astype(np.uint8),
    }


def _chosen(record: int, at: NDArray[np.int64], symbols: list[str], length: int) -> Iterator[int]:
    """Beats whose window lies in the record, at most `AT_MOST` of each symbol, drawn with a fixed seed."""
    rng = np.random.default_rng([SEED, record])
    begins = at // 2 - PEAK
    whole = (begins >= 0) & (begins + WINDOW <= length)
    kept: list[int] = []
    for symbol in SYMBOLS:
        members = np.flatnonzero(whole & np.array([s == symbol for s in symbols], dtype=bool))
        kept += rng.permutation(members)[:AT_MOST].tolist()
    return iter(sorted(kept))


def decimated(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every second value of a series after a symmetric low-pass filter at a quarter of its rate: no shift in time."""
    n = np.arange(TAPS) - TAPS // 2
    taps = np.sinc(n / 2) * np.hamming(TAPS)
    wide = np.pad(values, TAPS // 2, mode="edge")
    return np.convolve(wide, taps / taps.sum(), mode="valid")[::2]


def by_time(places: NDArray[np.int64], length: int) -> NDArray[np.uint8]:
    """0 train, 1 validation, 2 test by place in the record, 3 within two seconds of a cut."""
    first, second = (cut * length for cut in CUTS)
    part = np.select(
        [
            places < first - GUARD,
            (places >= first + GUARD) & (places < second - GUARD),
            places >= second + GUARD,
        ],
        [0, 1, 2],
        3,
    )
    return part.astype(np.uint8)


def by_patient(record: int) -> int:
    """0 trained on, 1 tested on, 2 paced."""
    return 2 if record in PACED else 0 if record in DS1 else 1
