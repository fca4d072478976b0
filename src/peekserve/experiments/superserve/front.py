"""One set of weights, many points: accuracy over latency of every subnet, with the separate models in the picture; and
the paper's three properties of such a front (section 4.1), as a picture.

Test accuracy, each seed a resample of the test data's groups: an interval says what other subjects could have shown.
Latency is this machine's own, in milliseconds, not stretched.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.superserve.lab import SuperLab, Timed
from peekserve.experiments.superserve.record import Scored
from peekserve.experiments.superserve.worlds import MAX_BATCH
from peekserve.experiments.table import Floats, Interval, Row, Table, Value, average, worst

SHARED, ALONE = "subnet", "separate"
SIZES = (1, 2, 4, 8, 16)
# More lines than this cannot be told apart in one picture.
MOST_WIDTHS = 4
_POOL = 61


def _jobs(lab: SuperLab) -> Sequence[Job]:
    return [_points(lab, name) for name in lab.names]


def _points(lab: SuperLab, name: str) -> Job:
    def job(seed: int) -> list[Row]:
        scored, timings = lab.scored[name], lab.timings
        drawn = resampled(scored, seed)
        rows: list[Row] = []
        for kind, names, said, costs, parameters, timed in (
            (SHARED, scored.subnets, scored.subnets_test, scored.subnets_multiply_adds,
             scored.subnets_parameters, timings.subnets[name]),
            (ALONE, scored.separate, scored.separate_test, scored.separate_multiply_adds,
             scored.separate_parameters, timings.separate.get(name, {})),
        ):  # fmt: skip
            for i, model in enumerate(names):
                if model not in timed:
                    continue
                right = (said[i].argmax(axis=1) == scored.labels)[drawn]
                rows.append(
                    {
                        "application": name,
                        "kind": kind,
                        "model": model,
                        "offered": int(kind == ALONE or bool(scored.offered[i])),
                        "seed": seed,
                        "requests": len(drawn),
                        "accuracy": float(right.mean()),
                        "multiply_adds": int(costs[i]),
                        "parameters": int(parameters[i]),
                        "training_s": float(
                            scored.supernet_cpu_s if kind == SHARED else scored.separate_cpu_s[i]
                        ),
                        **{f"ms_{b}": 1e3 * timed[model].curve.seconds(b) for b in SIZES},
                    }
                )
        return rows

    return job


def resampled(scored: Scored, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """int64 [n]: the test samples of a resample of the groups; with seed 0 all of them, once each."""
    if seed == 0:
        return np.arange(len(scored.labels))
    names = np.unique(scored.groups)
    drawn = np.random.default_rng([_POOL, seed]).choice(names, len(names))
    return np.concatenate([np.flatnonzero(scored.groups == g) for g in drawn])


# ---- what is read off the rows ----


def models(table: Table, application: Value, kind: str, offered: bool = False) -> list[str]:
    """The cheapest first."""
    found = {
        str(r["model"]): float(r["multiply_adds"])
        for r in table.rows
        if r["application"] == application and r["kind"] == kind and (r["offered"] or not offered)
    }
    return sorted(found, key=lambda name: found[name])


def _of(table: Table, metric: str, application: Value, kind: str, model: str) -> Floats:
    return table.mean(metric, application=application, kind=kind, model=model)


def spread(table: Table, application: Value, kind: str, model: str) -> Floats:
    """float64 [1 + seeds]: accuracy on the test data, then on each resample of its groups."""
    return table.each("accuracy", application=application, kind=kind, model=model)


def shared_less_alone(table: Table, application: Value) -> list[Floats]:
    """For each separate model: accuracy of the subnet of its size less its own, float64 [1 + seeds]."""
    both = set(models(table, application, SHARED)) & set(models(table, application, ALONE))
    return [
        spread(table, application, SHARED, m) - spread(table, application, ALONE, m)
        for m in models(table, application, ALONE)
        if m in both
    ]


def _measure(table: Table) -> Mapping[str, Floats]:
    apps = table.values("application")
    many = [float(len(models(table, app, SHARED))) for app in apps if app in ("ecg", "keywords")]
    apart = [difference for app in apps for difference in shared_less_alone(table, app)]
    smallest = [d[0] for app in apps if (d := shared_less_alone(table, app))]
    largest = [d[-1] for app in apps if (d := shared_less_alone(table, app))]
    nothing = np.full(2, np.nan)
    return {
        "front-many": np.full(2, min(many)),
        "front-against-separate": 100 * average(apart) if apart else nothing,
        "front-smallest": 100 * average(smallest) if smallest else nothing,
        "front-largest": 100 * average(largest) if largest else nothing,
        "front-span": 100 * worst([_span(table, app) for app in apps]),
    }


def _span(table: Table, application: Value) -> Floats:
    values = [spread(table, application, SHARED, m) for m in models(table, application, SHARED)]
    return np.asarray(np.maximum.reduce(values) - np.minimum.reduce(values))


def _panels(table: Table) -> Sequence[Panel]:
    found = []
    for app in table.values("application"):
        everyone = models(table, app, SHARED)
        by_width = [
            (width, [m for m in everyone if _width(m) == width])
            for width in dict.fromkeys(map(_width, everyone))
        ]
        if len(by_width) > MOST_WIDTHS:
            by_width = [("all subnets", everyone)]
        series = []
        for label, kind, names in (
            *((label, SHARED, names) for label, names in by_width),
            ("offered subnets", SHARED, models(table, app, SHARED, offered=True)),
            ("separate models", ALONE, models(table, app, ALONE)),
        ):
            at = sorted((float(_of(table, "ms_1", app, kind, m)[0]), m) for m in names)
            if at:
                series.append(
                    Series(label, [ms for ms, _ in at], [spread(table, app, kind, m) for _, m in at])
                )
        title = f"{app}: {len(everyone)} subnets of one set of weights"
        found.append(Panel(title, "ms for one row", "test accuracy", series, from_zero=False, log_x=True))
    return found


def _width(subnet: str) -> str:
    """A line for each width is easier to follow than one through all subnets."""
    return subnet.rpartition(".")[2]


def _tables(table: Table) -> list[list[list[str]]]:
    head = ["supernet", "model", "multiply-adds", "parameters", "ms for 1", "ms for 16", "test accuracy",
            "trained by itself", "subnet less separate, points"]  # fmt: skip
    lines = [head]
    for app in table.values("application"):
        apart = set(models(table, app, ALONE))
        for model in models(table, app, SHARED):
            own = spread(table, app, SHARED, model)
            offered = model in models(table, app, SHARED, offered=True)
            other = spread(table, app, ALONE, model) if model in apart else None
            lines.append(
                [
                    str(app),
                    model if offered else f"{model} (not offered)",
                    *(
                        f"{_of(table, metric, app, SHARED, model)[0]:{form}}"
                        for metric, form in (
                            ("multiply_adds", ",.0f"),
                            ("parameters", ",.0f"),
                            ("ms_1", ".3f"),
                            ("ms_16", ".3f"),
                        )
                    ),
                    str(Interval.of(own)),
                    str(Interval.of(other)) if other is not None else "",
                    str(Interval.of(100 * (own - other))) if other is not None else "",
                ]
            )
    return [lines]


# ---- P1 to P3 ----


def _property_jobs(lab: SuperLab) -> Sequence[Job]:
    return [_curves(lab, name) for name in lab.names]


def _curves(lab: SuperLab, name: str) -> Job:
    def job(seed: int) -> list[Row]:
        scored, timed = lab.scored[name], lab.timings.subnets[name]
        worth = scored.accuracies()
        offered = [s for i, s in enumerate(scored.subnets) if scored.offered[i]]
        return [
            {
                "application": name,
                "model": m,
                "seed": seed,
                "batch": b,
                "accuracy": worth[m],
                "ms": _ms(timed[m], b),
            }
            for m in offered
            for b in SIZES
        ]

    return job


def _ms(timed: Timed, batch: int) -> float:
    return 1e3 * timed.curve.seconds(batch)


def _property_measure(table: Table) -> Mapping[str, Floats]:
    """Shares of neighbouring pairs, over all supernets; nothing here is drawn, so the interval is the value."""
    rises, orders, ratios = [], [], []
    for app in table.values("application"):
        by_model = _by_model(table, app)
        names = sorted(by_model, key=lambda m: by_model[m][1])
        for name in names:
            rises += (np.diff([by_model[name][0][b] for b in SIZES]) > 0).tolist()
        for b in (1, MAX_BATCH):
            orders += (np.diff([by_model[name][0][b] for name in names]) > 0).tolist()
        ratios.append(by_model[names[0]][0][MAX_BATCH] / by_model[names[-1]][0][2])
    return {
        "properties-p1": np.full(2, float(np.mean(rises))),
        "properties-p2": np.full(2, float(np.mean(orders))),
        "properties-p3": np.full(2, float(np.max(ratios))),
    }


def _by_model(table: Table, application: Value) -> dict[str, tuple[dict[int, float], float]]:
    """Model -> its milliseconds by batch size, and its profiled accuracy."""
    found: dict[str, tuple[dict[int, float], float]] = {}
    for row in table.rows:
        if row["application"] == application:
            times, _ = found.setdefault(str(row["model"]), ({}, float(row["accuracy"])))
            times[int(row["batch"])] = float(row["ms"])
    return found


def _property_panels(table: Table) -> Sequence[Panel]:
    found = []
    for app in table.values("application"):
        by_model = _by_model(table, app)
        names = sorted(by_model, key=lambda m: by_model[m][1])
        series = [
            Series(
                f"batch {b}",
                [100 * by_model[m][1] for m in names],
                [np.full(2, by_model[m][0][b]) for m in names],
            )
            for b in SIZES
        ]
        title = f"{app}: latency by accuracy (P2) and batch (P1); a level line is P3"
        found.append(Panel(title, "profiled accuracy, %", "ms", series, log_y=True))
    return found


def _property_tables(table: Table) -> list[list[list[str]]]:
    lines = [["supernet", "subnet", "profiled accuracy", *(f"ms for {b}" for b in SIZES)]]
    for app in table.values("application"):
        by_model = _by_model(table, app)
        for name in sorted(by_model, key=lambda m: by_model[m][1]):
            times, worth = by_model[name]
            lines.append([str(app), name, f"{worth:.4f}", *(f"{times[b]:.3f}" for b in SIZES)])
    return [lines]


EXPERIMENTS = (
    Experiment(
        "superserve-front",
        "accuracy over latency of all subnets, and of separate models",
        _jobs,
        _measure,
        _panels,
        seeds=200,
        small_seeds=20,
        tables=_tables,
    ),
    Experiment(
        "superserve-properties",
        "latency by batch size and by accuracy (P1 to P3)",
        _property_jobs,
        _property_measure,
        _property_panels,
        seeds=1,
        small_seeds=1,
        tables=_property_tables,
    ),
)
