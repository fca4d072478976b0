"""What `peekserve check`, `serve` and `simulate` say of a repository's gear plans."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from peekserve.cli.planned import check_plans, doubts, examine, file_of, gear_plans
from peekserve.config import Severity
from peekserve.domain.gears import GearPlan
from peekserve.errors import InvalidConfiguration, ProfileMissing
from peekserve.planner import plan as files
from peekserve.policies import PLANNED
from peekserve.profiling.device import fingerprint
from tests.planner.worlds import an_application
from tests.sim.test_gears import a_plan

WORKERS = ("w0", "w1")
APP = an_application()


def write(root: Path, *plans: GearPlan, name: str = files.FILE) -> None:
    files.write(root / name, {plan.application: plan for plan in plans})


def problems(
    root: Path, policy: str = "gears", workers=WORKERS, here: str = "here"
) -> list[tuple[str, bool]]:
    """What is said, without the file's folder, and whether it is an error."""
    found = examine(root, [APP], policy, workers, here)
    return [(str(p).removeprefix(f"{root}/"), p.severity is Severity.ERROR) for p in found]


def test_a_plan_that_holds_has_nothing_to_tell(tmp_path):
    write(tmp_path, a_plan())
    assert problems(tmp_path) == []
    assert problems(tmp_path, "horizon") == []


@pytest.mark.parametrize("policy", ["gears", "horizon"])
@pytest.mark.parametrize(
    ("changed", "here", "said"),
    [
        (
            {},
            "elsewhere",
            "was made with timings of here, and this device is elsewhere: run peekserve profile here",
        ),
        (
            {"models": "other"},
            "here",
            "was made for other revisions of tiny, small, large: run peekserve plan",
        ),
        (
            {"models": "gone"},
            "here",
            "uses x-tiny, x-small, x-large, and it has large, small, tiny: run peekserve plan",
        ),
    ],
)
def test_a_plan_that_does_not_hold_is_an_error_where_it_is_served(tmp_path, policy, changed, here, said):
    plan = a_plan()
    if changed:
        gone = changed["models"] == "gone"
        models = tuple(
            replace(m, name=f"x-{m.name}") if gone else replace(m, revision="other") for m in plan.models
        )
        stages = [tuple(f"x-{s}" if gone else s for s in gear.stages) for gear in plan.gears]
        gears = tuple(replace(g, stages=s) for g, s in zip(plan.gears, stages, strict=True))
        plan = replace(plan, models=models, gears=gears)
    write(tmp_path, plan)
    ((line, error),) = problems(tmp_path, policy, here=here)
    assert line.startswith("plan.json: ")
    assert said in line
    assert error is (policy == "gears")


def test_a_file_that_nobody_can_read_is_an_error(tmp_path):
    write(tmp_path, a_plan())
    text = json.loads((tmp_path / files.FILE).read_text())
    (tmp_path / files.FILE).write_text(json.dumps(text | {"version": 7}))
    assert problems(tmp_path) == [("plan.json: has version 7, and this peekserve reads 1: plan again", True)]
    (tmp_path / files.FILE).write_text("gears\n")
    ((line, error),) = problems(tmp_path, "horizon")
    assert line.startswith("plan.json: no gear plan: ")
    assert error


def test_a_plan_for_nobody_is_named_with_who_was_probably_meant(tmp_path):
    write(tmp_path, a_plan(), replace(a_plan(), application="apps"))
    assert problems(tmp_path) == [
        (
            "plan.json: warning: a gear plan for 'apps', and there is no such application; did you mean 'app'?",
            False,
        )
    ]
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "application.yaml").write_text("broken")
    assert problems(tmp_path) == []  # that one is told of where it is broken


@pytest.mark.parametrize("policy", PLANNED)
def test_a_policy_without_its_plan_is_an_error(tmp_path, policy):
    ((line, error),) = problems(tmp_path, policy)
    assert line.startswith(f"{file_of(policy)}: ")
    assert "no gear plan for 'app': make one with peekserve plan" in line
    assert error
    with pytest.raises(InvalidConfiguration, match="no gear plan for 'app': make one with peekserve plan"):
        gear_plans(tmp_path, [APP], policy)


def test_each_policy_reads_its_own_plans(tmp_path):
    mine = replace(a_plan(), fingerprint=fingerprint())
    write(tmp_path, mine)
    write(tmp_path, replace(mine, slo="accuracy=0.9"), name="plan-model-switching.json")
    slos = {policy: gear_plans(tmp_path, [APP], policy)["app"].slo for policy in PLANNED}
    assert slos == {"gears": "p95=200ms", "static": "p95=200ms", "model-switching": "accuracy=0.9"}


def test_a_plan_of_another_device_is_not_served(tmp_path):
    write(tmp_path, a_plan())
    with pytest.raises(ProfileMissing, match="made with timings of here"):
        gear_plans(tmp_path, [APP])


# ---- what can be carried out and will not hold ----


@pytest.mark.parametrize(("workers", "told"), [(("w0", "w1"), 0), (("w0",), 1), (("cpu-0", "cpu-1"), 1)])
def test_a_plan_for_other_workers_is_named(workers, told):
    sentences = list(doubts({"app": a_plan()}, workers))
    assert len(sentences) == told
    assert all("is for w0, w1 and the workers here are " + ", ".join(workers) in one for one in sentences)


def test_plans_that_share_devices_are_named_together_with_what_would_be_right(tmp_path):
    one, two = a_plan(), replace(a_plan(), application="other", share=0.5)
    (sentence,) = doubts({"app": one, "other": two}, WORKERS)
    assert sentence.startswith(
        "the gear plans of app and other ask for 150% of the time of w0, w1 (100% for app, 50% for other): "
    )
    assert "plan each with a --share, 100% together" in sentence
    assert list(doubts({"app": replace(one, share=0.5), "other": two}, WORKERS)) == []
    write(tmp_path, one, two)
    found = list(examine(tmp_path, [APP, replace(APP, name="other")], "gears", WORKERS, "here"))
    assert [(p.what, p.severity) for p in found] == [(sentence, Severity.WARNING)]


def test_a_repository_without_plans_is_not_read_twice(tmp_path):
    assert check_plans(tmp_path / "absent", {}) == []
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "application.yaml").write_text("broken")
    assert check_plans(tmp_path, {}) == []
