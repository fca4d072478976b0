"""Stories about clockwork, nexus and proteus, with answers worked out by hand."""

from dataclasses import replace
from itertools import product
from math import inf

import numpy as np
import pytest

from peekserve.core.catalogue import Catalogue
from peekserve.core.options import Options
from peekserve.core.scheduler import Scheduler
from peekserve.domain.messages import Arrived, Plan, RunBatch, WakeAt, Woke, WorkerUp
from peekserve.errors import InvalidConfiguration
from peekserve.policies import Switches, make
from peekserve.policies.allocation import allocate
from peekserve.policies.base import View
from peekserve.policies.packing import Session, fitted, largest, pack
from peekserve.sim.driver import SimWorker
from peekserve.sim.window import Windows, a_window
from tests.core.stories import a_request, an_application, of_kind
from tests.core.stories import takes as lasts
from tests.policies.views import NOW, a_lane, a_row, a_view, a_worker, takes
from tests.sim.runs import applications, world
from tests.test_house import in_a_fresh_python

PEERS = ("clockwork", "nexus", "proteus")


def choices(plan: Plan) -> list[tuple[int, int, tuple[int, ...]]]:
    return [(batch.lane, batch.variant, tuple(batch.rows)) for batch in plan.batches]


def later(view: View, seconds: float, workers: slice = slice(None)) -> View:
    """The same rows when so much time has passed; only these workers can take work."""
    now = view.now + seconds
    moved = tuple(replace(w, free_at=max(w.free_at, now)) for w in view.workers[workers])
    return replace(view, now=now, workers=moved)


# ---- clockwork ----


def test_clockwork_runs_first_what_must_start_first():
    """By 0.04 or by 0.03: the later deadline has the longer model."""
    lanes = [a_lane(takes(0.01, 0.8, name="a")), a_lane(takes(0.03, 0.8, name="b"))]
    rows = [a_row(0, due=0.05), a_row(1, due=0.06)]
    plan = make("clockwork").plan(a_view(lanes, rows, [a_worker(resident=["0/a", "1/b"])]))
    assert choices(plan) == [(1, 0, (0 + 1,)), (0, 0, (0,))]


def test_clockwork_fills_the_largest_batch_that_answers_all_of_its_rows():
    """20, 30, 40 and 50 ms: four would end after the first deadline, three before it."""
    lane = a_lane(takes(0.02, 0.8, each_s=0.01, max_batch=4))
    rows = [a_row(due=0.045), a_row(due=0.1), a_row(due=0.1), a_row(due=0.1)]
    assert choices(make("clockwork").plan(a_view([lane], rows))) == [(0, 0, (0, 1, 2)), (0, 0, (3,))]


def test_clockwork_prefers_a_batch_to_the_one_row_that_stands_in_its_way():
    lane = a_lane(takes(0.02, 0.8, each_s=0.01, max_batch=4))
    rows = [a_row(due=0.025), a_row(due=0.1), a_row(due=0.1), a_row(due=0.1)]
    plan = make("clockwork").plan(a_view([lane], rows))
    assert choices(plan) == [(0, 0, (1, 2, 3))]
    assert plan.refuse == ()  # alone it could still be answered


def test_clockwork_asks_for_the_variant_that_the_owner_chose_even_if_it_is_late():
    lane = a_lane(takes(0.01, 0.7), takes(0.2, 0.9))
    view = a_view([lane], [a_row(due=0.1)])
    assert make("clockwork").plan(view) == Plan(refuse=(0,))
    for options in ({"variant": 0}, {"choose": 1}):
        assert choices(make("clockwork", **options).plan(view)) == [(0, 0, (0,))]
    assert choices(make("clockwork", variant=7).plan(view)) == []  # the last there is


@pytest.mark.parametrize("name", ["clockwork", "nexus"])
def test_awareness_chooses_the_best_believed_variant_of_those_in_time(name: str):
    lane = a_lane(takes(0.01, 0.7), takes(0.02, 0.8), takes(0.2, 0.9))
    rows = [a_row(due=0.1, accuracy=(0.9, 0.5, 0.95))]
    view = a_view([lane], rows)
    assert choices(make(name, Switches(aware=True)).plan(view)) == [(0, 0, (0,))]
    assert choices(make(name, choose=1).plan(view)) == [(0, 1, (0,))]


def test_clockwork_loads_what_most_unserved_demand_asks_for():
    """Equal latest starts; one row of 0.1 s in 0.5 s asks for a fifth of a worker, two for two fifths."""
    lanes = [a_lane(takes(0.1, 0.8, each_s=0.0, load_s=0.05, name=n)) for n in "abc"]
    rows = [a_row(1, due=0.5), a_row(2, due=0.5), a_row(2, due=0.5)]
    plan = make("clockwork").plan(a_view(lanes, rows, [a_worker(resident=["0/a"], budget=1.0)]))
    assert choices(plan) == [(2, 0, (1, 2)), (1, 0, (0,))]


def test_clockwork_knows_what_a_busy_worker_holds():
    lanes = [a_lane(takes(0.1, 0.8, each_s=0.0, load_s=0.05, name=n)) for n in "ab"]
    rows = [a_row(0, due=0.9), a_row(0, due=0.9), a_row(0, due=0.9), a_row(1, due=0.9)]
    view = a_view(lanes, rows, [a_worker(budget=1.0), a_worker(budget=1.0)])
    policy = make("clockwork")
    assert [b.lane for b in policy.plan(view).batches if b.worker == 0][:1] == [0]
    # Now only the second worker is free. Three rows ask for the first model, but the first worker holds that.
    assert policy.plan(later(view, 0.01, slice(1, 2))).batches[0].lane == 1
    assert make("clockwork").plan(later(view, 0.01, slice(1, 2))).batches[0].lane == 0


# ---- nexus ----


def a_session(rate: float, **more) -> Session:
    latency_s = np.array([0.0, 0.010, 0.015, 0.020, 0.025])
    return Session(**{"key": (0, 0), "rate": rate, "deadline_s": 0.1, "latency_s": latency_s, **more})


def test_nexus_takes_the_largest_batch_that_may_wait_for_another():
    latency_s = np.array([0.0, 0.010, 0.015, 0.020])
    assert [largest(latency_s, d) for d in (0.019, 0.020, 0.039, 0.040)] == [1, 1, 2, 3]


def test_nexus_gives_whole_workers_to_what_saturates_them():
    """Two in 20 ms are 100 a second: 250 are two workers and a half."""
    session = a_session(250.0, deadline_s=0.04, latency_s=np.array([0.0, 0.01, 0.02]))
    nodes = pack([session], budget=1.0)
    assert [(n.batches, n.duty_s, n.occupancy) for n in nodes] == [
        ((2,), 0.02, 1.0),
        ((2,), 0.02, 1.0),
        ((1,), 0.02, 0.5),  # 10 ms and 20 ms to come: two would need 60
    ]


def test_nexus_packs_two_sessions_into_one_cycle_if_both_keep_their_deadlines():
    """20 a second each: one in 50 ms, and 20 ms of work in these."""
    both = [a_session(20.0), a_session(20.0, key=(1, 0))]
    (node,) = pack(both, budget=2.0)
    assert (node.batches, node.duty_s, node.occupancy) == ((1, 1), 0.05, 0.4)


def test_nexus_counts_the_loads_of_sessions_that_do_not_fit_together():
    """With 20 ms of loading before each, 60 ms of work are too much for 50."""
    both = [a_session(20.0, load_s=0.02, bytes=1.0), a_session(20.0, key=(1, 0), load_s=0.02, bytes=1.0)]
    assert len(pack(both, budget=1.0)) == 2
    assert len(pack(both, budget=2.0)) == 1


@pytest.mark.parametrize("rate", [1.0, 100.0, 10_000.0])
def test_nexus_fills_the_fleet_it_has_and_no_more(rate: float):
    nodes = fitted([a_session(rate), a_session(2.0 * rate, key=(1, 0))], budget=2.0, workers=3)
    assert len(nodes) == 3
    assert {s.key for n in nodes for s in n.sessions} == {(0, 0), (1, 0)}


def test_nexus_drops_a_head_that_holds_up_its_batch():
    """Batches of three end after 40 ms: the row due in 25 goes, the next three are answered."""
    lane = a_lane(takes(0.02, 0.8, each_s=0.01))
    rows = [a_row(due=due, deadline_s=0.08) for due in (0.025, 0.05, 0.06, 0.07)]
    view = a_view([lane], rows)
    plan = make("nexus").plan(view)
    assert choices(plan) == [(0, 0, (1, 2, 3))]
    assert plan.refuse == (0,)
    late = make("nexus", Switches(drop=False)).plan(view)
    assert choices(late) == [(0, 0, (1, 2, 3)), (0, 0, (0,))]


def test_nexus_serves_the_sessions_of_a_worker_in_turn():
    lanes = [a_lane(takes(0.01, 0.8, name=n)) for n in "ab"]
    rows = [a_row(0, due=0.2, deadline_s=0.2), a_row(1, due=0.1, deadline_s=0.2)]
    for used_last, order in ((["0/a", "1/b"], [0, 1]), (["1/b", "0/a"], [1, 0])):
        plan = make("nexus").plan(a_view(lanes, rows, [a_worker(resident=used_last)]))
        assert [batch.lane for batch in plan.batches] == order


def test_nexus_owner_chooses_the_best_that_can_wait_for_one_batch_before_its_own():
    """60 ms twice are more than 100 ms, although the row could be answered in time."""
    lane = a_lane(takes(0.04, 0.7), takes(0.06, 0.9))
    view = a_view([lane], [a_row(due=0.1, deadline_s=0.1)])
    assert choices(make("nexus").plan(view)) == [(0, 0, (0,))]
    assert choices(make("nexus", variant=1).plan(view)) == [(0, 1, (0,))]


# ---- proteus: the program ----


def test_proteus_program_by_hand():
    """Of 120 a second two accurate devices carry 80, and two quick ones all at 0.8; one of each does better."""
    found = allocate(
        [2], np.array([[100.0, 40.0]]), np.array([0.8, 1.0]), np.array([0, 0]), np.array([120.0]), 1.0
    )
    assert found.counts.tolist() == [[1, 1]]
    assert found.rates[0] == pytest.approx([80.0, 40.0])
    assert found.beta == 1.0


def test_proteus_program_keeps_head_room_where_it_can():
    """One of each carries 140, which is not 1.2 times 120: both devices must be quick."""
    args = ([2], np.array([[100.0, 40.0]]), np.array([0.8, 1.0]), np.array([0, 0]), np.array([120.0]))
    assert allocate(*args, 1.2).counts.tolist() == [[2, 0]]
    assert allocate(*args, 1.15).counts.tolist() == [[1, 1]]


def test_proteus_program_lowers_beta_until_it_can_be_had():
    """A device that does 50 of 100 a second serves half; one that does 10, whatever it can."""
    for throughput, beta in ((104.0, 1.0), (50.0, 0.5), (52.0, 0.5), (10.0, 0.0)):
        found = allocate(
            [1], np.array([[throughput]]), np.array([1.0]), np.array([0]), np.array([100.0]), 1.05
        )
        assert found.beta == beta
        assert found.rates[0, 0] == pytest.approx(min(throughput, 100.0))


def test_proteus_program_serves_each_family_by_its_own_variants():
    found = allocate(
        [2],
        np.array([[100.0, 0.0, 100.0]]),
        np.array([0.9, 1.0, 1.0]),
        np.array([0, 0, 1]),
        np.array([50.0, 50.0]),
    )
    assert found.counts.tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("seed", range(25))
def test_proteus_program_is_the_best_of_all_allocations(seed: int):
    """Every count on two types of up to three devices; of each the most accurate variants are filled first."""
    rng = np.random.default_rng(seed)
    family = np.array([0, 0, 1, 1, 1][: int(rng.integers(3, 6))])
    devices = rng.integers(1, 4, 2).tolist()
    throughput = rng.uniform(10.0, 100.0, (2, len(family)))
    accuracy, demand = rng.uniform(0.5, 1.0, len(family)), rng.uniform(20.0, 150.0, 2)
    found = allocate(devices, throughput, accuracy, family, demand, 1.0)

    def filled(counts: np.ndarray) -> tuple[float, float]:
        worth = served = 0.0
        for k, asked in enumerate(demand):
            left = asked
            for j in sorted(np.flatnonzero(family == k), key=lambda j: -accuracy[j]):
                given = min(left, float((counts[:, j] * throughput[:, j]).sum()))
                worth, served, left = worth + accuracy[j] * given, served + given, left - given
        return worth / demand.sum(), served

    each = [[c for c in product(range(n + 1), repeat=len(family)) if sum(c) == n] for n in devices]
    every = [filled(np.array(counts)) for counts in product(*each)]
    best = max(worth for worth, served in every if served >= found.beta * demand.sum() - 1e-6)
    worth, served = filled(found.counts)
    assert best - 2e-3 <= worth <= best + 1e-9
    assert served >= found.beta * demand.sum() - 1e-6
    if found.beta < 1.0:
        assert max(s for _, s in every) < (found.beta + 0.05) * demand.sum()
    again = allocate(devices, throughput, accuracy, family, demand, 1.0)
    assert (again.counts == found.counts).all()


def test_without_scipy_the_message_says_what_to_install():
    code = """
import sys
sys.modules["scipy"] = sys.modules["scipy.optimize"] = None
import numpy as np
from peekserve.policies.allocation import allocate
allocate([1], np.ones((1, 1)), np.ones(1), np.zeros(1, int), np.ones(1))
"""
    said = in_a_fresh_python(code).stderr
    assert "DataUnavailable: the policy 'proteus'" in said
    assert "pip install 'peekserve[peers]'" in said


# ---- proteus: batches ----


def a_lane_of_proteus():
    """20, 30, 40, 50 ms: with a deadline of 0.1 s the largest batch has three."""
    return a_lane(takes(0.02, 0.8, each_s=0.01))


def test_proteus_waits_until_the_head_can_wait_no_longer():
    view = a_view([a_lane_of_proteus()], [a_row(due=0.1, deadline_s=0.1)])
    policy = make("proteus")
    plan = policy.plan(view)
    assert plan.batches == ()
    assert plan.again_at == pytest.approx(NOW + 0.08, abs=1e-5)
    assert plan.again_at < NOW + 0.08
    assert choices(policy.plan(later(view, plan.again_at - NOW))) == [(0, 0, (0,))]


def test_proteus_runs_a_full_batch_at_once():
    rows = [a_row(due=0.1, deadline_s=0.1)] * 4
    plan = make("proteus").plan(a_view([a_lane_of_proteus()], rows))
    assert choices(plan) == [(0, 0, (0, 1, 2))]
    assert plan.again_at == pytest.approx(NOW + 0.08, abs=1e-5)  # the fourth waits for others


def test_proteus_does_not_wait_for_a_row_that_would_make_the_head_late():
    """With the third the batch would end after 40 ms, and its head is due in 35."""
    rows = [a_row(due=due, deadline_s=0.1) for due in (0.035, 0.035, 0.2)]
    plan = make("proteus").plan(a_view([a_lane_of_proteus()], rows))
    assert choices(plan) == [(0, 0, (0, 1))]
    assert plan.again_at == pytest.approx(NOW + 0.18, abs=1e-5)


def test_proteus_drops_what_its_device_cannot_answer_even_now():
    """Its device runs the accurate variant; the quick one would do, but no device has it."""
    lane = a_lane(takes(0.01, 0.7), takes(0.04, 0.9))
    rows = [a_row(due=0.03, deadline_s=0.1, instant=0.6)]
    view = a_view([lane], rows)
    assert make("proteus").plan(view) == Plan(refuse=(0,))
    assert make("proteus", Switches(short_circuit=True)).plan(view) == Plan(instant=(0,))
    assert choices(make("proteus", Switches(drop=False)).plan(view)) == [(0, 0, (0,))]


def test_proteus_gives_each_application_a_device_and_sends_its_rows_there():
    lanes = [a_lane(takes(0.02, 0.8, name="a", max_batch=1)), a_lane(takes(0.02, 0.8, name="b", max_batch=1))]
    rows = [a_row(lane, due=0.1, deadline_s=0.1) for lane in (0, 1)]
    plan = make("proteus").plan(a_view(lanes, rows, [a_worker(resident=["1/b"]), a_worker()]))
    # Who holds a variant is told to run it.
    assert sorted((batch.worker, batch.lane) for batch in plan.batches) == [(0, 1), (1, 0)]


def test_proteus_sends_rows_to_the_more_accurate_device_until_it_is_busy():
    """Two accurate devices would carry 100 of 133 a second, so there is one; in 50 ms it answers two rows."""
    lane = a_lane(takes(0.005, 0.6, max_batch=1), takes(0.02, 0.9, max_batch=1))
    rows = [a_row(due=0.05, deadline_s=0.06)] * 8
    plan = make("proteus").plan(a_view([lane], rows, [a_worker(), a_worker()]))
    assert sorted(variant for _, variant, _ in choices(plan)) == [0] * 6 + [1] * 2


def test_awareness_changes_what_proteus_devices_run():
    lane = a_lane(takes(0.01, 0.7, max_batch=1), takes(0.02, 0.9, max_batch=1))
    view = a_view([lane], [a_row(due=0.1, deadline_s=0.1, accuracy=(0.95, 0.6))])
    assert choices(make("proteus").plan(view)) == [(0, 1, (0,))]
    assert choices(make("proteus", Switches(aware=True)).plan(view)) == [(0, 0, (0,))]


def test_the_scheduler_asks_again_when_proteus_wants_it_to():
    catalogue = Catalogue([an_application(lasts(0.1))])
    scheduler = Scheduler(make("proteus"), catalogue, Options())
    scheduler.handle(WorkerUp("w", "cpu", 1000), now=0.0)
    scheduler.handle(Arrived(a_request(due_at=1.0)), now=0.0)
    (wake,) = of_kind(scheduler.handle(Woke(), now=0.0), WakeAt)
    assert wake.at == pytest.approx(0.9, abs=1e-5)
    (run,) = of_kind(scheduler.handle(Woke(), now=wake.at), RunBatch)
    assert wake.at + run.predicted_s <= 1.0


# ---- what is so for all three ----


@pytest.mark.parametrize("name", PEERS)
def test_time_that_runs_backwards_begins_anew(name: str):
    lanes = [a_lane(takes(0.02, 0.8, name=n), takes(0.04, 0.9, name=n + n)) for n in "ab"]
    rows = [a_row(i % 2, due=0.1 + 0.01 * i, deadline_s=0.1) for i in range(6)]
    view = a_view(lanes, rows, [a_worker(), a_worker()])
    used = make(name)
    for passed in (0.0, 0.01, 0.05):
        used.plan(later(view, passed, slice(0, 1)))
    assert used.plan(view) == make(name).plan(view)


@pytest.mark.parametrize("name", PEERS)
def test_the_same_views_in_the_same_order_give_the_same_plans(name: str):
    lanes = [a_lane(takes(0.02, 0.8, name=n)) for n in "ab"]
    rows = [a_row(i % 2, due=0.1 + 0.01 * i, deadline_s=0.1) for i in range(8)]
    view = a_view(lanes, rows, [a_worker(), a_worker()])
    views = [view, later(view, 0.02, slice(1, 2)), later(view, 0.05)]
    one, two = make(name), make(name)
    assert [one.plan(v) for v in views] == [two.plan(v) for v in views]


@pytest.mark.parametrize("name", PEERS)
def test_a_peek_worth_more_than_anything_the_policy_has_takes_no_place(name: str):
    lane = a_lane(takes(0.02, 0.8, max_batch=1))
    rows = [a_row(due=0.1, deadline_s=0.1, instant=0.85), a_row(due=0.1, deadline_s=0.1, instant=0.7)]
    plan = make(name, Switches(short_circuit=True)).plan(a_view([lane], rows))
    assert plan.instant == (0,)
    assert choices(plan) == [(0, 0, (1,))]


@pytest.mark.parametrize("name", PEERS)
def test_an_option_that_a_peer_does_not_have_names_the_nearest(name: str):
    with pytest.raises(InvalidConfiguration, match="no policy option 'interval'"):
        make(name, interval=1.0)


@pytest.mark.parametrize("name", PEERS)
def test_windows_know_nothing_of_each_other(name: str):
    apps = applications()
    rng = np.random.default_rng(0)
    one, two = (a_window({app.name: rng.integers(0, 200, 5).tolist() for app in apps}, rng) for _ in range(2))
    windows = Windows(apps, world(apps).recorded, name, workers=[SimWorker("w", budget_bytes=500)])
    first = windows.run(one)
    windows.run(two)
    assert windows.run(one) == first


def test_plans_wait_for_ever_unless_they_say_otherwise():
    assert Plan().again_at == inf
