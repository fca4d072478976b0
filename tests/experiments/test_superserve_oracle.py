"""The offline oracle against enumeration, and every policy against the oracle."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest

from peekserve.errors import InvalidData, InvariantBroken
from peekserve.experiments.superserve.oracle import Best, Instance, Run, solve, worth
from peekserve.policies import POLICIES, YARDSTICKS
from tests.core.stories import an_application
from tests.policies.supernet import MOST, a_subnet, serve
from tests.test_house import in_a_fresh_python

# Seconds for one row and accuracy of the subnets of the tiny traces.
FRONT = ((0.01, 0.7), (0.02, 0.8), (0.04, 0.9))


def a_trace(seed: int, requests: int, workers: int = 1, subnets: int = 2, most: int = 3) -> Instance:
    rng = np.random.default_rng(seed)
    sizes = np.arange(most + 1)
    latency_s = np.stack([s * (1.0 + 0.2 * (sizes - 1)) for s, _ in FRONT[:subnets]])
    arrived_at = np.sort(rng.uniform(0.0, 0.03, requests))
    due_at = arrived_at + rng.uniform(0.008, 0.09, requests)
    return Instance(arrived_at, due_at, latency_s, np.array([a for _, a in FRONT[:subnets]]), workers)


def enumerated(instance: Instance) -> float:
    """Every set of rows as the next batch of every worker by every subnet, until none is left."""
    n, most = len(instance.due_at), instance.latency_s.shape[1] - 1

    @cache
    def best(left: frozenset[int], free: tuple[float, ...]) -> float:
        found = 0.0
        for worker in range(len(free)):
            for size in range(1, min(most, len(left)) + 1):
                for rows in combinations(sorted(left), size):
                    start_at = max(free[worker], max(instance.arrived_at[list(rows)]))
                    for subnet, accuracy in enumerate(instance.accuracy):
                        end_at = start_at + instance.latency_s[subnet, size]
                        if end_at <= min(instance.due_at[list(rows)]) + 1e-12:
                            after = tuple(sorted((*free[:worker], end_at, *free[worker + 1 :])))
                            found = max(found, accuracy * size + best(left - set(rows), after))
        return found

    return best(frozenset(range(n)), (0.0,) * instance.workers)


def test_by_hand():
    """Alone by the better subnet each, or both at once: the second comes too late to wait for it."""
    latency_s = np.array([[0.0, 1.0, 1.2], [0.0, 2.0, 2.4]])
    both = Instance(np.array([0.0, 0.5]), np.array([3.0, 3.0]), latency_s, np.array([0.7, 0.9]))
    assert solve(both) == Best(pytest.approx(1.8), pytest.approx(1.8), True, (Run(0, 1, (0, 1), 0.5, 2.9),))
    tight = Instance(np.array([0.0, 0.7]), np.array([3.0, 3.0]), latency_s, np.array([0.7, 0.9]))
    assert solve(tight).utility == pytest.approx(0.9 + 0.7)


def test_a_batch_waits_for_the_last_of_its_rows():
    """With the earliest arrival, as the paper prints (1c), both would be answered."""
    latency_s = np.array([[0.0, 1.0, 1.0]])
    instance = Instance(np.array([0.0, 0.9]), np.array([1.0, 1.9]), latency_s, np.array([0.7]))
    assert solve(instance).utility == pytest.approx(0.7)
    assert worth(instance, [Run(0, 0, (0,), 0.0, 1.0)]) == 0.7
    with pytest.raises(InvariantBroken, match=r"cannot begin before 0\.9"):
        worth(instance, [Run(0, 0, (0, 1), 0.0, 1.0)])


@pytest.mark.parametrize(("requests", "workers"), [(3, 1), (4, 1), (3, 2)])
def test_it_finds_what_enumeration_finds(requests: int, workers: int):
    partly = 0
    for seed in range(8):
        instance = a_trace(seed, requests, workers)
        found = solve(instance)
        assert found.proven, seed
        assert found.utility == pytest.approx(enumerated(instance), abs=1e-6), seed
        partly += found.utility < requests * instance.accuracy.max() - 1e-6
    assert partly > 2  # traces on which all is easy would prove little


def test_what_is_not_proven_is_not_called_so():
    found = solve(a_trace(3, 8, subnets=3), most_nodes=1)
    assert not found.proven
    assert found.bound > found.utility


@pytest.mark.parametrize("workers", [1, 2])
def test_no_policy_is_worth_more(workers: int):
    """Each through the whole scheduler, one event after another, on traces that the oracle knew beforehand."""
    app = an_application(*(a_subnet(i, s, a) for i, (s, a) in enumerate(FRONT)), name="net")
    reached = {}
    for seed in range(2):
        trace = a_trace(seed, 6, workers, subnets=3, most=MOST)
        trace = Instance(trace.arrived_at, trace.arrived_at + 0.06, trace.latency_s, trace.accuracy, workers)
        best = solve(trace)
        assert best.proven
        for name in sorted(set(POLICIES) - YARDSTICKS):
            got = serve(name, trace.arrived_at, fleet=workers, deadline_s=0.06, app=app)
            assert got.utility <= best.utility + 1e-6, (seed, name)
            reached[name] = max(reached.get(name, 0.0), got.utility / best.utility)
    assert reached["slackfit"] > 0.7
    assert max(reached.values()) > 0.9


def test_what_makes_no_sense_is_named():
    one = np.array([0.0])
    with pytest.raises(InvalidData, match="1 arrivals and 2 deadlines"):
        Instance(one, np.array([1.0, 2.0]), np.ones((1, 2)), np.array([0.7]))
    with pytest.raises(InvalidData, match="2 accuracies on 1 workers"):
        Instance(one, one + 1.0, np.ones((1, 2)), np.array([0.7, 0.8]))
    with pytest.raises(InvalidData, match="one each, and finite"):
        Instance(one * np.nan, one + 1.0, np.ones((1, 2)), np.array([0.7]))
    for wrong in (0.0, np.nan, np.inf):
        with pytest.raises(InvalidData, match="latencies are positive and finite"):
            Instance(one, one + 1.0, np.array([[0.0, wrong]]), np.array([0.7]))
    assert solve(Instance(one[:0], one[:0], np.ones((1, 2)), np.array([0.7]))).proven


def test_without_scipy_the_message_says_what_to_install():
    code = """
import sys
sys.modules["scipy"] = sys.modules["scipy.optimize"] = None
import numpy as np
from peekserve.experiments.superserve.oracle import Instance, solve
solve(Instance(np.zeros(1), np.ones(1), np.ones((1, 2)), np.ones(1)))
"""
    said = in_a_fresh_python(code).stderr
    assert "DataUnavailable: the offline oracle" in said
    assert "pip install 'peekserve[peers]'" in said
