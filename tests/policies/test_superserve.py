"""Stories about slackfit, maxacc, maxbatch, clipper and infaas: the head's slack decides, and nothing is remembered."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.domain.messages import Plan
from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidConfiguration
from peekserve.policies import REMEMBERING, Switches, make
from peekserve.policies.base import View
from peekserve.policies.slackfit import buckets, front, lost
from tests.policies import supernet
from tests.policies.supernet import FRONT, GROWS, MOST
from tests.policies.views import NOW, a_lane, a_random_view, a_row, a_view, a_worker, takes

REACTIVE = ("slackfit", "maxacc", "maxbatch", "clipper", "infaas")
PAPER = {"raise": 0.0}
AIMD = {"aimd": 1.0}
EVERY = [
    *((name, {}) for name in REACTIVE), ("slackfit", PAPER), ("slackfit", {"drain": 0.5}), ("clipper", AIMD)
]  # fmt: skip


def choices(plan: Plan) -> list[tuple[int, int]]:
    """(variant, rows) of each batch."""
    return [(batch.variant, len(batch.rows)) for batch in plan.batches]


def a_net(*front: tuple[float, float], grows: float = GROWS, most: int = MOST, load_s: float = 0.0):
    """A lane of one supernet: (seconds for one row, accuracy) of each subnet."""
    return a_lane(
        *(
            takes(s, a, each_s=grows * s, max_batch=most, weights="net", name=f"d{i}", load_s=load_s)
            for i, (s, a) in enumerate(front)
        )
    )


# Batches of 1, 2, 3, 4 rows: 10, 15, 20, 25 ms and 20, 30, 40, 50 ms.
TWO = a_net((0.01, 0.7), (0.02, 0.9), grows=0.5, most=4)


def waiting(many: int, due: float, lanes=(TWO,), **more) -> View:
    return a_view(list(lanes), [a_row(due=due, deadline_s=0.1, **more) for _ in range(many)])


def tables(lanes=FRONT, grows: float = GROWS, most: int = MOST) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """latency_s f8[V, B + 1], largest batches, accuracies."""
    sizes = np.arange(most + 1)
    latency_s = np.stack([s * (1.0 + grows * (sizes - 1)) for s, _ in lanes])
    return latency_s, np.full(len(lanes), most), np.array([a for _, a in lanes])


# ---- the paper's three properties, of the profile that the simulations use ----


def test_small_subnets_with_large_batches_cost_what_large_ones_cost_with_small():
    latency_s, _, accuracy = tables()
    assert (np.diff(latency_s[:, 1:], axis=1) > 0.0).all()  # P1: longer with more rows
    assert (np.diff(latency_s[:, 1:], axis=0) > 0.0).all()  # P2: longer with more accuracy
    assert (np.diff(accuracy) > 0.0).all()
    assert latency_s[0, 16] == pytest.approx(latency_s[3, 1])  # P3


def test_so_the_slow_buckets_hold_few_accurate_tuples_and_the_quick_ones_large_batches():
    """What SlackFit's argument needs: from bucket to bucket the accuracy rises, and nobody waits for a small batch."""
    latency_s, most, accuracy = tables()
    found = buckets(latency_s, most, accuracy, 16)
    chosen = [accuracy[b.variant] for b in found]
    assert chosen[-1] == accuracy.max()
    assert chosen[0] == accuracy.min()
    assert [found[0].size, found[-1].size] == [10, 16]
    assert min(b.size for b in found[1:]) >= 10
    times = [b.latency_s for b in found]
    assert times == sorted(times)


# ---- buckets ----


def plainly(latency_s: np.ndarray, most: np.ndarray, accuracy: np.ndarray, many: int) -> dict[int, tuple]:
    """Bucket -> (size, accuracy) of its choice, every tuple put where it belongs, one after another."""
    offered = np.flatnonzero(front(latency_s, most, accuracy)).tolist()
    tuples = [(v, b) for v in offered for b in range(1, most[v] + 1)]
    low = min(latency_s[t] for t in tuples)
    wide = (max(latency_s[t] for t in tuples) - low) / many
    found: dict[int, tuple] = {}
    for v, b in tuples:
        within = 0 if wide == 0.0 else min(int((latency_s[v, b] - low) / wide), many - 1)
        found[within] = max(found.get(within, (0, 0.0)), (b, accuracy[v]))
    return found


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 9), st.integers(1, 40))
def test_a_bucket_holds_what_a_plain_count_finds(seed: int, variants: int, most: int, many: int):
    rng = np.random.default_rng(seed)
    # Whole numbers: which bucket a tuple is in shall not hang on the last bit of a division.
    steps = rng.integers(0, 4, (variants, most)) * many
    latency_s = np.concatenate(
        [np.zeros((variants, 1)), 1.0 + rng.integers(0, 9, (variants, 1)) + steps.cumsum(1)], 1
    )
    accuracy = rng.integers(5, 10, variants) / 10.0
    limits = rng.integers(1, most + 1, variants)
    found = buckets(latency_s, limits, accuracy, many)
    expected = plainly(latency_s, limits, accuracy, many)
    assert [(b.size, accuracy[b.variant]) for b in found] == [expected[k] for k in sorted(expected)]
    for b in found:
        assert b.latency_s == latency_s[b.variant, b.size] <= b.until_s + 1e-9


def test_of_equal_batches_in_a_bucket_the_more_accurate_is_chosen():
    latency_s, most, accuracy = tables(((0.01, 0.7), (0.011, 0.8), (0.04, 0.9)), most=2)
    assert [(b.variant, b.size) for b in buckets(latency_s, most, accuracy, 2)] == [(1, 2), (2, 2)]


def test_a_subnet_that_another_one_beats_is_in_no_bucket():
    latency_s, most, accuracy = tables(((0.01, 0.8), (0.02, 0.7), (0.01, 0.8), (0.03, 0.9)))
    assert front(latency_s, most, accuracy).tolist() == [True, False, False, True]
    # ... but it takes larger batches than the better ones: then it has its use.
    assert front(latency_s, np.array([8, 16, 8, 8]), accuracy).tolist() == [True, True, False, True]


# ---- slackfit online ----


def test_slackfit_takes_the_slowest_bucket_that_the_slack_allows():
    """Of four rows: all by the better subnet in 50 ms, three in 40, all by the smaller in 25, three in 20."""
    for due, chosen in ((0.051, (1, 4)), (0.041, (1, 3)), (0.026, (0, 4)), (0.021, (0, 3)), (0.011, (0, 1))):
        for options in ({}, PAPER):
            assert choices(make("slackfit", **options).plan(waiting(4, due)))[0] == chosen


def test_low_load_is_served_accurately_and_bursts_in_large_batches():
    lane = a_net(*FRONT)
    calm = make("slackfit").plan(waiting(1, supernet.DEADLINE_S, [lane]))
    assert choices(calm) == [(len(FRONT) - 1, 1)]
    # A burst: many wait, and by the time that it is their turn little slack is left of each.
    slacks = (supernet.DEADLINE_S, 0.02, 0.012, 0.0075, 0.0045)
    busy = [choices(make("slackfit", **PAPER).plan(waiting(200, due, [lane])))[0] for due in slacks]
    variants, sizes = zip(*busy, strict=True)
    assert variants == tuple(sorted(variants, reverse=True))
    assert (variants[0], variants[-1]) == (len(FRONT) - 1, 0)
    assert min(sizes) >= 10


def test_paper_mode_keeps_the_subnet_of_a_batch_that_the_queue_cut_short():
    """26 ms are the bucket of four rows by the small one. Of one row, the better subnet answers within that, too."""
    view = waiting(1, 0.026)
    assert choices(make("slackfit", **PAPER, buckets=2).plan(view)) == [(0, 1)]
    assert choices(make("slackfit", buckets=2).plan(view)) == [(1, 1)]


@given(st.integers(1, 40), st.floats(0.001, 0.06), st.integers(1, 40))
def test_raising_never_costs_accuracy_time_or_rows(rows: int, due: float, many: int):
    view = waiting(rows, due, [a_net(*FRONT)])
    paper, raised = (make("slackfit", buckets=many, **o).plan(view) for o in (PAPER, {}))
    if paper.batches:
        first, other = choices(paper)[0], choices(raised)[0]
        assert other[0] >= first[0]
        assert other[1] == first[1]
        assert FRONT[other[0]][0] * (1 + GROWS * (other[1] - 1)) <= due + 1e-12


def test_slack_below_the_lowest_choice_takes_the_largest_batch_in_time():
    """One bucket, whose choice takes 50 ms: below that, what 16 ms allow is two rows by the small subnet."""
    assert choices(make("slackfit", buckets=1).plan(waiting(4, 0.016)))[0] == (0, 2)


def test_slack_below_the_quickest_subnet_is_for_drop_to_decide():
    view = waiting(6, 0.009)
    for name in REACTIVE:
        assert make(name).plan(view) == Plan(refuse=tuple(range(6)))
        late = make(name, Switches(drop=False)).plan(view)
        assert [size for _, size in choices(late)] == [4, 2]
        assert choices(late)[0][0] == (1 if name == "clipper" else 0)


def test_what_cannot_be_late_enough_runs_after_everything_else():
    rows = [a_row(due=0.005, penalty=Penalty.constant(0.2)), a_row(due=0.1), a_row(due=0.1)]
    for name in REACTIVE:
        plan = make(name).plan(a_view([TWO], rows))
        assert [tuple(b.rows) for b in plan.batches] == [(1, 2), (0,)], name


def test_the_heads_lane_decides_and_its_most_urgent_rows_go():
    lanes = [TWO, a_net((0.01, 0.8), grows=0.5, most=4)]
    rows = [a_row(0, due=0.5), a_row(1, due=0.09), a_row(0, due=0.08), a_row(0, due=0.6)]
    for name in REACTIVE:
        plan = make(name).plan(a_view(lanes, rows, [a_worker(resident=("net",))]))
        assert [(b.lane, tuple(b.rows)) for b in plan.batches] == [(0, (2, 0, 3)), (1, (1,))], name


def test_a_load_is_part_of_the_time():
    """25 ms for four rows by the small subnet, and 20 ms until its weights are there."""
    lane = a_net((0.01, 0.7), (0.02, 0.9), grows=0.5, most=4, load_s=0.02)
    rows = [a_row(due=0.046)] * 4
    for held, chosen in (((), (0, 4)), (("net",), (1, 3))):
        plan = make("slackfit", **PAPER).plan(a_view([lane], rows, [a_worker(resident=held)]))
        assert choices(plan)[0] == chosen


def test_models_of_their_own_are_loaded_only_where_that_is_in_time():
    lane = a_lane(takes(0.01, 0.7, name="a"), takes(0.012, 0.9, name="b", load_s=0.05))
    for held, variant in (("0/a", 0), ("0/b", 1)):
        view = a_view([lane], [a_row(due=0.04)], [a_worker(resident=(held,), budget=1.0)])
        for name in ("slackfit", "maxacc", "maxbatch"):
            assert choices(make(name).plan(view)) == [(variant, 1)], name


def test_a_row_that_one_worker_cannot_answer_in_time_goes_to_the_next():
    view = a_view([TWO], [a_row(due=0.012)], [a_worker(slower=3.0), a_worker()])
    for name in ("slackfit", "maxacc", "maxbatch", "infaas"):
        assert [b.worker for b in make(name).plan(view).batches] == [1], name


def test_rows_are_believed_together():
    """The head would do better by the small subnet, the four rows of its batch by the large one."""
    rows = [a_row(due=0.2, accuracy=(0.9, 0.8))] + [a_row(due=0.3, accuracy=(0.5, 0.9)) for _ in range(3)]
    view = a_view([TWO], rows)
    for name, options in (("slackfit", {}), ("slackfit", {"drain": 0.5}), ("maxacc", {}), ("maxbatch", {})):
        assert choices(make(name, Switches(aware=True), **options).plan(view)) == [(1, 4)]
    view = replace(view, accuracy=view.accuracy[:, ::-1].copy())
    for name, options in (("slackfit", {}), ("slackfit", {"drain": 0.5}), ("maxacc", {}), ("maxbatch", {})):
        assert choices(make(name, Switches(aware=True), **options).plan(view)) == [(0, 4)]


# ---- drain ----


def test_drain_takes_the_best_subnet_that_empties_the_queue_in_its_share():
    """Six rows are a batch of four and one of two: 80 ms by the better subnet, 40 by the small one."""
    for due, chosen in ((0.161, (1, 4)), (0.159, (0, 4)), (0.081, (0, 4))):
        assert choices(make("slackfit", drain=0.5).plan(waiting(6, due)))[0] == chosen
    assert choices(make("slackfit", drain=1.0).plan(waiting(6, 0.081)))[0] == (1, 4)


def test_where_nothing_drains_the_queue_the_quickest_takes_all_that_is_in_time():
    assert choices(make("slackfit", drain=0.5).plan(waiting(40, 0.026)))[0] == (0, 4)
    assert choices(make("slackfit", drain=0.5).plan(waiting(40, 0.021)))[0] == (0, 3)


def test_free_workers_share_the_queue_that_is_drained():
    """Four rows within 20 ms: two each by the small subnet need 15, all at once 25; with 60 ms the better does."""
    rows = [a_row(due=0.06) for _ in range(4)]
    plan = make("slackfit", drain=0.5).plan(a_view([TWO], rows, [a_worker(), a_worker()]))
    assert [(b.worker, b.variant, len(b.rows)) for b in plan.batches] == [(0, 1, 2), (1, 1, 2)]
    alone = a_view([TWO], rows)
    assert choices(make("slackfit", drain=0.5).plan(alone))[0] == (0, 4)
    assert choices(make("slackfit", drain=0.5, workers=2).plan(alone))[0] == (1, 2)


def test_rows_of_other_lanes_are_in_the_queue_that_is_drained():
    other = a_net((0.01, 0.8), grows=0.5, most=4)
    few = a_view([TWO, other], [a_row(0, due=0.06)])
    many = a_view([TWO, other], [a_row(0, due=0.06), *(a_row(1, due=0.5) for _ in range(8))])
    assert choices(make("slackfit", drain=0.5).plan(few))[0] == (1, 1)
    assert choices(make("slackfit", drain=0.5).plan(many))[0] == (0, 1)


def test_heads_in_the_way_of_full_batches_are_passed_over_where_more_would_be_lost_with_them():
    """In 16 ms the small subnet answers two of four, and the twelve behind them are due before three more fours end."""
    late, behind = [a_row(due=0.016) for _ in range(2)], [a_row(due=0.077) for _ in range(12)]
    plan = make("slackfit", drain=0.5).plan(a_view([TWO], [*late, *behind]))
    assert [b.rows for b in plan.batches] == [(2, 3, 4, 5), (6, 7, 8, 9), (10, 11, 12, 13)]
    assert plan.refuse == (0, 1)
    # Nothing behind them is lost: they have their short batch.
    room = make("slackfit", drain=0.5).plan(a_view([TWO], [*late, *behind[:4]]))
    assert room.batches[0].rows == (0, 1)
    # Nor is anybody passed over by the paper's rule.
    assert make("slackfit").plan(a_view([TWO], [*late, *behind])).batches[0].rows == (0, 1)


@given(
    st.lists(st.integers(1, 60), max_size=12), st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 3),
)  # fmt: skip
def test_what_a_queue_loses_is_what_a_plain_count_finds(due, steps, sharing: int):
    latency_s = np.cumsum([0, *steps]).astype(float)
    rows, at_s, gone = sorted(map(float, due)), 0.0, 0
    while rows:
        size = max((k for k in range(1, len(latency_s)) if at_s + latency_s[k] <= rows[0]), default=0)
        if not size:
            rows, gone = rows[1:], gone + 1
            continue
        rows, at_s = rows[size * sharing :], at_s + latency_s[size]
    assert lost(np.array(sorted(map(float, due))), 0.0, latency_s, sharing) == gone


# ---- the others ----


def test_maxacc_and_maxbatch_differ_in_what_they_fix_first():
    """41 ms: three rows by the better subnet, or four by the small one and then no better."""
    view = waiting(4, 0.041)
    assert choices(make("maxacc").plan(view))[0] == (1, 3)
    assert choices(make("maxbatch").plan(view))[0] == (0, 4)
    assert choices(make("maxbatch").plan(waiting(4, 0.051)))[0] == (1, 4)
    assert choices(make("maxbatch").plan(waiting(3, 0.041)))[0] == (1, 3)  # no larger than what waits


@given(st.integers(1, 30), st.floats(0.0005, 0.05))
def test_both_are_the_best_of_all_tuples_by_their_own_rule(rows: int, due: float):
    view = waiting(rows, due, [a_net(*FRONT)])
    latency_s, slack_s = view.workers[0].latency_s[0], view.due_at[0] - NOW
    every = product(range(len(FRONT)), range(1, min(MOST, rows) + 1))
    fits = [tuple_ for tuple_ in every if latency_s[tuple_] <= slack_s]
    for name, key in (("maxacc", lambda t: t), ("maxbatch", lambda t: (t[1], t[0]))):
        plan = make(name).plan(view)
        assert choices(plan)[:1] == ([max(fits, key=key)] if fits else [])


def test_clippers_points_are_spread_over_the_accuracies():
    lane = a_net(*((0.001 * (i + 1), a) for i, a in enumerate((0.70, 0.71, 0.745, 0.78, 0.79, 0.80))))
    view = waiting(1, 1.0, [lane])
    used = [choices(make("clipper", point=point).plan(view))[0][0] for point in range(6)]
    assert used == [0, 1, 2, 2, 3, 5]  # 0.70, 0.72, 0.74, 0.76, 0.78, 0.80
    assert choices(make("clipper", point=1, points=2).plan(view)) == [(5, 1)]
    assert choices(make("infaas").plan(view)) == [(0, 1)]


def test_a_row_that_may_not_use_the_fixed_variant_takes_the_best_that_it_may():
    rows = [a_row(), a_row(allowed=(True, False)), a_row(allowed=(False, True))]
    view = a_view([TWO], rows)
    assert [(b.variant, tuple(b.rows)) for b in make("clipper").plan(view).batches] == [
        (1, (0, 2)),
        (0, (1,)),
    ]
    assert [(b.variant, tuple(b.rows)) for b in make("infaas").plan(view).batches] == [(0, (0, 1)), (1, (2,))]


def test_aimd_grows_by_one_and_falls_by_a_tenth():
    """A hundred wait. Batches take 10 ms a row and the objective is 200 ms: 21 rows are too many, 18 are its nine
    tenths."""
    lane = a_net((0.01, 0.7), grows=1.0, most=32)
    view = a_view([lane], [a_row(due=9.0, deadline_s=0.2) for _ in range(100)])
    policy = make("clipper", aimd=1)
    sizes = [choices(policy.plan(view))[0][1] for _ in range(30)]
    assert sizes == [*range(1, 22), 18, 19, 20, 21, 18, 19, 20, 21, 18]
    assert "clipper" in REMEMBERING


def test_aimd_learns_nothing_from_a_batch_that_was_not_full():
    lane = a_net((0.01, 0.7), grows=1.0, most=32)
    one, many = (a_view([lane], [a_row(due=9.0) for _ in range(n)]) for n in (1, 50))
    policy = make("clipper", aimd=1)
    assert [choices(policy.plan(v))[0][1] for v in (one, one, one, many, many)] == [1, 1, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("slackfit", {"drain": 1.5}, "'drain' is a share"),
        ("slackfit", {"buckets": 0.0}, "'buckets' is a number of 1 or more"),
        ("slackfit", {"rise": 1.0}, "the nearest is 'raise'"),
        ("clipper", {"point": 6.0}, "'point' counts from 0 to 5"),
        ("clipper", {"backoff": 1.0}, "'backoff' is a share below 1"),
        ("maxacc", {"buckets": 3.0}, "the nearest is 'ahead' of ahead"),
    ],
)
def test_options_that_cannot_be_are_named(name: str, options: dict[str, float], said: str):
    with pytest.raises(InvalidConfiguration, match=said):
        make(name, **options)


# ---- in any view ----


@pytest.mark.parametrize(("name", "options"), EVERY)
@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6), rows=st.integers(1, 14), lanes=st.integers(1, 3), workers=st.integers(1, 3)
)
def test_a_batch_runs_no_row_twice_and_has_its_head_in_time(name, options, seed, rows, lanes, workers):
    view = a_random_view(seed, rows=rows, lanes=lanes, workers=workers)
    plan = make(name, **options).plan(view)
    assert make(name, **options).plan(view) == plan
    once = [row for batch in plan.batches for row in batch.rows]
    assert len(once) == len(set(once))
    # The first batch of each worker, which is what is carried out: from its own state, load included.
    seen: set[int] = set()
    for batch in plan.batches:
        if batch.worker in seen:
            continue
        seen.add(batch.worker)
        worker, lane = view.workers[batch.worker], view.lanes[batch.lane]
        weights = int(lane.weights[batch.variant])
        load_s = 0.0 if weights in worker.resident else float(worker.load_s[weights])
        ends_at = worker.free_at + load_s + worker.latency_s[batch.lane][batch.variant, len(batch.rows)]
        due_at = view.due_at[list(batch.rows)]
        assert (np.diff(due_at) >= 0.0).all()
        constant = Penalty.constant(0.2).kind
        if options != AIMD and not (view.penalty[list(batch.rows)] == constant).any():
            assert ends_at <= due_at[0] + 1e-9


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_a_free_worker_is_used_while_something_waits(name: str, options: dict[str, float]):
    view = a_view([TWO], [a_row(due=0.051) for _ in range(12)], [a_worker() for _ in range(3)])
    assert {batch.worker for batch in make(name, **options).plan(view).batches} == {0, 1, 2}


@pytest.mark.parametrize(("name", "options"), [e for e in EVERY if e[1] != AIMD])
def test_one_object_plans_as_a_new_one_would(name: str, options: dict[str, float]):
    """They remember nothing: what was planned before, of other lanes and workers, leaves no trace."""
    used = make(name, **options)
    for seed in range(12):
        view = a_random_view(seed, rows=8, lanes=2, workers=1 + seed % 2)
        assert used.plan(view) == make(name, **options).plan(view), seed
