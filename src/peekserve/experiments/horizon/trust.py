"""Can `horizon`'s beliefs be trusted? Beside a scheduler that is told the labels, against what came of them, and with
peeks of every quality. Show 4.

The paper's setting, isolated windows, on recorded answers of real models. Calibrations come from validation data, the
stream is drawn from test data, and its mix of classes is not that of any profile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from peekserve.awareness.calibrate import fit
from peekserve.experiments.horizon.realised import HORIZON, PUBLISHED, SEARCH
from peekserve.experiments.horizon.told import CLAIRVOYANT, told
from peekserve.experiments.horizon.worlds import Entrant, Scene, of_the_paper, with_calibration
from peekserve.experiments.sneakpeek.lab import Lab, Setting, rows_of, stated_votes
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, worst
from peekserve.sim.window import Got

BLIND = replace(HORIZON, name="no evidence")

PENALTIES = ("step", "sigmoid", "linear")
QUALITIES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Of each class, on which the votes of a stated quality are calibrated.
VALIDATION = 200
_VALIDATION = 71


def _jobs(lab: Lab) -> Sequence[Job]:
    return [_real(lab, penalty) for penalty in PENALTIES] + [_stated(lab, q) for q in QUALITIES]


def _real(lab: Lab, penalty: str) -> Job:
    def job(seed: int) -> list[Row]:
        scene = of_the_paper(lab, Setting(penalty=penalty), seed)
        rows: list[Row] = []
        for who, where in (
            (PUBLISHED, scene),
            (SEARCH, scene),
            (HORIZON, scene),
            (BLIND, _blind(scene)),
            (CLAIRVOYANT, told(scene)),
        ):
            rows += _played(where, who, seed, penalty=penalty)
        return rows

    return job


def _stated(lab: Lab, quality: float) -> Job:
    def job(seed: int) -> list[Row]:
        scene = of_the_paper(lab, Setting(believed=quality), seed)
        scene = _calibrated_to(scene, quality, lab.device.neighbours, seed)
        rows = _played(scene, PUBLISHED, seed, quality=quality) + _played(
            scene, HORIZON, seed, quality=quality
        )
        return rows + _played(_blind(scene), BLIND, seed, quality=quality)

    return job


def _blind(scene: Scene) -> Scene:
    """Nobody looks at the data."""
    return replace(scene, recorded={n: replace(known, counts=None) for n, known in scene.recorded.items()})


def _calibrated_to(scene: Scene, quality: float, k: int, seed: int) -> Scene:
    """With the worth of such votes, from validation votes of their own."""
    applications = []
    for i, app in enumerate(scene.applications):
        classes = len(app.classes)
        labels = np.repeat(np.arange(classes), VALIDATION)
        rng = np.random.default_rng([_VALIDATION, seed, i])
        votes = stated_votes(labels, quality, k, classes, rng)
        applications.append(
            with_calibration(app, fit(votes, labels, None, app.prior, [1.0 / classes] * classes))
        )
    return replace(scene, applications=tuple(applications))


def _played(scene: Scene, who: Entrant, seed: int, **where: float | str) -> list[Row]:
    got = [one for window in scene.play(who) for one in window]
    believed: dict[str, float] = {}
    for app in scene.applications:
        own = [one for one in got if one.row.application == app.name and one.row.said]
        believed[app.name] = _apart(own)
    return [
        {**row, "apart": believed[str(row["application"])]} for row in rows_of(got, who.name, seed, **where)
    ]


def _apart(got: Sequence[Got]) -> float:
    """Mean of what was believed less what was right, of answered requests."""
    return float(np.mean([one.row.believed - one.row.correct for one in got])) if got else 0.0


def _measure(table: Table) -> Mapping[str, Floats]:
    found = {f"trust-told-{penalty}": _of_told(table, penalty) for penalty in PENALTIES}
    for app in ("ecg", "keywords", "falls"):
        found[f"trust-believed-{app}"] = _believed(table, HORIZON, app)
    found["trust-quality"] = worst([_gained(table, q) for q in QUALITIES])
    return found


def _believed(table: Table, who: Entrant, app: str) -> Floats:
    """Believed less realised, and the same for each resample of the subjects: a statement about a test set of so many
    subjects is as uncertain as that, and not as a mean over many resamples of the same ones."""
    return table.each("apart", policy=who.name, application=app, penalty="sigmoid")


def _of_told(table: Table, penalty: str) -> Floats:
    own = table.mean("utility", policy=HORIZON.name, penalty=penalty)
    return own / table.mean("utility", policy=CLAIRVOYANT.name, penalty=penalty)


def _gained(table: Table, quality: float) -> Floats:
    return table.mean("utility", policy=HORIZON.name, quality=quality) - table.mean(
        "utility", policy=BLIND.name, quality=quality
    )


def _tables(table: Table) -> list[list[list[str]]]:
    who = (PUBLISHED, SEARCH, HORIZON, BLIND, CLAIRVOYANT)
    utility = [["utility", *(w.name for w in who), "horizon / told"]]
    for penalty in PENALTIES:
        values = [table.mean("utility", policy=w.name, penalty=penalty) for w in who]
        utility.append(
            [penalty, *(f"{v[0]:.3f}" for v in values), str(Interval.of(_of_told(table, penalty)))]
        )
    apart = [["believed - realised", *(w.name for w in who[:4]), "horizon, as a mean over resamples"]]
    for app in table.values("application"):
        found = [Interval.of(_believed(table, w, str(app))) for w in who[:4]]
        mean = table.mean("apart", policy=HORIZON.name, application=app, penalty="sigmoid")
        apart.append([str(app), *map(str, found), str(Interval.of(mean))])
    quality = [["votes right", PUBLISHED.name, BLIND.name, HORIZON.name, "horizon - no evidence"]]
    for q in QUALITIES:
        values = [table.mean("utility", policy=w.name, quality=q) for w in (PUBLISHED, BLIND, HORIZON)]
        quality.append([f"{q:.1f}", *(f"{v[0]:.3f}" for v in values), str(Interval.of(_gained(table, q)))])
    return [utility, apart, quality]


def _panels(table: Table) -> Sequence[Panel]:
    who = (PUBLISHED, SEARCH, HORIZON, CLAIRVOYANT)
    bars = [
        Series(
            w.name,
            range(len(PENALTIES)),
            [table.mean("utility", policy=w.name, penalty=p) for p in PENALTIES],
        )
        for w in who
    ]
    apps = [str(app) for app in table.values("application")]
    apart = [
        Series(
            w.name,
            range(len(apps)),
            [_believed(table, w, a) for a in apps],
        )
        for w in (PUBLISHED, SEARCH, HORIZON)
    ]
    lines = [
        Series(w.name, QUALITIES, [table.mean("utility", policy=w.name, quality=q) for q in QUALITIES])
        for w in (PUBLISHED, BLIND, HORIZON)
    ]
    return [
        Panel("Beside one that is told the labels", "", "mean realised utility", bars, PENALTIES),
        Panel("What was believed of the answers", "", "believed - realised accuracy", apart, apps),
        Panel(
            "Peeks of every quality",
            "probability that a vote is right",
            "mean realised utility",
            lines,
            from_zero=False,
        ),
    ]


EXPERIMENTS = (
    Experiment(
        "horizon-trust",
        "whether horizon's beliefs can be trusted",
        _jobs,
        _measure,
        _panels,
        seeds=40,
        tables=_tables,
    ),
)
