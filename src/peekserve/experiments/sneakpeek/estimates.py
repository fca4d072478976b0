"""What is believed before anything is scheduled: figures 3 (priority), 4 (splitting), 7 (error) and 10 (priors)."""

from collections.abc import Mapping, Sequence
from math import exp, log1p

import numpy as np

from peekserve.awareness.estimate import expected_accuracy, likely
from peekserve.awareness.posterior import posterior_mean
from peekserve.awareness.priors import Alpha, strong, uninformative, weak
from peekserve.experiments.sneakpeek.lab import Lab, stream
from peekserve.experiments.sneakpeek.recording import Ints, Recording
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, average, best, worst

# Requests of each application that one seed looks at for each window that it would serve.
_EACH = 20
NEIGHBOURS = (1, 5)

# ---- figure 3 ----

VARIANCES = (0.0, 0.02, 0.06)
_DEADLINES = tuple(round(0.02 * i, 2) for i in range(101))


def _priorities(lab: Lab) -> Sequence[Job]:
    def job(seed: int) -> list[Row]:
        return [
            {"seed": seed, "variance": v, "deadline_s": d, "priority": exp(log1p(v) - d)}
            for v in VARIANCES
            for d in _DEADLINES
        ]

    return [job]


def _measure_priority(table: Table) -> Mapping[str, Floats]:
    def at(variance: float, deadline_s: float) -> Floats:
        return table.mean("priority", variance=variance, deadline_s=deadline_s)

    near = (at(0.0, 0.0) - at(0.0, 0.1)) / (at(0.0, 0.1) - at(0.0, 0.2))
    far = at(0.06, 1.0) / at(0.0, 1.0) - at(0.06, 0.0) / at(0.0, 0.0)
    return {"fig3-deadline": near, "fig3-variance-far": np.round(far, 12)}


def _priority_panels(table: Table) -> Sequence[Panel]:
    series = [
        Series(
            f"variance {v:g}",
            [d * 1e3 for d in _DEADLINES],
            [table.mean("priority", variance=v, deadline_s=d) for d in _DEADLINES],
        )
        for v in VARIANCES
    ]
    return [Panel("Priority of a request", "deadline, ms from now", "priority (eq. 12)", series)]


# ---- figure 4 ----

_EXAMPLE = {"red": ((4.0, 1.0), (5.0, 0.0)), "white": ((1.0, 4.0), (4.0, 1.0))}


def _splits(lab: Lab) -> Sequence[Job]:
    def example(seed: int) -> list[Row]:
        rows: list[Row] = []
        for group, counts in _EXAMPLE.items():
            theta = posterior_mean(uninformative(2), counts)
            parts = len(set(likely(theta).tolist()))
            for number, row in enumerate(theta):
                rows.append(
                    {
                        "seed": seed,
                        "group": group,
                        "request": number + 1,
                        "theta": float(row[1]),
                        "parts": parts,
                    }
                )
        return rows

    def real(seed: int) -> list[Row]:
        rows: list[Row] = []
        for name, base in lab.recordings.items():
            drawn = _drawn(lab, base, seed)
            theta = posterior_mean(
                uninformative(len(base.classes)), base.counts(lab.device.neighbours)[drawn]
            )
            undecided = float(np.mean(likely(theta) < 0))
            rows.append({"seed": seed, "application": name, "requests": len(drawn), "undecided": undecided})
        return rows

    return [example, real]


def _measure_splits(table: Table) -> Mapping[str, Floats]:
    many = [str(a) for a in table.values("application") if a != "falls"]
    return {
        "fig4-one-label": table.mean("parts", group="red"),
        "fig4-two-labels": table.mean("parts", group="white"),
        "fig4-undecided": average([table.mean("undecided", application=a) for a in many]),
    }


def _split_panels(table: Table) -> Sequence[Panel]:
    groups = list(_EXAMPLE)
    apps = [str(a) for a in table.values("application")]
    example = [
        Series(f"request {n}", range(len(groups)), [table.mean("theta", group=g, request=n) for g in groups])
        for n in (1, 2)
    ]
    real = [Series("undecided", range(len(apps)), [table.mean("undecided", application=a) for a in apps])]
    return [
        Panel(
            "Two groups of two requests: red stays whole, white is split at 1/2",
            "group",
            "probability of class 1",
            example,
            groups,
        ),
        Panel("Real requests that no class claims", "application", "share", real, apps),
    ]


# ---- figures 7 and 10 ----


def errors(base: Recording, rows: Ints, beliefs: Floats | None) -> float:
    """Mean over requests and variants of |believed - true accuracy|, the true one being the recall of the true class
    (6.3.1). `beliefs`: float64 [n, C]; None for the profile, which believes in equally frequent classes."""
    recall = np.array([base.quality(v).recall for v in base.variants])
    if beliefs is None:
        beliefs = np.full((len(rows), len(base.classes)), 1.0 / len(base.classes))
    believed = expected_accuracy(beliefs, recall, [1.0] * len(base.classes))
    return float(np.abs(believed - recall[:, base.labels[rows]].T).mean())


def _errors(lab: Lab) -> Sequence[Job]:
    def job(seed: int) -> list[Row]:
        rows: list[Row] = []
        for name, base in lab.recordings.items():
            drawn = _drawn(lab, base, seed)
            alpha = uninformative(len(base.classes))
            told = {"profile": errors(base, drawn, None)}
            for k in range(1, base.nearest.shape[1] + 1, 2):
                told[f"k={k}"] = errors(base, drawn, posterior_mean(alpha, base.counts(k)[drawn]))
            rows += [
                {"seed": seed, "application": name, "by": by, "requests": len(drawn), "error": error}
                for by, error in told.items()
            ]
        return rows

    return [job]


def _measure_errors(table: Table) -> Mapping[str, Floats]:
    apps = [str(a) for a in table.values("application")]

    def ratio(app: str, by: str) -> Floats:
        return _error(table, app, by) / _error(table, app, "profile")

    measured = {
        "fig7-always": best([ratio(a, "k=1") for a in apps]),
        "fig7-order": best([_error(table, a, "k=5") - _error(table, a, "k=1") for a in apps]),
    }
    return measured | {f"fig7-{a}": ratio(a, "k=5") for a in apps}


def _error(table: Table, app: str, by: str) -> Floats:
    return table.mean("error", application=app, by=by)


def _error_panels(table: Table) -> Sequence[Panel]:
    apps = [str(a) for a in table.values("application")]
    series = [
        Series(by, range(len(apps)), [_error(table, a, by) for a in apps]) for by in ("profile", "k=1", "k=5")
    ]
    ks = [int(str(by)[2:]) for by in table.values("by") if by != "profile"]
    curves = [Series(a, ks, [_error(table, a, f"k={k}") for k in ks]) for a in apps]
    return [
        Panel("Error of the accuracy estimate", "application", "mean absolute error", series, apps),
        Panel("... by the number of neighbours", "k", "mean absolute error", curves),
    ]


def _error_tables(table: Table) -> list[list[list[str]]]:
    """The errors themselves, and each over the profile's."""
    rows = [["application", "profile", "k=1", "k=5", "k=1 / profile", "k=5 / profile"]]
    for app in (str(a) for a in table.values("application")):
        each = {by: _error(table, app, by) for by in ("profile", "k=1", "k=5")}
        ratios = [each[by] / each["profile"] for by in ("k=1", "k=5")]
        rows.append([app, *(str(Interval.of(v)) for v in (*each.values(), *ratios))])
    return [rows]


PRIORS = ("uninformative", "weak", "strong")
SOURCES = ("true", "test")


def alpha_of(prior: str, source: str, classes: int, usual: float | None, requests: float) -> Alpha:
    """The Dirichlet of a prior (6.3.3): from the stream's own mix (`true`) or a uniform sample's (`test`).
    `requests`: of the application in a window, which is what a strong prior weighs."""
    if prior == "uninformative":
        return uninformative(classes)
    frequencies = [1.0 / classes] * classes
    if source == "true" and usual is not None:
        frequencies = [usual] + [(1.0 - usual) / (classes - 1)] * (classes - 1)
    return weak(frequencies) if prior == "weak" else strong([f * requests for f in frequencies])


def _priors(lab: Lab) -> Sequence[Job]:
    each = lab.device.requests / len(lab.recordings)

    def job(seed: int) -> list[Row]:
        rows: list[Row] = []
        for name, base in lab.recordings.items():
            drawn = _drawn(lab, base, seed)
            counts = base.counts(lab.device.neighbours)[drawn]
            told = {("profile", "any"): errors(base, drawn, None)}
            for prior in PRIORS:
                for source in SOURCES:
                    usual = lab.device.applications[name].usual
                    alpha = alpha_of(prior, source, len(base.classes), usual, each)
                    told[prior, source] = errors(base, drawn, posterior_mean(alpha, counts))
            rows += [
                {
                    "seed": seed,
                    "application": name,
                    "prior": prior,
                    "source": source,
                    "requests": len(drawn),
                    "error": error,
                }
                for (prior, source), error in told.items()
            ]
        return rows

    return [job]


def _measure_priors(table: Table) -> Mapping[str, Floats]:
    def by(prior: str, source: str) -> Floats:
        return table.mean("error", prior=prior, source=source)

    profile = by("profile", "any")
    free, true = by("uninformative", "true"), (by("weak", "true"), by("strong", "true"))
    test = (by("weak", "test"), by("strong", "test"))
    return {
        "fig10-true-helps": best([free, true[0]]) / profile,
        "fig10-true-strong": true[1] - worst([free, true[0]]),
        "fig10-true-strong-profile": true[1] / profile,
        "fig10-test-uninformative": free - worst(test),
        "fig10-test-order": test[1] - test[0],
    }


def _prior_panels(table: Table) -> Sequence[Panel]:
    apps = [str(a) for a in table.values("application")]
    panels = []
    for source, title in (("true", "a. The stream's own mix"), ("test", "b. The test data's mix")):
        series = [
            Series(
                prior,
                range(len(apps)),
                [
                    table.mean(
                        "error", application=a, prior=prior, source="any" if prior == "profile" else source
                    )
                    for a in apps
                ],
            )
            for prior in ("profile", *PRIORS)
        ]
        panels.append(Panel(title, "application", "mean absolute error", series, apps))
    return panels


def _drawn(lab: Lab, base: Recording, seed: int) -> Ints:
    rng = np.random.default_rng([7, seed, lab.names.index(base.name)])
    return stream(base, lab.device.applications[base.name].usual, _EACH * lab.windows, rng)


EXPERIMENTS = (
    Experiment(
        "sneakpeek-fig3",
        "priority by deadline and variance of accuracy",
        _priorities,
        _measure_priority,
        _priority_panels,
        seeds=1,
        small_seeds=1,
    ),
    Experiment(
        "sneakpeek-fig4",
        "groups split by likely label",
        _splits,
        _measure_splits,
        _split_panels,
    ),
    Experiment(
        "sneakpeek-fig7",
        "error of the accuracy estimate: profile, k=1, k=5",
        _errors,
        _measure_errors,
        _error_panels,
        tables=_error_tables,
    ),
    Experiment(
        "sneakpeek-fig10",
        "error of the accuracy estimate by prior",
        _priors,
        _measure_priors,
        _prior_panels,
    ),
)
