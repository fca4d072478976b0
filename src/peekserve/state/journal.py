"""The journal of a scheduler: each event with its instant and the commands that followed, in a framed file.

A frame is its length and its CRC-32 (two little-endian uint32), then that many bytes of MessagePack. The
first frame holds the format's version, the scheduler as data (core/spec.py) and its applications; each of the
others one step. Whatever was written before a power cut can be read: a broken last frame is reported, not
guessed at.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec
import numpy as np

from peekserve.domain.application import Application
from peekserve.domain.messages import Command, Event
from peekserve.errors import InvalidConfiguration, JournalDamaged

VERSION = 1
_HEAD = struct.Struct("<II")
_MAX_FRAME = 1 << 28
_TYPES: dict[str, type] = {
    cls.__name__: cls
    for cls in (*Event.__args__, *Command.__args__)  # the unions name them all
}


@dataclass(frozen=True, slots=True)
class Header:
    """The first frame: all that is needed to make the same scheduler again."""

    version: int
    spec: dict[str, Any]
    applications: tuple[Application, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One event, when it came, and the commands that it led to."""

    now: float
    event: Event
    commands: tuple[Command, ...]


class JournalWriter:
    """Writes steps to a file. `flush` hands them to the system, which keeps them when this process dies, however it
    dies; a power cut takes what the system had not yet written, half a minute mostly. `close` forces all to the disk.

    The file appears under its name once its first frame is on the disk, so that whatever is found there later is a
    journal. One that is there already is kept beside the new one, with `.1` at its name's end."""

    def __init__(self, path: Path, spec: object, applications: Sequence[Application]) -> None:
        _make_room(path)
        plain_file = path.is_file() or not path.exists()
        begun = path.with_name(path.name + ".begun") if plain_file else path
        self._file: BinaryIO = begun.open("wb")
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_encode_array)
        # Streams end before the scheduler begins: a replay has no use for them.
        plain = tuple(replace(application, stream=None) for application in applications)
        header = Header(VERSION, msgspec.to_builtins(spec), plain)
        self._write(self._encoder.encode(header))
        self._file.flush()
        if plain_file:
            os.fsync(self._file.fileno())
            begun.replace(path)

    def step(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        self._write(self._encoder.encode((now, _tagged(event), [_tagged(c) for c in commands])))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Raises nothing: a full disk at the end costs the end of the journal and no more."""
        with suppress(OSError):
            self._file.flush()
            os.fsync(self._file.fileno())
        with suppress(OSError):
            self._file.close()

    def _write(self, body: bytes) -> None:
        self._file.write(_HEAD.pack(len(body), zlib.crc32(body)) + body)

    def __enter__(self) -> "JournalWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JournalReader:
    """Reads a journal from its start. Raises JournalDamaged, with the offset, at the first frame that is not
    whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("rb")
        self._decoder = msgspec.msgpack.Decoder()
        body = self._frame()
        if body is None:
            raise JournalDamaged(f"{path}: empty, not even a header")
        try:
            self.header = msgspec.convert(self._decoder.decode(body), Header, strict=False)
        except msgspec.MsgspecError as error:
            raise JournalDamaged(f"{path}: its header is not a journal's: {error}") from None
        if self.header.version != VERSION:
            raise JournalDamaged(
                f"{path}: version {self.header.version}; this peekserve reads version {VERSION}"
            )

    def __iter__(self) -> Iterator[Step]:
        while (body := self._frame()) is not None:
            try:
                now, event, commands = self._decoder.decode(body)
                step = Step(now, _untagged(event), tuple(_untagged(c) for c in commands))
            except (msgspec.MsgspecError, ValueError, TypeError) as error:
                raise JournalDamaged(f"{self._path}: a step that is not a journal's: {error}") from None
            yield step

    def close(self) -> None:
        self._file.close()

    def _frame(self) -> bytes | None:
        offset = self._file.tell()
        head = self._file.read(_HEAD.size)
        if not head:
            return None
        if len(head) == _HEAD.size:
            length, crc = _HEAD.unpack(head)
            # No frame is empty: a file system may leave zeros where it had promised room and written nothing.
            body = self._file.read(length) if 0 < length <= _MAX_FRAME else b""
            if body and len(body) == length and zlib.crc32(body) == crc:
                return body
        if offset == 0:
            raise JournalDamaged(f"{self._path} is no journal of peekserve, or its first frame is broken")
        raise JournalDamaged(
            f"{self._path}: the frame at byte {offset} is broken; everything before it is good"
        )


def _make_room(path: Path) -> None:
    """Keep an older journal beside the new one; touch nothing else that happens to have its name."""
    if not path.exists() or not path.is_file():
        if path.is_dir():
            raise InvalidConfiguration(f"{path} is a folder; a journal is a file")
        return
    if path.stat().st_size == 0:
        return
    try:
        JournalReader(path).close()
    except JournalDamaged:
        raise InvalidConfiguration(f"{path} is there already and is no journal; name another file") from None
    path.replace(path.with_name(path.name + ".1"))


def _tagged(message: Event | Command) -> tuple[str, object]:
    return type(message).__name__, message


def _untagged(pair: Sequence[Any]) -> Any:
    name, fields = pair
    if name not in _TYPES:
        raise JournalDamaged(f"a journal with an unknown message {name!r}")
    return msgspec.convert(fields, _TYPES[name], dec_hook=_decode_array, strict=False)


def _encode_array(value: object) -> object:
    if isinstance(value, np.ndarray):
        return [list(value.shape), np.ascontiguousarray(value, dtype=np.float64).tobytes()]
    raise TypeError(f"a journal cannot hold a {type(value).__name__}")


def _decode_array(kind: type, value: Any) -> object:
    shape, data = value
    return np.frombuffer(data, dtype=np.float64).reshape(shape)


def same(a: Event | Command, b: Event | Command) -> bool:
    """Equal to the last bit, arrays included."""
    encode = msgspec.msgpack.Encoder(enc_hook=_encode_array).encode
    return type(a) is type(b) and encode(a) == encode(b)
