"""Archives from elsewhere, unpacked with distrust: tar, tar.gz and zip.

Nothing is written but plain files below the given folder: no links, no devices, no absolute or climbing paths, no name
twice. How many files, how many bytes, and how many times more of them than the archive has, is limited while they are
read, whatever the archive says of itself. Names that begin with a dot are passed over, as in a repository; files that
only a program would open (.py, .pkl, .pt, ...) are refused: models are data, never code.
"""

import gzip
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from peekserve.errors import InvalidRequest, TooLarge
from peekserve.registry.repository import FILE

CODE = (".py", ".pyc", ".so", ".pkl", ".pickle", ".pt", ".pt2", ".pth", ".joblib", ".sh", ".exe", ".dll")
_CHUNK = 256 << 10
# A header of tar is read in one piece. None of an honest archive is as long as this.
_LONGEST_READ = 1 << 20
# The list of files at the end of a zip is read in one piece, too.
_LONGEST_LIST = 4 << 20
_EMPTY_ZIP = 22


@dataclass(frozen=True, slots=True)
class Bounds:
    """`files`: entries of any kind. `unpacked`: bytes of all files. `ratio`: how many times the archive's own bytes
    they may be, once they are more than `free` bytes."""

    files: int = 4096
    unpacked: int = 2 << 30
    ratio: int = 100
    free: int = 16 << 20


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def unpack(archive: Path, folder: Path, bounds: Bounds | None = None) -> None:
    """Write an archive's files into `folder`, so that application.yaml lies at its top: a single folder around
    everything is left away.

    Raises InvalidRequest for what is no archive, or one that no honest client sends, and TooLarge beyond the bounds.
    Then something may lie in `folder`.
    """
    bounds = bounds or Bounds()
    size = archive.stat().st_size
    most = min(bounds.unpacked, max(bounds.free, bounds.ratio * size))
    with archive.open("rb") as stream:
        magic = stream.read(4)
        stream.seek(0)
        try:
            if magic[:2] == b"PK":
                _unpack_zip(stream, size, folder, bounds, most)
            elif magic[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=stream) as plain:
                    _unpack_tar(_Counted(plain, most), folder, bounds, most)
            else:
                _unpack_tar(_Counted(stream, size + _CHUNK), folder, bounds, most)
        except (
            tarfile.TarError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            UnicodeError,
            struct.error,
            ValueError,
            OverflowError,
            gzip.BadGzipFile,
            RecursionError,  # headers of tar each of which only leads to the next
        ) as error:
            raise InvalidRequest(f"the archive is damaged, or none of tar, tar.gz and zip: {error}") from None
    _lift(folder)


# ---- tar ----------------------------------------------------------------------------------------------------------


class _Counted:
    """A stream that is read forwards and not without end: `tarfile` asks for whatever a header says, and passes over
    what it does not need."""

    def __init__(self, stream: _Readable, most: int) -> None:
        self._stream = stream
        self._most = most
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            raise InvalidRequest(f"a header of the archive says that it has {size} bytes")
        data = self._stream.read(size)
        self._at += len(data)
        # Headers and padding are more than the files: as much again, and no more.
        if self._at > 2 * self._most + _LONGEST_READ:
            raise _too_much(self._most)
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, to: int, whence: int = 0, /) -> int:
        if whence != 0 or to < self._at:
            raise InvalidRequest("the archive leads backwards")
        while self._at < to:
            if not self.read(min(_CHUNK, to - self._at)):
                break
        return self._at


def _unpack_tar(stream: _Counted, folder: Path, bounds: Bounds, most: int) -> None:
    written = 0
    with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
        for number, member in enumerate(_members(tar), 1):
            _check_count(number, bounds)
            if member.isdir():
                _path(folder, member.name)
                continue
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
                raise InvalidRequest(f"{member.name[:80]!r} is a link or a device; only files are taken")
            path = _path(folder, member.name)
            source = tar.extractfile(member)
            if path is not None and source is not None:
                written += _write(source, path, most - written, most)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    # Iterating over the file itself would keep every member that was ever read.
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]
        yield member


# ---- zip ----------------------------------------------------------------------------------------------------------


def _unpack_zip(stream: IO[bytes], size: int, folder: Path, bounds: Bounds, most: int) -> None:
    _check_list(stream, size, bounds)
    written = 0
    with zipfile.ZipFile(stream) as archive:
        for number, member in enumerate(archive.infolist(), 1):
            _check_count(number, bounds)
            path = _path(folder, member.filename)
            if member.is_dir() or path is None:
                continue
            kind = member.external_attr >> 16 & 0o170000
            if kind not in (0, 0o100000):
                raise InvalidRequest(f"{member.filename[:80]!r} is a link or a device; only files are taken")
            if member.flag_bits & 1:
                raise InvalidRequest(f"{member.filename[:80]!r} has a password")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InvalidRequest(
                    f"{member.filename[:80]!r} is packed in a way that is not read here: deflate it"
                )
            with archive.open(member) as source:
                written += _write(source, path, most - written, most)


def _check_list(stream: IO[bytes], size: int, bounds: Bounds) -> None:
    """The list of files at a zip's end, before anything makes objects of it."""
    stream.seek(max(size - (1 << 16) - _EMPTY_ZIP, 0))
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _EMPTY_ZIP:
        raise InvalidRequest("the zip has no list of its files: it is damaged, or not here to its end")
    if tail[max(at - 20, 0) : at][:4] == b"PK\x06\x07":
        raise TooLarge(f"the zip has more files or bytes than it may: {bounds.files} files are the limit")
    files, length = struct.unpack_from("<HL", tail, at + 10)
    _check_count(files, bounds)
    if length > _LONGEST_LIST:
        raise TooLarge(f"the list of files in the zip has {length} bytes; the limit is {_LONGEST_LIST}")
    stream.seek(0)


# ---- both ---------------------------------------------------------------------------------------------------------


def check_path(name: str) -> PurePosixPath:
    """A file's relative path. Raises InvalidRequest for one that leads elsewhere, or is none."""
    path = PurePosixPath(name)
    odd = "\\" in name or "\ufffd" in name or not name.isprintable()  # the second: bytes that were no UTF-8
    if path.is_absolute() or ".." in path.parts or odd or len(name) > 512:
        raise InvalidRequest(f"{name[:80]!r} is not a path below the application's folder")
    if not path.parts or len(path.parts) > 16 or any(len(part.encode()) > 200 for part in path.parts):
        raise InvalidRequest(f"{name[:80]!r} is no path, or a very long one")
    if path.suffix.lower() in CODE:
        raise InvalidRequest(f"{name[:80]!r} is for programs: models are data here, ONNX and safetensors")
    return path


def _path(folder: Path, name: str) -> Path | None:
    """Where a file goes; None for one that is passed over."""
    if PurePosixPath(name) == PurePosixPath("."):
        return None
    path = check_path(name)
    return None if any(part.startswith(".") for part in path.parts) else folder / path


def _write(source: _Readable, path: Path, left: int, most: int) -> int:
    """Its bytes into a new file; how many."""
    size = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > left:
                    raise _too_much(most)
                out.write(chunk)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise InvalidRequest(f"the archive holds {path.name[:80]!r} twice, or as file and folder") from None
    return size


def _lift(folder: Path) -> None:
    """One folder around everything is left away."""
    if (folder / FILE).is_file():
        return
    around = list(folder.iterdir())
    if len(around) != 1 or not (around[0] / FILE).is_file():
        raise InvalidRequest(f"the archive holds no {FILE}, at its top or in the one folder that it has")
    inner = around[0].rename(folder / ".lifted")
    for path in inner.iterdir():
        path.rename(folder / path.name)
    inner.rmdir()


def _check_count(files: int, bounds: Bounds) -> None:
    if files > bounds.files:
        raise TooLarge(f"the archive has more than {bounds.files} entries, which is the limit")


def _too_much(most: int) -> TooLarge:
    return TooLarge(f"the archive unpacks to more than {most} bytes, which is the limit for one of its size")
