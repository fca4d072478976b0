"""A variant of tens of MiB for the digits: it says nothing sensible, and takes memory."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from peekserve.errors import DataUnavailable

# 39 MiB of weights, which is most of what its process then holds.
BIG, BIG_WIDTH = "big", 3200
_BIG_YAML = f"""  {BIG}:
    model: {BIG}/model.onnx
    inputs:
      image: {{name: x, reshape: [64], scale: 0.0625}}
    output: {{name: y, form: logits}}
    max_batch: 32
"""


def add_large(folder: Path) -> None:
    """Write it into an application's folder, and declare it. Raises DataUnavailable without the package onnx."""
    try:
        from onnx import TensorProto, helper, numpy_helper, save
    except ImportError as error:
        raise DataUnavailable("a large model is written with the package onnx: pip install onnx") from error
    rng = np.random.default_rng(0)
    widths = (64, BIG_WIDTH, BIG_WIDTH, 10)
    weights = [
        numpy_helper.from_array(rng.standard_normal(pair, np.float32) / np.float32(pair[0] ** 0.5), f"w{i}")
        for i, pair in enumerate(pairwise(widths))
    ]
    names = ["x", "a", "b", "y"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(3)],
        BIG,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", widths[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", widths[-1]])],
        weights,
    )
    (folder / BIG).mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(folder / BIG / "model.onnx"))
    declared = folder / "application.yaml"
    text = declared.read_text()
    declared.write_text(text.replace("\nvalidation:", f"\n{_BIG_YAML}validation:", 1))
