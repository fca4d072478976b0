"""What exact optima of small windows look like (sections 5.2 and 5.3.2): whole applications on one model, likely
labels, or neither.

Optima tie: two plans of one value may batch differently. So a window counts as grouped by application if the best plan
with one batch and model for each application is worth as much as the optimum, or the optimum found has that form; by
label likewise, with rows of one application and one likely class together. Windows whose optimum was not proven count
nowhere, and are counted.

Two cost modes: `batches`, as a server has it, where all rows of a batch end together; and `eq. 1`, where requests run
and end one after another and pay a swap wherever the model changes. There a batch means requests of one model in a row.
A third mode, `profile`, is `batches` for a scheduler that believes the profile and not the data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from peekserve.domain.messages import Plan
from peekserve.experiments.sneakpeek.decisions import view_of
from peekserve.experiments.sneakpeek.lab import Lab, Setting, Stage
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table
from peekserve.policies import make
from peekserve.policies.base import Switches, View
from peekserve.policies.optimal import Optimal
from peekserve.policies.worth import evaluate

SIZES = (6, 9)
BATCHES, LITERAL, PROFILE = "batches", "eq. 1", "profile"
KINDS = ("application", "label", "neither")
_AWARE = Switches(aware=True, drop=False, merge=False)
_OBLIVIOUS = Switches(drop=False, merge=False)
_CASES = tuple(
    (n, penalty, cost)
    for cost in (BATCHES, LITERAL, PROFILE)
    for n in SIZES
    for penalty in ("sigmoid", "step")
)
_LABELS = 300_000.0
_SAME = 1e-6
# Exact for every number of groups that windows of this size can have.
_EXACT = {"tau": 9.0, "limit": 1e9, "work": 3e5, "rescue": 0.0}


def form_of(view: View, optimum: Plan, switches: Switches = _AWARE) -> str:
    """Which of KINDS an optimum of this view is."""
    best = _worth(view, optimum, switches)
    whole = make("grouped", switches, **_EXACT).plan(view)
    if _together(view, optimum, view.lane) or _worth(view, whole, switches) >= best - _SAME:
        return "application"
    split = make("sneakpeek", switches, **_EXACT, min_gain=-1.0).plan(view)
    likely = view.lane.astype(np.int64) * 1000 + view.likely
    if _together(view, optimum, likely) or _worth(view, split, switches) >= best - _SAME:
        return "label"
    return "neither"


def _worth(view: View, plan: Plan, switches: Switches) -> float:
    return float(evaluate(view, plan, switches)[0].sum())


def _together(view: View, plan: Plan, keys: np.ndarray) -> bool:
    """Are all rows of one key in one batch, or in one run of single rows?"""
    batch_of: dict[int, int] = {}
    run, before = -1, None
    for batch in plan.batches:  # one worker: in the order of its queue
        if len(batch.rows) > 1 or (batch.lane, batch.variant) != before:
            run += 1
        before = (batch.lane, batch.variant)
        batch_of.update(dict.fromkeys(batch.rows, run))
    pairs = {(int(key), batch_of.get(row, -1)) for row, key in enumerate(keys)}
    return len(pairs) == len({key for key, _ in pairs})


def _optima(lab: Lab) -> Sequence[Job]:
    alone = replace(lab, device=replace(lab.device, max_batch=1))

    def at(requests: int, penalty: str, cost: str) -> Job:
        def job(seed: int) -> list[Row]:
            place = alone if cost == LITERAL else lab
            stage = Stage(place, Setting(requests=requests, penalty=penalty), seed)
            found = dict.fromkeys(KINDS, 0)
            switches = _OBLIVIOUS if cost == PROFILE else _AWARE
            policy = Optimal(switches, max_labels=_LABELS, strict=0.0)
            for asked in stage.asked:
                view = view_of(stage, asked, lab.device.window_s)
                given_up = policy.exhausted
                optimum = policy.plan(view)
                if policy.exhausted == given_up:
                    found[form_of(view, optimum, switches)] += 1
            proven = sum(found.values())
            row: dict[str, float | int | str] = {
                "seed": seed,
                "size": requests,
                "penalty": penalty,
                "cost": cost,
                "windows": len(stage.asked),
                "requests": proven,
            }
            return [row | {f"by_{kind}": found[kind] / max(proven, 1) for kind in KINDS}]

        return job

    return [at(*case) for case in _CASES]


def _measure(table: Table) -> Mapping[str, Floats]:
    whole = table.mean("by_application", penalty="sigmoid", cost=BATCHES)
    label = table.mean("by_label", penalty="sigmoid", cost=BATCHES)
    return {"optima-by-application": whole, "optima-by-label": label / np.maximum(1.0 - whole, 1e-12)}


def _panels(table: Table) -> Sequence[Panel]:
    panels = []
    for cost in (BATCHES, LITERAL, PROFILE):
        cases = [(n, p) for n, p, c in _CASES if c == cost]
        series = [
            Series(
                kind,
                range(len(cases)),
                [table.mean(f"by_{kind}", size=n, penalty=p, cost=cost) for n, p in cases],
            )
            for kind in KINDS
        ]
        names = [f"{n} requests, {p}" for n, p in cases]
        panels.append(Panel(f"Exact optima, grouped by ({cost})", "", "share of windows", series, names))
    return panels


def _tables(table: Table) -> list[list[list[str]]]:
    """Every case with how many of its windows were proven."""
    rows = [["cost", "requests", "penalty", "by application", "by label", "neither", "proven"]]
    for n, penalty, cost in _CASES:
        where: dict[str, int | str] = {"size": n, "penalty": penalty, "cost": cost}
        shares = [str(Interval.of(table.mean(f"by_{kind}", **where))) for kind in KINDS]
        own = [row for row in table.rows if all(row.get(k) == v for k, v in where.items())]
        proven = sum(int(row["requests"]) for row in own), sum(int(row["windows"]) for row in own)
        rows.append([cost, str(n), penalty, *shares, f"{proven[0]} of {proven[1]}"])
    return [rows]


EXPERIMENTS = (
    Experiment(
        "sneakpeek-optima",
        "what exact optima of small windows look like",
        _optima,
        _measure,
        _panels,
        tables=_tables,
    ),
)
