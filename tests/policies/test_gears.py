"""Short stories: a gear plan at work, view by view."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.domain.gears import Crowd, Expected, Gear, GearPlan, Holding, Planned, Share, crowded
from peekserve.errors import InvalidConfiguration
from peekserve.policies.base import Switches
from peekserve.policies.gearbox import Gearbox
from peekserve.policies.gears import Gears
from tests.policies.views import NOW, a_lane, a_row, a_view, a_worker, takes

SMALL, LARGE = takes(0.01, 0.8, name="small"), takes(0.1, 0.95, name="large")
LANE = a_lane(SMALL, LARGE)
EXPECTED = Expected((1.0, 0.3), 0.9, 0.01, 0.88, 0.2, 0.5)
# A row that went on to the large model, with the small one's answer in hand.
WENT_ON = {"allowed": (False, True), "instant": 0.8}


def a_gear(low=0.0, high=inf, stages=("small", "large"), queues=None, on=("cpu:0",)) -> Gear:
    shares = tuple(Share(device, 1.0 / len(on)) for device in on)
    of = len(stages)
    return Gear(low, min(high, 1e6), stages, (0.5,) * (of - 1), queues or (1,) * of, (shares,) * of, EXPECTED)


def a_plan(*gears: Gear, on=("cpu:0",)) -> GearPlan:
    models = tuple(Planned(name, name, f"0/{name}") for name in ("small", "large"))
    held = tuple(Holding(device, "cpu", 1, ("0/small", "0/large")) for device in on)
    return GearPlan("lane0", "margin", "p95=1000ms", "here", models, held, gears or (a_gear(on=on),))


def gears(*own: Gear, on=("cpu:0",), **options) -> Gears:
    return Gears(Switches(), {"lane0": a_plan(*own, on=on)}, **options)


def batches(policy: Gears, view) -> list[tuple[int, str, tuple[int, ...]]]:
    names = view.lanes[0].variants
    return [(b.worker, names[b.variant], tuple(b.rows)) for b in policy.plan(view).batches]


def test_new_rows_run_the_first_stage_together_and_say_what_follows():
    plan = gears().plan(a_view([LANE], [a_row(), a_row()]))
    (batch,) = plan.batches
    assert (batch.variant, batch.rows) == (0, (0, 1))
    assert (batch.stop.certainty, batch.stop.threshold, batch.stop.onto) == ("margin", 0.5, 1)


def test_rows_that_went_on_run_the_last_stage_and_are_answered_by_it():
    plan = gears().plan(a_view([LANE], [a_row(**WENT_ON)]))
    (batch,) = plan.batches
    assert (batch.variant, batch.stop) == (1, None)


def test_the_most_urgent_queue_goes_first():
    rows = [a_row(due=0.9), a_row(due=0.3, **WENT_ON)]
    assert batches(gears(), a_view([LANE], rows)) == [(0, "large", (1,))]
    rows = [a_row(due=0.2), a_row(due=0.3, **WENT_ON)]
    assert batches(gears(), a_view([LANE], rows)) == [(0, "small", (0,))]


@pytest.mark.parametrize("peeked", [{}, {"instant": 0.5}])
def test_with_the_guard_rows_without_an_answer_do_not_become_late_behind_one_that_went_on(peeked):
    rows = [a_row(due=0.12, **WENT_ON), *[a_row(due=0.125, **peeked)] * 8]
    assert batches(gears(), a_view([LANE], rows)) == [(0, "small", tuple(range(1, 9)))]
    assert batches(gears(guard=0.0), a_view([LANE], rows)) == [(0, "large", (0,))]
    # Where both can be in time, the more urgent one goes first.
    rows = [a_row(due=0.12, **WENT_ON), *[a_row(due=0.5, **peeked)] * 8]
    assert batches(gears(), a_view([LANE], rows)) == [(0, "large", (0,))]


def test_a_queue_waits_until_it_is_long_enough():
    policy = gears(a_gear(queues=(3, 1)))
    plan = policy.plan(a_view([LANE], [a_row(), a_row()]))
    assert not plan.batches
    assert NOW < plan.again_at < NOW + 1.0
    assert batches(policy, a_view([LANE], [a_row()] * 3, now=NOW + 0.01)) == [(0, "small", (0, 1, 2))]


def test_but_never_beyond_the_last_instant_at_which_it_could_pass_all_stages():
    policy = gears(a_gear(queues=(3, 1)))
    plan = policy.plan(a_view([LANE], [a_row(due=0.5)]))
    assert plan.again_at == pytest.approx(NOW + 0.5 - 0.01 - 0.1)
    assert len(policy.plan(a_view([LANE], [a_row(due=0.1)], now=NOW + 0.4)).batches) == 1


def test_a_batch_is_no_larger_than_its_model_takes():
    many = batches(gears(), a_view([LANE], [a_row()] * 20))
    assert [len(rows) for _, _, rows in many] == [8]


def test_free_devices_divide_a_queue():
    on = ("cpu:0", "cpu:1")
    view = a_view([LANE], [a_row()] * 7, [a_worker(), a_worker()])
    assert batches(gears(on=on), view) == [(0, "small", (0, 1, 2, 3)), (1, "small", (4, 5, 6))]


def test_the_device_most_behind_its_share_goes_first():
    on = ("cpu:0", "cpu:1")
    uneven = a_gear(on=on)
    uneven = replace(uneven, shares=((Share("cpu:0", 0.25), Share("cpu:1", 0.75)),) * 2)
    policy = gears(uneven, on=on)
    first = [
        batches(policy, a_view([LANE], [a_row()], [a_worker()] * 2, now=NOW + i))[0][0] for i in range(40)
    ]
    assert first.count(1) == 30


def test_a_stage_runs_where_the_plan_says():
    gear = a_gear(on=("cpu:1",))
    policy = gears(gear, on=("cpu:0", "cpu:1"))
    assert batches(policy, a_view([LANE], [a_row()], [a_worker()])) == []
    assert batches(policy, a_view([LANE], [a_row()], [a_worker(), a_worker()], now=NOW + 1)) == [
        (1, "small", (0,))
    ]


def test_what_its_device_left_behind_is_taken_by_one_that_holds_it_at_the_last_moment():
    policy = gears(a_gear(on=("cpu:1",)), on=("cpu:0", "cpu:1"))
    holds = a_worker(resident=("0/small",))
    assert batches(policy, a_view([LANE], [a_row(due=0.05)], [holds])) == [(0, "small", (0,))]


def test_a_device_that_the_plan_does_not_know_may_help():
    policy = gears(a_gear(on=("cuda:0",)), on=("cuda:0",))
    assert batches(policy, a_view([LANE], [a_row()], [a_worker()])) == [(0, "small", (0,))]


def test_with_the_guard_rows_that_a_batch_would_not_save_stay_out_of_it():
    """Two of the large model take 0.13 s; the first row has only 0.12 s and keeps the answer that it has."""
    rows = [a_row(due=0.12, **WENT_ON), a_row(due=0.5, **WENT_ON)]
    assert batches(gears(), a_view([LANE], rows)) == [(0, "large", (1,))]
    assert batches(gears(guard=0.0), a_view([LANE], rows)) == [(0, "large", (0, 1))]
    assert gears(guard=0.0).plan(a_view([LANE], [a_row()])).batches[0].stop.guard is False


def test_who_pins_a_variant_gets_it():
    assert batches(gears(), a_view([LANE], [a_row(allowed=(False, True))])) == [(0, "large", (0,))]


# ---- which gear ----

LOW, HIGH = a_gear(0.0, 50.0), a_gear(50.0, inf, ("small",))


def a_box(number: int = 0) -> Gearbox:
    return Gearbox(a_plan(LOW, HIGH), number)


def arrive(box: Gearbox, begin: float, many: int, seconds: float = 0.1) -> None:
    box.see((begin + seconds * (np.arange(many) + 0.5) / many).tolist())


def shift(box: Gearbox, now: float, queued: int = 0, alpha: float = 8.0) -> int:
    box.shift(now, queued, 0.1, 1.0, alpha)
    return box.number


def test_more_load_changes_up_at_once():
    box = a_box()
    arrive(box, 0.0, 10)
    assert shift(box, 0.05) == 0  # the period is not over
    assert shift(box, 0.11) == 1
    assert box.rate == pytest.approx(100.0, rel=0.1)


def test_less_load_changes_down_when_the_first_queue_is_short():
    box = a_box(1)
    arrive(box, 0.0, 2)
    assert shift(box, 0.11, queued=10) == 1  # eight times ten is more than twenty per second
    arrive(box, 0.12, 2)
    assert shift(box, 0.22, queued=1) == 0


def test_a_row_that_is_seen_often_counts_once():
    box = a_box()
    for _ in range(5):
        box.see([0.01, 0.02, 0.02])
    shift(box, 0.2)
    assert box.rate == pytest.approx(3 / 0.19, rel=1e-3)


def test_a_row_whose_peek_came_first_counts_when_it_is_seen():
    """It came in a period that is over by the time it may be planned, and goes out of sight while it runs."""
    box = a_box()
    box.see([0.01])
    shift(box, 0.11)
    box.see([0.01, 0.105])
    shift(box, 0.22)
    assert box.rate == pytest.approx(1 / 0.11, rel=1e-3)
    box.see([0.105])
    shift(box, 0.33)
    assert box.rate == 0.0


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=40))
def test_every_arrival_counts_once_however_often_it_is_seen(instants):
    box, waiting, total = a_box(), sorted(instants), 0.0
    for now in np.arange(0.05, 10.6, 0.05).tolist():
        box.see([at for at in waiting if now - 0.2 < at <= now])
        before = box._since
        shift(box, now)
        if box._since != before and before > -inf:
            total += box.rate * (now - before)
    assert total <= len(instants) + 1e-6


def test_a_margin_plans_for_more_than_was_measured():
    box = a_box()
    arrive(box, 0.0, 4)
    box.shift(0.12, 0, 0.1, 2.0, 8.0)
    assert 25.0 < box.rate < 50.0
    assert box.number == 1


def test_a_row_that_went_on_finishes_in_a_gear_without_its_stage():
    policy = gears(replace(HIGH, low=0.0))
    assert batches(policy, a_view([LANE], [a_row(**WENT_ON)])) == [(0, "large", (0,))]


def test_time_that_runs_backwards_begins_anew():
    policy = gears(LOW, HIGH)
    policy.boxes["lane0"].number = 1
    policy.plan(a_view([LANE], [a_row()], now=NOW))
    policy.plan(a_view([LANE], [a_row()], now=NOW - 50.0))
    assert policy.boxes["lane0"].number == 0


def test_the_same_views_the_same_plans():
    views = [a_view([LANE], [a_row(), a_row(due=0.4)], now=NOW + 0.03 * i) for i in range(20)]
    one, other = gears(LOW, HIGH), gears(LOW, HIGH)
    assert [one.plan(view) for view in views] == [other.plan(view) for view in views]


def test_nothing_waits_or_nobody_is_free():
    assert not gears().plan(a_view([LANE], [])).batches
    assert not gears().plan(a_view([LANE], [a_row()], [])).batches


def test_it_needs_a_plan():
    with pytest.raises(InvalidConfiguration, match="peekserve plan makes one"):
        Gears(Switches())
    with pytest.raises(InvalidConfiguration, match="no plan for 'lane1', only for lane0"):
        gears().plan(a_view([LANE, LANE], [a_row(lane=1)]))
    with pytest.raises(InvalidConfiguration, match="no policy option 'windows'"):
        gears(windows=1.0)


def test_a_row_that_is_late_already_runs_although_its_peek_has_an_answer():
    """Who asks for the large model by name, of an application that answers late, waits for it and for nothing else."""
    late = a_row(due=0.5, **WENT_ON)
    assert batches(gears(), a_view([LANE], [late], now=NOW + 0.45)) == [(0, "large", (0,))]
    assert batches(gears(), a_view([LANE], [late], now=NOW + 0.6)) == [(0, "large", (0,))]


def test_what_the_plan_places_nowhere_runs_anywhere_for_who_asks_for_it():
    plan = a_plan(a_gear(stages=("small",)))
    held = tuple(replace(one, weights=("0/small",)) for one in plan.placement)
    policy = Gears(Switches(), {"lane0": replace(plan, placement=held)})
    pinned = a_row(allowed=(False, True))
    assert batches(policy, a_view([LANE], [pinned])) == [(0, "large", (0,))]


# ---- when to ask again ----


def test_what_is_left_of_a_queue_is_asked_about_when_it_can_wait_no_longer():
    """Eight of nine rows run on the one free device; the ninth waits for two more, and until its last instant."""
    policy = gears(a_gear(stages=("small",), queues=(3,)))
    plan = policy.plan(a_view([LANE], [a_row()] * 9))
    assert [len(batch.rows) for batch in plan.batches] == [8]
    assert plan.again_at == pytest.approx(NOW + 1.0 - 0.01)


def test_what_waits_for_a_device_is_asked_about_when_one_should_be_free():
    plan = gears(a_gear(stages=("small",))).plan(a_view([LANE], [a_row()] * 12))
    assert plan.again_at == pytest.approx(NOW + 0.01 + 7 * 0.003)


def test_the_guard_is_on_unless_it_is_switched_off():
    (batch,) = gears().plan(a_view([LANE], [a_row()])).batches
    assert batch.stop.guard


# ---- plans ----


def test_a_plan_has_a_share_of_its_devices():
    assert a_plan().share == 1.0
    for share in (0.0, 1.5):
        with pytest.raises(InvalidConfiguration, match="above 0 and up to 1, not"):
            replace(a_plan(), share=share)


def test_one_gear_of_a_plan_serves_every_load():
    only = a_plan(LOW, HIGH).only(1)
    assert [(g.low, g.high, g.stages) for g in only.gears] == [(0.0, 1e6, ("small",))]
    with pytest.raises(InvalidConfiguration, match="'lane0' has gears 0 to 1, and no gear 2"):
        a_plan(LOW, HIGH).only(2)


def test_plans_that_ask_for_more_of_a_device_than_there_is_are_found():
    whole, half = a_plan(on=("a", "b")), replace(a_plan(on=("b", "c")), share=0.5)
    assert crowded({"one": whole}) == ()
    assert crowded({"two": half, "one": whole}) == (Crowd("b", ("one", "two"), 1.5),)
    assert crowded({"one": half, "two": half}) == ()
    third = replace(whole, share=1 / 3)
    assert crowded({"one": third, "two": third, "three": third}) == ()
    nothing = replace(whole, placement=tuple(replace(held, weights=()) for held in whole.placement))
    assert crowded({"one": whole, "two": nothing}) == ()
