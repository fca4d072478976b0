"""How a gear would do at a load: the seam through which the planner asks, and its cheap answer.

`Analytic` is a formula; `planner/simulated.py` runs the real scheduler in pretended time. The planner asks the formula
first and the simulation for what the formula lets pass.

The formula: a device runs its stages in turn, each with all that has come meanwhile. So one round takes

    T = sum over its stages v of latency_v(b_v),   b_v = the larger of its queue length and rate_v T

A device for which this grows beyond the largest batches cannot keep up. A sample of the slow tail waits for its queue
to fill, then for a round that a burst has made long, and then for its own batch, at each stage that more than one
sample in twenty comes to. A burst is 1.645 standard deviations of the arrivals in a round, whose variance is
`burstiness` times their mean. Bounds of the pieces are added up, so this is too careful rather than not careful enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Protocol

from peekserve.cascades.cascade import Judged
from peekserve.domain.profile import LatencyCurve
from peekserve.planner.balance import Balance
from peekserve.planner.problem import Problem

_Z95 = 1.6449
_TAIL = 0.05
_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Work:
    """A gear in the making. `rate`: requests per second. `queues`: how many samples each stage waits for. `holds`: by
    device, the weights on it."""

    problem: Problem
    judged: Judged
    rate: float
    balance: Balance
    queues: tuple[int, ...]
    holds: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """`p95_s`: infinite where the load cannot be kept up with. `bottleneck`: the stage that keeps it from being
    less."""

    p95_s: float
    bottleneck: str


class Estimator(Protocol):
    """Deterministic: the same work, the same estimate."""

    def estimate(self, work: Work) -> Estimate: ...


@dataclass(frozen=True, slots=True)
class Analytic:
    """`burstiness`: variance of the arrivals in a stretch of time, in shares of their mean; 1 is Poisson."""

    burstiness: float = 1.0

    def estimate(self, work: Work) -> Estimate:
        cascade, reach = work.judged.cascade, work.judged.reach
        tail_s, worst, bottleneck = 0.0, -1.0, cascade.stages[0]
        rounds: dict[str, _Round] = {}
        for device in work.problem.devices:
            own = [
                _Stage(
                    stage,
                    work.problem.model(stage).curves[device.kind],
                    work.problem.model(stage).max_batch,
                    work.rate * share * work.balance.shares[stage][device.name],
                    queue,
                )
                for stage, share, queue in zip(cascade.stages, reach, work.queues, strict=True)
                if device.name in work.balance.shares[stage]
            ]
            if own:
                rounds[device.name] = self._round(own)
        slow = [r for r in rounds.values() if r.tail_s == inf]
        if slow:
            return Estimate(inf, slow[0].longest)
        for stage, share, queue in zip(cascade.stages, reach, work.queues, strict=True):
            if share <= _TAIL and stage != cascade.stages[0]:
                continue
            hosts = [d for d in work.balance.shares[stage] if d in rounds]
            fills_s = (queue - 1) / max(work.rate * share, 1e-12)
            here_s = max(fills_s + rounds[d].tail_s + rounds[d].own_s[stage] for d in hosts)
            tail_s += here_s
            if here_s > worst:
                worst, bottleneck = here_s, stage
        return Estimate(tail_s, bottleneck)

    def _round(self, stages: Sequence["_Stage"]) -> "_Round":
        """How long a device takes for one round of its stages, and for one after a burst."""
        round_s = sum(stage.seconds(stage.queue) for stage in stages)
        for _ in range(_ROUNDS):
            if any(stage.rate * round_s > stage.most for stage in stages):
                return _Round(inf, {}, max(stages, key=lambda s: s.rate * s.seconds(s.most) / s.most).name)
            next_s = sum(stage.seconds(max(stage.queue, stage.rate * round_s)) for stage in stages)
            if abs(next_s - round_s) <= 1e-9 * round_s:
                break
            round_s = next_s
        own_s = {}
        for stage in stages:
            come = stage.rate * round_s
            burst = max(float(stage.queue), come + _Z95 * sqrt(self.burstiness * come))
            own_s[stage.name] = stage.seconds(burst)
        # A device that mostly rests begins at once.
        busy = sum(stage.rate * stage.seconds(stage.most) / stage.most for stage in stages)
        return _Round(sum(own_s.values()) if busy > _TAIL else 0.0, own_s, max(own_s, key=lambda s: own_s[s]))


@dataclass(frozen=True, slots=True)
class _Stage:
    name: str
    curve: LatencyCurve
    most: int
    rate: float
    queue: int

    def seconds(self, samples: float) -> float:
        """For so many samples, in full batches and one for the rest."""
        full, rest = divmod(max(samples, 1.0), self.most)
        least, most = self.curve.seconds(1), self.curve.seconds(self.most)
        if rest <= 0.0:
            return full * most
        low = self.curve.seconds(max(int(rest), 1))
        high = self.curve.seconds(min(int(rest) + 1, self.most))
        return full * most + max(low + (rest - int(rest)) * (high - low) if rest >= 1.0 else least, 0.0)


@dataclass(frozen=True, slots=True)
class _Round:
    """`tail_s`: a round after a burst. `own_s`: of it, each stage's batch. `longest`: the stage with most of it."""

    tail_s: float
    own_s: Mapping[str, float]
    longest: str
