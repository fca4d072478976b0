"""Gets a data set from where it is officially published: download, checksum, conversion, and only then its own name.

Whatever goes wrong on the way, nothing is left under a final name: archives and arrays are written beside it under
names that end in `.part`, which are taken away again.
"""

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from peekserve.errors import DataUnavailable, InvalidData
from peekserve.registry.conversion import mitbih, speech, umafall
from peekserve.registry.datasets import Dataset, Source

Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0: the server does not say)
Convert = Callable[[Path], mitbih.Arrays]

# How an archive becomes arrays.
CONVERT: dict[str, Convert] = {
    "mitbih_beats": mitbih.convert,
    "speech_commands_test": speech.convert,
    "umafall": umafall.convert,
}
SILENCE_S = 30.0  # a server that says nothing for so long is given up
CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was written, how large it is and its sha256."""

    path: Path
    size: int
    sha256: str


def fetch(
    dataset: Dataset,
    home: Path,
    progress: Progress = lambda _done, _all: None,
    convert: Mapping[str, Convert] = CONVERT,
    silence_s: float = SILENCE_S,
) -> Fetched:
    """Download `dataset.source`, compare its checksum, convert it, and put the arrays at `home / dataset.file`.

    Raises DataUnavailable where the server cannot be reached, answers with an error, ends too early, says nothing for
    `silence_s` seconds, or where no conversion exists; InvalidData for another checksum or another kind of archive.
    """
    if dataset.name not in convert:
        raise DataUnavailable(
            f"no conversion of {dataset.name!r} is written yet; get {dataset.source.url} "
            f"({dataset.licence}) and put {dataset.file} under {home} yourself"
        )
    final = home / dataset.file
    is_new = not final.parent.exists()
    final.parent.mkdir(parents=True, exist_ok=True)
    archive = final.parent / f".{dataset.name}.{os.getpid()}.archive.part"
    arrays = final.parent / f".{final.name}.{os.getpid()}.part"
    try:
        download(dataset.source, archive, progress, silence_s)
        found = convert[dataset.name](archive)
        with arrays.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **found)
        made = Fetched(final, arrays.stat().st_size, sha256(arrays))
        arrays.replace(final)
        return made
    except InvalidData as error:
        # Where it came from, not the name that it had for a while.
        raise InvalidData(str(error).replace(str(archive), dataset.source.url)) from error
    finally:
        archive.unlink(missing_ok=True)
        arrays.unlink(missing_ok=True)
        if is_new and not any(final.parent.iterdir()):
            final.parent.rmdir()


def download(source: Source, to: Path, progress: Progress, silence_s: float = SILENCE_S) -> None:
    """Write what lies at `source.url` to `to`, and compare size and checksum. Raises as `fetch` does; `to` may then
    hold a part of it."""
    url = source.url
    try:
        with urllib.request.urlopen(url, timeout=silence_s) as response, to.open("wb") as file:
            announced = int(response.headers.get("Content-Length") or source.size)
            enough_room(to.parent, announced)
            digest, done = _copy(response, file, source, announced, progress)
    except ValueError as error:
        raise DataUnavailable(f"{url} is no address: {error}") from error
    except urllib.error.HTTPError as error:
        raise DataUnavailable(f"{url} answers {error.code} {error.reason}") from error
    except TimeoutError as error:
        raise DataUnavailable(f"{url} said nothing for {silence_s:g} s") from error
    except urllib.error.URLError as error:
        raise DataUnavailable(f"{url} cannot be reached: {error.reason}") from error
    except (http.client.HTTPException, ConnectionError) as error:
        raise DataUnavailable(f"{url} broke off ({type(error).__name__}); try again") from error
    if announced and done != announced:
        raise DataUnavailable(f"{url} broke off after {done:,} of {announced:,} bytes; try again")
    if source.size and done != source.size:
        raise InvalidData(f"{url} has {done:,} bytes; the published file has {source.size:,}")
    if source.checksum and digest != source.checksum:
        raise InvalidData(
            f"{url} has the {source.algorithm} {digest}; the published file has {source.checksum}. Nothing was kept"
        )


def enough_room(folder: Path, size: int) -> None:
    """Raises DataUnavailable where the disk would be full before the download ends."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataUnavailable(f"{folder} has room for {free:,} bytes, and the download has {size:,}")


def _copy(
    response: BinaryIO, file: BinaryIO, source: Source, announced: int, progress: Progress
) -> tuple[str, int]:
    digest = hashlib.new(source.algorithm or "sha256", usedforsecurity=False)
    done = 0
    while chunk := response.read(CHUNK):
        file.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        progress(done, announced)
    return digest.hexdigest(), done


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
