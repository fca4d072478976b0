"""One list of checks for the whole family."""

import pytest

from peekserve.domain.tensors import OutputForm, OutputMap
from peekserve.runtimes.onnx import OnnxRuntime
from peekserve.runtimes.paced import PacedRuntime
from peekserve.runtimes.scripted import DrawnAnswers, ScriptedRuntime
from peekserve.supernets import packed
from tests.runtimes.checks import CHECKS, Subject
from tests.runtimes.nets import save_supernet
from tests.runtimes.tiny import a_variant, right, save_linear, takes


@pytest.fixture(params=["onnx", "paced", "scripted"])
def subject(request, tmp_path):
    model = save_linear(tmp_path / "linear.onnx")
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"\x08\x01 this is not a model")
    good = a_variant(model=model, timing=takes(1e-4), quality=right(0.9, 0.8, 0.7))
    broken = a_variant("broken", garbage, timing=takes(1e-4))
    make = {
        "onnx": OnnxRuntime,
        "paced": lambda: PacedRuntime(OnnxRuntime(), "cpu", wait_until=lambda instant: None),
        "scripted": lambda: ScriptedRuntime(
            DrawnAnswers(7), wait_until=lambda instant: None, broken=frozenset({"broken"})
        ),
    }[request.param]
    return Subject(make, good, broken)


@pytest.fixture
def subnet(tmp_path):
    """As `subject`, of a variant that is a subnet and of one whose weights are cut off."""
    folder, broken = save_supernet(tmp_path / "wide"), save_supernet(tmp_path / "broken")
    weights = packed.weights_of(broken)
    weights.write_bytes(weights.read_bytes()[:-20])
    output = OutputMap("logits", OutputForm.LOGITS)
    good = a_variant("wide.d2.w50", folder, weights="wide", subnet="d2.w50", output=output)
    bad = a_variant("broken.d2.w50", broken, weights="broken", subnet="d2.w50", output=output)
    return Subject(OnnxRuntime, good, bad)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_runtime_with_a_subnet(check, subnet):
    check(subnet)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_runtime(check, subject):
    check(subject)
