"""Six words of the Speech Commands test set, one second at 8 kHz each; split by speaker.

`python -m peekserve.applications.keywords.load --out DIR` writes train.npz, reference.npz, validation.npz, test.npz.
"""

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peekserve.applications.splits import Split, Splits
from peekserve.errors import InvalidData
from peekserve.registry.datasets import dataset_file

FILE = "speech_commands_test/clips.npz"
NEEDED = ("audio_mulaw", "label", "labels", "speaker", "split")
WORDS = ("yes", "no", "up", "down", "left", "right")
SILENCE = "_silence_"
RATE = 8_000  # samples a second, and in a clip
# A speaker's hundredth is the sha1 of the id modulo 100. Those below 10 are the peek's reference and train nothing;
# the other bounds are those of the file's own split.
REFERENCE_BELOW, TRAIN_BELOW, VALIDATION_BELOW = 10, 60, 75


@dataclass(frozen=True, slots=True)
class Clips:
    """The file as it is: `companded` uint8 [n, 8000] (8-bit mu-law), and for each clip its word, its speaker's id of
    eight hexadecimal digits ("noise" where nobody speaks), and the file's own split (0 train, 1 validation, 2 test)."""

    companded: NDArray[np.uint8]
    words: NDArray[np.str_]
    speakers: NDArray[np.str_]
    split: NDArray[np.uint8]

    def rows(self, chosen: NDArray[np.bool_]) -> "Clips":
        return Clips(self.companded[chosen], self.words[chosen], self.speakers[chosen], self.split[chosen])

    def samples(self) -> NDArray[np.float32]:
        """float32 [n, 8000] within -1 and 1."""
        return expanded(self.companded)


def expanded(companded: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mu-law with 255 levels undone (ITU-T G.711's curve, continuous form): the sign of y times (256^|y| - 1) / 255."""
    y = companded.astype(np.float32) / 255 * 2 - 1
    return np.asarray(np.sign(y) * (np.float32(256) ** np.abs(y) - 1) / 255, dtype=np.float32)


def read(path: Path) -> Clips:
    """Raises InvalidData for another kind of file."""
    with np.load(path, allow_pickle=False) as file:
        absent = [name for name in NEEDED if name not in file.files]
        if absent:
            raise InvalidData(f"{path} has no {', '.join(absent)}; it has {', '.join(file.files)}")
        return Clips(file["audio_mulaw"], file["labels"][file["label"]], file["speaker"], file["split"])


def hundredth(speaker: str) -> int:
    return int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16) % 100


def once_each(clips: Clips) -> Clips:
    """Without the clips that are a byte-by-byte copy of an earlier one: a few speakers were filed twice."""
    _, first = np.unique(clips.companded, axis=0, return_index=True)
    return clips.rows(np.isin(np.arange(len(clips.words)), first))


def spoken(clips: Clips) -> Split:
    """The clips of the six words; a group is a speaker."""
    six = once_each(clips.rows(np.isin(clips.words, WORDS)))
    labels = np.array([WORDS.index(word) for word in six.words], dtype=np.int64)
    speakers = np.array([int(speaker, 16) for speaker in six.speakers], dtype=np.int64)
    return Split({"clip": six.samples()}, labels, speakers)


def parted(clips: Clips) -> Splits:
    """Four parts that share no speaker."""
    split = spoken(clips)
    at = np.array([hundredth(f"{speaker:08x}") for speaker in split.groups])
    return Splits(
        train=split.rows((at >= REFERENCE_BELOW) & (at < TRAIN_BELOW)),
        reference=split.rows(at < REFERENCE_BELOW),
        validation=split.rows((at >= TRAIN_BELOW) & (at < VALIDATION_BELOW)),
        test=split.rows(at >= VALIDATION_BELOW),
    )


def background(clips: Clips) -> NDArray[np.float32]:
    """Noise nobody speaks in, from the file's training part: [n, 8000]."""
    return clips.rows((clips.words == SILENCE) & (clips.split == 0)).samples()


def load() -> Splits:
    """Raises DataUnavailable where the file is not here, InvalidData where it is another one."""
    return parted(read(dataset_file(FILE)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    load().save(parser.parse_args().out)
