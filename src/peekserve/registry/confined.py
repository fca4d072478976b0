"""Files that an application names: inside its repository, and known by what they hold."""

import hashlib
import mmap
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from peekserve.config import Entry


def inside(entry: Entry, folder: Path, root: Path) -> Path:
    """The file that an entry names, relative to its application's folder. Raises Misread when the path
    climbs, leaves the repository by a symbolic link, or names no file; a folder stands for the one `.onnx`
    file in it.
    """
    text = entry.text()
    try:
        real = _confined(entry, folder, root)
        if real.is_dir():
            models = sorted(real.glob("*.onnx"))
            if len(models) != 1:
                raise entry.wrong(f"{text!r} is a folder with {len(models)} .onnx files", "name the file")
            real = models[0].resolve()
            check_inside(entry, real, root)
        if not real.is_file():
            raise entry.wrong(f"there is no file {text!r} in {folder}")
    except (OSError, RuntimeError) as error:
        raise entry.wrong(f"{text!r} cannot be opened: {error}") from None
    return real


def folder_inside(entry: Entry, folder: Path, root: Path, hint: str = "") -> Path:
    """As `inside`, for a folder: Misread when there is none of that name, with `hint` what to do about it."""
    try:
        real = _confined(entry, folder, root)
        if not real.is_dir():
            raise entry.wrong(f"there is no folder {entry.text()!r} in {folder}", hint)
    except (OSError, RuntimeError) as error:
        raise entry.wrong(f"{entry.text()!r} cannot be opened: {error}") from None
    return real


def check_inside(entry: Entry, path: Path, root: Path) -> None:
    """Misread when a path, its links followed, is not below the repository's root."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise entry.wrong(f"{entry.text()!r} leads out of the repository by a symbolic link")


def _confined(entry: Entry, folder: Path, root: Path) -> Path:
    text = entry.text()
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text:
        raise entry.wrong(
            f"{text!r} is not a path below the application's folder", "use no '..' and no leading '/'"
        )
    real = (folder / path).resolve()
    check_inside(entry, real, root)
    return real


def revision(path: Path) -> str:
    """sha256, in hex, of a model and of the files beside it that it names: weights kept apart from their
    graph.

    A model without such files has the plain sha256 of its bytes. Digests are kept by path, size and time of
    change.
    """
    return _revision(tuple((str(p), *_stamp(p)) for p in (path, *_named_in(path))))


def digest(path: Path) -> str:
    """sha256, in hex, of one file."""
    return _digest(str(path), *_stamp(path))


@lru_cache(maxsize=4096)
def _revision(files: tuple[tuple[str, int, int], ...]) -> str:
    if len(files) == 1:
        return _digest(*files[0])
    whole = hashlib.sha256()
    for path, size, changed in files:
        whole.update(f"{Path(path).name}\0{_digest(path, size, changed)}\0".encode())
    return whole.hexdigest()


@lru_cache(maxsize=4096)
def _digest(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _named_in(path: Path) -> Iterator[Path]:
    """Files beside a model, or in folders beside it, whose relative path stands in the model's own bytes.

    ONNX keeps large weights in files that the graph names by relative path. To search the bytes for the
    names of the files that are there needs no protobuf; a chance match only makes the revision depend on
    one more file.
    """
    others = sorted(p for p in path.parent.rglob("*") if p.is_file() and p != path and p.suffix != ".onnx")
    if not others or not path.stat().st_size:
        return
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for other in others:
            name = other.relative_to(path.parent).as_posix()
            if len(name) > 3 and data.find(name.encode()) >= 0:
                yield other
