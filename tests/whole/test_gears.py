"""A gear plan behind a real server: what the first model is not sure of the second one answers."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as over_http
from onnx import TensorProto, helper, numpy_helper, save

from peekserve.cli.launch import ServerProcess
from peekserve.domain.gears import Expected, Gear, GearPlan, Holding, Planned, Share
from peekserve.planner import plan as files
from peekserve.profiling.device import fingerprint
from peekserve.registry.repository import read_repository

pytestmark = pytest.mark.whole

SIGNS = """\
application: signs
classes: [plus, minus]
inputs:
  values: {datatype: FP32, shape: [2]}
deadline: 10s
max_deadline: 60s
on_miss: late
validation: validation.npz
variants:
  quick: {model: quick.onnx, inputs: {values: x}, output: {name: y, form: logits}}
  sure: {model: sure.onnx, inputs: {values: x}, output: {name: y, form: logits}}
"""
# The quick model looks at the first value, the sure one at the second and never doubts.
WEIGHTS = {"quick": [[1.0, -1.0], [0.0, 0.0]], "sure": [[0.0, 0.0], [9.0, -9.0]]}


def save_model(path: Path, weights: list[list[float]]) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "signs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array(weights, np.float32), "w")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def peekserve(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "peekserve.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A repository of one application, profiled."""
    root = tmp_path_factory.mktemp("gears") / "repository"
    (root / "signs").mkdir(parents=True)
    (root / "signs" / "application.yaml").write_text(SIGNS)
    for name, weights in WEIGHTS.items():
        save_model(root / "signs" / f"{name}.onnx", weights)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    right = (1 - 2 * labels[:, None]) * np.ones(2)
    values = (right + rng.normal(0.0, [1.5, 0.5], (200, 2))).astype(np.float32)
    np.savez(root / "signs" / "validation.npz", values=values, labels=labels)
    done = peekserve("profile", root, "--quick")
    assert done.returncode == 0, done.stderr
    return root


def a_plan(root: Path) -> GearPlan:
    """Below a margin of 0.5 the quick model is not asked to answer."""
    variants = read_repository(root).applications[0].variants
    models = tuple(Planned(v.name, v.revision, v.weights) for v in variants)
    here = (Share("cpu-0", 1.0),)
    expected = Expected((1.0, 0.5), 0.9, 0.02, 0.86, 0.01, 0.1)
    gear = Gear(0.0, 1000.0, ("quick", "sure"), (0.5,), (1, 1), (here, here), expected)
    held = Holding("cpu-0", "cpu", 1 << 30, tuple(model.weights for model in models))
    return GearPlan("signs", "margin", "p95=1000ms", fingerprint(), models, (held,), (gear,))


def ask(server: ServerProcess, first: float, second: float) -> tuple[str, int]:
    """Who answered, and with which class."""
    tensor = over_http.InferInput("values", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[first, second]], np.float32))
    result = over_http.InferenceServerClient(server.http).infer("signs", [tensor])
    response = result.get_response()
    return str(response["parameters"]["variant"]), int(result.as_numpy("label")[0])


def test_a_certain_row_is_answered_by_the_first_model_and_an_uncertain_one_by_the_second(root, tmp_path):
    files.write(root / files.FILE, {"signs": a_plan(root)})
    journal = tmp_path / "gears.journal"
    settings = {"policy.name": "gears", "log": "error", "journal": str(journal)}
    with ServerProcess(root, settings, tmp_path / "log") as server:
        assert server.told["policy"] == "gears"
        # A margin of tanh(first), about.
        assert ask(server, 3.0, -1.0) == ("quick", 0)
        assert ask(server, 0.1, -1.0) == ("sure", 1)
        assert ask(server, -0.1, 1.0) == ("sure", 0)
        assert ask(server, -3.0, 1.0) == ("quick", 1)
    done = peekserve("replay", journal, "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["same"] is True


def test_a_plan_is_made_and_simulated_beside_other_policies(root):
    (root / files.FILE).unlink(missing_ok=True)
    done = peekserve("plan", root, "signs", "--slo", "p95=1s", "--qps-max", "20", "--json")
    assert done.returncode == 0, done.stderr
    words = ("--policy", "gears,maxacc-edf", "--rate", "20", "--seconds", "5", "--json")
    simulated = peekserve("simulate", root, *words)
    assert simulated.returncode == 0, simulated.stderr
    assert set(json.loads(simulated.stdout)["policies"]) == {"gears", "maxacc-edf"}


@pytest.mark.parametrize("command", ["serve", "simulate"])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (None, "no gear plan for 'signs': make one with peekserve plan"),
        ({"fingerprint": "elsewhere"}, "made with timings of elsewhere, and this device is"),
        ({"models": "retrained"}, "made for other revisions of quick, sure: run peekserve plan"),
    ],
)
def test_a_plan_that_does_not_hold_is_said_before_anything_runs(root, command, change, why):
    path = root / files.FILE
    path.unlink(missing_ok=True)
    if change is not None:
        made = a_plan(root)
        if "models" in change:
            change = {"models": tuple(replace(model, revision="other") for model in made.models)}
        files.write(path, {"signs": replace(made, **change)})
    words = ("--set", "policy.name=gears") if command == "serve" else ("--policy", "gears", "--rate", "5")
    done = peekserve(command, root, *words)
    path.unlink(missing_ok=True)
    assert done.returncode != 0
    assert why in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_check_looks_at_plans_and_what_serve_would_refuse_is_an_error(root):
    path, settings = root / files.FILE, root / "peekserve.yaml"
    files.write(path, {"signs": replace(a_plan(root), fingerprint="elsewhere")})
    beside = peekserve("check", root, "--json")
    settings.write_text("policy: gears\n")
    served = peekserve("check", root, "--json")
    files.write(path, {"signs": a_plan(root)})
    good = peekserve("check", root, "--json")
    settings.unlink()
    path.unlink()
    assert [one.returncode for one in (beside, served, good)] == [0, 3, 0], served.stderr
    said = [
        [p["what"] for p in json.loads(one.stdout)["problems"] if "plan" in p["file"]]
        for one in (beside, served, good)
    ]
    assert said[0] == said[1]
    assert "made with timings of elsewhere" in said[0][0]
    assert said[2] == []


def test_what_gears_are_compared_with_is_simulated_by_name(root):
    gear = a_plan(root)
    (only,) = gear.gears
    single = replace(only, stages=("sure",), thresholds=(), queues=(1,), shares=only.shares[:1])
    files.write(root / files.FILE, {"signs": gear})
    files.write(root / "plan-model-switching.json", {"signs": replace(gear, gears=(single,))})
    names = ("gears", "static", "model-switching", "dynba")
    done = peekserve(
        "simulate", root, "--policy", ",".join(names), "--rate", "20", "--seconds", "3", "--json"
    )
    (root / files.FILE).unlink()
    (root / "plan-model-switching.json").unlink()
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["policies"]) == set(names)
