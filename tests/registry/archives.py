"""Small made-up archives in the published formats, written without a line of the code that reads them."""

import gzip
import hashlib
import io
import struct
import tarfile
import wave
import zipfile
from pathlib import Path

import numpy as np

LENGTH = 36_000  # samples of a made-up record: 100 s
CODES = {"N": 1, "V": 5, "A": 8, "F": 6, "/": 12, "+": 28}


def in_format_212(values: np.ndarray) -> bytes:
    """[samples, 2] of -2048..2047, each pair in three bytes."""
    out = bytearray()
    for first, second in values.astype(int).tolist():
        a, b = first & 0xFFF, second & 0xFFF
        out += bytes([a & 0xFF, (a >> 8) | ((b >> 8) << 4), b & 0xFF])
    return bytes(out)


def annotations(marks: list[tuple[int, str]]) -> bytes:
    """Words of six bits of code and ten of distance; SKIP for gaps over 1023, AUX with a remark for rhythm."""
    out, before = bytearray(), 0
    for at, symbol in marks:
        gap = at - before
        if gap > 1023:
            out += struct.pack("<HHH", 59 << 10, gap >> 16, gap & 0xFFFF)
            gap = 0
        out += struct.pack("<H", CODES[symbol] << 10 | gap)
        if symbol == "+":
            out += struct.pack("<H", 63 << 10 | 3) + b"(N\0" + b"\0"
        before = at
    return bytes(out) + b"\0\0"


def a_record(number: int, lead: str = "MLII") -> tuple[dict[str, bytes], list[tuple[int, str]]]:
    """hea, dat and atr of one record, a spike of 1 mV at each beat, and the marks; 200 units are a millivolt."""
    marks = [
        (40, "N"),
        (200, "+"),
        *((i, "NNVAF/"[i // 500 % 6]) for i in range(500, 20_000, 500)),
        (35_000, "V"),
    ]
    rng = np.random.default_rng(number)
    values = np.stack([rng.integers(-5, 6, LENGTH) + 30, rng.integers(-2048, 2048, LENGTH)], 1)
    for at, symbol in marks:
        if symbol != "+":
            values[at - 4 : at + 5, 0] += 200
    sums = [(int(column.sum()) + 32768) % 65536 - 32768 for column in values.T]
    text = f"{number} 2 360 {LENGTH} 0:0:0 0/0/0\n" + "".join(
        f"{number}.dat 212 200 11 0 {first} {total} 0 {name}\n"
        for name, first, total in zip((lead, "V1"), values[0], sums, strict=True)
    )
    files = {"hea": text.encode() + b"# 69 M\n", "dat": in_format_212(values), "atr": annotations(marks)}
    return files, marks


def mitbih_zip(path: Path, records: tuple[int, ...] = (100, 101)) -> dict[str, str]:
    """A zip of records in a folder, as PhysioNet packs them; the sha256 of each file."""
    sums = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for record in records:
            for ending, content in a_record(record)[0].items():
                zipped.writestr(f"mit-bih-arrhythmia-database-1.0.0/{record}.{ending}", content)
                sums[f"{record}.{ending}"] = hashlib.sha256(content).hexdigest()
        zipped.writestr("mit-bih-arrhythmia-database-1.0.0/RECORDS", "100\n101\n")
    return sums


def a_wav(values: np.ndarray, rate: int = 16_000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(values.astype("<i2").tobytes())
    return out.getvalue()


def tone(hertz: float, samples: int = 16_000) -> np.ndarray:
    return 16_384 * np.sin(2 * np.pi * hertz * np.arange(samples) / 16_000)


CLIPS = {
    "yes/022cd682_nohash_0.wav": tone(500),
    "no/0bac8a71_nohash_0.wav": tone(500, 12_000),
    "_unknown_/backward_0c540988_nohash_0.wav.wav": tone(6_000),
    "_silence_/1024.wav": np.zeros(16_000),
}


def speech_tar(path: Path, clips: dict[str, np.ndarray] = CLIPS) -> str:
    """A tar.gz of wav files with a README beside them; its sha256. Always the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        contents = {"README.md": b"words"} | {name: a_wav(values) for name, values in clips.items()}
        for name, content in contents.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(out.getvalue(), mtime=0))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def a_trial(sensors: tuple[int, ...] = (0, 1, 2, 3, 4), seconds: float = 15.0) -> bytes:
    """The phone (0) at 200 Hz and body sensors at 20 Hz; every axis rises from 0 by a tenth a second, the second axis
    by two tenths; rotations are a hundred times that."""
    lines = [
        "%f8:95:c7:f3:ba:82; 0; RIGHTPOCKET; a phone",
        "% TimeStamp; Sample No; X-Axis; Y-Axis; Z-Axis; ...",
    ]
    for sensor in sensors:
        step = 5 if sensor == 0 else 50
        for number, ms in enumerate(range(0, int(seconds * 1000), step)):
            v = ms / 10_000
            lines.append(f"{ms};{number};{v};{2 * v};{v};0;{sensor}")
            if sensor:
                lines.append(f"{ms};{number};{100 * v};{200 * v};{100 * v};1;{sensor}")
                lines.append(f"{ms};{number};7;7;7;2;{sensor}")
    return "\n".join(lines).encode()


def umafall_zip(path: Path, trials: dict[str, bytes]) -> None:
    """A zip of trials by `NN_KIND_ACTIVITY_N`, in a folder, with a remark beside them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in trials.items():
            zipped.writestr(f"UMAFall_Dataset/UMAFall_Subject_{name}_2017-04-14_23-38-23.csv", content)
        zipped.writestr("UMAFall_Dataset/readme.txt", "people")
