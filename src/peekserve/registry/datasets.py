"""Which labelled data sets the applications `ecg`, `keywords` and `falls` are made of, and where they lie.

A data set is one npz in a folder of its own. Its home is `$PEEKSERVE_DATA` where that is set, and then nothing else
is looked at. Otherwise `../shared/data` beside the working directory or beside the project, and last the user's cache,
where `peekserve data fetch` puts what it gets.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from peekserve.errors import DataUnavailable

VARIABLE = "PEEKSERVE_DATA"
_PROJECT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a data set officially comes from: one file, its size in bytes where it is known, and a checksum.

    `algorithm` is sha256 or md5, as the publisher or other projects state it; empty where nobody states a checksum of
    the archive, and then the files inside have checksums of their own.
    """

    url: str
    size: int = 0
    algorithm: str = ""
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """`file`: what our loaders read, relative to the home. `sha256` and `size` are of the copy that our cards were
    measured on; a file converted elsewhere holds the same kind of arrays, but not the same bytes."""

    name: str
    application: str
    what: str
    licence: str
    file: str
    size: int
    sha256: str
    source: Source


DATASETS = {
    "mitbih_beats": Dataset(
        "mitbih_beats",
        "ecg",
        "heartbeats of the MIT-BIH Arrhythmia Database 1.0.0: 40,483 windows of 1 s",
        "ODC-By 1.0",
        "mitbih_beats/beats.npz",
        7_010_742,
        "5414e4353b3cf55a364d87653f697f61ed377a2a70870d8131da29c55d68f18e",
        Source(
            "https://physionet.org/static/published-projects/mitdb/mit-bih-arrhythmia-database-1.0.0.zip",
        ),
    ),
    "speech_commands_test": Dataset(
        "speech_commands_test",
        "keywords",
        "spoken words, the test set of Speech Commands v0.02: 4,890 clips of 1 s",
        "CC BY 4.0",
        "speech_commands_test/clips.npz",
        23_045_704,
        "15c1fa7bede37b7a8a1c9da9d2473976188fe049b9de9941bc8d35370dbe4610",
        Source(
            "http://download.tensorflow.org/data/speech_commands_test_set_v0.02.tar.gz",
            112_563_277,
            "sha256",
            "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
        ),
    ),
    "umafall": Dataset(
        "umafall",
        "falls",
        "falls and daily activities, a phone and four body sensors (UMAFall): 726 trials of 15 s",
        "CC BY 4.0 or CC BY-NC 4.0: sources disagree",
        "umafall/trials.npz",
        9_560_041,
        "18c3ac1956518dedcf20628ca67ca3f0ba684ac94d860732544c7d33e5346334",
        Source(
            "https://figshare.com/ndownloader/files/11826395", 0, "md5", "5ea9f4cb6277272d2f5f3f94e8ed456f"
        ),
    ),
}


def cache() -> Path:
    """The user's folder for what can be had again: `$XDG_CACHE_HOME/peekserve`, else `~/.cache/peekserve`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "peekserve"


def homes() -> list[Path]:
    """The folders that are looked through for data, in order; they need not exist."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen:
        return [Path(chosen)]
    beside = [place.resolve().parent / "shared" / "data" for place in (Path.cwd(), _PROJECT)]
    return [*dict.fromkeys(beside), cache() / "data"]


def own_home() -> Path:
    """Where new data and models are put: `$PEEKSERVE_DATA`, else the cache. What lies beside the project is only
    read."""
    return homes()[-1]


def find(file: str) -> Path | None:
    """The data set's file, `mitbih_beats/beats.npz` say, or None where it is in none of the homes."""
    return next((home / file for home in homes() if (home / file).is_file()), None)


def dataset_file(file: str) -> Path:
    """The data set's file. Raises DataUnavailable, which says what is missing, where it was looked for, and how to
    get it."""
    found = find(file)
    if found is None:
        looked = ", ".join(str(home) for home in homes())
        name = file.split("/", 1)[0]
        raise DataUnavailable(
            f"there is no {file} in {looked}; `peekserve data fetch {name}` gets it, or {VARIABLE} names the folder "
            f"that holds {name}/"
        )
    return found


def trained_home(application: str) -> Path:
    """Where models that are trained beside their data are written: `models/APPLICATION` in `own_home()`."""
    return own_home() / "models" / application


def trained_models(application: str) -> list[Path]:
    """VARIANT.onnx of an application whose models are not shipped, sorted; from the first home that has any.

    Raises DataUnavailable with the command that trains them.
    """
    for home in homes():
        found = sorted((home / "models" / application).glob("*.onnx"))
        if found:
            return found
    out = trained_home(application)
    raise DataUnavailable(
        f"the models of {application!r} are not shipped, and there are none in {out}: "
        f"`python -m peekserve.applications.{application}.train --out {out}` trains them where their data lie"
    )
