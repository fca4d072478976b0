"""Where windows lie in a stream of samples: small state machines that are fed sample after sample.

However the samples are cut into chunks, a finder finds the same windows: arithmetic is element by element or
over blocks whose borders depend on the samples' numbers alone, and every decision is made sample after sample.
A finder says where a window begins as soon as it knows; the caller waits until the window's last sample is here.
"""

from bisect import insort
from collections import deque
from math import ceil
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.domain.streams import Finding, Onset, RPeak, Sliding
from peekserve.errors import InvalidConfiguration

Samples = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


class Finder(Protocol):
    """`lag`: so many samples after a window's beginning plus its length it may at most be named."""

    lag: int

    def restart(self, at: int) -> None:
        """Forget everything; the next sample fed is number `at`."""
        ...

    def feed(self, samples: Samples) -> list[int]:
        """Take the next samples, float32 [n, channels], n >= 1; the numbers of the samples at which windows
        begin that are known now and were not before, in ascending order. A window may begin before the first
        sample that was fed."""
        ...


def make_finder(spec: Finding, rate: float) -> Finder:
    """The finder that a stream asks for; `rate` in Hz."""
    match spec:
        case Sliding():
            return SlidingFinder(spec)
        case Onset():
            return OnsetFinder(spec, rate)
        case RPeak():
            return RPeakFinder(spec, rate)
    raise InvalidConfiguration(f"a finder is a Sliding, an Onset or an RPeak, not {spec!r}")


class SlidingFinder:
    """A window at the first sample and at every `stride`-th after it."""

    def __init__(self, spec: Sliding) -> None:
        self.lag = 0
        self._stride = spec.stride
        self._next = 0
        self._at = 0

    def restart(self, at: int) -> None:
        self._at = self._next = at

    def feed(self, samples: Samples) -> list[int]:
        self._at += len(samples)
        found = list(range(self._next, self._at, self._stride))
        self._next += len(found) * self._stride
        return found


class OnsetFinder:
    """Energy that rises above a running floor.

    The energy of a frame is the variance of its values, summed over the channels, so that a constant offset
    counts for nothing. The floor falls towards a quieter frame within about 0.1 s and rises towards a louder one
    within about 2 s: a word hardly lifts it, a fan that was switched on does. It starts at the median of the
    first `SETTLE` frames, in which nothing is found.
    """

    SETTLE = 10
    FALL_S = 0.1
    RISE_S = 2.0

    def __init__(self, spec: Onset, rate: float) -> None:
        self.lag = spec.frame * (spec.sustain + self.SETTLE)
        self._spec = spec
        self._fall = min(spec.frame / rate / self.FALL_S, 1.0)
        self._rise = min(spec.frame / rate / self.RISE_S, 1.0)
        self.restart(0)

    def restart(self, at: int) -> None:
        self._at = at
        self._left: Samples | None = None
        self._first: list[float] = []
        self._floor = 0.0
        self._above = 0
        self._quiet_until = at

    def feed(self, samples: Samples) -> list[int]:
        frame = self._spec.frame
        if self._left is not None and len(self._left):
            samples = np.concatenate((self._left, samples))
        whole = len(samples) // frame
        self._left = samples[whole * frame :].copy()
        if not whole:
            return []
        found = []
        for energy in _energies(samples[: whole * frame], whole, frame):
            start = self._hear(energy)
            if start is not None:
                found.append(start)
        return found

    def _hear(self, energy: float) -> int | None:
        spec, at = self._spec, self._at
        self._at += spec.frame
        if len(self._first) < self.SETTLE:
            insort(self._first, energy)
            self._floor = self._first[len(self._first) // 2]
            return None
        loud = energy > spec.rise * self._floor and energy > spec.least
        self._floor += (energy - self._floor) * (self._fall if energy < self._floor else self._rise)
        self._above = self._above + 1 if loud and at >= self._quiet_until else 0
        if self._above < spec.sustain:
            return None
        began = at - (spec.sustain - 1) * spec.frame
        self._above = 0
        self._quiet_until = began + spec.apart
        return began - spec.pre_roll


def _energies(samples: Samples, frames: int, frame: int) -> list[float]:
    """Variance of each frame, summed over the channels. Each frame's sums run over a row of its own, in one
    order, so that they do not depend on the frames beside it."""
    # [frames, channels, frame], contiguous: numpy then sums along the last axis for each row alike.
    rows = np.ascontiguousarray(samples.astype(np.float64).reshape(frames, frame, -1).transpose(0, 2, 1))
    mean = rows.sum(axis=2, keepdims=True) / frame
    apart = rows - mean
    variance = np.ascontiguousarray(apart * apart).sum(axis=2) / frame
    total = variance[:, 0].copy()
    for channel in range(1, variance.shape[1]):
        total += variance[:, channel]
    return list(total.tolist())


class RPeakFinder:
    """R peaks of an electrocardiogram, after Pan and Tompkins (1985), with their times.

    A difference over about 20 ms of a mean over about 20 ms passes the band of the QRS complex and neither the
    baseline's drift nor the mains' hum; its square, averaged over 100 ms, is one hill for each beat. A hill is
    where no other within 100 ms is higher. It is a beat when it is above a threshold between the running heights
    of beats and of noise, and at least 200 ms after the last one (the heart cannot answer sooner). When no beat
    came for 1.66 times the usual interval, the highest hill since the last one counts at half the threshold, and
    so do hills that come from then on. The peak itself is where, around the hill, the lead is farthest from its
    level. Heights are learnt from the first two seconds, whose beats are found then; and anew when none came for
    five seconds, from the hills that were passed over since: after one jerk of a lead no beat is high enough.
    """

    LEARN_S = 2.0
    HILL_S = 0.1
    REFRACTORY_S = 0.2
    MISSED = 1.66

    def __init__(self, spec: RPeak, rate: float) -> None:
        self._spec = spec
        self._step = max(round(0.02 * rate), 1)
        self._width = max(round(0.1 * rate), 1)
        self._hill = max(round(self.HILL_S * rate), 1)
        self._refractory = round(self.REFRACTORY_S * rate)
        self._learn = round(self.LEARN_S * rate)
        self._level = round(0.3 * rate)
        # Samples before number i that the hill's height at i depends on.
        self._reach = 2 * self._step + self._width
        self._most = round(5.0 * rate)  # a beat is not looked for further back than this
        self.lag = self._learn + self._most
        self.restart(0)

    def restart(self, at: int) -> None:
        self._start = at  # number of the first sample in `_signal`
        self._signal: Floats = np.empty(0)
        self._done = at  # hills before this number were judged
        self._ready_at = at + self._learn
        self._beat_height = self._noise_height = -1.0
        self._last: int | None = None
        self._heard_at = self._ready_at  # the last beat, or since when there might have been one
        self._usual: deque[int] = deque(maxlen=8)
        self._passed: list[tuple[float, int]] = []

    def feed(self, samples: Samples) -> list[int]:
        lead = samples[:, self._spec.channel].astype(np.float64)
        self._signal = np.concatenate((self._signal, lead))
        end = self._start + len(self._signal)
        if end < self._ready_at:
            return []
        if self._beat_height < 0.0:
            # Of the learning time alone, whatever came with its last sample.
            heights = self._heights(self._start, self._ready_at)
            self._beat_height = 0.5 * float(heights.max())
            self._noise_height = 0.5 * float(np.sort(heights)[len(heights) // 2])
            self._done = self._start
        until = end - self._hill
        found: list[int] = []
        if until > self._done:
            for at, height in self._hills(self._done, until):
                found += self._judge(at, height)
            found += self._overdue(until - 1)
            self._done = until
            self._forget(until)
        return sorted(number - self._spec.at for number in found)

    # ---- the signal's hills ----

    def _heights(self, low: int, high: int) -> Floats:
        """Heights at the samples low .. high - 1; what lies before the first sample held counts as its value."""
        step, width = self._step, self._width
        first = low - self._reach
        before = max(self._start - first, 0)
        held = self._signal[max(first - self._start, 0) : high - self._start]
        x = np.concatenate((np.full(before, self._signal[0]), held)) if before else held
        smooth = x[step - 1 :].copy()
        for shift in range(1, step):
            smooth += x[step - 1 - shift : len(x) - shift]
        slope = smooth[step:] - smooth[:-step]
        power = slope * slope
        total = power[width - 1 :].copy()
        for shift in range(1, width):
            total += power[width - 1 - shift : len(power) - shift]
        return total[len(total) - (high - low) :]

    def _hills(self, low: int, high: int) -> list[tuple[int, float]]:
        """Samples of low .. high - 1 that no other within `_hill` samples passes; of equals the first."""
        reach = self._hill
        bottom, top = low - reach, high + reach
        heights = self._heights(max(bottom, self._start), top)
        missing = max(self._start - bottom, 0)
        if missing:
            heights = np.concatenate((np.full(missing, -1.0), heights))
        around = np.lib.stride_tricks.sliding_window_view(heights, 2 * reach + 1)
        middle = heights[reach : reach + high - low]
        is_hill = (middle >= around.max(axis=1)) & (middle > around[:, :reach].max(axis=1)) & (middle > 0.0)
        return [(low + int(i), float(middle[i])) for i in np.flatnonzero(is_hill)]

    # ---- which hills are beats ----

    def _judge(self, at: int, height: float) -> list[int]:
        found = self._overdue(at)
        if self._last is not None and at - self._last <= self._refractory:
            return found
        if at - self._heard_at > self._most and self._passed:
            self._learn_anew(at)
        threshold, due_at = self._threshold, self._due_at
        if height > threshold or (due_at is not None and at >= due_at and height > 0.5 * threshold):
            self._beat_height = 0.125 * height + 0.875 * self._beat_height
            return found + self._beat(at)
        self._noise_height = 0.125 * height + 0.875 * self._noise_height
        self._passed = [(h, n) for h, n in self._passed if at - n < self._most] + [(height, at)]
        return found

    def _learn_anew(self, at: int) -> None:
        heights = sorted(height for height, _ in self._passed)
        self._beat_height = 0.5 * heights[-1]
        self._noise_height = 0.5 * heights[len(heights) // 2]
        self._last, self._heard_at = None, at
        self._usual.clear()

    def _overdue(self, now: int) -> list[int]:
        """The beats that were passed over and should have come by sample `now`, where no hill is since."""
        found: list[int] = []
        while self._due_at is not None and self._due_at <= now:
            after = (self._last or 0) + self._refractory
            missed = [(h, n) for h, n in self._passed if h > 0.5 * self._threshold and n > after]
            if not missed:
                break
            height, number = max(missed)
            self._beat_height = 0.25 * height + 0.75 * self._beat_height
            found += self._beat(number)
        return found

    @property
    def _threshold(self) -> float:
        return self._noise_height + 0.25 * (self._beat_height - self._noise_height)

    @property
    def _due_at(self) -> int | None:
        """From this sample on a beat is overdue."""
        if self._last is None or not self._usual:
            return None
        return self._last + ceil(self.MISSED * sum(self._usual) / len(self._usual))

    def _beat(self, at: int) -> list[int]:
        if self._last is not None:
            self._usual.append(at - self._last)
        self._last = self._heard_at = at
        self._passed = [(h, n) for h, n in self._passed if n > at]
        number = self._peak(at)
        return [] if number is None else [number]

    def _peak(self, at: int) -> int | None:
        """The sample farthest from the lead's level, among those that made the hill at `at`."""
        low, high = at - self._reach, at
        # As far ahead as the hill's own judgement looks, so that a beat is known a quarter of a second after it.
        wide_low, wide_high = low - self._level, high + self._hill
        if low < self._start:
            low = self._start
        wide = self._signal[max(wide_low - self._start, 0) : wide_high - self._start]
        near = self._signal[low - self._start : high + 1 - self._start]
        if not len(near):
            return None
        return low + int(np.abs(near - np.median(wide)).argmax())

    def _forget(self, until: int) -> None:
        """Drop the samples that nothing will be asked of any more."""
        keep = until - self._most - self._reach - self._level - self._hill
        if keep - self._start > self._most:
            self._signal = self._signal[keep - self._start :].copy()
            self._start = keep
