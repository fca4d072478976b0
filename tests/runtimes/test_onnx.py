import numpy as np
import pytest

from peekserve.domain.tensors import InputMap, OutputForm, OutputMap
from peekserve.errors import BackendError, InvalidModel
from peekserve.runtimes.memory import held_bytes
from peekserve.runtimes.onnx import ModelTensor, OnnxRuntime, describe
from tests.runtimes.tiny import CLASSES, a_variant, save_linear, some_rows


@pytest.fixture
def linear(tmp_path):
    return save_linear(tmp_path / "linear.onnx")


def test_a_file_says_what_it_takes_and_gives(linear):
    described = describe(linear)
    assert described.inputs == (ModelTensor("x", "FP32", (-1, 4)),)
    assert described.outputs == (ModelTensor("y", "FP32", (-1, 3)),)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 100])
def test_what_is_no_model_is_refused_by_name(tmp_path, content):
    (tmp_path / "odd.onnx").write_bytes(content)
    with pytest.raises(InvalidModel, match=r"odd\.onnx: not a usable ONNX file"):
        describe(tmp_path / "odd.onnx")


def test_a_truncated_model_is_refused(tmp_path, linear):
    (tmp_path / "half.onnx").write_bytes(linear.read_bytes()[:-20])
    with pytest.raises(InvalidModel, match=r"half\.onnx"):
        OnnxRuntime().load(a_variant(model=tmp_path / "half.onnx"), CLASSES)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(InvalidModel, match=r"/nowhere/m\.onnx: no such file"):
        describe("/nowhere/m.onnx")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"inputs": (InputMap("signal", "input"),)}, r"feeds \['input'\]; the model takes \['x'\]"),
        (
            {"output": OutputMap("logits", OutputForm.LOGITS)},
            r"reads output 'logits'; the model gives \['y'\]",
        ),
        ({"output": None}, "does not say"),
        ({"inputs": ()}, "does not say"),
    ],
)
def test_names_that_the_model_does_not_know_are_refused_at_the_load(linear, fields, word):
    with pytest.raises(InvalidModel, match=word):
        OnnxRuntime().load(a_variant(model=linear, **fields), CLASSES)


def test_whole_numbers_are_cast_to_what_the_model_takes(linear):
    runtime, variant = OnnxRuntime(), a_variant(model=linear)
    runtime.load(variant, CLASSES)
    assert runtime.run(variant, CLASSES, {"signal": np.ones((2, 4), np.int16)}).shape == (2, CLASSES)


def test_a_batch_of_the_wrong_shape_fails_with_the_variants_name(linear):
    runtime, variant = OnnxRuntime(), a_variant(model=linear)
    runtime.load(variant, CLASSES)
    with pytest.raises(BackendError, match="'linear'"):
        runtime.run(variant, CLASSES, {"signal": some_rows(2, width=5)})


def test_a_load_reports_at_least_the_size_of_the_file(linear):
    assert OnnxRuntime().load(a_variant(model=linear), CLASSES) >= linear.stat().st_size


def test_two_hundred_loads_and_unloads_leave_nothing_behind(tmp_path):
    variant = a_variant(model=save_linear(tmp_path / "wide.onnx", hidden=40_000))  # 1.1 MB
    runtime, rows = OnnxRuntime(), {"signal": some_rows(8)}
    after = []
    for _ in range(200):
        runtime.load(variant, CLASSES)
        runtime.run(variant, CLASSES, rows)
        runtime.unload(variant.weights)
        after.append(held_bytes())
    assert after[-1] - after[20] < 4e6
