"""Raw samples with known events in them, made of test data: what devices would push, and what is true of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peekserve.applications.ecg import load as ecg
from peekserve.applications.falls import load as falls
from peekserve.applications.keywords import load as keywords
from peekserve.applications.splits import Split
from peekserve.registry.datasets import dataset_file

Samples = NDArray[np.float32]

# A run of heartbeats that follow one another in the recording; the file holds only some of all beats.
SHORTEST_RUN = 8
BRIDGE = 54  # samples of a straight line between two runs
QUIET_RMS = 0.003  # of the room between words, where a word has about 0.06
FADE = 400
PAUSE_S = (0.8, 1.6)
FALLS_IN_TEN = 5


@dataclass(frozen=True, slots=True)
class Event:
    """Something true: the window that training would cut begins at sample `first` of the leading input."""

    first: int
    label: int


@dataclass(frozen=True, slots=True)
class Source:
    """What one device sends. `samples`: input -> float32 [n, channels]; `chunk_s`: of each push. `tolerance`: so far
    (in samples of the leading input) a found window may lie from the event's and still be of it. `note`: how the
    signal was made."""

    application: str
    stream: str
    samples: Mapping[str, Samples]
    events: tuple[Event, ...]
    chunk_s: float
    tolerance: int
    note: str


def heart(seconds: float, rng: np.random.Generator, stream: str = "patient") -> Source:
    """Runs of consecutive beats of the test part, one after another at 180 Hz. Within a run the signal is the
    recording; beats of a symbol outside the seven classes are in it and have no label."""
    with np.load(dataset_file(ecg.FILE), allow_pickle=False) as file:
        found = {n: file[n] for n in ("x", "symbol", "symbols", "record", "sample", "rr_ms", "split_time")}
    names = found["symbols"][found["symbol"].astype(np.int64)]
    runs = [run for record in np.unique(found["record"]) for run in _runs(found, record)]
    parts: list[Samples] = []
    events: list[Event] = []
    at = 0
    for i in rng.permutation(len(runs)):
        run = runs[i]
        # Two samples of 360 Hz in one of 180 Hz; the R peak is number 72 of its window.
        places = np.round((found["sample"][run] - found["sample"][run[0]]) / 2).astype(np.int64)
        signal = np.full(places[-1] + 180, np.nan, np.float32)
        for beat, place in zip(run, places, strict=True):
            signal[place : place + 180] = found["x"][beat] * ecg.MILLIVOLTS
            if names[beat] in ecg.SYMBOLS:
                events.append(Event(at + int(place), ecg.SYMBOLS.index(str(names[beat]))))
        known = np.flatnonzero(~np.isnan(signal))
        parts.append(np.interp(np.arange(len(signal)), known, signal[known]).astype(np.float32))
        parts.append(np.zeros(BRIDGE, np.float32))
        at += len(signal) + BRIDGE
        if at >= seconds * 180:
            break
    signal = _bridged(parts)[: round(seconds * 180)]
    note = f"runs of {SHORTEST_RUN} or more consecutive test beats, joined by straight lines"
    return Source("ecg", stream, {"beat": signal[:, None]}, _within(events, len(signal), 180), 0.05, 9, note)


def _runs(found: Mapping[str, NDArray[np.generic]], record: np.generic) -> list[NDArray[np.int64]]:
    rows = np.flatnonzero((found["record"] == record) & (found["split_time"] == 2))
    samples = found["sample"].astype(np.int64)
    rows = rows[np.argsort(samples[rows])]
    next_ms = found["rr_ms"][:, 1].astype(np.float64)
    apart = np.abs(samples[rows[:-1]] + 0.36 * next_ms[rows[:-1]] - samples[rows[1:]]) > 4
    return [run for run in np.split(rows, np.flatnonzero(apart) + 1) if len(run) >= SHORTEST_RUN]


def _bridged(parts: list[Samples]) -> Samples:
    """The parts one after another; each second one is a bridge from its neighbour's end to the next beginning."""
    for i in range(1, len(parts), 2):
        following = parts[i + 1][0] if i + 1 < len(parts) else parts[i - 1][-1]
        parts[i] = np.linspace(parts[i - 1][-1], following, len(parts[i]), dtype=np.float32)
    return np.concatenate(parts)


def words(seconds: float, rng: np.random.Generator, stream: str = "microphone") -> Source:
    """Test clips of the six words with pauses between them, over the steadiest noise of the test part."""
    clips = keywords.read(dataset_file(keywords.FILE))
    test = keywords.parted(clips).test
    silence = clips.rows((clips.words == keywords.SILENCE) & (clips.split == 2)).samples()
    loudness = np.sqrt(np.square(silence).mean(1))
    frames = np.sqrt(np.square(silence.reshape(len(silence), 100, -1)).mean(2))
    steadiness = np.where(loudness > QUIET_RMS, frames.std(1) / frames.mean(1), np.inf)
    steadiest = int(steadiness.argmin())
    count = round(seconds * keywords.RATE)
    signal = np.resize(silence[steadiest] * (QUIET_RMS / loudness[steadiest]), count).astype(np.float32)
    fade = np.minimum(1.0, np.minimum(np.arange(8000), np.arange(8000)[::-1]) / FADE).astype(np.float32)
    events, at = [], keywords.RATE
    for i in rng.permutation(len(test)):
        if at + keywords.RATE > count:
            break
        signal[at : at + 8000] += test.inputs["clip"][i] * fade
        events.append(Event(at, int(test.labels[i])))
        at += round((1.0 + rng.uniform(*PAUSE_S)) * keywords.RATE)
    note = f"test clips over steady noise of rms {QUIET_RMS:g}, pauses of {PAUSE_S[0]:g} to {PAUSE_S[1]:g} s"
    # A word may stand anywhere in its clip: an onset within the clip is this clip's.
    return Source("keywords", stream, {"clip": signal[:, None]}, tuple(events), 0.05, 5200, note)


def person(seconds: float, rng: np.random.Generator, stream: str = "person") -> Source:
    """Whole trials of the test people, spoiled as the test windows are, phone at 50 Hz and tags at 20 Hz."""
    found = falls.trials(dataset_file(falls.FILE))
    mine = np.flatnonzero(np.isin(found["subject"], falls.TEST_PEOPLE))
    fell = found["is_fall"][mine].astype(bool)
    wanted = int(seconds // 15)
    falling = rng.permutation(np.flatnonzero(fell))[: round(wanted * FALLS_IN_TEN / 10)]
    living = rng.permutation(np.flatnonzero(~fell))[: wanted - len(falling)]
    chosen = mine[rng.permutation(np.concatenate((falling, living)))]
    phone = found["phone_acc"][chosen].astype(np.float32).transpose(0, 2, 1) / np.float32(falls.ACCELERATION)
    tag = found["tag"][chosen].astype(np.float32)
    tag[:, :, :3] /= np.float32(falls.ACCELERATION)
    tag[:, :, 3:] /= np.float32(falls.ROTATION * 100)
    present = found["tag_present"][chosen].astype(bool)
    impact_s = falls.impacts_s(tag, present)
    labels = found["is_fall"][chosen].astype(np.int64)
    whole = Split({"phone": phone, "tags": tag.transpose(0, 3, 1, 2)}, labels, np.arange(len(chosen)))
    hard = falls.spoiled(whole, rng)
    events = []
    for i, label in enumerate(labels.tolist()):
        for start_s in np.arange(0.0, 12.0 + 1e-9, 0.5 if label else 1.5):
            if not label or falls.INSIDE_S <= impact_s[i] - start_s <= falls.SECONDS - falls.INSIDE_S:
                events.append(Event(round((15.0 * i + start_s) * falls.PHONE_HZ), label))
    samples = {
        "phone": hard.inputs["phone"].reshape(-1, 3),
        "tags": hard.inputs["tags"].reshape(-1, 24),
    }
    note = f"whole trials of the test people, {FALLS_IN_TEN} of 10 with a fall, spoiled trial by trial"
    return Source("falls", stream, samples, tuple(events), 0.1, 5, note)


def _within(events: list[Event], samples: int, length: int) -> tuple[Event, ...]:
    return tuple(event for event in events if event.first + length <= samples)
