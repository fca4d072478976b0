"""Several workers, also unlike ones: what holds of every plan (SneakPeek, section 7; notes 5.2 point 10)."""

from dataclasses import replace
from math import nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.domain.utility import Penalty
from peekserve.policies import SWITCHES, Switches, make
from peekserve.policies.base import View
from peekserve.policies.groups import log_priority
from peekserve.policies.placing import look
from tests.policies.views import a_lane, a_row, a_view, a_worker, takes

FIVE = ("maxacc-edf", "lo-edf", "lo-priority", "grouped", "sneakpeek")
GROUPED = ("grouped", "sneakpeek")


def drawn(seed: int, workers: int | None = None) -> View:
    """Up to three lanes and 24 rows on up to four workers, some slower, some without a timing of some variants."""
    rng = np.random.default_rng(seed)
    lanes = [
        a_lane(
            *(
                takes(
                    float(rng.uniform(0.002, 0.05)),
                    float(rng.uniform(0.5, 1.0)),
                    load_s=float(rng.choice([0.0, 0.01, 0.03])),
                    size=float(rng.integers(1, 4)),
                    max_batch=int(rng.integers(1, 9)),
                    name=f"v{j}",
                )
                for j in range(int(rng.integers(1, 4)))
            )
        )
        for _ in range(int(rng.integers(1, 4)))
    ]
    rows = []
    for _ in range(int(rng.integers(1, 25))):
        lane = int(rng.integers(len(lanes)))
        rows.append(
            a_row(
                lane,
                float(rng.uniform(-0.02, 0.25)),
                accuracy=rng.uniform(0.3, 1.0, len(lanes[lane].variants)).tolist(),
                instant=float(rng.choice([nan, 0.5, 0.7])),
                likely=int(rng.integers(-1, 3)),
                penalty=(Penalty.step(), Penalty.sigmoid(), Penalty.linear())[int(rng.integers(3))],
                deadline_s=0.1,
            )
        )
    many = int(rng.integers(1, 5)) if workers is None else workers
    fleet = [
        a_worker(
            float(rng.choice([0.0, 0.01, 0.05])),
            budget=float(rng.integers(3, 9)),
            slower=float(rng.choice([1.0, 2.5])),
        )
        for _ in range(many)
    ]
    view = a_view(lanes, rows, fleet)
    unlike = []
    for worker in view.workers:
        tables = tuple(table.copy() for table in worker.latency_s)
        for table in tables:
            table[rng.random(len(table)) < 0.2, 1:] = np.inf
        unlike.append(replace(worker, latency_s=tables))
    return replace(view, workers=tuple(unlike))


def believed(view: View, name: str, switches: Switches, **options: float) -> float:
    """What a plan is believed to be worth, a sum over the rows that it was made for."""
    policy, outlook = make(name, switches, **options), look(view, switches)
    return policy.best(outlook, log_priority(outlook, 1.0)).value()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    name=st.sampled_from(FIVE),
    aware=st.booleans(),
    merge=st.booleans(),
    drop=st.booleans(),
    group_size=st.integers(0, 4),
)
def test_every_plan_on_several_workers_can_be_carried_out(seed, name, aware, merge, drop, group_size):
    view = drawn(seed)
    options = {"group_size": group_size} if name in GROUPED else {}
    plan = make(name, Switches(aware, aware, drop, merge), **options).plan(view)
    placed = [row for batch in plan.batches for row in batch.rows]
    spoken_for = placed + list(plan.instant) + list(plan.refuse)
    assert len(set(spoken_for)) == len(spoken_for), "a row stands in two places"
    for batch in plan.batches:
        worker, lane = view.workers[batch.worker], view.lanes[batch.lane]
        most = int(lane.max_batch[batch.variant])
        assert 1 <= len(batch.rows) <= (min(most, group_size) if options.get("group_size") else most)
        assert np.isfinite(worker.latency_s[batch.lane][batch.variant, 1]), "no timing of it on this device"
        assert worker.bytes[lane.weights[batch.variant]] <= worker.budget
        assert all(view.lane[row] == batch.lane and view.allowed[row, batch.variant] for row in batch.rows)
    servable = [
        any(np.isfinite(w.latency_s[lane][v, 1]) and w.bytes[own] <= w.budget for w in view.workers
            for v, own in enumerate(view.lanes[lane].weights))
        for lane in view.lane
    ]  # fmt: skip
    if not drop and not aware:
        assert sorted(placed) == [row for row, can in enumerate(servable) if can], "a row was left out"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(FIVE), before=st.integers(0, 10**6))
def test_the_same_view_has_the_same_plan_whatever_was_planned_before(seed, name, before):
    view, policy = drawn(seed), make(name)
    other = drawn(before)
    policy.plan(other)
    policy.plan(replace(other, workers=other.workers[:1]))
    plan = policy.plan(view)
    assert plan == make(name).plan(view) == policy.plan(view)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(GROUPED), aware=st.booleans())
def test_rebalancing_never_makes_a_plan_worse(seed, name, aware):
    view, switches = drawn(seed), Switches(aware, aware)
    worth = [believed(view, name, switches, split=0, rebalance=r) if name == "sneakpeek"
             else believed(view, name, switches, rebalance=r) for r in (0, 1, 8)]  # fmt: skip
    assert worth[0] <= worth[1] + 1e-9
    assert worth[1] <= worth[2] + 1e-9


def test_rebalancing_takes_a_group_off_the_most_loaded_worker():
    # The first group takes the quick worker, on which the second one is then late; the slow one would do for it.
    lanes = [a_lane(takes(0.050, 0.9)), a_lane(takes(0.060, 0.9))]
    view = a_view(lanes, [a_row(0, 0.105), a_row(1, 0.109)], [a_worker(), a_worker(slower=2.0)])
    believed_of = [believed(view, "grouped", Switches(), rebalance=r) for r in (0, 1)]
    assert believed_of == [pytest.approx(0.9), pytest.approx(1.8)]
    assert [(b.worker, b.lane) for b in make("grouped").plan(view).batches] == [(1, 0), (0, 1)]


def test_groups_are_cut_so_that_every_worker_has_its_share():
    view = a_view([a_lane(takes(0.02, 0.9, max_batch=32))], [a_row() for _ in range(12)], [a_worker()] * 3)
    sizes = [len(batch.rows) for batch in make("grouped").plan(view).batches]
    assert sizes == [4, 4, 4]
    sizes = [len(batch.rows) for batch in make("grouped", group_size=3).plan(view).batches]
    assert sizes == [3, 3, 3, 3]


@pytest.mark.parametrize("name", GROUPED)
def test_one_more_idle_worker_seldom_costs_anything(name):
    # Greedy placing promises nothing here: more workers mean smaller groups, and another first choice. Of 1154 drawn
    # views 2% (grouped) and 3% (sneakpeek) are believed to be worth less, the worst of them by 37% and 19%.
    switches, gained = SWITCHES.get(name, Switches()), []
    for seed in range(400):
        few = drawn(seed, workers=1 + seed % 3)
        more = replace(few, workers=(*few.workers, replace(few.workers[0], name="more", free_at=few.now)))
        if len(look(few, switches).open) == len(
            look(more, switches).open
        ):  # else they plan for different rows
            gained.append(believed(more, name, switches) - believed(few, name, switches))
    assert sum(gain < -1e-9 for gain in gained) <= 0.05 * len(gained)
    assert np.mean(gained) > 0.0
