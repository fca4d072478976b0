"""Short stories: load on devices, weights in memory."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.cascades.cascade import Cascade
from peekserve.planner.balance import balance
from peekserve.planner.faults import Fault, Part
from peekserve.planner.placement import place
from peekserve.planner.problem import Device
from tests.planner.worlds import a_problem, seconds

ALL = Cascade(("tiny", "small", "large"), (0.5, 0.5))


def judged(problem, cascade=ALL):
    return cascade.judged(problem.answers, seconds())


def test_two_like_devices_share_the_load():
    found = balance({"m": 100.0}, {("m", "a"): 0.01, ("m", "b"): 0.01}, ["a", "b"])
    assert found.utilisation == pytest.approx(0.5)
    assert found.shares["m"] == pytest.approx({"a": 0.5, "b": 0.5})


def test_a_device_that_alone_can_run_one_model_does_less_of_the_other():
    """90 per second of x run on both, 5 of y on b alone: by hand, a takes 7/9 of x's time and b the rest."""
    times = {("x", "a"): 0.01, ("x", "b"): 0.01, ("y", "b"): 0.1}
    found = balance({"x": 90.0, "y": 5.0}, times, ["a", "b"])
    assert found.utilisation == pytest.approx((0.9 + 0.5) / 2)
    assert found.shares["x"]["a"] == pytest.approx(0.7 / 0.9)
    assert found.shares["y"] == pytest.approx({"b": 1.0})


def test_a_model_without_a_device_has_no_balance():
    assert balance({"x": 1.0}, {}, ["a"]) is None


def test_a_stage_that_nothing_is_expected_at_still_has_its_devices():
    found = balance({"x": 10.0, "y": 0.0}, {("x", "a"): 0.01, ("y", "a"): 0.1}, ["a"])
    assert found.shares["y"] == {"a": 1.0}


@settings(max_examples=25)
@given(
    st.lists(st.floats(1.0, 500.0), min_size=1, max_size=3),
    st.lists(st.floats(1e-4, 0.05), min_size=9, max_size=9),
    st.integers(1, 3),
)
def test_everything_is_served_and_no_device_is_busier_than_said(rates, times, many):
    names, devices = "xyz"[: len(rates)], "abc"[:many]
    seconds_ = {(v, d): times[3 * i + j] for i, v in enumerate(names) for j, d in enumerate(devices)}
    load = dict(zip(names, rates, strict=True))
    found = balance(load, seconds_, list(devices))
    for v in names:
        assert sum(found.shares[v].values()) == pytest.approx(1.0)
    busy = [sum(load[v] * found.shares[v].get(d, 0.0) * seconds_[v, d] for v in names) for d in devices]
    assert max(busy) == pytest.approx(found.utilisation, rel=1e-4)
    alone = max(load[v] * min(seconds_[v, d] for d in devices) for v in names) / many
    assert found.utilisation >= alone * (1.0 - 1e-6)


def test_with_room_everything_is_everywhere():
    problem = a_problem(on="2xcpu=64MiB", ranges=1, highest=50.0)
    placed = place(problem, [judged(problem)])
    assert {placed.holds(d.name) for d in problem.devices} == {("sha-large", "sha-small", "sha-tiny")}


def test_memory_is_never_passed_and_nothing_is_lost():
    problem = a_problem(on="3xcpu=2MiB", ranges=1, highest=50.0, mebibytes=1)
    placed = place(problem, [judged(problem)])
    assert all(len(placed.holds(d.name)) <= 2 for d in problem.devices)
    assert {w for w, _ in placed.replicas} == {"sha-large", "sha-small", "sha-tiny"}


def test_the_model_with_most_to_do_keeps_most_replicas():
    problem = a_problem(on="3xcpu=2MiB", ranges=1, highest=100.0)
    placed = place(problem, [judged(problem, Cascade(("tiny", "large"), (0.9,)))])
    assert sum(w == "sha-large" for w, _ in placed.replicas) >= sum(
        w == "sha-tiny" for w, _ in placed.replicas
    )


def test_subnets_of_one_supernet_lie_together():
    problem = a_problem(on="cpu=1MiB", ranges=1, highest=20.0)
    shared = replace(problem, models=tuple(replace(m, weights="wide") for m in problem.models))
    placed = place(shared, [judged(shared)])
    assert placed.holds("cpu:0") == ("wide",)


def test_what_fits_nowhere_is_named():
    problem = a_problem(on="2xcpu=1MiB", mebibytes=2)
    fault = place(problem, [judged(problem)] * 4)
    assert (fault.part, fault.at, fault.model) == (Part.PLACEMENT, -1, "large")
    assert "large takes 2.0 MiB and the largest device holds 1.0 MiB" in fault.why


def test_what_does_not_fit_together_says_how_much_is_lacking():
    problem = a_problem(on="cpu=2MiB")
    fault = place(problem, [judged(problem)] * 4)
    assert isinstance(fault, Fault)
    assert "cpu:0 would hold 1.0 MiB more" in fault.why
    assert "takes 3.0 MiB, and all devices have 2.0 MiB" in fault.why


def test_too_much_load_names_its_range_and_what_could_be_carried():
    problem = a_problem(highest=400.0, ranges=4)
    fault = place(problem, [judged(problem, Cascade(("large",)))] * 4)
    assert fault.at == 1
    assert fault.best == pytest.approx(100.0)
    assert "at 200 requests per second large keeps the busiest of cpu:0 busy 2.00 of the time" in fault.why


def test_a_replica_that_is_asked_for_stays():
    problem = a_problem(on="3xcpu=2MiB", ranges=1, highest=50.0)
    placed = place(problem, [judged(problem)], {"sha-tiny": 3})
    assert sum(w == "sha-tiny" for w, _ in placed.replicas) == 3


def test_a_kind_of_device_without_a_timing_holds_nothing():
    problem = a_problem(on=[Device("cpu:0", "cpu"), Device("cuda:0", "cuda")], ranges=1, highest=50.0)
    placed = place(problem, [judged(problem)])
    assert placed.holds("cuda:0") == ()
