"""Other spreads of a range's load than the linear program's, for when it keeps up and is still not quick enough.

The program (planner/balance.py) makes the busiest device least busy, and says nothing of waiting. How long a sample
waits depends on what its device does in turn: `evenly`, every device runs every stage and no one queue is long;
`apart`, each device runs one stage alone, and a batch of it never waits for one of another stage.
"""

from collections.abc import Mapping, Sequence

from peekserve.cascades.cascade import Judged
from peekserve.planner.balance import Balance
from peekserve.planner.placement import Placed, best_per_sample_s
from peekserve.planner.problem import Problem


def others(problem: Problem, one: Judged, rate: float, placed: Placed) -> list[Balance]:
    """The spreads to try, in this order, with which every device keeps up with so many requests per second."""
    hosts = {stage: _hosts(problem, stage, placed) for stage in one.cascade.stages}
    load = {stage: rate * share for stage, share in zip(one.cascade.stages, one.reach, strict=True)}
    found = [_spread(load, hosts)]
    divided = _apart(load, hosts)
    if divided is not None:
        found.append(_spread(load, divided))
    return [balance for balance in found if balance.utilisation <= 1.0]


def alike(one: Balance, other: Balance) -> bool:
    """Is it the same spread?"""
    return all(
        abs(share - other.shares[stage].get(device, 0.0)) < 1e-6
        for stage, shares in one.shares.items()
        for device, share in shares.items()
    )


def _hosts(problem: Problem, stage: str, placed: Placed) -> dict[str, float]:
    """The devices that may run a stage, and their seconds for a sample."""
    model = problem.model(stage)
    return {
        d.name: best_per_sample_s(problem, stage, d.kind)
        for d in problem.devices
        if d.kind in model.curves and (model.weights, d.name) in placed.replicas
    }


def _spread(load: Mapping[str, float], hosts: Mapping[str, Mapping[str, float]]) -> Balance:
    """Each stage's load over its hosts, by their speed."""
    busy: dict[str, float] = {}
    shares: dict[str, dict[str, float]] = {}
    for stage, each in hosts.items():
        speed = sum(1.0 / s for s in each.values())
        shares[stage] = {name: 1.0 / s / speed for name, s in each.items()}
        for name in each:
            busy[name] = busy.get(name, 0.0) + load[stage] / speed
    return Balance(max(busy.values()), shares)


def _apart(
    load: Mapping[str, float], hosts: Mapping[str, Mapping[str, float]]
) -> Mapping[str, Mapping[str, float]] | None:
    """Each device to one stage: first one device to each, those with the fewest hosts first, then every other device to
    the stage that is busiest. None where the devices do not go round."""
    taken: dict[str, dict[str, float]] = {stage: {} for stage in hosts}
    devices: Sequence[str] = sorted({name for each in hosts.values() for name in each})
    left = list(devices)
    for stage in sorted(hosts, key=lambda s: (len(hosts[s]), s)):
        own = next((name for name in left if name in hosts[stage]), None)
        if own is None:
            return None
        taken[stage][own] = hosts[stage][own]
        left.remove(own)
    for name in left:
        able = [stage for stage in hosts if name in hosts[stage]]
        if able:
            busiest = max(able, key=lambda s: (load[s] / sum(1.0 / t for t in taken[s].values()), s))
            taken[busiest][name] = hosts[busiest][name]
    return taken
