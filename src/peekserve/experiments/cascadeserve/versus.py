"""`horizon` over a zoo, beside gear plans: the same models, the same requests, no plan made ahead.

`horizon` chooses a model for every row from the deadline and the queue. It is served as it is shipped, where rows run
again if validation data show that this makes answers right more often, and with that forced on. Its beliefs are
profiled on validation data as `peekserve profile` takes them. There is no peek here: a *mute* one stands in its place,
which says nothing and tells only how much the weaker of two models' answers counts. What a model says is evidence by
its label and its confusions; a gear looks at the certainty of every single answer. `plain` takes no part in any of
this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from peekserve.awareness.fusion import with_share
from peekserve.domain.application import Application, PeekSpec
from peekserve.domain.profile import Calibration, Quality
from peekserve.experiments.cascadeserve.days import CELLS
from peekserve.experiments.cascadeserve.lab import CascadeLab, Zoo
from peekserve.experiments.cascadeserve.planned import Plans
from peekserve.experiments.cascadeserve.serving import (
    CARRIED,
    Entrant,
    accuracy,
    ahead,
    attainment,
    places,
    served,
)
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Table, average, worst

GEARS, HORIZON, FORCED, PLAIN = "gears", "horizon", "horizon, forced", "horizon, plain"
SHOWN = (GEARS, HORIZON, FORCED, PLAIN)


def who(zoo: Zoo, plans: Plans) -> list[Entrant]:
    """`gears` with the guard, and horizon in its forms."""
    app = profiled(zoo)
    return [
        Entrant(GEARS, "gears", plans.gears),
        Entrant(HORIZON, "horizon", application=app),
        Entrant(FORCED, "horizon", application=forced(app), escalate=True),
        Entrant(PLAIN, "horizon"),
    ]


def profiled(zoo: Zoo) -> Application:
    """The application with a mute peek, calibrated on its validation data. The samples of `answers` are those, in the
    order of their groups."""
    app, answers = zoo.application, zoo.answers
    classes, many = len(app.classes), answers.samples
    mix = (np.bincount(answers.labels, minlength=classes) + 0.5) / (many + 0.5 * classes)
    even = (1.0 / classes,) * classes
    entropy = float(-(mix * np.log(mix)).sum())
    mute = Calibration((even,) * classes, 0.0, 1.0, (), tuple(mix.tolist()), many, entropy, entropy, 1e-6)
    groups = np.repeat(np.arange(len(answers.starts)), np.diff([*answers.starts.tolist(), many]))
    said = np.stack([answers.said[answers.index(v.name)] for v in app.variants])
    known = with_share(mute, np.zeros((many, classes)), said, answers.labels, groups)
    # What it would answer: the most frequent class.
    confusion = np.zeros((classes, classes), np.int64)
    confusion[:, int(mix.argmax())] = np.bincount(answers.labels, minlength=classes)
    return replace(app, peek=PeekSpec((), (), quality=Quality.from_confusion(confusion), calibration=known))


def forced(app: Application) -> Application:
    """The same where models' answers are taken together whatever validation data say of it: a share that was found to
    be 0 is as if it had not been measured."""
    if app.peek is None or app.peek.calibration is None or app.peek.calibration.fusion != 0.0:
        return app
    return replace(app, peek=replace(app.peek, calibration=replace(app.peek.calibration, fusion=None)))


def _jobs(lab: CascadeLab) -> Sequence[Job]:
    return served(lab, lab.names, CELLS, who)


def _measure(table: Table) -> Mapping[str, Floats]:
    here = places(table)
    kept = [p for p in here if attainment(table, GEARS, **p)[0] >= CARRIED]
    met = [attainment(table, HORIZON, **p) for p in kept]
    mean = average([ahead(table, HORIZON, GEARS, p) for p in here])
    return {
        "cascades-horizon-every": worst([ahead(table, HORIZON, GEARS, p) for p in here]),
        "cascades-horizon-mean": mean,
        "cascades-horizon-forced": worst([ahead(table, FORCED, GEARS, p) for p in here]),
        "cascades-horizon-in-time": worst(met) if met else np.full_like(mean, np.nan),
    }


def _tables(table: Table) -> list[list[list[str]]]:
    lines = [
        [
            "zoo",
            "trace",
            *(f"{name}: in time / accuracy" for name in SHOWN),
            "model runs after the first: gears",
            "horizon",
            "forced",
            "horizon less gears, utility",
            "forced less gears",
        ]
    ]
    for place in places(table):
        told = [
            f"{attainment(table, name, **place)[0]:.4f} / {accuracy(table, name, **place)[0]:.4f}"
            for name in SHOWN
        ]
        again = [
            f"{table.mean('forwarded', policy=name, **place)[0]:.3f}" for name in (GEARS, HORIZON, FORCED)
        ]
        apart = [str(Interval.of(ahead(table, name, GEARS, place))) for name in (HORIZON, FORCED)]
        lines.append([str(place["application"]), str(place["cell"]), *told, *again, *apart])
    return [lines]


def _panels(table: Table) -> Sequence[Panel]:
    here = places(table)
    names = [f"{p['application']}, {p['cell']}" for p in here]
    bars = [
        Series(name, range(len(here)), [ahead(table, name, GEARS, p) for p in here]) for name in SHOWN[1:]
    ]
    return [Panel("Without a plan", "", "utility less that of gears", bars, names)]


EXPERIMENTS = (
    Experiment(
        "cascadeserve-horizon",
        "horizon without a plan beside gears with one, on every trace",
        _jobs,
        _measure,
        _panels,
        seeds=4,
        small_seeds=2,
        tables=_tables,
    ),
)
