"""A hundred blows at workers and twenty at fronts, under load: nothing accepted is lost, and everything comes back.

What happens to workers is in blows.py, what happens to fronts in fronts.py. It wants the machine for itself:
`peekserve experiment trust-kills`, about nine minutes.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Row, Table, Value, best, worst
from peekserve.experiments.trust.blows import HUNG, KILLED, WORKERS, struck
from peekserve.experiments.trust.fronts import FRONTS, lives
from peekserve.experiments.trust.lab import TrustLab
from peekserve.experiments.trust.yard import yard

# Of a seed; four seeds make a hundred and twenty.
WORKER_KILLS, FRONT_KILLS, SEEDS = 25, 5, 4
_REQUESTS: Mapping[str, Value] = {"part": WORKERS, "how": "requests"}


def _jobs(lab: TrustLab) -> Sequence[Job]:
    def workers(seed: int) -> list[Row]:
        return struck(yard(), max(round(WORKER_KILLS * lab.share), 2), seed)

    def fronts(seed: int) -> list[Row]:
        return lives(yard(), max(round(FRONT_KILLS * lab.share), 1), seed)

    return [workers, fronts]


def _most(table: Table, column: str, **where: Value) -> Floats:
    """The worst of all rows; every row counts, in each resample those of its seeds."""
    return table.quantile(column, 1.0, **where)


def _measure(table: Table) -> Mapping[str, Floats]:
    here = [one for one in (KILLED, HUNG) if any(row.get("how") == one for row in table.rows)]

    def over_both(share: float) -> Floats:
        return table.quantile("served_s", share, part=WORKERS, blow=1)

    lost = ("without_reply", "without_outcome", "several_outcomes", "disagree")
    left = ("unwritten", "several_outcomes", "damaged", "changed", "lessons_lost", "keys_lost", "unanswered")
    return {
        "kills-outcomes": best([_most(table, column, **_REQUESTS) for column in lost]),
        "kills-recovered": worst([table.mean("recovered", part=WORKERS, how=how) for how in here]),
        "kills-served-median": over_both(0.5),
        "kills-served-p95": over_both(0.95),
        "kills-served-worst": over_both(1.0),
        "kills-front-state": best([_most(table, column, part=FRONTS) for column in left]),
        "kills-front-journal": _most(table, "broken_frames", part=FRONTS),
        "kills-front-ready": _most(table, "ready_s", part=FRONTS),
        "kills-front-workers": _most(table, "workers_gone_s", part=FRONTS),
    }


def _tables(table: Table) -> list[list[list[str]]]:
    blows = [
        ["blow", "how many", "noticed: median, worst", "up again", "serves again: median", "p95", "worst"]
    ]
    for how in (KILLED, HUNG):
        own = [row for row in table.rows if row.get("how") == how]
        if own:
            blows.append([how, str(len(own)), *(_span(own, c) for c in ("noticed_s", "up_s")), *_served(own)])
    fronts = [row for row in table.rows if row["part"] == FRONTS]
    asked = [row for row in table.rows if row.get("how") == "requests"]
    counts = [["while workers fell", "all", "answered", "no reply", "no outcome", "two", "journal differs"]]
    columns = ("requests", "answered", "without_reply", "without_outcome", "several_outcomes", "disagree")
    counts.append(["requests", *(f"{sum(float(row[c]) for row in asked):.0f}" for c in columns)])
    head = ["front killed", "ready again: median, worst (s)", "its workers gone (s)", "lessons", "registered"]
    ready = [[*head, "broken frames"]]
    ready.append(
        [
            str(len(fronts)),
            _span(fronts, "ready_s"),
            _span(fronts, "workers_gone_s"),
            f"{sum(float(row['taught']) for row in fronts):.0f}",
            f"{sum(float(row['registrations']) for row in fronts):.0f}",
            f"{sum(float(row['broken_frames']) for row in fronts):.0f}",
        ]
    )
    return [blows, counts, ready]


def _span(rows: Sequence[Row], column: str) -> str:
    values = [float(row[column]) for row in rows]
    return f"{np.median(values):.3f}, {max(values):.3f}"


def _served(rows: Sequence[Row]) -> list[str]:
    values = [float(row["served_s"]) for row in rows]
    return [f"{np.quantile(values, share, method='higher'):.3f}" for share in (0.5, 0.95, 1.0)]


def _panels(table: Table) -> Sequence[Panel]:
    series = []
    for how in (KILLED, HUNG):
        own = sorted(float(row["served_s"]) for row in table.rows if row.get("how") == how)
        own = [value for value in own if np.isfinite(value)]
        shares = [(i + 1) / len(own) for i in range(len(own))]
        if own:
            series.append(Series(how, own, [np.full(2, share) for share in shares]))
    return [Panel("A worker serves again", "seconds after the blow", "share of the blows", series)]


EXPERIMENTS = (
    Experiment(
        "trust-kills",
        "workers killed and hung, and fronts killed, at random moments under load",
        _jobs,
        _measure,
        _panels,
        seeds=SEEDS,
        small_seeds=1,
        tables=_tables,
        times="this machine's own, live, through a server over loopback",
    ),
)
