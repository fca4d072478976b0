"""How a gear would do at a load, by the project's own simulator with the real scheduler and the policy `gears`.

Every stage, queue and device of the work is there, and the answers are the recorded ones; so this is what a server with
these timings would do, but for what timings leave out (experiments/service.py). The guard is off by default: a plan has
to hold by itself, and a guard would hide what does not by answering early and less well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np

from peekserve.core.catalogue import Catalogue
from peekserve.core.options import Options
from peekserve.core.scheduler import Scheduler
from peekserve.domain.application import Application, OnMiss, QueryType
from peekserve.domain.gears import Expected, Gear, GearPlan, Holding, Planned, Share
from peekserve.domain.request import Outcome, Request, TensorRef
from peekserve.loadgen.arrivals import gamma
from peekserve.planner.estimate import Estimate, Work
from peekserve.planner.problem import Slo
from peekserve.policies.base import Switches
from peekserve.policies.gears import Gears
from peekserve.sim.driver import Settled, Simulation, SimWorker
from peekserve.sim.world import Recorded, RecordedWorld

# Workers are up, and hold their weights, before the first request comes.
_BEGINS_AT = 1.0
MOST = 20_000


@dataclass(frozen=True, slots=True)
class Simulated:
    """`app`: with timings for the devices' kinds. `recorded`: what its variants say of labelled samples.
    `requests`: how many to simulate. `burstiness`: squared coefficient of variation of the gamma-distributed times
    between arrivals; 1 is Poisson. `guard`: of the policy. `jitter`: of times, around the profile's median. `goals`:
    simulate for at least so many times the goal (and MOST requests): a gear that cannot quite keep up looks well for as
    long as its queues are short."""

    app: Application
    recorded: Recorded
    requests: int = 1500
    burstiness: float = 1.0
    seed: int = 0
    guard: bool = False
    jitter: bool = False
    goals: float = 0.0

    def estimate(self, work: Work) -> Estimate:
        """The same seed for every work: two gears are compared over the same pattern of arrivals."""
        settled = run(self, gear_plan(work))
        waits = np.array([_wait_s(one) for one in settled])
        p95_s = float(np.quantile(waits, 0.95, method="higher"))
        stages = work.judged.cascade.stages
        spent = [
            share * work.problem.model(stage).curves[work.problem.devices[0].kind].seconds(1)
            if work.problem.devices[0].kind in work.problem.model(stage).curves
            else 0.0
            for stage, share in zip(stages, work.judged.reach, strict=True)
        ]
        return Estimate(p95_s, stages[int(np.argmax(spent))])


def run(how: Simulated, plan: GearPlan, rate: float | None = None) -> list[Settled]:
    """The requests' outcomes under a plan, at `rate` requests per second; by default the highest of the plan."""
    rng = np.random.default_rng(how.seed)
    rate = plan.highest if rate is None else rate
    many = max(how.requests, min(ceil(rate * how.goals * _goal_s(how, plan)), MOST))
    instants = gamma(rate, how.burstiness, many / rate, rng)
    samples = np.resize(rng.permutation(len(how.recorded.labels)), len(instants))
    return simulate(how, plan, instants.tolist(), samples.tolist())


def simulate(
    how: Simulated, plan: GearPlan, instants: Sequence[float], samples: Sequence[int]
) -> list[Settled]:
    """The outcomes of requests that come at these instants, seconds from the beginning, with these samples. They are
    due when the plan's goal says, or by default when the application does."""
    goal_s = _goal_s(how, plan)
    # Late rows are answered, late: what takes too long is to be seen, not to be turned away.
    app = replace(how.app, on_miss=OnMiss.LATE, peek=None, queries=(("default", QueryType(goal_s)),))
    policy = Gears(Switches(), {app.name: plan}, guard=float(how.guard))
    scheduler = Scheduler(policy, Catalogue([app]), Options(peek=False, hang_s=inf))
    workers = [SimWorker(h.device, h.kind, h.budget_bytes, h.weights) for h in plan.placement]
    world = RecordedWorld({app.name: app}, {app.name: how.recorded}, jitter=how.jitter)
    buckets = how.recorded.buckets
    requests = []
    for i, (at, sample) in enumerate(zip(instants, samples, strict=True)):
        begin_at = _BEGINS_AT + at
        bucket = 0 if buckets is None else int(buckets[sample])
        key = TensorRef(str(sample))
        requests.append(Request(f"r{i}", app.name, begin_at, begin_at + goal_s, bucket=bucket, payload=key))
    return Simulation(scheduler, workers, world, how.seed).run(requests)


def gear_plan(work: Work) -> GearPlan:
    """The work as a plan of one gear."""
    problem, judged = work.problem, work.judged
    stages = judged.cascade.stages
    shares = tuple(
        tuple(Share(d, share) for d, share in work.balance.shares[stage].items()) for stage in stages
    )
    expected = Expected(
        judged.reach, judged.accuracy, judged.error, judged.bound, inf, work.balance.utilisation
    )
    gear = Gear(0.0, work.rate, stages, judged.cascade.thresholds, work.queues, shares, expected)
    models = tuple(Planned(m.name, m.revision, m.weights) for m in problem.models)
    held = tuple(Holding(d.name, d.kind, d.budget_bytes, work.holds[d.name]) for d in problem.devices)
    return GearPlan(
        problem.application,
        problem.answers.measure,
        str(problem.slo),
        problem.fingerprint,
        models,
        held,
        (gear,),
    )


def _goal_s(how: Simulated, plan: GearPlan) -> float:
    goal_s = Slo.parse(plan.slo).p95_s
    return goal_s if goal_s < inf else how.app.query().deadline_s


def _wait_s(one: Settled) -> float:
    answered = one.answer.outcome in (Outcome.ANSWERED, Outcome.LATE)
    return one.at - one.request.arrived_at if answered else inf
