"""The test set of Speech Commands v0.02, as it is published, to clips of one second at 8 kHz in eight bits."""

import hashlib
import io
import re
import tarfile
import wave
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from peekserve.errors import InvalidData

RATE = 16_000
LENGTH = 8_000
LABELS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "_unknown_", "_silence_")
SILENCE = "_silence_"
SPEAKER = re.compile(r"([0-9a-f]{8})_nohash_")
CUTS = (60, 75)  # per cent of speakers: training, validation, test
TAPS = 63

Arrays = dict[str, NDArray[np.generic]]


def convert(archive: Path) -> Arrays:
    """The arrays of clips.npz from the tar.gz. Raises InvalidData for another archive or an unreadable clip."""
    clips: dict[str, NDArray[np.uint8]] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if member.isfile() and name.suffix == ".wav" and name.parent.name in LABELS:
                    content = tar.extractfile(member)
                    assert content is not None  # isfile() said so
                    clips[f"{name.parent.name}/{name.name}"] = companded(clip(content.read(), member.name))
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise InvalidData(f"{archive} is no whole tar.gz archive: {error}") from error
    if not clips:
        raise InvalidData(f"{archive} has no wav files in folders named {', '.join(LABELS)}")
    names = sorted(clips, key=lambda name: (LABELS.index(name.split("/")[0]), name))
    speakers = [speaker(name) for name in names]
    return {
        "audio_mulaw": np.stack([clips[name] for name in names]),
        "label": np.array([LABELS.index(name.split("/")[0]) for name in names], dtype=np.uint8),
        "labels": np.array(LABELS),
        "speaker": np.array(speakers),
        "filename": np.array(names),
        "split": np.array([part(n, who) for n, who in zip(names, speakers, strict=True)], dtype=np.uint8),
    }


def speaker(name: str) -> str:
    """The speaker's eight hexadecimal digits; 'noise' for what nobody speaks in."""
    if name.startswith(SILENCE):
        return "noise"
    found = SPEAKER.search(name)
    if found is None:
        raise InvalidData(f"{name} does not say who speaks: WORD/SPEAKER_nohash_N.wav is expected")
    return found.group(1)


def part(name: str, who: str) -> int:
    """0 train, 1 validation, 2 test: by speaker; silence, which has none, by file."""
    key = name if who == "noise" else who
    score = int(hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest(), 16) % 100
    return sum(score >= cut for cut in CUTS)


def clip(content: bytes, where: str) -> NDArray[np.float64]:
    """One second at 8 kHz, -1 to 1: float64 [8000], zeros after a shorter clip's end."""
    try:
        with wave.open(io.BytesIO(content)) as file:
            shape = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise InvalidData(f"{where} is no wav file: {error}") from error
    if shape != (1, 2, RATE):
        raise InvalidData(f"{where} has (channels, bytes, rate) {shape}; (1, 2, {RATE}) is expected")
    values = np.frombuffer(frames[: len(frames) // 2 * 2], "<i2") / 32768.0
    out = np.zeros(LENGTH)
    kept = halved(values)[:LENGTH] if len(values) else values
    out[: len(kept)] = kept
    return out


def halved(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every second sample after a symmetric low-pass filter at half the new rate; silence before and after."""
    n = np.arange(TAPS) - TAPS // 2
    taps = np.sinc(n / 2) * np.hamming(TAPS)
    wide = np.pad(values, TAPS // 2)
    return np.convolve(wide, taps / taps.sum(), mode="valid")[::2]


def companded(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """-1 to 1 in eight bits by the mu-law (mu = 255); the loader undoes it."""
    bounded = np.clip(values, -1.0, 1.0)
    squeezed = np.sign(bounded) * np.log1p(255 * np.abs(bounded)) / np.log(256.0)
    return np.asarray(np.rint((squeezed + 1) / 2 * 255), dtype=np.uint8)
