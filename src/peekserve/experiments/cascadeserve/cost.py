"""What a cascade saves: its cost for a sample beside that of the cheapest single model that will do.

Everything is chosen on validation data (choice.py) and judged on test data; only the rule `in hindsight` chooses on the
test data themselves, to show what there was to be had. Seed 0 is the division that the application comes with; every
other seed divides the groups of both parts anew. So an interval says what other subjects could have shown, to who
chooses as well as to who is answered. Costs are processor seconds as they were measured, not stretched.

The picture is of the division that is shipped, its test groups resampled.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np

from peekserve.cascades.cascade import Answers
from peekserve.cascades.certainty import CERTAINTIES
from peekserve.experiments.cascadeserve.choice import (
    GROUPS,
    LOOKS,
    RULES,
    SAMPLES,
    Chosen,
    Rule,
    answers_of,
    at_best_batch,
    chosen,
    divided,
    kept,
    one_by_one,
    resampled,
    some,
)
from peekserve.experiments.cascadeserve.lab import CascadeLab
from peekserve.experiments.cascadeserve.record import OWN, Said
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, Value, average, worst

# What the stages are: a zoo's models, subnets of one supernet, or the separate models of their sizes, where those are
# not the zoo.
ZOO, SUBNETS, BESIDE = "zoo", "subnets", "separate models"
BASES = {"1": one_by_one, "best": at_best_batch}
HINDSIGHT = "in hindsight"
MARGIN = "margin"
# Of the validation data: how much less flatters how much more.
PARTS = (0.25, 0.5, 1.0)
_MOST_POINTS = 12


def seconds(said: Said, basis: str) -> dict[str, float]:
    """Measured processor seconds for a sample of each model, at batch 1 or at its best batch."""
    return {name: BASES[basis](timed.curve) for name, timed in said.timed.items()}


def _jobs(lab: CascadeLab) -> Sequence[Job]:
    found: list[Job] = []
    for name in lab.names:
        kinds = [(ZOO, lab.said[name]), (SUBNETS, lab.subnets[name])]
        if name in OWN and name in lab.beside:
            kinds.append((BESIDE, lab.beside[name]))
        for kind, said in kinds:
            found += [_choices(said, kind), _points(said, kind)]
    return found


def _choices(said: Said, kind: str) -> Job:
    def job(seed: int) -> list[Row]:
        return list(_rows(said, kind, seed))

    return job


def _rows(said: Said, kind: str, seed: int) -> Iterator[Row]:
    validation, test = divided(said, seed)
    for certainty, rule, share, basis in _asked(kind):
        spent = seconds(said, basis)
        known, asked = answers_of(some(validation, share, seed), certainty), answers_of(test, certainty)
        if rule == HINDSIGHT:
            choice = chosen(asked, spent, LOOKS)
        else:
            choice = chosen(known, spent, next(r for r in RULES if r.name == rule))
        found = kept(choice, asked, spent)
        yield {
            "row": "choice",
            "application": said.name,
            "models": kind,
            "certainty": certainty,
            "rule": rule,
            "share": share,
            "batch": basis,
            "seed": seed,
            "single": choice.single,
            "best": choice.best,
            "cascade": choice.cascade.name,
            "stages": len(choice.cascade.stages),
            "single_ms": 1e3 * found.single_s,
            "best_ms": 1e3 * found.best_s,
            "cascade_ms": 1e3 * found.cost_s,
            "saving": found.single_s / found.cost_s,
            "saving_on_best": found.best_s / found.cost_s,
            "accuracy": found.accuracy,
            "single_accuracy": found.single,
            "best_accuracy": found.best,
            "within": float(found.within),
            "ahead": 100 * (found.accuracy - found.single),
            "most_ahead": 100 * (found.most - found.best),
            "lost": 100 * (choice.promised - (found.accuracy - found.best)),
        }


def _asked(kind: str) -> list[tuple[str, str, float, str]]:
    """(certainty, rule, share of the validation data, batch), each once."""
    usual = [(MARGIN, GROUPS.name, 1.0, basis) for basis in BASES]
    if kind != ZOO:
        return usual
    return list(
        dict.fromkeys(
            [
                *usual,
                *(
                    (MARGIN, rule, 1.0, basis)
                    for rule in (LOOKS.name, SAMPLES.name, HINDSIGHT)
                    for basis in BASES
                ),
                *((certainty, GROUPS.name, 1.0, "best") for certainty in CERTAINTIES),
                *((MARGIN, rule.name, share, "best") for rule in RULES for share in PARTS),
            ]
        )
    )


def _points(said: Said, kind: str) -> Job:
    """What single models and the front of cascades give and cost, at the best batch."""

    spent = seconds(said, "best")

    @cache
    def shipped() -> Chosen:
        """Chosen on the validation data as they are: the same for all seeds."""
        return chosen(answers_of(said.validation), spent)

    def job(seed: int) -> list[Row]:
        whole, asked = answers_of(said.test), answers_of(resampled(said.test, seed))
        found: list[Row] = []
        of_front = [c for c in shipped().front if len(c.stages) > 1]
        step = max(-(-len(of_front) // _MOST_POINTS), 1)
        singles = [
            (f"single {v}", 1e3 * spent[v], w)
            for v, w in zip(asked.variants, _accuracies(asked), strict=True)
        ]
        front = [
            (f"cascade {n}", 1e3 * c.judged(whole, spent).cost_s, c.judged(asked, spent).accuracy)
            for n, c in enumerate(of_front)
            if (len(of_front) - 1 - n) % step == 0
        ]
        for what, ms, accuracy in (*singles, *front):
            found.append(
                {
                    "row": "point",
                    "application": said.name,
                    "models": kind,
                    "what": what,
                    "seed": seed,
                    "ms": ms,
                    "point": accuracy,
                }
            )
        return found

    return job


def _accuracies(answers: Answers) -> list[float]:
    return [float(a) for a in answers.worth().mean(axis=1)]


# ---- what is read off the rows ----


def usual(
    table: Table,
    metric: str,
    application: Value,
    rule: Rule | str = GROUPS,
    models: str = ZOO,
    certainty: str = MARGIN,
    share: float = 1.0,
    batch: str = "best",
) -> Floats:
    """float64 [1 + seeds]: the mean over divisions, then what each gives."""
    return table.each(
        metric,
        row="choice",
        application=application,
        rule=rule if isinstance(rule, str) else rule.name,
        models=models,
        certainty=certainty,
        share=share,
        batch=batch,
    )


def _measure(table: Table) -> Mapping[str, Floats]:
    apps = table.values("application")
    certain = [np.array([usual(table, "saving", app, certainty=c) for c in CERTAINTIES]) for app in apps]
    lost = {
        rule.name: average([usual(table, "lost", app, rule, share=PARTS[0]) for app in apps])
        for rule in RULES
    }
    return {
        **{f"cost-{app}": usual(table, "saving", app) for app in apps},
        "cost-one-by-one": worst([usual(table, "saving", app, batch="1") for app in ("ecg", "keywords")]),
        "cost-subnets": usual(table, "saving", "ecg", models=SUBNETS),
        "cost-within": worst([usual(table, "within", app) for app in apps]),
        "cost-no-worse": average([usual(table, "ahead", app) for app in apps]),
        "cost-above-the-best": average([usual(table, "most_ahead", app) for app in apps]),
        "cost-certainties": average([of.max(axis=0) / of.min(axis=0) for of in certain]),
        "cost-flattered": lost[LOOKS.name] - lost[GROUPS.name],
    }


# ---- tables and a picture ----


def _tables(table: Table) -> list[list[list[str]]]:
    return [_savings(table), _shipped_choices(table), _rules(table), _certainties(table)]


def _places(table: Table) -> list[tuple[Value, str]]:
    return list(
        dict.fromkeys((r["application"], str(r["models"])) for r in table.rows if r["row"] == "choice")
    )


def _savings(table: Table) -> list[list[str]]:
    """The show: over all divisions."""
    head = ["application", "stages from", "batch", "rule", "times cheaper than the single model", "than the best model",
            "within the best's interval", "points ahead of the single model", "most accurate cascade, points ahead",
            "in hindsight"]  # fmt: skip
    lines = [head]
    for app, kind in _places(table):
        for rule in (GROUPS, SAMPLES) if kind == ZOO else (GROUPS,):
            for basis in BASES:
                told = {
                    metric: usual(table, metric, app, rule, kind, batch=basis)
                    for metric in ("saving", "saving_on_best", "within", "ahead", "most_ahead")
                }
                past = ""
                if kind == ZOO and rule == GROUPS:
                    past = str(Interval.of(usual(table, "saving", app, HINDSIGHT, batch=basis)))
                within = f"{told.pop('within')[0]:.2f}"
                cells = [str(Interval.of(values)) for values in told.values()]
                lines.append([str(app), kind, basis, rule.name, *cells[:2], within, *cells[2:], past])
    return lines


def _shipped_choices(table: Table) -> list[list[str]]:
    """What was chosen on the division that is shipped."""
    head = ["application", "stages from", "batch", "rule", "single model", "ms", "test accuracy", "cascade", "ms",
            "test accuracy", "best model", "test accuracy", "times cheaper"]  # fmt: skip
    lines = [head]
    for row in table.rows:
        if row["row"] == "choice" and row["seed"] == 0 and row["certainty"] == MARGIN and row["share"] == 1.0:
            lines.append(
                [
                    *(str(row[key]) for key in ("application", "models", "batch", "rule", "single")),
                    f"{row['single_ms']:.4f}",
                    f"{row['single_accuracy']:.4f}",
                    str(row["cascade"]),
                    f"{row['cascade_ms']:.4f}",
                    f"{row['accuracy']:.4f}",
                    str(row["best"]),
                    f"{row['best_accuracy']:.4f}",
                    f"{row['saving']:.2f}",
                ]
            )
    return lines


def _rules(table: Table) -> list[list[str]]:
    """Does a bound keep what it promises, and what does it cost?"""
    lines = [["application", "validation data", "rule", "points lost from validation to test", "times cheaper",
              "points ahead of the single model", "most accurate cascade, points ahead",
              "within the best's interval"]]  # fmt: skip
    for app in table.values("application"):
        for share in PARTS:
            for rule in RULES:
                told = [
                    str(Interval.of(usual(table, metric, app, rule, share=share)))
                    for metric in ("lost", "saving", "ahead", "most_ahead")
                ]
                within = f"{usual(table, 'within', app, rule, share=share)[0]:.2f}"
                lines.append([str(app), f"{share:.0%}", rule.name, *told, within])
    return lines


def _certainties(table: Table) -> list[list[str]]:
    lines = [["application", "certainty", "times cheaper", "points ahead of the single model",
              "most accurate cascade, points ahead"]]  # fmt: skip
    for app in table.values("application"):
        for certainty in CERTAINTIES:
            told = [
                str(Interval.of(usual(table, metric, app, certainty=certainty)))
                for metric in ("saving", "ahead", "most_ahead")
            ]
            lines.append([str(app), certainty, *told])
    return lines


def _panels(table: Table) -> Sequence[Panel]:
    found = []
    for app in table.values("application"):
        series = []
        for kind, where in ((ZOO, "zoo"), (SUBNETS, "supernet"), (BESIDE, "separate models")):
            for what in ("single", "cascade"):
                at = {
                    str(r["what"]): float(r["ms"])
                    for r in table.rows
                    if r["row"] == "point" and r["application"] == app and r["models"] == kind
                    and str(r["what"]).startswith(what)
                }  # fmt: skip
                if at:
                    names = sorted(at, key=lambda name: at[name])
                    values = [table.each("point", application=app, models=kind, what=n) for n in names]
                    label = f"{what}s of the {where}"
                    series.append(Series(label, [at[n] for n in names], values))
        x = "ms of a core for a sample, at the best batch"
        found.append(Panel(str(app), x, "test accuracy", series, from_zero=False, log_x=True))
    return found


EXPERIMENTS = (
    Experiment(
        "cascadeserve-cost",
        "what a cascade costs beside the single model that will do",
        _jobs,
        _measure,
        _panels,
        seeds=40,
        small_seeds=4,
        tables=_tables,
    ),
)
