"""CPU time of one decision, making the view included: `python bench/bench_policies.py [--json] [--policy NAME,...]`.

A backlog of 12 to 500 waiting rows of three applications (5, 4 and 3 variants; 2, 6 and 7 classes), drawn from fixed
seeds: deadlines of 20 to 200 ms, evidence of five neighbours for nearly every row, weights that do not all fit. The
figure is the thread's CPU time of backlog.view and policy.plan together.

And, for the policies of the SuperServe paper, over one supernet: 36 subnets of one set of weights, all resident.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from peekserve import kernel
from peekserve.awareness.priors import uninformative
from peekserve.core.backlog import Backlog
from peekserve.core.beliefs import make as make_beliefs
from peekserve.core.catalogue import Catalogue
from peekserve.core.fleet import Fleet
from peekserve.domain.application import Application, OnMiss, PeekSpec, QueryType, Variant
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.domain.request import Request
from peekserve.errors import InvalidConfiguration
from peekserve.policies import POLICIES, YARDSTICKS, Switches, make
from peekserve.policies.base import Policy

ROWS = (12, 24, 100, 500)
BACKLOGS, REPEATS = 30, 5
MAX_BATCH = 32
APPLICATIONS = (  # (classes, variants: (seconds for one row, accuracy))
    (2, ((0.002, 0.70), (0.006, 0.80), (0.012, 0.86), (0.020, 0.90), (0.030, 0.93))),
    (6, ((0.003, 0.72), (0.007, 0.82), (0.013, 0.88), (0.022, 0.92))),
    (7, ((0.004, 0.75), (0.009, 0.86), (0.018, 0.91))),
)
FORMS = {
    "plain": Switches(),
    "aware": Switches(aware=True),
    "aware, short-circuit": Switches(aware=True, short_circuit=True),
}
# 36 subnets, from a millisecond to ten for one row, each more accurate than the one before.
SUBNETS = tuple((0.001 * 10 ** (i / 35), 0.74 + 0.06 * (i / 35) ** 0.5) for i in range(36))
OVER_A_SUPERNET: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "slackfit (paper)": ("slackfit", {"raise": 0.0}),
    "slackfit": ("slackfit", {}),
    "slackfit (drain)": ("slackfit", {"drain": 0.5}),
    "maxacc": ("maxacc", {}),
    "maxbatch": ("maxbatch", {}),
    "clipper": ("clipper", {"point": 2.0}),
    "infaas": ("infaas", {}),
}


def an_application(index: int, classes: int, variants: tuple[tuple[float, float], ...]) -> Application:
    rng = np.random.default_rng(index)

    def quality(accuracy: float) -> Quality:
        recall = np.clip(accuracy + rng.normal(0.0, 0.06, classes), 0.0, 1.0)
        return Quality(tuple(recall.tolist()), (1.0 / classes,) * classes)

    def variant(number: int, seconds: float, accuracy: float) -> Variant:
        curve = LatencyCurve((1, MAX_BATCH), (seconds, seconds * (1 + 0.3 * (MAX_BATCH - 1))))
        timing = Timing((curve,), load_s=2 * seconds, bytes=1)
        name = f"{index}-{number}"
        return Variant(name, name, name, quality=quality(accuracy), timing={"cpu": timing})

    return Application(
        f"app{index}",
        tuple(str(c) for c in range(classes)),
        tuple(variant(n, s, a) for n, (s, a) in enumerate(variants)),
        prior=uninformative(classes),
        queries=(("default", QueryType(0.1)),),
        on_miss=OnMiss.DEGRADE,
        peek=PeekSpec((), (), quality=quality(0.65), latency=LatencyCurve((1,), (0.0002,))),
    )


def a_zoo() -> list[Application]:
    return [an_application(i, *app) for i, app in enumerate(APPLICATIONS)]


def a_supernet() -> list[Application]:
    """One application, all of whose variants have the same weights."""
    app = an_application(0, 7, SUBNETS)
    return [replace(app, variants=tuple(replace(v, weights="supernet") for v in app.variants))]


def a_decision(applications: Sequence[Application], rows: int, seed: int) -> Callable[[Policy], object]:
    """One decision over a backlog of this many rows, to be made again and again by any policy."""
    rng = np.random.default_rng([rows, seed])
    catalogue = Catalogue(applications)
    fleet = Fleet(catalogue, hang_s=1.0)
    fleet.up("w", "cpu", 6, now=0.0)
    fleet.preload("w", now=0.0)
    backlog = Backlog(catalogue, make_beliefs("dirichlet", catalogue))
    for i in range(rows):
        a = int(rng.integers(len(applications)))
        classes = len(applications[a].classes)
        request = Request(
            f"r{i}", f"app{a}", 50.0 - float(rng.uniform(0, 0.02)), 50.0 + float(rng.uniform(0.015, 0.2))
        )
        slots = backlog.add(request, 0.0, fleet.fastest_s(a), late_ok=False)
        if rng.random() < 0.95:
            votes = rng.choice(classes, 5, p=rng.dirichlet(np.full(classes, 0.3)))
            backlog.observe(slots, np.bincount(votes, minlength=classes)[None, :].astype(np.float64))
    enabled = np.ones((len(catalogue.lanes), catalogue.variants), np.bool_)

    def decide(policy: Policy) -> object:
        return policy.plan(backlog.view(backlog.waiting(), 50.0, fleet.view(["w"], 50.0), enabled))

    return decide


def measured(policy: Policy, applications: Sequence[Application], rows: int) -> dict[str, float]:
    """Median and p95 over backlogs and repeats, microseconds."""
    spent = []
    for seed in range(BACKLOGS):
        decide = a_decision(applications, rows, seed)
        decide(policy)
        for _ in range(REPEATS):
            begin = time.thread_time_ns()
            decide(policy)
            spent.append((time.thread_time_ns() - begin) / 1e3)
    return {"median_us": float(np.median(spent)), "p95_us": float(np.quantile(spent, 0.95))}


def everything(names: Sequence[str]) -> dict[str, dict[int, dict[str, float]]]:
    """Label -> rows -> figures, of these policies."""
    table = {
        f"{name} ({form})": {rows: measured(make(name, switches), a_zoo(), rows) for rows in ROWS}
        for name in names
        for form, switches in FORMS.items()
    }
    for label, (name, options) in OVER_A_SUPERNET.items():
        if name in names:
            made = make(name, Switches(), **options)
            table[f"{label}, supernet"] = {rows: measured(made, a_supernet(), rows) for rows in ROWS}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.add_argument("--policy", default="", help="only these, with commas between them")
    asked = parser.parse_args()
    as_json = asked.json
    every = [name for name in POLICIES if name not in YARDSTICKS]
    names = asked.policy.split(",") if asked.policy else every
    if set(names) - set(every):
        raise InvalidConfiguration(f"--policy {asked.policy}: the policies are {', '.join(every)}")
    table = everything(names)
    if as_json:
        print(json.dumps({"compiled": kernel.COMPILED, "decision": table}))
        return
    form = "compiled" if kernel.COMPILED else "interpreted"
    print(f"CPU time of a decision, view included, us: median (p95); kernel {form}")
    print(f"{'':36}" + "".join(f"{f'{rows} rows':>18}" for rows in ROWS))
    for label, line in table.items():
        cells = (f"{cell['median_us']:.0f} ({cell['p95_us']:.0f})" for cell in line.values())
        print(f"{label:36}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
