import numpy as np
import pytest

from peekserve.domain.application import FeatureStep
from peekserve.errors import InvalidConfiguration, InvalidModel
from peekserve.peeking.features import Features

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def folder(tmp_path):
    """Holds embed.onnx: one input `pixels` [n, 4], whose output is twice its first two columns."""
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.array([[2, 0], [0, 2], [0, 0], [0, 0]], np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["pixels", "w"], ["embedded"])],
        "embed",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("embedded", TensorProto.FLOAT, ["n", 2])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "embed.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    return tmp_path


def test_a_network_embeds_the_inputs(folder):
    x = np.arange(12, dtype=np.float64).reshape(3, 4)
    features = Features.fit((FeatureStep("onnx", model="embed.onnx"),), {"image": x}, models=folder)
    assert np.array_equal(features.transform({"image": x}), 2 * x[:, :2])


def test_a_file_that_is_no_model_is_named(folder):
    with pytest.raises(InvalidModel, match=r"broken\.onnx"):
        Features.fit((FeatureStep("onnx", model="broken.onnx"),), {"x": np.ones((2, 4))}, models=folder)


def test_several_inputs_must_be_named_as_the_model_names_them(folder):
    inputs = {"a": np.ones((2, 4)), "b": np.ones((2, 4))}
    with pytest.raises(InvalidConfiguration, match="needs pixels; the peek has a, b"):
        Features.fit((FeatureStep("onnx", model="embed.onnx"),), inputs, models=folder)
