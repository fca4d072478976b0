"""`subnets/weights.bin`: the weights of every exported subnet, each once, in one file that all of them map.

It has the layout of a safetensors file: the length of a header (8 bytes, little-endian), the header, JSON, and the
numbers. The graphs beside it refer to the same bytes by offset, so that any ONNX runtime finds them; a reader of the
header finds them by name without looking into a graph. Unlike in safetensors proper, one tensor may be the beginning
of another. No torch, no ONNX: numpy alone.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidModel

FOLDER, WEIGHTS = "subnets", "weights.bin"

# Vector instructions read from multiples of this.
_ALIGNED = 64
_DTYPES: dict[str, np.dtype[np.generic]] = {
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64),
}
_WORDS = {dtype: word for word, dtype in _DTYPES.items()}
_LARGEST_HEADER = 100 << 20
_META = "__metadata__"

Array = npt.NDArray[np.generic]


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first rows of a stored array, under a name of their own."""

    of: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a weight is: from the byte `start` of the file to the byte `end`."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What is where in a file of weights. `made_of`: sha256 of the supernet's own weights that it was exported from."""

    places: Mapping[str, Place]
    made_of: str


def graphs(folder: Path) -> dict[str, Path]:
    """The exported graphs of the supernet in `folder`: subnet -> file, in the order of their names."""
    return {path.stem: path for path in sorted((folder / FOLDER).glob("*.onnx"))}


def weights_of(folder: Path) -> Path:
    return folder / FOLDER / WEIGHTS


def packable(array: Array) -> bool:
    return array.dtype in _WORDS


def lay_out(
    arrays: Mapping[str, Array], made_of: str, prefixes: Mapping[str, Prefix] | None = None
) -> tuple[bytes, Layout]:
    """The header, with its length in front, and where everything will be. The same arrays give the same bytes."""
    starts, end = {}, 0
    for name, array in arrays.items():
        starts[name] = -(-end // _ALIGNED) * _ALIGNED
        end = starts[name] + array.nbytes
    entries = {name: _entry(array.dtype, array.shape, starts[name]) for name, array in arrays.items()}
    entries |= {
        name: _entry(arrays[one.of].dtype, one.shape, starts[one.of])
        for name, one in (prefixes or {}).items()
    }
    text = msgspec.json.encode({_META: {"made_of": made_of}, **entries})
    text += b" " * (-(len(text) + 8) % _ALIGNED)
    base = len(text) + 8
    places = {
        name: Place(_DTYPES[one.dtype], one.shape, *(base + offset for offset in one.data_offsets))
        for name, one in entries.items()
    }
    return len(text).to_bytes(8, "little") + text, Layout(places, made_of)


def _entry(dtype: np.dtype[np.generic], shape: tuple[int, ...], start: int) -> _Entry:
    return _Entry(_WORDS[dtype], shape, (start, start + math.prod(shape) * dtype.itemsize))


def write(
    path: Path, arrays: Mapping[str, Array], made_of: str, prefixes: Mapping[str, Prefix] | None = None
) -> Layout:
    """The file, on the disk when this returns. `prefixes`: further names, each for the first rows of an array."""
    header, layout = lay_out(arrays, made_of, prefixes)
    with path.open("wb") as stream:
        stream.write(header)
        for name, array in arrays.items():
            stream.write(b"\0" * (layout.places[name].start - stream.tell()))
            stream.write(array.tobytes())
        stream.flush()
        os.fsync(stream.fileno())
    return layout


def read_layout(path: Path) -> Layout:
    """Raises InvalidModel when the file is not there, damaged, or shorter than its header says."""
    try:
        with path.open("rb") as stream:
            size, whole = int.from_bytes(stream.read(8), "little"), os.fstat(stream.fileno()).st_size
            if not 2 <= size <= min(_LARGEST_HEADER, whole - 8):
                raise InvalidModel(f"{path}: damaged: no header of {size} bytes fits into {whole}")
            text = stream.read(size)
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        meta = msgspec.json.decode(raw.pop(_META, msgspec.Raw(b"{}")), type=dict[str, str])
        entries = {name: msgspec.json.decode(one, type=_Entry) for name, one in raw.items()}
    except FileNotFoundError:
        raise InvalidModel(f"{path}: no such file; `peekserve supernet export` writes it") from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidModel(f"{path}: damaged: {error}") from error
    places = {}
    for name, entry in entries.items():
        if entry.dtype not in _DTYPES:
            raise InvalidModel(f"{path}: damaged: {name} is {entry.dtype}; known are {', '.join(_DTYPES)}")
        place = Place(
            _DTYPES[entry.dtype], entry.shape, *(8 + size + offset for offset in entry.data_offsets)
        )
        count = math.prod(place.shape) if min(place.shape, default=0) >= 0 else -1
        if place.end - place.start != count * place.dtype.itemsize or place.start < 8 + size:
            raise InvalidModel(f"{path}: damaged: {name} {list(place.shape)} lies in {entry.data_offsets}")
        if place.end > whole:
            raise InvalidModel(f"{path}: cut off: of {place.end} bytes or more there are {whole}")
        places[name] = place
    return Layout(places, meta.get("made_of", ""))


def mapped(path: Path) -> dict[str, Array]:
    """Every weight by its name, as views of the mapped file: read-only pages that all processes share. Raises as
    `read_layout` does."""
    layout = read_layout(path)
    data = np.memmap(path, np.uint8, "r")
    return {
        name: np.asarray(data[place.start : place.end].view(place.dtype).reshape(place.shape))
        for name, place in layout.places.items()
    }
