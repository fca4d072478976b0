"""Answers and durations out of a script: the twin of every real runtime, for tests and simulations.

A script answers the same input the same way, in any batch and any process: its chance comes from the bytes of the
row, never from a stream of draws.
"""

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.clock import Clock, WallClock
from peekserve.domain.application import Variant
from peekserve.domain.profile import Quality
from peekserve.errors import BackendError, DataUnavailable, InvalidModel
from peekserve.runtimes.base import Inputs, Scores
from peekserve.runtimes.waiting import WaitUntil, wait_until


class Answers(Protocol):
    """What a script says of a batch: class scores float64 [n, C], each row summing to 1."""

    def scores(self, variant: Variant, classes: int, inputs: Inputs) -> Scores: ...


class DrawnAnswers:
    """Right as often as the variant's recall says.

    `truth` tells the true class of each row (int [n]); without it, each row's is drawn from the frequencies of the
    quality profile. A wrong answer is drawn from the confusion matrix where there is one, else evenly.
    """

    def __init__(self, seed: int, truth: Callable[[Inputs], npt.NDArray[np.int64]] | None = None) -> None:
        self._seed = seed
        self._truth = truth

    def scores(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        quality = variant.quality or Quality((1.0,) * classes, (1.0 / classes,) * classes)
        truth = self._truth(inputs) if self._truth is not None else None
        out = np.empty((row_count(inputs), classes))
        for row in range(len(out)):
            key = [self._seed, *(zlib.crc32(x[row].tobytes()) for _, x in sorted(inputs.items()))]
            # Two streams: what a row truly is must not depend on who is asked.
            true = int(truth[row]) if truth is not None else _draw(key, quality.frequencies)
            said = _draw([*key, zlib.crc32(variant.name.encode())], _answers_to(true, quality))
            out[row] = 0.3 / classes
            out[row, said] += 0.7
        return out


class RecordedAnswers:
    """What real models said once. `scores`: variant name -> float64 [N, C]; the input named `index` holds, as the
    first number of each row, which sample it is."""

    def __init__(self, scores: Mapping[str, Scores], index: str) -> None:
        self._scores = scores
        self._index = index

    @classmethod
    def read(cls, path: Path) -> "RecordedAnswers":
        """What `write` wrote. Raises DataUnavailable where it is not there."""
        if not path.is_file():
            raise DataUnavailable(f"{path}: there are no recorded answers for a scripted runtime")
        with np.load(path) as said:
            return cls(dict(zip(said["variants"].tolist(), said["scores"], strict=True)), str(said["index"]))

    def write(self, path: Path) -> None:
        """As an npz, for worker processes: `variants` [V], `scores` float64 [V, N, C] and the name of the `index`."""
        np.savez(path, variants=list(self._scores), scores=list(self._scores.values()), index=self._index)

    def scores(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        if variant.name not in self._scores:
            raise BackendError(
                f"nothing is recorded of variant {variant.name!r}, only of {sorted(self._scores)}"
            )
        which = inputs[self._index].reshape(row_count(inputs), -1)[:, 0].astype(np.int64)
        return self._scores[variant.name][which]


class ScriptedRuntime:
    """Takes the time that variant.timing[device] states (or none) and says what `answers` say.

    `broken`: names of weights that refuse to load. In pretended time hand in the clock and its mover:

        ScriptedRuntime(clock=clock, wait_until=lambda at: clock.advance(max(at - clock.now(), 0.0)))
    """

    def __init__(
        self,
        answers: Answers | None = None,
        device: str = "cpu",
        clock: Clock | None = None,
        wait_until: WaitUntil = wait_until,
        broken: frozenset[str] = frozenset(),
    ) -> None:
        self._answers = answers or DrawnAnswers(seed=0)
        self._device = device
        self._clock = clock or WallClock()
        self._wait_until = wait_until
        self._broken = broken
        self._resident: set[str] = set()

    def load(self, variant: Variant, classes: int) -> int:
        if variant.weights in self._broken:
            raise InvalidModel(f"weights {variant.weights!r} are broken, as the script says")
        timing = variant.timing.get(self._device)
        self._wait_until(self._clock.now() + (timing.load_s if timing else 0.0))
        self._resident.add(variant.weights)
        return timing.bytes if timing else 0

    def run(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        started_at = self._clock.now()
        scores = self.prove(variant, classes, inputs)
        timing = variant.timing.get(self._device)
        self._wait_until(started_at + (timing.curve(0).seconds(len(scores)) if timing else 0.0))
        return scores

    def prove(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        if variant.weights not in self._resident:
            raise BackendError(f"variant {variant.name!r}: weights {variant.weights!r} are not resident")
        return self._answers.scores(variant, classes, inputs)

    def unload(self, weights: str) -> None:
        self._resident.discard(weights)


def row_count(inputs: Inputs) -> int:
    """The n of a batch's inputs [n, ...]."""
    return len(next(iter(inputs.values())))


def _draw(key: list[int], shares: tuple[float, ...]) -> int:
    heights = np.cumsum(shares)
    return int(np.searchsorted(heights, np.random.default_rng(key).random() * heights[-1], side="right"))


def _answers_to(true: int, quality: Quality) -> tuple[float, ...]:
    """How often each class is said of a row that truly is `true`."""
    if quality.confusion and sum(quality.confusion[true]):
        return tuple(float(count) for count in quality.confusion[true])
    classes = len(quality.recall)
    wrong = (1.0 - quality.recall[true]) / (classes - 1)
    return tuple(quality.recall[true] if i == true else wrong for i in range(classes))
