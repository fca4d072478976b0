"""Small repositories on disk, for the stories of this room."""

from pathlib import Path

import numpy as np

from peekserve.registry.tensors import ModelFacts

DIGITS = """\
application: digits
classes: ["0", "1"]
inputs:
  image: {datatype: FP32, shape: [2, 2]}
deadline: 150ms
max_deadline: 10s
penalty: {kind: sigmoid, width: 15ms}
queries: {urgent: {deadline: 60ms, penalty: step}}
prior: {weak: {"0": 0.9, "1": 0.1}}
peek:
  features: [standardise, {kind: pca, components: 2}]
  inputs: [image]
  reference: reference.npz
  profile: {recalls: {"0": 0.8, "1": 0.6}, latency: 300us}
variants:
  linear:
    model: linear/model.onnx
    inputs:
      image: {name: x, reshape: [4], scale: 0.0625}
    output: {name: label, form: label, labels: {7: "0", 8: "1"}}
    max_batch: 16
    profile: {recalls: {"0": 0.7, "1": 0.9}, latency: {8: 9ms, 1: 3ms}, load: 40ms, memory: 12MiB}
  "2":
    model: cnn/2/model.onnx
    inputs: {image: pixels}
    output: {name: out, form: logits, order: ["1", "0"]}
validation: validation.npz
"""


def labelled(path: Path, **arrays) -> None:
    plain = {"image": np.zeros((6, 2, 2), np.float32), "labels": np.array([0, 1] * 3)}
    np.savez(path, **{name: values for name, values in {**plain, **arrays}.items() if values is not None})


def repository(root: Path, text: str = DIGITS) -> Path:
    """A repository of one application, `digits`, whose models hold no model: nothing here looks inside."""
    folder = root / "digits"
    (folder / "linear").mkdir(parents=True)
    (folder / "cnn" / "2").mkdir(parents=True)
    (folder / "linear" / "model.onnx").write_bytes(b"linear")
    (folder / "cnn" / "2" / "model.onnx").write_bytes(b"cnn")
    labelled(folder / "validation.npz")
    labelled(folder / "reference.npz")
    (folder / "application.yaml").write_text(text)
    return root


def one_tensor(path: str) -> ModelFacts:
    """A model with one input and the outputs of a tree."""
    return ModelFacts((("x", "FP32"),), (("label", "INT64"), ("probabilities", "FP32")))


def untouched(path: str) -> ModelFacts:
    raise AssertionError(f"{path} was looked into, though its tensors are named")
