"""Which weights lie on which device, once for all gears (CascadeServe, section 4.3, submodule 3).

Begin with everything everywhere, then take replicas away until every device's memory suffices. A replica's use is what
it frees on the devices that hold too much, in shares of what they hold too much, over how busy the busiest device of
the worst load range would be without it; the replica with the most use goes. That is the form of the authors' program;
the formula that is printed (eq. 4) rewards memory that stays taken. The last replica of some weights never goes, nor
one that minimum queue lengths have asked for (`wanted`).

A replica is of weights and not of a model: subnets of one supernet lie and go together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from peekserve.cascades.cascade import Cascade, Judged, per_sample_s
from peekserve.planner.balance import Balance, balance
from peekserve.planner.faults import Fault, Part
from peekserve.planner.problem import Device, Problem

Replicas = frozenset[tuple[str, str]]
Known = dict[tuple[Cascade, float, Replicas], Balance | None]


@dataclass(frozen=True, slots=True)
class Placed:
    """`replicas`: (weights, device). `balances`: for each range."""

    replicas: Replicas
    balances: tuple[Balance, ...]

    def holds(self, device: str) -> tuple[str, ...]:
        return tuple(sorted(w for w, d in self.replicas if d == device))


def place(
    problem: Problem,
    chosen: Sequence[Judged],
    wanted: Mapping[str, int] | None = None,
    known: Known | None = None,
) -> Placed | Fault:
    """Weights on devices, and the balance of each range's load at its upper end. `chosen`: the cascade of each range.
    `wanted`: by weights, how many replicas there shall be. `known`: balances of before, which are asked for again and
    again."""
    wanted, known = wanted or {}, {} if known is None else known
    size = {problem.model(s).weights: problem.model(s).bytes for one in chosen for s in one.cascade.stages}
    runs = {
        (problem.model(s).weights, d.name)
        for one in chosen
        for s in one.cascade.stages
        for d in problem.devices
        if d.kind in problem.model(s).curves
    }
    replicas = {(w, d) for w, d in runs if size[w] <= _budget(problem, d)}
    for weights in sorted(size):
        if not any(w == weights for w, _ in replicas):
            most = max(d.budget_bytes for d in problem.devices)
            own = next(s for one in chosen for s in one.cascade.stages if problem.model(s).weights == weights)
            why = f"{own} takes {mib(size[weights])} and the largest device holds {mib(most)}"
            return Fault(Part.PLACEMENT, why, model=own)
    while True:
        over = {d.name: _over(d, replicas, size) for d in problem.devices}
        if not any(over.values()):
            break
        fault = _prune(problem, chosen, replicas, size, over, wanted, known)
        if fault is not None:
            return fault
    balances = []
    for at, one in enumerate(chosen):
        found = _spread(problem, one, problem.loads.edges[at + 1], frozenset(replicas), known)
        if found is None or found.utilisation > 1.0:
            return _too_busy(problem, one, at, inf if found is None else found.utilisation)
        balances.append(found)
    return Placed(frozenset(replicas), tuple(balances))


def _spread(problem: Problem, one: Judged, rate: float, replicas: Replicas, known: Known) -> Balance | None:
    """As `spread`, from what is known where it is."""
    own = {problem.model(stage).weights for stage in one.cascade.stages}
    key = (one.cascade, rate, frozenset(r for r in replicas if r[0] in own))
    if key not in known:
        known[key] = spread(problem, one, rate, replicas)
    return known[key]


def spread(problem: Problem, one: Judged, rate: float, replicas: Replicas) -> Balance | None:
    """The balance of a cascade at so many requests per second over these replicas; None where a stage has no device."""
    load = {s: rate * share for s, share in zip(one.cascade.stages, one.reach, strict=True)}
    seconds = {}
    for stage in one.cascade.stages:
        model = problem.model(stage)
        for device in problem.devices:
            if device.kind in model.curves and (model.weights, device.name) in replicas:
                seconds[stage, device.name] = best_per_sample_s(problem, stage, device.kind)
    return balance(load, seconds, [d.name for d in problem.devices])


def best_per_sample_s(problem: Problem, stage: str, kind: str) -> float:
    """Seconds for a sample at the batch size where that is least: what a device can do at most. The paper balances at
    batches of one, by which a device that batches looks overloaded long before it is."""
    model = problem.model(stage)
    sizes = {1, model.max_batch, *(b for b in model.curves[kind].batch_sizes if b <= model.max_batch)}
    return min(per_sample_s(model.curves[kind], size) for size in sizes)


def _prune(
    problem: Problem,
    chosen: Sequence[Judged],
    replicas: set[tuple[str, str]],
    size: Mapping[str, int],
    over: Mapping[str, int],
    wanted: Mapping[str, int],
    known: Known,
) -> Fault | None:
    """Take away the replica of most use to those that hold too much."""
    best: tuple[float, str, str] | None = None
    for weights, device in sorted(replicas):
        if not over[device]:
            continue
        left = sum(w == weights for w, _ in replicas) - 1
        if left < max(1, min(wanted.get(weights, 1), len(problem.devices))):
            continue
        without = frozenset(replicas - {(weights, device)})
        busiest = _busiest(problem, chosen, without, weights, known)
        use = min(size[weights] / over[device], 1.0) / max(busiest, 1e-12)
        if busiest < inf and (best is None or use > best[0]):
            best = (use, weights, device)
    if best is None:
        device = max(sorted(over), key=lambda d: over[d])
        needed, there = sum(size.values()), sum(d.budget_bytes for d in problem.devices)
        why = (
            f"{device} would hold {mib(over[device])} more than it has; one copy of all that the gears use takes "
            f"{mib(needed)}, and all devices have {mib(there)}"
        )
        return Fault(Part.PLACEMENT, why)
    replicas.remove((best[1], best[2]))
    return None


def _busiest(
    problem: Problem, chosen: Sequence[Judged], replicas: Replicas, weights: str, known: Known
) -> float:
    """The worst utilisation over the ranges that use these weights."""
    heaviest = {
        one.cascade: (one, problem.loads.edges[at + 1])  # of one cascade the last range is the worst
        for at, one in enumerate(chosen)
        if any(problem.model(s).weights == weights for s in one.cascade.stages)
    }
    found = [_spread(problem, one, rate, replicas, known) for one, rate in heaviest.values()]
    return max((inf if f is None else f.utilisation for f in found), default=0.0)


def _too_busy(problem: Problem, one: Judged, at: int, utilisation: float) -> Fault:
    rate = problem.loads.edges[at + 1]
    where = " + ".join(d.name for d in problem.devices)
    why = (
        f"at {rate:g} requests per second {one.cascade.name} keeps the busiest of {where} busy {utilisation:.2f} of "
        f"the time; it carries {rate / utilisation:.0f} per second at most"
    )
    return Fault(Part.PLACEMENT, why, at, one.cascade.stages[-1], rate / utilisation)


def _budget(problem: Problem, device: str) -> int:
    return next(d.budget_bytes for d in problem.devices if d.name == device)


def _over(device: Device, replicas: set[tuple[str, str]], size: Mapping[str, int]) -> int:
    return max(sum(size[w] for w, d in replicas if d == device.name) - device.budget_bytes, 0)


def mib(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**20:.1f} MiB" if size >= 2**17 else f"{size / 2**10:.1f} KiB"
