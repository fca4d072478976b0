"""Which variant each device shall run: Proteus' integer program in its linear form. The only file with scipy (HiGHS).

Devices of one type are alike, so what counts is how many of them run which variant; that takes the symmetry out and
leaves a program that is solved in milliseconds. With q[d, j] the requests per second that the devices of type d serve
by variant j, which belongs to family k(j), and n[d, j] how many of them run it:

    max  sum_dj A[j] q[d, j] / sum_k s[k]
    s.t. q[d, j] <= p[d, j] n[d, j]                     what so many devices can do
         sum_j n[d, j] <= N[d]                          one variant on each device
         sum_dj in k q[d, j] <= max(beta, 1) s[k]       what is asked for
         sum_dj q[d, j] >= beta sum_k s[k]              and of that a share of beta
         n integer, q >= 0

beta above 1 is head-room. Where it cannot be had, beta is lowered by 0.05 (by 0.1 above 1.5) down to 0.2, and after
that there is no such line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.errors import DataUnavailable, InvariantBroken
from peekserve.policies.base import Floats

# A little for capacity beyond the demand, so that devices which the program can do without are given something useful,
# and less for a low number, so that one of several equal solutions is always the same. Both are far below what a
# percent of one family's accuracy is worth, and above the solver's tolerance of 1e-6.
_SPARE, _FIRST = 1e-3, 1e-4
# Nodes of the search tree, not seconds: the same solution on any machine.
_MOST_NODES = 20_000


@dataclass(frozen=True, slots=True)
class Allocation:
    """`counts`: int64 [D, J], devices of each type that run each variant. `rates`: f8[D, J], requests per second that
    they are given. `beta`: the share of the demand that was insisted on; 0 for none."""

    counts: npt.NDArray[np.int64]
    rates: Floats
    beta: float


def allocate(
    devices: Sequence[int],
    throughput: Floats,
    accuracy: Floats,
    family: npt.NDArray[np.int64],
    demand: Floats,
    beta: float = 1.05,
) -> Allocation:
    """The best allocation. `devices`: of each type, N; `throughput`: f8[D, J], p, 0 where a device cannot serve a
    variant in time; `accuracy`: f8[J], A; `family`: i8[J], k; `demand`: f8[K], s.

    Raises DataUnavailable where scipy is not installed.
    """
    types, variants = throughput.shape
    if not demand.sum() > 0.0 or not (throughput > 0.0).any():
        nothing = np.zeros((types, variants))
        return Allocation(nothing.astype(np.int64), nothing, 0.0)
    for share in _falling(beta):
        found = _solve(devices, throughput, accuracy, family, demand, share)
        if found is not None:
            return found
    raise InvariantBroken(
        "an allocation without a line for beta has no solution; no device at all would be one"
    )


def _falling(beta: float) -> list[float]:
    shares, at = [], beta
    while at > 0.2 - 1e-9:
        shares.append(at)
        at = round(at - (0.1 if at > 1.5 else 0.05), 9)
    return [*shares, 0.0]


def _solve(
    devices: Sequence[int],
    throughput: Floats,
    accuracy: Floats,
    family: npt.NDArray[np.int64],
    demand: Floats,
    beta: float,
) -> Allocation | None:
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError:
        raise DataUnavailable(
            "the policy 'proteus' solves its integer program with scipy: pip install 'peekserve[peers]'"
        ) from None
    types, variants = throughput.shape
    cells, total = types * variants, float(demand.sum())
    p = throughput.ravel()
    per_type = np.kron(np.eye(types), np.ones(variants))
    per_family = np.tile(family == np.arange(len(demand))[:, None], (1, types)).astype(np.float64)
    none = np.zeros((cells, cells))
    rows = np.block(
        [
            [-np.diag(p), np.eye(cells)],
            [per_type, np.zeros((types, cells))],
            [np.zeros((len(demand), cells)), per_family],
            [none[:1], -np.ones((1, cells))],
        ]
    )
    limits = np.concatenate(
        [np.zeros(cells), np.asarray(devices, np.float64), max(beta, 1.0) * demand, [-beta * total]]
    )
    gain = np.tile(accuracy, types)
    spare = _SPARE * gain * p / p.max() / sum(devices)
    first = _FIRST * np.arange(cells) / cells / sum(devices)
    most = np.where(p > 0.0, np.repeat(np.asarray(devices, np.float64), variants), 0.0)
    solved = milp(
        np.concatenate([first - spare, -gain / total]),
        integrality=np.concatenate([np.ones(cells), np.zeros(cells)]),
        bounds=Bounds(np.zeros(2 * cells), np.concatenate([most, np.full(cells, np.inf)])),
        constraints=LinearConstraint(rows, ub=limits),
        options={"mip_rel_gap": 0.0, "node_limit": _MOST_NODES},
    )
    if solved.x is None:
        return None
    counts = np.rint(solved.x[:cells]).astype(np.int64).reshape(types, variants)
    return Allocation(counts, np.maximum(solved.x[cells:], 0.0).reshape(types, variants), beta)
