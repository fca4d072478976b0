"""Short stories: plan.json, and plans that hold no more."""

import itertools
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.domain.gears import Expected, Gear, GearPlan, Holding, Planned, Share
from peekserve.errors import InvalidConfiguration, ProfileMissing
from peekserve.planner.loop import plan
from peekserve.planner.plan import check, decode, encode, read, write
from tests.planner.worlds import a_problem, an_application


@cache
def a_plan() -> GearPlan:
    made = plan(a_problem(ranges=3))
    assert isinstance(made, GearPlan)
    return made


def test_a_plan_survives_its_file(tmp_path):
    made = a_plan()
    write(tmp_path / "plan.json", {"app": made, "other": replace(made, application="other")})
    assert read(tmp_path / "plan.json") == {"app": made, "other": replace(made, application="other")}
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=4, unique=True), st.floats(0.0, 1.0))
def test_any_numbers_survive(edges, threshold):
    edges = [0.0, *sorted(edges)]
    expected = Expected((1.0, threshold), 0.9, 0.01, 0.88, 0.123, 0.5)
    made = replace(
        a_small_plan(),
        gears=tuple(
            Gear(low, high, ("a", "b"), (threshold,), (2, 1), ((Share("cpu:0", 1.0),),) * 2, expected, 0.1)
            for low, high in itertools.pairwise(edges)
        ),
    )
    assert decode(encode({"app": made})) == {"app": made}


def a_small_plan() -> GearPlan:
    expected = Expected((1.0,), 0.9, 0.01, 0.88, 0.1, 0.5)
    gear = Gear(0.0, 10.0, ("a",), (), (1,), ((Share("cpu:0", 1.0),),), expected)
    models = (Planned("a", "sha-a", "sha-a"), Planned("b", "sha-b", "sha-b"))
    return GearPlan(
        "app", "margin", "p95=1000ms", "here", models, (Holding("cpu:0", "cpu", 1, ("sha-a",)),), (gear,)
    )


def test_there_is_no_file(tmp_path):
    assert read(tmp_path / "plan.json") == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"version": 7, "plans": []}', "has version 7, and this peekserve reads 1: plan again"),
        (b"{}", "has version -1"),
        (b"[1, 2]", "no gear plan"),
        (b"not json", "no gear plan"),
        (b'{"version": 1, "plans": [{"application": "app"}]}', "missing required field"),
    ],
)
def test_files_that_are_no_plan(text, why):
    with pytest.raises(InvalidConfiguration, match=why):
        decode(text, "repo/plan.json")


def test_a_range_that_was_edited_to_nothing_is_refused():
    text = encode({"app": a_small_plan()}).replace(b'"high": 10.0', b'"high": 0.0')
    with pytest.raises(InvalidConfiguration, match=r"plan\.json: .*an empty load range"):
        decode(text)


def test_an_application_has_one_plan():
    twice = encode({"a": a_small_plan(), "b": a_small_plan()})
    with pytest.raises(InvalidConfiguration, match="two plans"):
        decode(twice)


def test_a_plan_for_what_is_here_holds():
    check(a_plan(), an_application(), "this-device")


def test_a_plan_of_another_device():
    with pytest.raises(
        ProfileMissing, match="made with timings of this-device, and this device is that-device"
    ):
        check(a_plan(), an_application(), "that-device")


def test_a_plan_for_models_that_changed():
    app = an_application()
    retrained = replace(app, variants=(replace(app.variants[0], revision="new"), *app.variants[1:]))
    with pytest.raises(
        InvalidConfiguration, match="other revisions of tiny: run peekserve plan for app again"
    ):
        check(a_plan(), retrained, "this-device")


def test_a_plan_for_models_that_are_gone():
    app = an_application()
    with pytest.raises(InvalidConfiguration, match=r"uses .*large, and it has small, tiny"):
        check(a_plan(), replace(app, variants=app.variants[:2]), "this-device")


def test_a_plan_for_another_application():
    with pytest.raises(InvalidConfiguration, match="is none for 'other'"):
        check(a_plan(), replace(an_application(), name="other"), "this-device")


def test_the_gear_for_a_rate():
    made = a_plan()
    assert [made.at(rate) for rate in (0.0, 1.0, made.gears[0].high, made.highest - 1e-6, 1e9)] == [
        0,
        0,
        1,
        2,
        2,
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"gears": ()}, "one gear or more"),
        ({"models": ()}, "gears use a, which the plan does not describe"),
    ],
)
def test_plans_that_cannot_be(change, why):
    with pytest.raises(InvalidConfiguration, match=why):
        replace(a_small_plan(), **change)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"low": 10.0}, "an empty load range"),
        ({"thresholds": (0.5,)}, "a threshold between each two"),
        ({"queues": (0,)}, "one sample or more"),
        ({"shares": ((),)}, "runs on no device"),
    ],
)
def test_gears_that_cannot_be(change, why):
    with pytest.raises(InvalidConfiguration, match=why):
        replace(a_small_plan().gears[0], **change)
