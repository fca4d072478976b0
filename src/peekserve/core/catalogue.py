"""Applications as arrays: lanes, variants and weights under small integers, as policies and the kernel read
them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from peekserve.awareness.estimate import profiled
from peekserve.awareness.scores import class_values
from peekserve.domain.application import Application
from peekserve.domain.profile import Quality
from peekserve.domain.utility import Penalty, PenaltyKind, PenaltyTables
from peekserve.errors import InvalidConfiguration, UnknownApplication
from peekserve.policies.base import Floats, LaneView

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class DeviceTable:
    """What every variant costs on one kind of device. A variant without a timing there costs infinitely much.

    `latency_s`: one float64 [V, max batch + 1] for each lane, medians: what is expected. `cautious_s`: the same as
    95th percentiles: what is planned with, so that a plan that just fits does not miss every second time. `load_s`,
    `bytes`: float64 [W]; `cautious_load_s` likewise. `fastest_s`: one float64 [V] for each lane, a batch of one row
    without its load.
    """

    latency_s: tuple[Floats, ...]
    cautious_s: tuple[Floats, ...]
    load_s: Floats
    cautious_load_s: Floats
    bytes: Floats
    fastest_s: tuple[Floats, ...]

    def without(self, lanes: Sequence[LaneView], weights: Iterable[int]) -> "DeviceTable":
        """The same, but nothing that needs these weights can be run; itself if they are none."""
        lost = np.array(sorted(weights), dtype=np.int32)
        if not len(lost):
            return self
        tables = []
        for told in (self.latency_s, self.cautious_s):
            mine = [table.copy() for table in told]
            for lane, table in zip(lanes, mine, strict=True):
                table[np.isin(lane.weights, lost), 1:] = np.inf
            tables.append(tuple(frozen(table) for table in mine))
        latency_s, cautious_s = tables
        fastest_s = tuple(table[:, 1] for table in cautious_s)
        return replace(self, latency_s=latency_s, cautious_s=cautious_s, fastest_s=fastest_s)


class Catalogue:
    """An index over a set of applications, by key. Everything in it is read-only, and it only ever grows: an index that
    was given out means the same for ever, so that rows, batches and beliefs hold on to theirs. Whoever lets one grow
    must be alone with it.

    `recall`: one float64 [V, C] for each application, what an answer of each variant is worth on a row of each class
    by the application's own score (awareness/scores.py): its recall, for accuracy. `instant`: what the peek's answer
    is worth by its profile. `scale`: what both, and the lanes' `profiled`, were multiplied by: 1, or with `normalise`
    one over the profiled value of the application's best variant, so that applications whose models are all weak count
    as much as others (SneakPeek, footnote 2). Beliefs are then told in that unit.
    """

    def __init__(self, applications: Iterable[Application], normalise: bool = False) -> None:
        self._normalise = normalise
        self._lay(tuple(applications))

    def add(self, application: Application) -> int:
        """One more; its index. Raises InvalidConfiguration where its key is taken."""
        if application.key in self._index:
            raise InvalidConfiguration(f"an application {application.key!r} is there already")
        self._lay((*self.applications, application))
        return len(self.applications) - 1

    def _lay(self, applications: tuple[Application, ...]) -> None:
        self.applications = applications
        self._index = {app.key: i for i, app in enumerate(self.applications)}
        if len(self._index) != len(self.applications):
            raise InvalidConfiguration("two applications have one key")
        weights = dict.fromkeys(v.weights for app in self.applications for v in app.variants)
        self.weights = tuple(weights)
        self._weights_index = {name: i for i, name in enumerate(self.weights)}
        self.classes = max((len(app.classes) for app in self.applications), default=0)
        self.variants = max((len(app.variants) for app in self.applications), default=0)
        self.scale = tuple(_scale(app) if self._normalise else 1.0 for app in self.applications)
        self.recall = tuple(_values(app, k) for app, k in zip(self.applications, self.scale, strict=True))
        self.lanes, self._first_lane = self._lay_lanes()
        penalties = dict.fromkeys(q.penalty for app in self.applications for _, q in app.queries)
        self._tables_of = {p: i for i, p in enumerate(p for p in penalties if p.kind is PenaltyKind.TABLE)}
        self.tables = PenaltyTables.of(list(self._tables_of))
        # With SneakPeek's beliefs the peek's answer is worth its own profile, never its own belief (section 5.3.1);
        # calibrated ones judge it themselves (core/beliefs.py).
        self.instant = tuple(
            k * profiled(app.peek.quality, app.weights, app.score)
            if app.peek and app.peek.quality
            else float("nan")
            for app, k in zip(self.applications, self.scale, strict=True)
        )
        self._devices: dict[str, DeviceTable] = {}

    def application(self, name: str) -> int:
        """Index of an application. Raises UnknownApplication."""
        try:
            return self._index[name]
        except KeyError:
            raise UnknownApplication(
                f"no application {name!r}; there are {', '.join(sorted(self._index)) or 'none'}"
            ) from None

    def lane(self, application: int, bucket: int) -> int:
        return self._first_lane[application] + bucket

    def penalty(self, penalty: Penalty, deadline_s: float) -> tuple[int, float]:
        """A penalty as (kind, width) columns; a table's width is its index in `tables`."""
        if penalty.kind is PenaltyKind.TABLE:
            return int(penalty.kind), float(self._tables_of[penalty])
        return int(penalty.kind), penalty.width_s(deadline_s)

    def device(self, device: str) -> DeviceTable:
        """The timing of everything on one kind of device, made once."""
        if device not in self._devices:
            self._devices[device] = self._time(device)
        return self._devices[device]

    def _lay_lanes(self) -> tuple[tuple[LaneView, ...], tuple[int, ...]]:
        lanes: list[LaneView] = []
        first: list[int] = []
        for a, app in enumerate(self.applications):
            first.append(len(lanes))
            for bucket in range(app.buckets):
                lanes.append(
                    LaneView(
                        name=app.key if app.buckets == 1 else f"{app.key}/{bucket}",
                        application=a,
                        bucket=bucket,
                        variants=tuple(v.name for v in app.variants),
                        profiled=frozen(
                            self.scale[a] * np.array([_profiled(v.quality, app) for v in app.variants])
                        ),
                        weights=frozen(
                            np.array([self._weights_index[v.weights] for v in app.variants], dtype=np.int32)
                        ),
                        max_batch=frozen(np.array([v.max_batch for v in app.variants], dtype=np.int32)),
                    )
                )
        return tuple(lanes), tuple(first)

    def _time(self, device: str) -> DeviceTable:
        load_s, cautious_load_s = np.zeros(len(self.weights)), np.zeros(len(self.weights))
        size = np.zeros(len(self.weights))
        tables: list[tuple[Floats, Floats]] = []
        for lane in self.lanes:
            variants = self.applications[lane.application].variants
            table = np.full((len(variants), int(lane.max_batch.max()) + 1), np.inf)
            cautious = table.copy()
            for v, variant in enumerate(variants):
                timing = variant.timing.get(device)
                if timing is None:
                    continue
                curve = timing.curve(lane.bucket)
                table[v, : variant.max_batch + 1] = curve.table(variant.max_batch)
                cautious[v, : variant.max_batch + 1] = curve.table(variant.max_batch, cautious=True)
                w = int(lane.weights[v])
                load_s[w] = max(load_s[w], timing.load_s)
                cautious_load_s[w] = max(cautious_load_s[w], timing.cautious_load_s)
                size[w] = max(size[w], timing.bytes)
            table[:, 0] = cautious[:, 0] = 0.0
            tables.append((frozen(table), frozen(cautious)))
        return DeviceTable(
            latency_s=tuple(median for median, _ in tables),
            cautious_s=tuple(p95 for _, p95 in tables),
            load_s=frozen(load_s),
            cautious_load_s=frozen(cautious_load_s),
            bytes=frozen(size),
            fastest_s=tuple(p95[:, 1] for _, p95 in tables),
        )


def frozen(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """The same array, read-only from now on."""
    array.flags.writeable = False
    return array


def _profiled(quality: Quality | None, app: Application) -> float:
    return profiled(quality, app.weights, app.score) if quality else 1.0 / len(app.classes)


def _scale(app: Application) -> float:
    """One over the best variant's profiled value; 1 where none is worth anything."""
    best = max(_profiled(v.quality, app) for v in app.variants)
    return 1.0 / best if best > 0.0 else 1.0


def _values(app: Application, scale: float) -> Floats:
    # A variant that was never profiled is believed to guess: it is served when pinned or alone, never
    # preferred.
    guess = np.full(len(app.classes), 1.0 / len(app.classes))
    known = [class_values(v.quality, app.score) if v.quality else guess for v in app.variants]
    return frozen(scale * np.array(known))
