"""What the approaches make of one window: figures 5, 6 and 8, and 9, how accurate a peek must be."""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.experiments.sneakpeek.lab import (
    AWARE_SPLIT,
    FIVE,
    GROUPED,
    LO_EDF,
    LO_PRIORITY,
    MAXACC,
    SHIPPED,
    SNEAKPEEK,
    Lab,
    Setting,
    aware,
    played,
)
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Table, average, best, worst

_NAMES = tuple(c.name for c in FIVE)
_OTHERS = tuple(n for n in _NAMES if n != "sneakpeek")


def _five(lab: Lab) -> Sequence[Job]:
    return [played(lab, Setting(), (*FIVE, SHIPPED))]


def _measure_five(table: Table) -> Mapping[str, Floats]:
    def utility(who: str) -> Floats:
        return table.mean("utility", policy=who)

    def accuracy(who: str) -> Floats:
        return table.mean("accuracy", policy=who)

    without = [n for n in _NAMES if n != "maxacc-edf"]
    return {
        "fig5-highest": utility("sneakpeek") - best([utility(n) for n in _OTHERS]),
        "fig5-double": utility("sneakpeek") / utility("lo-edf"),
        "fig5-maxacc-accuracy": accuracy("maxacc-edf") - average([accuracy(n) for n in without]),
        "fig5-maxacc-utility": utility("maxacc-edf") - worst([utility(n) for n in without]),
        "fig5-grouped-accuracy": accuracy("grouped") - worst([accuracy(n) for n in _NAMES if n != "grouped"]),
        "fig5-grouped-utility": utility("grouped") - utility("lo-edf"),
        "fig5-priority": utility("lo-priority") - utility("lo-edf"),
    }


def _measure_late(table: Table) -> Mapping[str, Floats]:
    def late(who: str) -> Floats:
        return table.mean("late", policy=who)

    def violation(who: str) -> Floats:
        return table.mean("violation_ms", policy=who)

    return {
        "fig6-maxacc-most": best([late(n) for n in _NAMES if n != "maxacc-edf"]) / late("maxacc-edf"),
        "fig6-fewest": late("sneakpeek") - worst([late(n) for n in _OTHERS]),
        "fig6-almost-none": late("sneakpeek"),
        "fig6-least-time": violation("sneakpeek") - worst([violation(n) for n in _OTHERS]),
    }


def _bars(table: Table, metric: str, title: str, y_label: str) -> Panel:
    names = (*_NAMES, SHIPPED.name)
    values = [table.mean(metric, policy=n) for n in names]
    return Panel(title, "", y_label, [Series(metric, range(len(names)), values)], names)


def _five_panels(table: Table) -> Sequence[Panel]:
    return [
        _bars(table, "utility", "Utility", "mean realised utility"),
        _bars(table, "accuracy", "Accuracy", "share answered rightly"),
    ]


def _five_tables(table: Table) -> list[list[list[str]]]:
    """What each approach came to."""
    metrics = ("utility", "expected", "accuracy", "late", "violation_ms", "by_peek")
    names = (*_NAMES, SHIPPED.name)
    rows = [["approach", "utility", "expected", "accuracy", "late", "violation, ms", "by the peek"]]
    rows += [[n, *(str(Interval.of(table.mean(m, policy=n))) for m in metrics)] for n in names]
    return [rows]


def _late_panels(table: Table) -> Sequence[Panel]:
    return [
        _bars(table, "violation_ms", "Violation time", "mean over requests, ms"),
        _bars(table, "late", "Violations", "share of requests late"),
    ]


# ---- figure 8 ----

_PLAIN = (MAXACC, LO_EDF, LO_PRIORITY, GROUPED)
FORMS = ("plain", "aware", "aware+sc")


def form(policy: str, which: str) -> str:
    """The contender's name: a policy as it is, with awareness, or with awareness and short-circuit."""
    return policy if which == "plain" else f"{policy}+{which}"


def _twelve(lab: Lab) -> Sequence[Job]:
    return [
        played(lab, Setting(), (plain, aware(plain), aware(plain, short_circuit=True))) for plain in _PLAIN
    ]


def _measure_forms(table: Table) -> Mapping[str, Floats]:
    names = [c.name for c in _PLAIN]
    apps = [str(a) for a in table.values("application")]

    def gain(policy: str, which: str, over: str) -> Floats:
        return table.mean("utility", policy=form(policy, which)) - table.mean(
            "utility", policy=form(policy, over)
        )

    def lead(which: str) -> Floats:
        others = [table.mean("utility", policy=form(n, which)) for n in names if n != "grouped"]
        return table.mean("utility", policy="grouped") - best(others)

    added = [
        (
            table.mean("utility", policy=form(n, "aware+sc"), application=a)
            > table.mean("utility", policy=form(n, "aware"), application=a)
        ).astype(np.float64)
        for n in names
        for a in apps
    ]
    return {
        "fig8-grouped-beats-aware": lead("aware"),
        "fig8-grouped-beats-short-circuit": lead("aware+sc"),
        "fig8-aware-maxacc": gain("maxacc-edf", "aware", "plain"),
        "fig8-aware-lo-edf": gain("lo-edf", "aware", "plain"),
        "fig8-aware-lo-priority": gain("lo-priority", "aware", "plain"),
        "fig8-aware-grouped": gain("grouped", "aware", "plain"),
        "fig8-short-circuit": average(added),
        "fig8-maxacc-short-circuit": gain("maxacc-edf", "aware+sc", "aware"),
    }


def _form_panels(table: Table) -> Sequence[Panel]:
    names = [c.name for c in _PLAIN]
    panels = []
    for app in [None, *(str(a) for a in table.values("application"))]:
        where = {} if app is None else {"application": app}
        series = [
            Series(
                which,
                range(len(names)),
                [table.mean("utility", policy=form(n, which), **where) for n in names],
            )
            for which in FORMS
        ]
        panels.append(Panel(app or "all applications", "", "mean realised utility", series, names))
    return panels


# ---- figure 9 ----

ACCURACIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def _stated(lab: Lab) -> Sequence[Job]:
    jobs: list[Job] = [played(lab, Setting(), (GROUPED,), stated="none")]
    return jobs + [played(lab, Setting(believed=a), (SNEAKPEEK, AWARE_SPLIT), stated=a) for a in ACCURACIES]


def _measure_stated(table: Table) -> Mapping[str, Floats]:
    grouped = table.mean("utility", policy="grouped")

    def lead(accuracy: float) -> Floats:
        return table.mean("utility", policy="sneakpeek", stated=accuracy) - grouped

    return {
        "fig9-above": worst([lead(a) for a in ACCURACIES if a >= 0.4]),
        "fig9-below": average([lead(a) for a in (0.1, 0.2)]),
        "fig9-rises": lead(0.9) - lead(0.3),
    }


def _stated_panels(table: Table) -> Sequence[Panel]:
    grouped = table.mean("utility", policy="grouped")
    series = [
        Series(
            label,
            ACCURACIES,
            [table.mean("utility", policy=who, stated=a) for a in ACCURACIES],
        )
        for who, label in (("sneakpeek", "sneakpeek"), ("sneakpeek-sc", "sneakpeek without short-circuit"))
    ]
    series.append(Series("grouped, no peek", ACCURACIES, [grouped] * len(ACCURACIES)))
    return [Panel("Utility by the accuracy of a vote", "stated accuracy", "mean realised utility", series)]


EXPERIMENTS = (
    Experiment(
        "sneakpeek-fig5",
        "utility and accuracy of the five approaches",
        _five,
        _measure_five,
        _five_panels,
        tables=_five_tables,
    ),
    Experiment(
        "sneakpeek-fig6", "deadline violations of the five approaches", _five, _measure_late, _late_panels
    ),
    Experiment(
        "sneakpeek-fig8",
        "what awareness and short-circuit add, by application",
        _twelve,
        _measure_forms,
        _form_panels,
    ),
    Experiment(
        "sneakpeek-fig9",
        "utility by the stated accuracy of the peek",
        _stated,
        _measure_stated,
        _stated_panels,
    ),
)
