"""What a repository and its settings become, before anything is started."""

from dataclasses import replace

import pytest

from peekserve.cli.assembly import as_sneakpeek, scheduler_spec
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, OnMiss, PeekSpec, Variant
from peekserve.domain.profile import Calibration
from peekserve.errors import InvalidConfiguration
from peekserve.registry.settings import PolicySettings, ServerSettings
from tests.sim.test_gears import a_plan

CALIBRATION = Calibration(((0.7, 0.3), (0.2, 0.8)), 0.5, 5.0, (0.1, 0.5, 0.9), (0.5, 0.5), 90, 0.7, 0.5)
BLIND = Application("blind", ("a", "b"), (Variant("net", "1", "net"),), (0.5, 0.5))
PEEKING = replace(BLIND, name="peeking", peek=PeekSpec((), ()))
MEASURED = replace(BLIND, name="measured", peek=PeekSpec((), (), calibration=CALIBRATION))


@pytest.mark.parametrize(
    ("policy", "beliefs", "told"),
    [
        ("horizon", "", 1),
        ("horizon", "dirichlet", 0),
        ("sneakpeek", "", 0),
        ("sneakpeek", "calibrated", 1),
    ],
)
def test_who_is_not_believed_as_the_scheduler_believes_is_named(policy, beliefs, told):
    spec = scheduler_spec(ServerSettings(policy=PolicySettings(policy), beliefs=beliefs))
    sentences = list(as_sneakpeek(spec, [BLIND, PEEKING, MEASURED]))
    assert len(sentences) == told
    assert all(one.startswith("peeking: ") and "peekserve profile" in one for one in sentences)


@pytest.mark.parametrize(
    ("settings", "escalates"),
    [
        (ServerSettings(), True),
        (ServerSettings(escalate=False), False),
        (ServerSettings(beliefs="dirichlet"), False),
        (ServerSettings(policy=PolicySettings("horizon", short_circuit=False)), False),
        (ServerSettings(policy=PolicySettings("sneakpeek")), False),
        (ServerSettings(policy=PolicySettings("sneakpeek"), escalate=True), True),
        (ServerSettings(window_s=0.1), False),
        (ServerSettings(window_s=0.1, rebalance_s=0.02), False),
    ],
)
def test_escalation_goes_with_the_policy_unless_it_is_written(settings, escalates):
    assert scheduler_spec(settings).escalates is escalates
    scheduler_spec(settings).build([BLIND, PEEKING, MEASURED])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ServerSettings(policy=PolicySettings("lo-edf", aware=False), escalate=True), "only if it is aware"),
        (ServerSettings(window_s=0.1, escalate=True), "carries out whole plans"),
    ],
)
def test_escalation_that_could_never_be_is_said_before_anything_starts(settings, message):
    with pytest.raises(InvalidConfiguration, match=message):
        scheduler_spec(settings).build(())


def test_the_gain_of_an_escalation_reaches_the_scheduler():
    assert scheduler_spec(ServerSettings(escalate_gain=0.1)).escalate_gain == 0.1
    assert scheduler_spec(ServerSettings()).escalate_gain == SchedulerSpec().escalate_gain


def test_nobody_looks_first_for_a_policy_that_goes_by_its_plan():
    gears = ServerSettings(policy=PolicySettings("gears"), on_miss=OnMiss.LATE)
    assert not scheduler_spec(gears, {"app": a_plan()}).peek
    assert scheduler_spec(replace(gears, on_miss=OnMiss.DEGRADE), {"app": a_plan()}).peek


def test_a_server_follows_the_pace_of_its_workers_unless_it_is_told_not_to():
    assert scheduler_spec(ServerSettings()).follow_pace
    assert not scheduler_spec(ServerSettings(follow_pace=False)).follow_pace
    assert not SchedulerSpec().follow_pace, "experiments plan with the profiles that they state"
