"""PhysioNet's record format: a text header, samples of 12 bits in pairs (format 212), annotations of 16-bit words.

Written from the format's own descriptions, header(5), signal(5) and annot(5) of the WFDB Applications Guide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peekserve.errors import InvalidData

# The codes of beats and what the guide writes for them; all other annotations are about rhythm, noise or waves.
BEATS = {
    1: "N", 2: "L", 3: "R", 4: "a", 5: "V", 6: "F", 7: "J", 8: "A", 9: "S", 10: "E", 11: "j", 12: "/", 13: "Q",
    25: "B", 34: "e", 35: "n", 38: "f", 41: "r",
}  # fmt: skip
_SKIP, _NUM, _SUB, _CHN, _AUX = 59, 60, 61, 62, 63


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal's line of a header: `gain` in units per millivolt, `zero` what no voltage reads as."""

    file: str
    layout: int
    gain: float
    zero: int
    checksum: int
    name: str


@dataclass(frozen=True, slots=True)
class Header:
    """`rate` in samples a second, `length` in samples of each signal."""

    record: str
    rate: float
    length: int
    signals: tuple[Signal, ...]


def header(text: str, where: str) -> Header:
    """A .hea file. Raises InvalidData, naming `where`, for what is no header of one segment."""
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        record, count, rate, length = lines[0][0], int(lines[0][1]), lines[0][2].split("/")[0], lines[0][3]
        signals = tuple(_signal(fields) for fields in lines[1 : count + 1])
        if len(signals) != count:
            raise ValueError(f"{count} signals are announced and {len(signals)} described")
        return Header(record, float(rate.split("(")[0]), int(length), signals)
    except (IndexError, ValueError) as error:
        raise InvalidData(f"{where} is no header of a record: {error}") from error


def _signal(fields: Sequence[str]) -> Signal:
    """file, format, gain, bits, zero, first value, checksum, block size, name."""
    gain = float(fields[2].split("/")[0].split("(")[0]) or 200.0  # the guide: 0 means not known, and 200 then
    return Signal(fields[0], int(fields[1]), gain, int(fields[4]), int(fields[6]), " ".join(fields[8:]))


def samples_212(content: bytes, signals: int, where: str) -> NDArray[np.int16]:
    """[samples, signals] of a .dat file in format 212: two samples of 12 bits, two's complement, in three bytes.

    The low byte of the first, then its high four bits with those of the second above them, then the low byte of the
    second; the signals take turns.
    """
    if len(content) % 3 or (len(content) // 3 * 2) % signals:
        raise InvalidData(
            f"{where} has {len(content)} bytes: no whole number of samples of {signals} signals"
        )
    low, both, high = np.frombuffer(content, np.uint8).reshape(-1, 3).astype(np.int16).T
    pairs = np.stack([low | (both & 0x0F) << 8, high | (both & 0xF0) << 4], 1).reshape(-1)
    signed = np.where(pairs > 2047, pairs - 4096, pairs).astype(np.int16)
    return signed.reshape(-1, signals)


def verified(values: NDArray[np.int16], about: Header, where: str) -> NDArray[np.int16]:
    """The samples again, if their number and the header's 16-bit sums are right. Raises InvalidData otherwise."""
    if about.length and len(values) != about.length:
        raise InvalidData(f"{where} has {len(values)} samples of each signal; its header says {about.length}")
    for column, signal in zip(values.T, about.signals, strict=True):
        found = int(column.sum(dtype=np.int64))
        if (found - signal.checksum) % 65536:
            raise InvalidData(
                f"{where}: the samples of {signal.name} add up to {found % 65536}, its header says "
                f"{signal.checksum % 65536}"
            )
    return values


def beats(content: bytes, where: str) -> tuple[NDArray[np.int64], list[str]]:
    """The beats of a .atr file: sample numbers, increasing, and their symbols.

    A word holds a code in its upper six bits and, in the lower ten, the samples since the annotation before.
    """
    words = np.frombuffer(content[: len(content) // 2 * 2], "<u2").astype(np.int64)
    places: list[int] = []
    symbols: list[str] = []
    at = i = 0
    while i < len(words):
        code, number = int(words[i]) >> 10, int(words[i]) & 0x3FF
        i += 1
        if code == 0 and number == 0:
            return np.array(places, dtype=np.int64), symbols
        if code == _SKIP:  # a long gap: 32 bits follow, the upper word first
            if i + 1 >= len(words):
                break
            gap = int(words[i]) << 16 | int(words[i + 1])
            at, i = at + (gap - 2**32 if gap >= 2**31 else gap), i + 2
        elif code == _AUX:  # a remark of `number` bytes, to the next whole word
            i += (number + 1) // 2
        elif code not in (_NUM, _SUB, _CHN):
            at += number
            if code in BEATS:
                places.append(at)
                symbols.append(BEATS[code])
    raise InvalidData(f"{where} ends in the middle: no closing word after {len(places)} beats")
