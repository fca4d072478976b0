"""A missed fall is not a missed walk: class weights in the utility of falls, and what they cost. Show 6.

The paper's mix has 5% falls. A scheduler that maximises plain accuracy may well answer "walking" where it knows little.
With weights a right fall counts for more, in what is believed, in what the peek answers, and in what is planned.
Reported are plain numbers, the same for all: right and in time, whatever weight it had.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from peekserve.awareness.estimate import normalised
from peekserve.domain.application import Application
from peekserve.experiments.horizon.realised import AS_SHIPPED, HORIZON, PUBLISHED
from peekserve.experiments.horizon.worlds import Entrant, Scene, of_the_paper
from peekserve.experiments.sneakpeek.lab import Lab, Setting
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table
from peekserve.sim.window import Got

APPLICATION, FALL = "falls", 1
# What a fall weighs beside a walk. 19 makes the 5% count as much as the 95%.
WEIGHTS = (1.0, 5.0, 10.0, 19.0)
# Windows in multiples of the laboratory's: falls are rare.
TIMES = 10
ENTRANTS = (PUBLISHED, AS_SHIPPED, HORIZON)


def _jobs(lab: Lab) -> Sequence[Job]:
    return [_weighing(lab, weight) for weight in WEIGHTS]


def _weighing(lab: Lab, weight: float) -> Job:
    def job(seed: int) -> list[Row]:
        scene = of_the_paper(replace(lab, windows=TIMES * lab.windows), Setting(), seed)
        scene = _weighed(scene, weight)
        return [row for who in ENTRANTS for row in _plain(scene, who, weight, seed)]

    return job


def _weighed(scene: Scene, weight: float) -> Scene:
    applications = tuple(
        replace(app, class_weights=(1.0, weight)) if app.name == APPLICATION else app
        for app in scene.applications
    )
    return replace(scene, applications=applications)


def _plain(scene: Scene, who: Entrant, weight: float, seed: int) -> list[Row]:
    apps = {app.name: app for app in scene.applications}
    got = [one for window in scene.play(who) for one in window]
    values = [_unweighed(one, apps[one.row.application]) for one in got]
    where: Row = {"policy": who.name, "weight": weight, "seed": seed}
    rows: list[Row] = [{**where, "requests": len(got), "utility": float(np.mean(values))}]
    for label, name in enumerate(apps[APPLICATION].classes):
        own = [
            float(one.row.correct > 0.0 and one.row.in_time)
            for one in got
            if one.row.application == APPLICATION and one.label == label
        ]
        if own:
            rows.append({**where, "class": name, "requests": len(own), "recall": float(np.mean(own))})
    return rows


def _unweighed(one: Got, app: Application) -> float:
    """Its utility, had every class weighed the same."""
    return one.row.utility / float(normalised(app.weights)[one.label])


def _measure(table: Table) -> Mapping[str, Floats]:
    fall = _fall(table)
    return {
        "weights-recall": _recall(table, HORIZON, WEIGHTS[-1], fall) - _recall(table, PUBLISHED, 1.0, fall),
        "weights-cost": _utility(table, HORIZON, 1.0) - _utility(table, HORIZON, WEIGHTS[-1]),
    }


def _fall(table: Table) -> str:
    return str(table.values("class")[FALL])


def _recall(table: Table, who: Entrant, weight: float, label: str) -> Floats:
    return table.mean("recall", policy=who.name, weight=weight, **{"class": label})


def _utility(table: Table, who: Entrant, weight: float) -> Floats:
    return table.mean("utility", policy=who.name, weight=weight)


def _tables(table: Table) -> list[list[list[str]]]:
    classes = [str(c) for c in table.values("class")]
    made = []
    for who in ENTRANTS:
        rows = [[who.name, "plain utility", *(f"recall of {c}, in time" for c in classes)]]
        for weight in WEIGHTS:
            rows.append(
                [
                    f"a fall weighs {weight:g}",
                    str(Interval.of(_utility(table, who, weight))),
                    *(str(Interval.of(_recall(table, who, weight, c))) for c in classes),
                ]
            )
        made.append(rows)
    return made


def _panels(table: Table) -> Sequence[Panel]:
    fall = _fall(table)
    recalls = [Series(w.name, WEIGHTS, [_recall(table, w, x, fall) for x in WEIGHTS]) for w in ENTRANTS]
    utilities = [Series(w.name, WEIGHTS, [_utility(table, w, x) for x in WEIGHTS]) for w in ENTRANTS]
    x = "weight of a fall beside any other"
    return [
        Panel("Falls found in time", x, "recall of true falls", recalls, from_zero=False),
        Panel("What it costs", x, "mean plain utility, all applications", utilities, from_zero=False),
    ]


EXPERIMENTS = (
    Experiment(
        "horizon-weights",
        "what class weights do for falls, and cost",
        _jobs,
        _measure,
        _panels,
        seeds=20,
        tables=_tables,
    ),
)
