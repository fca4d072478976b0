"""Long queues: a plan of SuperServe's policies is for a few batches of each worker, and no answer changes by that."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.domain.messages import Batch, Plan
from peekserve.domain.utility import Penalty
from peekserve.policies import Switches, make
from tests.policies.supernet import CARRIES, serve
from tests.policies.test_superserve import EVERY, REACTIVE, TWO
from tests.policies.views import NOW, a_random_view, a_row, a_view, a_worker


def firsts(plan: Plan) -> dict[int, Batch]:
    """The first batch of each worker, which is what rolling planning carries out."""
    return {batch.worker: batch for batch in reversed(plan.batches)}


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_a_plan_is_for_a_few_batches_of_each_worker(name: str, options: dict[str, float]):
    workers = [a_worker(), a_worker(slower=3.0)]
    rows = [a_row(due=9.0, deadline_s=9.0) for _ in range(200)]
    view, policy = a_view([TWO], rows, workers), make(name, **options)
    plan = policy.plan(view)
    own = [[b for b in plan.batches if b.worker == worker] for worker in range(2)]
    # The quicker one has more by the time that the other has as many.
    assert len(own[0]) > len(own[1]) == 4
    placed = [row for batch in plan.batches for row in batch.rows]
    assert sorted(placed) == list(range(len(placed)))
    assert len(placed) < 100
    assert not plan.refuse
    ends_s = [sum(view.workers[b.worker].latency_s[0][b.variant, len(b.rows)] for b in part) for part in own]
    assert plan.again_at == pytest.approx(NOW + min(ends_s))
    assert policy.plan(a_view([TWO], rows[:3], workers)).again_at == float("inf")


@pytest.mark.parametrize(("name", "options"), EVERY)
@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    workers=st.integers(1, 3),
    switches=st.builds(Switches, aware=st.booleans(), short_circuit=st.booleans(), drop=st.booleans()),
)
def test_what_is_carried_out_first_is_what_a_plan_for_every_row_says(name, options, seed, workers, switches):
    view = a_random_view(seed, rows=40, lanes=2, workers=workers)
    short, full = (make(name, switches, **options, ahead=ahead).plan(view) for ahead in (2, 0))
    assert firsts(short) == firsts(full)
    assert set(short.refuse) <= set(full.refuse)
    assert set(short.instant) <= set(full.instant)


def test_what_runs_after_everything_else_waits_with_the_rows_that_are_left():
    rows = [a_row(due=0.005, penalty=Penalty.constant(0.2)), *(a_row(due=9.0) for _ in range(100))]
    for name in REACTIVE:
        plan = make(name).plan(a_view([TWO], rows))
        assert plan.again_at < float("inf")
        assert 0 not in {*plan.refuse, *plan.instant, *(row for b in plan.batches for row in b.rows)}


@pytest.mark.parametrize("planning", ["window(20ms)", "window(20ms, rebalance=5ms)"])
def test_a_window_with_a_long_queue_is_carried_out_in_several_plans(planning: str):
    """Four hundred at once, and nobody after them: the workers never stand idle until all are served."""
    instants, takes_s = np.zeros(400), 400 / CARRIES
    got = serve("infaas", instants, planning=planning, deadline_s=1.2 * takes_s + 0.02)
    assert got.attained == 1.0
    assert len(got.sizes) == 400 // 16
