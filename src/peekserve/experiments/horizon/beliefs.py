"""Beliefs alone, before anything is scheduled: of the class, of the variants and of the peek's own answer.

Recorded answers of real models. Everything is fitted on validation samples; the stream is drawn from test samples, in
the paper's mix of classes, which no fit knows, from a resample of their groups for each seed. Four kinds of belief see
the same rows in the same order: the profile alone, the Dirichlet, calibrated votes under the even mix of the fit, and
calibrated votes whose mix is learnt from the stream.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from peekserve.core.beliefs import Belief, make
from peekserve.core.catalogue import Catalogue
from peekserve.domain.application import Application, Variant
from peekserve.experiments.horizon.worlds import known_of_the_paper, of_the_paper
from peekserve.experiments.sneakpeek.lab import Lab, Setting, stream
from peekserve.experiments.sneakpeek.recording import Recording
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table

PROFILE, DIRICHLET, FIXED, LEARNT = "profile", "dirichlet", "calibrated, even mix", "calibrated"
KINDS = (PROFILE, DIRICHLET, FIXED, LEARNT)
APPLICATIONS = ("ecg", "keywords", "falls")
_EACH = 100  # rows of each application for each window that one seed would serve
_SEED = 73
_BINS = 15


def _jobs(lab: Lab) -> Sequence[Job]:
    known = known_of_the_paper(lab)

    def job(seed: int) -> list[Row]:
        rows: list[Row] = []
        for plain in of_the_paper(lab, Setting(), seed).applications:
            app, base = known[plain.name].given_to(plain), lab.recordings[plain.name]
            rng = np.random.default_rng([_SEED, seed, lab.names.index(app.name)])
            drawn = stream(base, lab.device.applications[app.name].usual, _EACH * lab.windows, rng)
            counts = base.counts(lab.device.neighbours)[drawn]
            told = {
                PROFILE: _of_profile(app, base, drawn),
                DIRICHLET: _seen(_belief("dirichlet", app), base, drawn, counts),
                FIXED: _seen(_belief("calibrated", replace(app, prior_learns=None)), base, drawn, counts),
                LEARNT: _seen(_belief("calibrated", app), base, drawn, counts),
            }
            one_recall = replace(app, variants=tuple(_together(v) for v in app.variants))
            together = _seen(_belief("calibrated", one_recall), base, drawn, counts)
            told[LEARNT]["apart_less_together"] = told[LEARNT]["squared"] - together["squared"]
            rows += [
                {"seed": seed, "application": app.name, "by": by, "requests": len(drawn), **found}
                for by, found in told.items()
            ]
        return rows

    return [job]


def _belief(name: str, app: Application) -> Belief:
    return make(name, Catalogue([app]))[0]


def _together(variant: Variant) -> Variant:
    """Without its recalls by agreement."""
    quality = variant.quality
    return variant if quality is None else replace(variant, quality=replace(quality, by_agreement=()))


def _of_profile(app: Application, base: Recording, drawn: np.ndarray) -> dict[str, float]:
    theta = np.full((len(drawn), len(app.classes)), 1.0 / len(app.classes))
    recall = np.array([base.quality(v).recall for v in base.variants])
    return _told(theta, theta @ recall.T, None, base, drawn)


def _seen(belief: Belief, base: Recording, drawn: np.ndarray, counts: Floats) -> dict[str, float]:
    seen = [belief.seen(row[None]) for row in counts]
    theta = np.concatenate([one.theta for one in seen])
    own = np.concatenate([one.instant for one in seen]), belief.answer(theta)
    return _told(theta, np.concatenate([one.accuracy for one in seen]), own, base, drawn)


def _told(
    theta: Floats,
    accuracy: Floats,
    own: tuple[Floats, np.ndarray] | None,
    base: Recording,
    drawn: np.ndarray,
) -> dict[str, float]:
    """`loss`: in nats. `error`: of figure 7, |theta . recall - recall of the true class|. `squared`: of believed
    accuracies against what each variant then answered. `calibration`: of the leading class. `apart`: believed worth of
    the peek's own answer less what came of it."""
    labels = base.labels[drawn]
    recall = np.array([base.quality(v).recall for v in base.variants])
    right = np.array([base.scores[v][drawn].argmax(axis=1) == labels for v in base.variants]).T
    found = {
        "loss": float(-np.log(theta[np.arange(len(labels)), labels]).mean()),
        "error": float(np.abs(theta @ recall.T - recall[:, labels].T).mean()),
        "squared": float(((accuracy - right) ** 2).mean()),
        "calibration": _calibration(theta.max(axis=1), theta.argmax(axis=1) == labels),
    }
    if own is not None:
        found["apart"] = float(own[0].mean() - (own[1] == labels).mean())
    return found


def _calibration(believed: Floats, right: np.ndarray) -> float:
    """The mean over rows of |believed - right| within their bin of belief: the expected calibration error."""
    bins = np.minimum((believed * _BINS).astype(int), _BINS - 1)
    gap = np.bincount(bins, weights=believed - right, minlength=_BINS)
    return float(np.abs(gap).sum() / len(believed))


def _of(table: Table, what: str, app: str, by: str) -> Floats:
    return table.mean(what, application=app, by=by)


def _measure(table: Table) -> Mapping[str, Floats]:
    found: dict[str, Floats] = {}
    for app in APPLICATIONS:
        found[f"beliefs-loss-{app}"] = _of(table, "loss", app, LEARNT) - _of(table, "loss", app, DIRICHLET)
        found[f"beliefs-error-{app}"] = _of(table, "error", app, LEARNT) - _of(table, "error", app, DIRICHLET)
        found[f"beliefs-own-{app}"] = _of(table, "apart", app, LEARNT)
        found[f"beliefs-agreement-{app}"] = _of(table, "apart_less_together", app, LEARNT)
    return found


def _tables(table: Table) -> list[list[list[str]]]:
    titles = {
        "loss": "log loss",
        "error": "error of the accuracy (figure 7)",
        "squared": "squared error against answers",
        "calibration": "calibration error of the leading class",
        "apart": "the peek's own answer, believed - realised",
    }
    made = []
    for what, title in titles.items():
        kinds = [by for by in KINDS if what != "apart" or by != PROFILE]
        made.append([[title, *kinds]])
        made[-1] += [
            [app, *(str(Interval.of(_of(table, what, app, by))) for by in kinds)] for app in APPLICATIONS
        ]
    return made


def _panels(table: Table) -> Sequence[Panel]:
    def bars(what: str, kinds: Sequence[str]) -> list[Series]:
        places = range(len(APPLICATIONS))
        return [Series(by, places, [_of(table, what, app, by) for app in APPLICATIONS]) for by in kinds]

    return [
        Panel("What beliefs say of the true class", "", "log loss, nats", bars("loss", KINDS), APPLICATIONS),
        Panel(
            "Error of the accuracy estimate", "", "mean absolute error", bars("error", KINDS), APPLICATIONS
        ),
        Panel(
            "The peek's own answer",
            "",
            "believed - realised accuracy",
            bars("apart", KINDS[1:]),
            APPLICATIONS,
        ),
    ]


EXPERIMENTS = (
    Experiment(
        "horizon-beliefs",
        "what beliefs say of classes, of variants and of the peek's own answer",
        _jobs,
        _measure,
        _panels,
        seeds=40,
        tables=_tables,
    ),
)
