"""How the load of a gear is spread over devices, and how busy the busiest is: a linear program, solved by HiGHS.

CascadeServe, section 4.3, submodule 3. With q[v, d] the samples per second of variant v that device d takes, t[v, d]
its seconds for a sample and Q[v] the samples per second that come to v:

    min u    s.t.   sum_d q[v, d] = Q[v]  for each variant,   sum_v q[v, d] t[v, d] <= u  for each device,   q >= 0

The paper lowers u step by step until nothing is left, and minimises the sum of q; u is a variable here. Where several
solutions have the same u, the one that takes the least time in all is taken, by a weight that is too small to matter
otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from peekserve.errors import DataUnavailable

# Of the sum of all devices' time beside u.
_SPARE = 1e-6


@dataclass(frozen=True, slots=True)
class Balance:
    """`utilisation`: of the busiest device; above 1 it cannot keep up. `shares`: by variant, each device's share of its
    load, devices without any left out."""

    utilisation: float
    shares: Mapping[str, Mapping[str, float]]


def balance(
    load: Mapping[str, float], seconds: Mapping[tuple[str, str], float], devices: Sequence[str]
) -> Balance | None:
    """The best spread. `load`: samples per second by variant. `seconds`: for a sample, by (variant, device) that may
    run it. None where a variant has no device.

    Raises DataUnavailable where scipy is not installed.
    """
    try:
        from scipy.optimize import linprog
    except ImportError:
        raise DataUnavailable(
            "gear plans balance load by a linear program with scipy: pip install 'peekserve[peers]'"
        ) from None
    pairs = [(v, d) for v in load for d in devices if (v, d) in seconds]
    if {v for v, _ in pairs} != set(load):
        return None
    times = np.array([seconds[pair] for pair in pairs])
    wanted = np.array([[float(v == own) for v, _ in pairs] + [0.0] for own in load])
    busy = np.array(
        [[t * (d == own) for (_, d), t in zip(pairs, times, strict=True)] + [-1.0] for own in devices]
    )
    # In units of the whole load's time, so that the solver's tolerances mean the same at every load.
    scale = max(sum(load.values()), 1e-12)
    cost = np.append(_SPARE * times / max(float(times.max()), 1e-12), 1.0 / max(float(times.max()), 1e-12))
    solved = linprog(
        cost,
        A_ub=busy,
        b_ub=np.zeros(len(devices)),
        A_eq=wanted,
        b_eq=np.array([rate / scale for rate in load.values()]),
        bounds=[(0.0, None)] * len(cost),
        method="highs",
    )
    if solved.x is None:
        return None
    taken = {pair: max(float(q), 0.0) for pair, q in zip(pairs, solved.x, strict=False)}
    shares: dict[str, dict[str, float]] = {}
    for variant in load:
        own = {d: taken[variant, d] for d in devices if (variant, d) in taken}
        total = sum(own.values())
        if total > 0.0:
            shares[variant] = {d: q / total for d, q in own.items() if q > 1e-9 * total}
        else:  # nothing is expected to come here: whoever is there may take what does
            shares[variant] = {d: 1.0 / len(own) for d in own}
    return Balance(float(solved.x[-1]) * scale if len(solved.x) else inf, shares)
