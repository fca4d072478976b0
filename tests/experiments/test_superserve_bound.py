"""What can be carried is known before any policy runs: a plan that attains it, and a share that nobody passes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.experiments.superserve.bound import Bounds, bounds
from tests.policies.supernet import CARRIES, DEADLINE_S, FRONT, GROWS, MOST, bursts, serve

SMALLEST_S = FRONT[0][0] * np.array([0.0, *(1.0 + GROWS * (b - 1) for b in range(1, MOST + 1))])


def most(at: list[float], deadline_s: float, latency_s: np.ndarray) -> int:
    """The most rows that one worker answers in time, by trying every batch of rows in order."""

    def from_(head: int, free_s: float) -> int:
        if head == len(at):
            return 0
        best = from_(head + 1, free_s)
        for size in range(1, min(len(latency_s), len(at) - head + 1)):
            ends = max(free_s, at[head + size - 1]) + latency_s[size]
            if ends <= at[head] + deadline_s:
                best = max(best, size + from_(head + size, ends))
        return best

    return from_(0, 0.0)


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=8),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(2, 12),
)
def test_the_best_plan_of_all_lies_between_them(at: list[int], steps: list[int], deadline: int):
    instants, latency_s = np.sort(np.array(at, float)), np.cumsum([0, *steps]).astype(float)
    found = bounds(instants, float(deadline), latency_s, 1)
    best = most(instants.tolist(), float(deadline), latency_s) / len(at)
    assert found.at_least <= best + 1e-12
    assert found.at_most >= best - 1e-12


def test_twice_what_a_worker_can_do_is_answered_by_half():
    """All at once and due when sixteen are done; nobody answers a seventeenth."""
    found = bounds(np.zeros(2 * MOST), float(SMALLEST_S[MOST]), SMALLEST_S, 1)
    assert found == Bounds(0.5, 0.5)
    assert bounds(np.zeros(2 * MOST), float(SMALLEST_S[MOST]), SMALLEST_S, 2) == Bounds(1.0, 1.0)
    assert bounds(np.zeros(0), 1.0, SMALLEST_S, 1) == Bounds(1.0, 1.0)


@pytest.mark.parametrize("load", [0.6, 1.2])
def test_no_policy_answers_more_than_could_be(load: float):
    instants = bursts(load, 4.0, 5, seconds=0.3)
    found = bounds(instants, DEADLINE_S, SMALLEST_S, 1)
    attained = [serve(name, instants).attained for name in ("infaas", "maxbatch", "horizon")]
    attained.append(serve("slackfit", instants, drain=0.4).attained)
    assert max(attained) <= found.at_most + 1e-9
    assert found.at_least <= found.at_most
    assert (found.at_least >= 0.999) == (len(instants) < 0.3 * CARRIES)
