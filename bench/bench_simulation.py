"""Requests simulated a minute on one core, by policy, and where the time goes.

Three applications of the demo's size (five, four and three variants; two, six and seven classes) with stated numbers
and drawn answers, one worker whose memory does not hold everything, Poisson arrivals at one and a half times the rate
that the worker can serve with its quickest variants. CPU time of the one thread; the share of the policy is the time
in plan(view), of the core the rest of handle(event), of the simulator what is left.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from peekserve import kernel
from peekserve.core.catalogue import Catalogue
from peekserve.core.options import Options
from peekserve.core.scheduler import Scheduler
from peekserve.domain.application import Application, OnMiss
from peekserve.domain.messages import Command, Event, Plan
from peekserve.domain.request import Request, TensorRef
from peekserve.policies import POLICIES, SWITCHES, YARDSTICKS, Policy, Switches, make
from peekserve.policies.base import View
from peekserve.sim.drawn import drawn
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.quick import application, variant
from peekserve.sim.world import RecordedWorld

SAMPLES = 2000
LOAD = 1.5
STATED = (  # (classes, variants: (seconds for one row, recall), recall of one vote of the peek, deadline)
    (2, ((0.002, 0.70), (0.006, 0.80), (0.012, 0.86), (0.020, 0.90), (0.030, 0.93)), 0.65, 0.150),
    (6, ((0.003, 0.72), (0.007, 0.82), (0.013, 0.88), (0.022, 0.92)), 0.6, 0.150),
    (7, ((0.004, 0.75), (0.009, 0.86), (0.018, 0.91)), 0.6, 0.150),
)
BATCH, GROWS = 32, 0.3
MEGABYTES = 6
EVERY = tuple(name for name in POLICIES if name not in YARDSTICKS)


def applications() -> list[Application]:
    made = []
    for i, (classes, variants, vote, deadline_s) in enumerate(STATED):
        own = [
            variant(
                f"{i}-{v}",
                (recall,) * classes,
                {1: seconds, BATCH: seconds * (1 + GROWS * (BATCH - 1))},
                load_s=2 * seconds,
            )
            for v, (seconds, recall) in enumerate(variants)
        ]
        names = [str(c) for c in range(classes)]
        made.append(application(f"app{i}", names, own, deadline_s, peek_recall=(vote,) * classes))
    return made


def capacity(apps: Sequence[Application]) -> float:
    """Rows a second with the quickest variants in full batches."""
    each_s = [min(v.timing["cpu"].curve(0).seconds(BATCH) for v in app.variants) / BATCH for app in apps]
    return 1.0 / float(np.mean(each_s))


def a_trace(apps: Sequence[Application], rate: float, requests: int, seed: int = 0) -> list[Request]:
    rng = np.random.default_rng(seed)
    at = 1.0 + np.cumsum(rng.exponential(1.0 / rate, requests))
    which = rng.integers(0, len(apps), requests).tolist()
    samples = rng.integers(0, SAMPLES, requests).tolist()
    return [
        Request(f"r{i}", apps[a].name, t, t + apps[a].query().deadline_s, payload=TensorRef(str(s)))
        for i, (a, t, s) in enumerate(zip(which, at.tolist(), samples, strict=True))
    ]


class Timed(Policy):
    """A policy and the time that it took."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.spent_s, self.plans, self.rows = policy, 0.0, 0, 0

    def plan(self, view: View) -> Plan:
        begin = time.thread_time()
        plan = self.policy.plan(view)
        self.spent_s += time.thread_time() - begin
        self.plans += 1
        self.rows += view.size
        return plan


class Stopwatch(Scheduler):
    """A scheduler and the time that it took, its policy's included."""

    spent_s = 0.0
    events = 0

    def handle(self, event: Event, now: float) -> list[Command]:
        begin = time.thread_time()
        commands = super().handle(event, now)
        self.spent_s += time.thread_time() - begin
        self.events += 1
        return commands


def measured(name: str, requests: int, load: float) -> dict[str, float]:
    apps = applications()
    rng = np.random.default_rng(1)
    world = RecordedWorld(
        {app.name: app for app in apps}, {app.name: drawn(app, SAMPLES, rng) for app in apps}
    )
    switches = SWITCHES.get(name, Switches())
    on_miss = OnMiss.DEGRADE if switches.short_circuit else OnMiss.REJECT
    apps = [replace(app, on_miss=on_miss) for app in apps]
    policy = Timed(make(name, switches))
    scheduler = Stopwatch(policy, Catalogue(apps), Options(peek=switches.short_circuit, preload=True))
    simulation = Simulation(scheduler, [SimWorker("cpu", "cpu", MEGABYTES * 2**20)], world)
    trace = a_trace(apps, load * capacity(apps), requests)
    begin = time.thread_time()
    simulation.run(trace)
    total = time.thread_time() - begin
    return {
        "per_minute": 60.0 * requests / total,
        "us_per_request": 1e6 * total / requests,
        "policy_us": 1e6 * policy.spent_s / requests,
        "core_us": 1e6 * (scheduler.spent_s - policy.spent_s) / requests,
        "sim_us": 1e6 * (total - scheduler.spent_s) / requests,
        "events_per_request": scheduler.events / requests,
        "plans_per_request": policy.plans / requests,
        "rows_per_plan": policy.rows / max(policy.plans, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--load", type=float, default=LOAD, help="arrivals over what can be served")
    parser.add_argument("--policy", action="append", choices=EVERY)
    given = parser.parse_args()
    table = {name: measured(name, given.requests, given.load) for name in given.policy or EVERY}
    if given.json:
        print(json.dumps({"compiled": kernel.COMPILED, "load": given.load, "simulation": table}))
        return
    form = "compiled" if kernel.COMPILED else "interpreted"
    rate = given.load * capacity(applications())
    print(f"Simulated at {given.load:g} times the capacity, {rate:.0f} requests/s; kernel {form}")
    print(
        f"{'':14}{'a minute':>10}{'us each':>9}{'policy':>8}{'core':>8}{'sim':>8}{'plans':>8}{'rows/plan':>11}"
    )
    for name, cell in table.items():
        print(
            f"{name:14}{cell['per_minute']:>10.0f}{cell['us_per_request']:>9.0f}{cell['policy_us']:>8.0f}"
            f"{cell['core_us']:>8.0f}{cell['sim_us']:>8.0f}{cell['plans_per_request']:>8.2f}"
            f"{cell['rows_per_plan']:>11.1f}"
        )


if __name__ == "__main__":
    main()
