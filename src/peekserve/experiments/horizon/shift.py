"""The mix of classes moves in mid-stream: falls from 95/5 to 50/50, keywords from even to 70% of one, ecg from 80%
normal beats to 10%. Show 5.

Beside `horizon`, whose prior is learnt from the stream's evidence, stand the same scheduler with the mix that it had
at first, and with the true mix at all times. The drift score is that of awareness/drift.py, from the evidence of all
rows and the true classes of every tenth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from peekserve.awareness.drift import Watch
from peekserve.errors import InvalidData
from peekserve.experiments.horizon.realised import HORIZON, PUBLISHED
from peekserve.experiments.horizon.worlds import Scene, of_the_paper
from peekserve.experiments.sneakpeek.lab import Lab, Setting
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, average, worst
from peekserve.sim.window import Got
from peekserve.sim.world import Recorded

# The share of class 0 afterwards; before it is the device class's own.
AFTER: Mapping[str, float] = {"falls": 0.5, "keywords": 0.7, "ecg": 0.1}
# Windows before the shift and after it, in multiples of the laboratory's, and how many of them make a point.
TIMES, POINTS = 10, 10
CONFIRMED_EVERY = 10
ALARM = 3.0

KNOWS, STALE = "knows the mix", "the first mix throughout"


@dataclass(frozen=True, slots=True)
class Halves:
    """A stream before and after. `mixes`: application -> its shares of the classes, before and after."""

    before: Scene
    after: Scene
    mixes: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]

    def joined(self) -> Scene:
        """One stream: the samples of the second half follow those of the first."""
        first, second = self.before, self.after
        many = {name: len(known.labels) for name, known in first.recorded.items()}
        later = tuple(
            [replace(one, sample=one.sample + many[one.application]) for one in asked]
            for asked in second.windows
        )
        recorded = {name: _end_to_end(known, second.recorded[name]) for name, known in first.recorded.items()}
        return replace(first, recorded=recorded, windows=first.windows + later)


def halves(lab: Lab, setting: Setting, seed: int, shifts: bool = True) -> Halves:
    """`shifts`: False for a second half like the first."""
    long = replace(lab, windows=TIMES * lab.windows)
    costs = lab.device.applications
    moved = {
        name: replace(c, usual=AFTER.get(name, c.usual) if shifts else c.usual) for name, c in costs.items()
    }
    later = replace(long, device=replace(lab.device, applications=moved))
    before, after = of_the_paper(long, setting, seed), of_the_paper(later, setting, seed + 10_000)
    mixes = {
        app.name: (
            _shares(costs[app.name].usual, len(app.classes)),
            _shares(moved[app.name].usual, len(app.classes)),
        )
        for app in before.applications
    }
    return Halves(before, after, mixes)


def _shares(usual: float | None, classes: int) -> tuple[float, ...]:
    if usual is None:
        return (1.0 / classes,) * classes
    return (usual, *([(1.0 - usual) / (classes - 1)] * (classes - 1)))


def _end_to_end(first: Recorded, second: Recorded) -> Recorded:
    if first.counts is None or second.counts is None:
        raise InvalidData("a stream without evidence has no votes to put end to end")
    return Recorded(
        np.concatenate([first.labels, second.labels]),
        {v: np.concatenate([scores, second.scores[v]]) for v, scores in first.scores.items()},
        np.concatenate([first.counts, second.counts]),
    )


def _fixed(scene: Scene, mixes: Mapping[str, tuple[float, ...]]) -> Scene:
    """The same with priors that are these mixes and learn nothing."""
    applications = tuple(replace(app, prior=mixes[app.name], prior_learns=None) for app in scene.applications)
    return replace(scene, applications=applications)


def _jobs(lab: Lab) -> Sequence[Job]:
    return [_shift(lab), _steady(lab)]


def _shift(lab: Lab) -> Job:
    def job(seed: int) -> list[Row]:
        both = halves(lab, Setting(), seed)
        first = {name: mix[0] for name, mix in both.mixes.items()}
        then = {name: mix[1] for name, mix in both.mixes.items()}
        learns = both.joined().play(HORIZON)
        runs = {
            HORIZON.name: learns,
            STALE: _fixed(both.joined(), first).play(HORIZON),
            KNOWS: _fixed(both.before, first).play(HORIZON) + _fixed(both.after, then).play(HORIZON),
            PUBLISHED.name: both.joined().play(PUBLISHED),
        }
        rows: list[Row] = []
        for who, windows in runs.items():
            for point, some in enumerate(_parts(windows)):
                utility = float(np.mean([one.row.utility for one in some]))
                rows.append(
                    {"policy": who, "point": point, "seed": seed, "requests": len(some), "utility": utility}
                )
        return rows + _scores(both.joined(), learns, "shift", seed)

    return job


def _steady(lab: Lab) -> Job:
    def job(seed: int) -> list[Row]:
        scene = halves(lab, Setting(), seed, shifts=False).joined()
        return _scores(scene, scene.play(HORIZON), "steady", seed)

    return job


def _parts(windows: Sequence[Sequence[Got]]) -> list[list[Got]]:
    """As many parts as points on both sides of the middle together."""
    edges = np.linspace(0, len(windows), 2 * POINTS + 1).astype(int)
    return [[one for window in windows[a:b] for one in window] for a, b in pairwise(edges)]


def _scores(scene: Scene, windows: Sequence[Sequence[Got]], stream: str, seed: int) -> list[Row]:
    """The drift scores of each application over the stream."""
    watches = {app.name: Watch(len(app.classes)) for app in scene.applications}
    for name, many in scene.past.items():
        counts = scene.recorded[name].counts
        if counts is not None:
            watches[name].see(counts[:many])
    scores: dict[str, list[float]] = {name: [] for name in watches}
    seen = 0
    for asked, got in zip(scene.windows, windows, strict=True):
        for one, what in zip(asked, got, strict=True):
            counts = scene.recorded[one.application].counts
            if counts is not None:
                watches[one.application].see(counts[one.sample][None])
            seen += 1
            if seen % CONFIRMED_EVERY == 0 and what.row.said:
                watches[one.application].learn(what.label, what.row.said[0], what.row.believed)
        for name, watch in watches.items():
            scores[name].append(watch.drift(()).score)
    rows: list[Row] = []
    for name, values in scores.items():
        middle = len(values) // 2
        alarm = float(np.mean([value > ALARM for value in values]))
        highest = float(np.max(values[middle:]))
        where: Row = {"stream": stream, "application": name, "seed": seed}
        rows.append({**where, "alarm": alarm, "highest": highest})
        edges = np.linspace(0, len(values), 2 * POINTS + 1).astype(int)
        for point, (a, b) in enumerate(pairwise(edges)):
            rows.append({**where, "point": point, "score": float(np.mean(values[a:b]))})
    return rows


def _measure(table: Table) -> Mapping[str, Floats]:
    late = range(POINTS + POINTS // 2, 2 * POINTS)
    apps = table.values("application")
    return {
        "shift-recovers": average([_lacks(table, point) for point in late]),
        "shift-score-rises": worst([table.mean("highest", stream="shift", application=a) for a in apps]),
        "shift-score-quiet": table.mean("alarm", stream="steady"),
    }


def _lacks(table: Table, point: int) -> Floats:
    """How much better the one does that knows the mix."""
    return table.mean("utility", policy=KNOWS, point=point) - table.mean(
        "utility", policy=HORIZON.name, point=point
    )


def _tables(table: Table) -> list[list[list[str]]]:
    who = (PUBLISHED.name, STALE, HORIZON.name, KNOWS)
    rows = [["part of the stream", *who, "knows - horizon"]]
    for point in range(2 * POINTS):
        values = [table.mean("utility", policy=w, point=point)[0] for w in who]
        when = f"{point + 1} of {POINTS} before" if point < POINTS else f"{point + 1 - POINTS} after"
        rows.append([when, *(f"{v:.3f}" for v in values), str(Interval.of(_lacks(table, point)))])
    # The highest of many scores is high by itself: beside it stands the highest of as many without a shift.
    scores = [["drift score", "highest after the shift", "without one", f"share above {ALARM:g} without one"]]
    for app in table.values("application"):
        scores.append(
            [
                str(app),
                *(
                    str(Interval.of(table.mean("highest", stream=stream, application=app)))
                    for stream in ("shift", "steady")
                ),
                str(Interval.of(table.mean("alarm", stream="steady", application=app))),
            ]
        )
    return [rows, scores]


def _panels(table: Table) -> Sequence[Panel]:
    points = range(2 * POINTS)
    at = [point - POINTS + 0.5 for point in points]
    who = (PUBLISHED.name, STALE, HORIZON.name, KNOWS)
    lines = [Series(w, at, [table.mean("utility", policy=w, point=p) for p in points]) for w in who]
    scores = [
        Series(
            f"{app}{', no shift' * (stream == 'steady')}",
            at,
            [table.mean("score", stream=stream, application=app, point=p) for p in points],
        )
        for app in table.values("application")
        for stream in ("shift", "steady")
    ]
    x = "tenths of the stream before and after the shift"
    return [
        Panel("The mix of classes moves at 0", x, "mean realised utility", lines, from_zero=False),
        Panel("How it is noticed", x, "drift score", scores),
    ]


EXPERIMENTS = (
    Experiment(
        "horizon-shift",
        "a stream whose mix of classes moves",
        _jobs,
        _measure,
        _panels,
        seeds=20,
        tables=_tables,
    ),
)
