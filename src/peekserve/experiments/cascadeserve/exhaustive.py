"""The planner beside every plan there is, in a space small enough to try them all; and how long it takes on whole zoos.

*Reduced*: three models of a zoo, thresholds at three quantiles, three ranges of load, one device or two, with room for
all models or for the largest and the smallest. Planner and search (planner/exhaustive.py) ask the same judge, the
formula of planner/estimate.py, and are compared by what both were asked for: with a goal of latency the score over the
expected loads, with a goal of accuracy alone the 95th percentile over them.

*Whole*: five models, thresholds at nine quantiles, ten ranges, sixteen devices, each gear judged by simulation. Here
the processor time counts, and how often which part of the planner sent a plan back.

Nothing is drawn, so there is one seed. Processor times differ from run to run.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from peekserve.cascades.cascade import Cascade
from peekserve.domain.gears import GearPlan
from peekserve.experiments.cascadeserve.lab import DEVICE, CascadeLab, Zoo, problem
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Row, Table, Value
from peekserve.planner.estimate import Analytic
from peekserve.planner.exhaustive import Times, everything
from peekserve.planner.faults import Fault, Part, Remedy
from peekserve.planner.loads import Loads
from peekserve.planner.loop import plan
from peekserve.planner.placement import best_per_sample_s
from peekserve.planner.problem import Device, Problem, Slo
from peekserve.planner.simulated import Simulated

# The grid, written down before the first run.
KEPT = ("tiny", "small", "base")
STEPS, RANGES = 3, 3
SETTINGS = (("1 device", 1, False), ("2 devices", 2, False), ("2 devices, little memory", 2, True))
P95_MS = (20, 30, 50, 80, 120, 200, 400)
# Of the way from the score of the cheapest cascade to that of the best.
ACCURACIES = (0.25, 0.5, 0.75, 0.9)
WHOLE_DEVICES, WHOLE_RANGES = 16, 10
WHOLE_P95_MS, WHOLE_ACCURACY = (100, 400), 0.5
REDUCED, WHOLE = "reduced", "whole"
_LATENCY, _ACCURACY = "p95", "accuracy"


def carried(of: Problem, model: str) -> float:
    """What all devices carry with this model alone, requests per second: the highest load of a problem."""
    return len(of.devices) / best_per_sample_s(of, model, DEVICE)


def reduced(zoo: Zoo, many: int, tight: bool) -> Problem:
    """The small space. The highest load is what the devices carry with its middle model."""
    whole = problem(zoo, Slo(1.0), Loads.zipf(1.0, RANGES), many)
    own = tuple(m for m in whole.models if m.name in KEPT)
    sizes = sorted(m.bytes for m in own)
    room = sizes[0] + sizes[-1] if tight else sum(sizes)
    made = replace(
        whole,
        models=own,
        answers=whole.answers.only(KEPT),
        steps=STEPS,
        devices=tuple(Device(d.name, d.kind, room) for d in whole.devices),
    )
    return replace(made, loads=Loads.zipf(carried(made, KEPT[1]), RANGES))


def goals(of: Problem, small: bool) -> list[tuple[str, Slo]]:
    """Each with its kind."""
    scores = [one.score for one in everything(of)]
    # At the highest load, and so anywhere, the cheapest can be had.
    cheapest = min(everything(of), key=lambda j: j.cost_s).score
    least, most = cheapest, max(scores)
    found = [(_LATENCY, Slo(ms / 1e3)) for ms in P95_MS[:: 2 if small else 1]]
    shares = ACCURACIES[:: 2 if small else 1]
    return found + [(_ACCURACY, Slo(accuracy=round(least + s * (most - least), 4))) for s in shares]


def _jobs(lab: CascadeLab) -> Sequence[Job]:
    small = lab.share < 1.0
    settings = SETTINGS[1:2] if small else SETTINGS
    jobs = [_beside(lab.zoos[name], *setting, small) for name in lab.names for setting in settings]
    return jobs + [_whole(lab.zoos[name], small) for name in lab.names]


def _beside(zoo: Zoo, setting: str, many: int, tight: bool, small: bool) -> Job:
    def job(seed: int) -> list[Row]:
        own = reduced(zoo, many, tight)
        began = time.process_time()
        times = Times(own, Analytic())
        search_s = time.process_time() - began
        always = min(everything(own), key=lambda j: (j.cost_s, j.cascade.name)).score
        rows: list[Row] = []
        for kind, slo in goals(own, small):
            asked = replace(own, slo=slo)
            began = time.process_time()
            best = times.best(slo)
            one_search_s = search_s + time.process_time() - began
            faults: Counter[str] = Counter()
            began = time.process_time()
            made = plan(asked, back=_counting(faults))
            row: dict[str, Value] = {
                "space": REDUCED,
                "application": zoo.name,
                "setting": setting,
                "kind": kind,
                "goal": str(slo),
                "seed": seed,
                "plan_s": time.process_time() - began,
                "search_s": one_search_s,
                "judged": times.asked,
                "met": int(isinstance(made, GearPlan)),
                "can_be_met": int(best is not None),
                **faults,
            }
            if best is not None:
                row |= {"best": best.score, "best_ms": 1e3 * best.p95_s, "always": always}
            if isinstance(made, GearPlan):
                row |= {"planned": score(asked, made), "planned_ms": 1e3 * p95_s(made)}
            rows.append(row)
        return rows

    return job


def _whole(zoo: Zoo, small: bool) -> Job:
    def job(seed: int) -> list[Row]:
        many, ranges = (2, 3) if small else (WHOLE_DEVICES, WHOLE_RANGES)
        own = problem(zoo, Slo(1.0), Loads.zipf(1.0, ranges), many)
        own = replace(own, loads=Loads.zipf(carried(own, KEPT[1]), ranges))
        judge = Simulated(zoo.application, zoo.validation, requests=300 if small else 1500)
        scores = [own.answers.only((v,)).worth().mean() for v in (zoo.sizes[0], own.answers.best())]
        middle = round(float(scores[0] + WHOLE_ACCURACY * (scores[1] - scores[0])), 4)
        rows: list[Row] = []
        for slo in (*(Slo(ms / 1e3) for ms in WHOLE_P95_MS), Slo(accuracy=middle)):
            faults: Counter[str] = Counter()
            began = time.process_time()
            made = plan(replace(own, slo=slo), judge, back=_counting(faults))
            rows.append(
                {
                    "space": WHOLE,
                    "application": zoo.name,
                    "goal": str(slo),
                    "seed": seed,
                    "devices": many,
                    "ranges": ranges,
                    "plan_s": time.process_time() - began,
                    "met": int(isinstance(made, GearPlan)),
                    "accuracy": made.accuracy if isinstance(made, GearPlan) else float("nan"),
                    **faults,
                }
            )
        return rows

    return job


def _counting(faults: Counter[str]) -> "_Heard":
    return _Heard(faults)


class _Heard:
    """Counts faults by the part that found them and by what mended them."""

    def __init__(self, faults: Counter[str]) -> None:
        self._faults = faults

    def __call__(self, fault: Fault, remedy: Remedy) -> None:
        self._faults[fault.part.value] += 1
        self._faults[remedy.value] += 1


def score(of: Problem, made: GearPlan) -> float:
    """The mean over the expected loads of what the search ranks cascades by."""
    seconds, best = of.seconds(), of.answers.best()
    each = [
        Cascade(gear.stages, gear.thresholds).judged(of.answers, seconds, best, of.confidence).score
        for gear in made.gears
    ]
    return float(np.dot([gear.weight for gear in made.gears], each))


def p95_s(made: GearPlan) -> float:
    """The mean over the expected loads of the ranges' 95th percentiles."""
    return float(np.dot([g.weight for g in made.gears], [g.expected.p95_s for g in made.gears]))


# ---- what is read off the rows ----


def _met(table: Table, kind: str) -> list[Row]:
    return [r for r in table.rows if r.get("kind") == kind and r["met"] and r["can_be_met"]]


def _span(row: Row) -> float:
    """Of what lies between the cheapest cascade everywhere and the optimum, what the plan has."""
    there = float(row["best"]) - float(row["always"])
    return 1.0 if there <= 1e-9 else (float(row["planned"]) - float(row["always"])) / there


def _measure(table: Table) -> Mapping[str, Floats]:
    by_latency, by_accuracy = _met(table, _LATENCY), _met(table, _ACCURACY)
    possible = [float(r["met"]) for r in table.rows if r.get("can_be_met")]
    times = [float(r["search_s"]) / max(float(r["plan_s"]), 1e-9) for r in table.rows if "search_s" in r]
    whole = [float(r["plan_s"]) for r in table.rows if r["space"] == WHOLE]
    slower = [float(r["planned_ms"]) / float(r["best_ms"]) for r in by_accuracy]
    return {
        "exhaustive-score": _alone(min(float(r["planned"]) / float(r["best"]) for r in by_latency)),
        "exhaustive-span": _alone(float(np.mean([_span(r) for r in by_latency]))),
        "exhaustive-equal": _alone(float(np.mean([_span(r) > 1.0 - 1e-6 for r in by_latency]))),
        "exhaustive-met": _alone(float(np.mean(possible))),
        "exhaustive-slower": _alone(float(np.median(slower)) if slower else float("nan")),
        "exhaustive-time": _alone(float(np.median(times))),
        "exhaustive-minute": _alone(max(whole)),
    }


def _alone(value: float) -> Floats:
    """Nothing is drawn: the interval is the value."""
    return np.full(2, value)


def _panels(table: Table) -> Sequence[Panel]:
    found = []
    for app in table.values("application"):
        own = [r for r in _met(table, _LATENCY) if r["application"] == app]
        setting = SETTINGS[1][0]
        rows = sorted(
            (r for r in own if r["setting"] == setting), key=lambda r: Slo.parse(str(r["goal"])).p95_s
        )
        xs = [1e3 * Slo.parse(str(r["goal"])).p95_s for r in rows]
        series = [
            Series(label, xs, [_alone(float(r[of])) for r in rows])
            for label, of in (("every plan", "best"), ("planner", "planned"))
        ]
        title = f"{app}: {setting}"
        found.append(
            Panel(title, "goal: p95, ms", "score over the loads", series, from_zero=False, log_x=True)
        )
    return found


def _tables(table: Table) -> list[list[list[str]]]:
    return [_goals(table), _wholes(table)]


def _goals(table: Table) -> list[list[str]]:
    lines = [["zoo", "setting", "goal", "planned score", "optimum", "share of the span", "planned p95, ms",
              "optimum's, ms", "sent back", "planner, s", "every plan, s"]]  # fmt: skip
    for r in (r for r in table.rows if r["space"] == REDUCED):
        both = r["met"] and r["can_be_met"]
        lines.append(
            [
                str(r["application"]),
                str(r["setting"]),
                str(r["goal"]),
                f"{r['planned']:.4f}" if r["met"] else "none",
                f"{r['best']:.4f}" if r["can_be_met"] else "none",
                f"{_span(r):.3f}" if both and r["kind"] == _LATENCY else "",
                f"{r['planned_ms']:.1f}" if r["met"] else "",
                f"{r['best_ms']:.1f}" if r["can_be_met"] else "",
                str(_back(r)),
                f"{r['plan_s']:.3f}",
                f"{r['search_s']:.1f}",
            ]
        )
    return lines


def _wholes(table: Table) -> list[list[str]]:
    remedies = [remedy.value for remedy in Remedy if remedy is not Remedy.NONE]
    parts = [part.value for part in Part]
    head = ["zoo", "goal", "devices", "accuracy", "processor seconds"]
    lines = [[*head, *(f"sent back by {part}" for part in parts), *(f"mended by {r}" for r in remedies)]]
    for r in (r for r in table.rows if r["space"] == WHOLE):
        lines.append(
            [
                str(r["application"]),
                str(r["goal"]),
                str(r["devices"]),
                f"{r['accuracy']:.4f}",
                f"{r['plan_s']:.1f}",
                *(str(r.get(what, 0)) for what in (*parts, *remedies)),
            ]
        )
    return lines


def _back(row: Row) -> int:
    return sum(int(row.get(part.value, 0)) for part in Part)


EXPERIMENTS = (
    Experiment(
        "cascadeserve-exhaustive",
        "gear plans beside the best of all plans in a small space, and the time that they take",
        _jobs,
        _measure,
        _panels,
        seeds=1,
        small_seeds=1,
        tables=_tables,
    ),
)
