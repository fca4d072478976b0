"""Batches that do not take what their profiles say: what it costs, and how much of that is won back by who notices.

The real scheduler in pretended time, with two workers and the two small applications of the fault campaigns
(sim/setting.py); times are drawn around what they really are. Requests of both come at random, 150 a second, due 50 ms
later; what cannot be in time is rejected. From a quarter of the run to three quarters of it

- *one worker* runs 1.5, 2 or 3 times slower, as a device does that is too hot;
- or *both workers* do;
- or, all the time, *one variant* takes so much longer than its profile, which was measured in a hurry: x's best one.

Each stream is served twice: planned with the profiles as they are, and with `follow_pace` (core/pace.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import OnMiss
from peekserve.domain.messages import RunBatch
from peekserve.domain.request import Request, TensorRef
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, worst
from peekserve.experiments.trust.lab import TrustLab
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.faults import Faults, Slow
from peekserve.sim.setting import SAMPLES, applications, recorded
from peekserve.sim.window import got_of
from peekserve.sim.world import RecordedWorld

SECONDS, RATE, DEADLINE_S = 8.0, 150.0, 0.050
SHARE_OF_X = 0.7
POLICIES = ("horizon", "sneakpeek")
FACTORS = (1.5, 2.0, 3.0)
ONE, BOTH, VARIANT, NOTHING = "one worker", "both workers", "one variant", "nothing"
FOLLOWS, BY_PROFILE = "follows the pace", "by the profile"
WORKERS = (SimWorker("w0"), SimWorker("w1"))
HURRIED = ("x", "v2")
_STREAM = 96


@dataclass(frozen=True, slots=True)
class _Hurried(RecordedWorld):
    """A world in which the batches of one variant take `factor` times their profile."""

    factor: float = 1.0

    def run_s(self, command: RunBatch, device: str, at: float, rng: np.random.Generator) -> float:
        seconds = RecordedWorld.run_s(self, command, device, at, rng)
        return seconds * self.factor if (command.application, command.variant) == HURRIED else seconds


def requests(seed: int, seconds: float) -> list[Request]:
    """In order of arrival."""
    rng = np.random.default_rng([seed, _STREAM])
    at = np.sort(rng.uniform(0.0, seconds, round(RATE * seconds)))
    made = []
    for i, arrived_at in enumerate(at.tolist()):
        name = "x" if rng.random() < SHARE_OF_X else "y"
        payload = TensorRef(str(rng.integers(SAMPLES)))
        made.append(Request(f"r{i}", name, arrived_at, arrived_at + DEADLINE_S, payload=payload))
    return made


def serve(policy: str, follows: bool, what: str, factor: float, seed: int, seconds: float) -> Row:
    """What became of a stream while `what` is slow by `factor`."""
    apps = applications(OnMiss.REJECT, OnMiss.REJECT)
    by_name = {app.name: app for app in apps}
    slow = {ONE: ("w1",), BOTH: ("w0", "w1")}.get(what, ())
    faults = Faults(slows=[Slow(worker, seconds / 4, seconds / 2, factor) for worker in slow])
    world = _Hurried(by_name, recorded(), jitter=True, factor=factor if what == VARIANT else 1.0)
    scheduler = SchedulerSpec(policy, lead_s=0.001, follow_pace=follows).build(apps)
    settled = Simulation(scheduler, WORKERS, world, seed, faults).run(requests(seed, seconds))
    rows = [
        got_of(one, by_name[one.request.application], recorded()[one.request.application]).row
        for one in settled
    ]
    return {
        "policy": policy,
        "plans": FOLLOWS if follows else BY_PROFILE,
        "slow": what,
        "factor": factor,
        "seed": seed,
        "requests": len(rows),
        "utility": float(np.mean([row.utility for row in rows])),
        "in_time": float(np.mean([row.in_time for row in rows])),
    }


def _cells() -> list[tuple[str, float]]:
    return [(NOTHING, 1.0), *((what, factor) for what in (ONE, BOTH, VARIANT) for factor in FACTORS)]


def _jobs(lab: TrustLab) -> Sequence[Job]:
    seconds = max(SECONDS * lab.share, 1.0)

    def job_of(policy: str, what: str, factor: float) -> Job:
        return lambda seed: [serve(policy, follows, what, factor, seed, seconds) for follows in (True, False)]

    return [job_of(policy, what, factor) for policy in POLICIES for what, factor in _cells()]


def _utility(table: Table, policy: str, plans: str, what: str, factor: float) -> Floats:
    return table.mean("utility", policy=policy, plans=plans, slow=what, factor=factor)


def _gain(table: Table, policy: str, what: str, factor: float) -> Floats:
    return _utility(table, policy, FOLLOWS, what, factor) - _utility(table, policy, BY_PROFILE, what, factor)


def _measure(table: Table) -> Mapping[str, Floats]:
    return {
        "pace-quiet": worst([_gain(table, policy, NOTHING, 1.0) for policy in POLICIES]),
        "pace-one-worker": _gain(table, "sneakpeek", ONE, 2.0),
        "pace-both-workers": worst([_gain(table, policy, BOTH, 2.0) for policy in POLICIES]),
        "pace-one-variant": worst([_gain(table, policy, VARIANT, 2.0) for policy in POLICIES]),
        "pace-hottest": worst([_gain(table, policy, ONE, 3.0) for policy in POLICIES]),
        "pace-never-worse": worst([_gain(table, p, what, f) for p in POLICIES for what, f in _cells()]),
        "pace-kept": worst(
            [
                _utility(table, policy, FOLLOWS, ONE, 2.0) / _utility(table, policy, FOLLOWS, NOTHING, 1.0)
                for policy in POLICIES
            ]
        ),
    }


def _tables(table: Table) -> list[list[list[str]]]:
    head = [
        "policy",
        "slow",
        "factor",
        f"utility, {FOLLOWS}",
        f"{BY_PROFILE}",
        "gain",
        f"in time, {FOLLOWS}",
        BY_PROFILE,
    ]
    rows = [head]
    for policy in POLICIES:
        for what, factor in _cells():
            kept, lost = (_utility(table, policy, plans, what, factor)[0] for plans in (FOLLOWS, BY_PROFILE))
            in_time = [
                f"{table.mean('in_time', policy=policy, plans=plans, slow=what, factor=factor)[0]:.3f}"
                for plans in (FOLLOWS, BY_PROFILE)
            ]
            gain = str(Interval.of(_gain(table, policy, what, factor)))
            rows.append([policy, what, f"{factor:g}", f"{kept:.3f}", f"{lost:.3f}", gain, *in_time])
    return [rows]


def _panels(table: Table) -> Sequence[Panel]:
    def line(policy: str, plans: str, what: str) -> Series:
        cells = [(NOTHING, 1.0), *((what, factor) for factor in FACTORS)]
        values = [_utility(table, policy, plans, at, factor) for at, factor in cells]
        return Series(f"{policy}, {plans}", [factor for _, factor in cells], values)

    return [
        Panel(
            f"{what} slow",
            "times the profile",
            "mean realised utility",
            [line(policy, plans, what) for policy in POLICIES for plans in (FOLLOWS, BY_PROFILE)],
            from_zero=False,
        )
        for what in (ONE, BOTH, VARIANT)
    ]


EXPERIMENTS = (
    Experiment(
        "trust-pace",
        "batches that do not take what their profiles say",
        _jobs,
        _measure,
        _panels,
        seeds=10,
        tables=_tables,
        times="the stated times of two small applications",
    ),
)
