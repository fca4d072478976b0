"""Why SubnetNorm: what subnets answer with the normalisation statistics of the largest (SuperServe, section 3.1)."""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.superserve.front import resampled
from peekserve.experiments.superserve.lab import SuperLab
from peekserve.experiments.table import Floats, Interval, Row, Table, average, worst

OWN, BORROWED = "its own statistics", "the largest one's"


def _jobs(lab: SuperLab) -> Sequence[Job]:
    return [_accuracies(lab, name) for name in lab.names if lab.scored[name].borrowed_accuracies()]


def _accuracies(lab: SuperLab, name: str) -> Job:
    def job(seed: int) -> list[Row]:
        scored = lab.scored[name]
        drawn = resampled(scored, seed)
        usual = float((scored.labels[drawn] == np.bincount(scored.labels).argmax()).mean())
        rows: list[Row] = []
        for i, subnet in enumerate(scored.subnets):
            own = scored.subnets_test[i].argmax(axis=1)
            for how, said in ((OWN, own), (BORROWED, scored.borrowed_test[i])):
                right = float((said == scored.labels)[drawn].mean())
                rows.append(
                    {
                        "application": name,
                        "subnet": subnet,
                        "statistics": how,
                        "seed": seed,
                        "requests": len(drawn),
                        "accuracy": right,
                        "usual": usual,
                    }
                )
        return rows

    return job


def _narrowed(table: Table) -> list[tuple[str, str]]:
    """Every subnet but each supernet's last, which has nothing to borrow."""
    seen = list(dict.fromkeys((str(row["application"]), str(row["subnet"])) for row in table.rows))
    last = dict(seen)
    return [(app, subnet) for app, subnet in seen if last[app] != subnet]


def _at(table: Table, app: str, subnet: str, how: str) -> Floats:
    return table.each("accuracy", application=app, subnet=subnet, statistics=how)


def _measure(table: Table) -> Mapping[str, Floats]:
    pairs = _narrowed(table)
    return {
        "norm-lost": average([_at(table, *p, OWN) - _at(table, *p, BORROWED) for p in pairs]),
        "norm-lowest": worst([_at(table, *p, BORROWED) for p in pairs]),
    }


def _panels(table: Table) -> Sequence[Panel]:
    found = []
    for app in table.values("application"):
        names = [str(s) for s in dict.fromkeys(r["subnet"] for r in table.rows if r["application"] == app)]
        series = [
            Series(how, range(len(names)), [_at(table, str(app), s, how) for s in names])
            for how in (OWN, BORROWED)
        ]
        found.append(Panel(str(app), "subnets, the cheapest first", "test accuracy", series))
    return found


def _tables(table: Table) -> list[list[list[str]]]:
    lines = [["supernet", "subnet", OWN, BORROWED, "lost, points"]]
    for app in table.values("application"):
        for s in dict.fromkeys(str(r["subnet"]) for r in table.rows if r["application"] == app):
            own, borrowed = (_at(table, str(app), s, how) for how in (OWN, BORROWED))
            told = (Interval.of(own), Interval.of(borrowed), Interval.of(100 * (own - borrowed)))
            lines.append([str(app), s, *(str(i) for i in told)])
        lines.append(
            [str(app), "always the usual class", f"{table.mean('usual', application=app)[0]:.3f}", "", ""]
        )
    return [lines]


EXPERIMENTS = (
    Experiment(
        "superserve-norm",
        "accuracy with and without statistics of each subnet's own",
        _jobs,
        _measure,
        _panels,
        seeds=200,
        small_seeds=20,
        tables=_tables,
    ),
)
