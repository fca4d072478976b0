"""Tiny models as ONNX files, and the application that they belong to."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from peekserve.domain.application import Application, Variant
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.domain.tensors import InputMap, OutputForm, OutputMap, TensorSpec

CLASSES = 3
COLUMNS = 4
LOGITS = OutputMap("y", OutputForm.LOGITS)


def save_linear(path: Path, width: int = COLUMNS, hidden: int = 0) -> Path:
    """x [n, width] -> logits y [n, CLASSES]; through a wide hidden layer, to be large on purpose."""
    rng = np.random.default_rng(5)
    sizes = [width, hidden, CLASSES] if hidden else [width, CLASSES]
    nodes, weights, last = [], [], "x"
    for i, (rows, columns) in enumerate(pairwise(sizes)):
        weights.append(numpy_helper.from_array(rng.standard_normal((rows, columns), np.float32), f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"h{i}"]))
        last = f"h{i}"
    nodes[-1].output[0] = "y"
    return _save(
        path,
        nodes,
        [("x", TensorProto.FLOAT, ["n", width])],
        [("y", TensorProto.FLOAT, ["n", CLASSES])],
        weights,
    )


def save_slow(path: Path, steps: int = 2_000_000_000) -> Path:
    """As save_linear, after a loop that takes minutes: something to be killed in the middle of."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes_on"]), helper.make_node("Add", ["v", "v"], ["more"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, None),
        ],
    )
    # Blank batches (the warm-up's) sum to 0 and do not loop; a batch of ones does.
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["loops"], to=TensorProto.INT64),
        helper.make_node("Mul", ["loops", "steps"], ["trips"]),
        helper.make_node("Loop", ["trips", "", "x"], ["looped"], body=body),
        helper.make_node("MatMul", ["looped", "w"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.array(steps, np.int64), "steps"),
        numpy_helper.from_array(np.ones((COLUMNS, CLASSES), np.float32), "w"),
    ]
    return _save(
        path,
        nodes,
        [("x", TensorProto.FLOAT, ["n", COLUMNS])],
        [("y", TensorProto.FLOAT, ["n", CLASSES])],
        weights,
    )


def _save(path: Path, nodes, inputs, outputs, weights) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        weights,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def a_variant(name: str = "linear", model: Path | str = "", **fields: object) -> Variant:
    given: dict[str, object] = {"weights": name, "inputs": (InputMap("signal", "x"),), "output": LOGITS}
    return Variant(name=name, revision="r1", model=str(model), **(given | fields))


def an_application(*variants: Variant) -> Application:
    return Application(
        name="tiny",
        classes=("a", "b", "c"),
        variants=variants,
        prior=(0.5,) * CLASSES,
        inputs=(TensorSpec("signal", "FP32", (COLUMNS,)),),
    )


def takes(seconds: float, load_s: float = 0.0) -> dict[str, Timing]:
    """A timing of `seconds` for one row, half as much for each further one."""
    return {"cpu": Timing((LatencyCurve((1, 2), (seconds, 1.5 * seconds)),), load_s=load_s, bytes=1000)}


def right(*recall: float) -> Quality:
    return Quality(recall, (1.0 / len(recall),) * len(recall))


def some_rows(count: int, seed: int = 1, width: int = COLUMNS) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
