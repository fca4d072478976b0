"""How long batches really take over what the profile says, by worker and by variant: learnt, doubted, planned with.

What is seen. A batch that took r times its profile's median (for its variant, shape bucket and number of rows) on a
worker. What is believed: r = u h, where u >= 1 belongs to the worker (its device runs hot, somebody else uses it) and h
to the variant on it (its profile was wrong). Both the median and the cautious table are multiplied by u h: what slows a
device down stretches its whole distribution, so the 95th percentile keeps its distance above the median in shares.

    h = the median of r / u over the last five batches of the variant where that is 1 or more,
        else the largest of them, at most 1
    u = the smaller of two medians over the last five batches of the worker, of r / max(h, 1) with h as it was before:
        that of the batches, and the lower one in which each variant counts once; at least 1

Where fewer than five were seen, ones stand in for the rest: the profile is right until three batches say otherwise. A
running median of 2k + 1 values lets a step through unchanged after k + 1 of them and removes every impulse of k or
less, which no average does (J. W. Tukey, Exploratory Data Analysis, 1977, chapter 7; N. C. Gallagher and G. L. Wise, A
theoretical analysis of the properties of median filters, IEEE Trans. ASSP 29(6), 1981, section III). The median of
ratios is that of their logarithms, so nothing is lost by not taking any. Being late costs more than being early: slow
is believed on the word of three, quick only when all five agree, because a profile may be wrong for large batches
alone.

Whose fault is it? A variant's first three batches on a worker set its own h and say nothing of the worker: a profile
that was wrong from the start is wrong from the first batch. Later the worker is asked first, and slow only as far as
both the middle batch and the middle variant are. When u changes its mind, the batches that it was judged by are shared
out again with the new u.

When to believe it no more. Who is believed to be slow may not be asked again, and would never be cleared. After DOUBT_S
without a batch only two of the last five are kept: the profile counts again, and one more slow batch is enough to
restore what was known; then the next doubt waits twice as long.

Plans are made with u h in steps of a tenth, and with exactly 1 while it stays within a band: it leaves beyond 1.25, or
the p95 of its profile over the median if that is more (so much is chance), and returns below 1.1. Products, quotients
and comparisons only: the same batches give the same numbers on any machine.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf

import numpy as np

from peekserve.core.catalogue import DeviceTable, frozen
from peekserve.errors import InvariantBroken
from peekserve.policies.base import Floats

LAST = 5  # batches that are looked at
KNOWN = 3  # batches of its own until a variant's ratio is known
BACK = 1.1
LEAVE = 1.25
MOST = 32.0  # more is no pace but a hang, and less than one such part no batch
DOUBT_S = 30.0
PATIENT_S = 3600.0


def _steps() -> tuple[float, ...]:
    up = [1.0]
    while up[-1] < MOST:
        up.append(up[-1] * BACK)
    return (*(1.0 / one for one in reversed(up[1:])), *up)


GRID = _steps()
_ONE = GRID.index(1.0)
_HALFWAY = tuple((low + high) / 2.0 for low, high in pairwise(GRID))


@dataclass(slots=True)
class _Seen:
    """A batch: `ratio` of what it took to its profile, the worker's share `of_worker` in it, what it says of the worker
    (`vote`), and from which ratio on it is more than chance."""

    ratio: float
    of_worker: float
    edge: float
    lane: int = 0
    variant: int = 0
    vote: float = 1.0


@dataclass(slots=True)
class _Trust:
    """When something was last seen, and how long it is believed without being seen again."""

    seen_at: float = -inf
    patience_s: float = DOUBT_S
    doubted: bool = False

    def seen(self, off: bool, now: float) -> None:
        if self.doubted:
            self.patience_s = min(2.0 * self.patience_s, PATIENT_S) if off else DOUBT_S
        self.seen_at, self.doubted = now, False


@dataclass(slots=True)
class _Own:
    """A variant on a worker. `ratio`: its h. `level`: which step of the grid it is planned with."""

    last: deque[_Seen] = field(default_factory=lambda: deque(maxlen=LAST))
    batches: int = 0
    ratio: float = 1.0
    edge: float = LEAVE
    level: int = _ONE
    trust: _Trust = field(default_factory=_Trust)

    def judge(self) -> None:
        ratios = _padded(one.ratio / one.of_worker for one in self.last)
        self.ratio = ratios[LAST // 2] if ratios[LAST // 2] >= 1.0 else min(ratios[-1], 1.0)


class Pace:
    """One worker's. `edition` counts how often what is planned with has changed."""

    def __init__(self) -> None:
        self._last: deque[_Seen] = deque(maxlen=LAST)
        self._slow = 1.0
        self._own: dict[tuple[int, int], _Own] = {}
        self._level = _ONE  # of variants that have not run yet
        self._trust = _Trust()
        self._doubt_at = inf
        self._base: DeviceTable | None = None
        self._table: DeviceTable | None = None
        self.edition = 0

    @property
    def of_worker(self) -> float:
        """How slow the worker is apart from its variants, in shares of the profiles; 1 or more."""
        return self._slow

    @property
    def known(self) -> int:
        """How many variants have run here."""
        return len(self._own)

    def ratio(self, lane: int, variant: int) -> float:
        """What a time of the profile is multiplied by in plans; exactly 1 within the band."""
        own = self._own.get((lane, variant))
        return GRID[self._level if own is None else own.level]

    def ratios(self) -> Iterator[tuple[int, int, float]]:
        """(lane, variant, ratio) of all that have run here, in the order in which they first did."""
        for (lane, variant), own in self._own.items():
            yield lane, variant, GRID[own.level]

    def took(self, lane: int, variant: int, ratio: float, spread: float, now: float) -> bool:
        """A batch took `ratio` times its profile's median, whose p95 is `spread` times the median. Is it planned with
        otherwise now? A ratio that is no positive number says nothing."""
        if not 0.0 < ratio < inf:
            return False
        own = self._own.setdefault((lane, variant), _Own(level=self._level))
        edge = max(LEAVE, spread if spread < inf else LEAVE)
        one = _Seen(min(max(ratio, 1.0 / MOST), MOST), self._slow, edge, lane, variant)
        before = self._slow
        if own.batches >= KNOWN:
            one.vote = one.ratio / max(own.ratio, 1.0)
            self._last.append(one)
            self._slow = self._judged()
            self._trust.seen(self._slow > 1.0, now)
            if self._slow != before:
                self._share_out()
        one.of_worker = self._slow
        own.last.append(one)
        own.judge()
        own.batches += 1
        own.edge = edge
        own.trust.seen(_off(own.ratio), now)
        return self._planned_with([own] if self._slow == before else self._own.values())

    def doubt(self, now: float, all_of_it: bool = False) -> bool:
        """What was not seen for long enough counts less; at once, if `all_of_it` does. Is it planned with otherwise
        now?"""
        if now < self._doubt_at and not all_of_it:
            return False
        if self._slow > 1.0 and (all_of_it or _due_at(self._trust) <= now):
            _forget(self._last)
            self._trust.doubted = True
            self._slow = self._judged()
        for own in self._own.values():
            if _off(own.ratio) and (all_of_it or _due_at(own.trust) <= now):
                _forget(own.last)
                own.judge()
                own.trust.doubted = True
        return self._planned_with(self._own.values())

    def table(self, base: DeviceTable) -> DeviceTable:
        """The times of a device as this worker keeps them: `base` itself while every ratio is 1, else one object until
        the next change. What cannot be run takes infinitely long at any pace."""
        if self._base is not base or self._table is None:
            self._base, self._table = base, self._stretched(base)
        return self._table

    def check(self) -> None:
        """Raises InvariantBroken when what is planned with is not what was seen."""
        for which, own in self._own.items():
            ratio, level = own.ratio, own.level
            own.judge()
            if own.ratio != ratio or _step(level, min(self._slow * ratio, MOST), own.edge) != level:
                raise InvariantBroken(
                    f"variant {which} is planned with {GRID[level]:.3f} and seen at {self._slow * own.ratio:.3f}"
                )

    def _judged(self) -> float:
        """u, with the band around 1."""
        votes = _padded(one.vote for one in self._last)
        slow = max(min(votes[LAST // 2], _each_once(self._last)), 1.0)
        edge = max((one.edge for one in self._last), default=LEAVE)
        return slow if slow > (edge if self._slow == 1.0 else BACK) else 1.0

    def _share_out(self) -> None:
        for one in self._last:
            one.of_worker = self._slow
        for key in dict.fromkeys((one.lane, one.variant) for one in self._last):
            self._own[key].judge()
        for one in self._last:
            own = self._own[one.lane, one.variant]
            one.vote = one.ratio / max(own.ratio, 1.0)

    def _planned_with(self, changed: Iterable[_Own]) -> bool:
        before = self._level
        self._level = _step(self._level, self._slow, LEAVE)
        moved = self._level != before
        for own in changed:
            level = _step(own.level, min(self._slow * own.ratio, MOST), own.edge)
            moved = moved or level != own.level
            own.level = level
        off = [own.trust for own in self._own.values() if _off(own.ratio)]
        if self._slow > 1.0:
            off.append(self._trust)
        self._doubt_at = min(map(_due_at, off), default=inf)
        if moved:
            self.edition += 1
            self._table = None
        return moved

    def _stretched(self, base: DeviceTable) -> DeviceTable:
        by_lane: dict[int, list[tuple[int, float]]] = {}
        for lane, variant, ratio in self.ratios():
            by_lane.setdefault(lane, []).append((variant, ratio))
        latency_s, cautious_s, fastest_s = [], [], []
        same = True
        for lane, (median, cautious) in enumerate(zip(base.latency_s, base.cautious_s, strict=True)):
            factor = np.full((len(median), 1), GRID[self._level])
            for variant, ratio in by_lane.get(lane, ()):
                factor[variant] = ratio
            if (factor != 1.0).any():
                same = False
                median, cautious = _scaled(median, factor), _scaled(cautious, factor)
                fastest_s.append(cautious[:, 1])
            else:
                fastest_s.append(base.fastest_s[lane])
            latency_s.append(median)
            cautious_s.append(cautious)
        if same:
            return base
        return replace(
            base, latency_s=tuple(latency_s), cautious_s=tuple(cautious_s), fastest_s=tuple(fastest_s)
        )


def _scaled(table: Floats, factor: Floats) -> Floats:
    return frozen(table * factor)


def _padded(values: Iterable[float]) -> list[float]:
    found = list(values)
    return sorted(found + [1.0] * (LAST - len(found)))


def _each_once(last: Iterable[_Seen]) -> float:
    """The lower median of what these say of the worker, in which each variant counts once; 1 of none."""
    many: dict[tuple[int, int], int] = {}
    for one in last:
        many[one.lane, one.variant] = many.get((one.lane, one.variant), 0) + 1
    # 60 can be shared out evenly among one to five.
    heaped = 0
    for vote, key in sorted((one.vote, (one.lane, one.variant)) for one in last):
        heaped += 60 // many[key]
        if 2 * heaped >= 60 * len(many):
            return vote
    return 1.0


def _off(ratio: float) -> bool:
    return not 1.0 / BACK <= ratio <= BACK


def _due_at(trust: _Trust) -> float:
    return trust.seen_at + trust.patience_s


def _forget(last: deque[_Seen]) -> None:
    while len(last) > LAST // 2:
        last.popleft()


def _step(level: int, ratio: float, edge: float) -> int:
    """Where on the grid a ratio is, given where it was: at home within the band, and else where it was as long as that
    is less than a step away."""
    if not _off(ratio):
        return _ONE
    away = (level - _ONE) * (1 if ratio > 1.0 else -1) > 0  # and on the same side
    if not away and 1.0 / edge <= ratio <= edge:
        return _ONE
    if away and GRID[max(level - 1, 0)] < ratio < GRID[min(level + 1, len(GRID) - 1)]:
        return level
    return bisect_right(_HALFWAY, ratio)
