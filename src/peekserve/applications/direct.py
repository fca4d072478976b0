"""A shipped variant run by ONNX Runtime in this process: no server, no scheduler, no queue.

The cards and the tests of these applications are made with it, and so is the reference that served answers are
compared with. It reads only as much of application.yaml as the three declarations use.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import yaml
from numpy.typing import NDArray

from peekserve.applications.splits import Split

Scores = NDArray[np.float64]


def declaration(path: Path) -> dict[str, Any]:
    """application.yaml as plain values."""
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def session(model: Path) -> ort.InferenceSession:
    """One thread that does not spin: what a worker has on a box of two cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def bucket_of(length: int, buckets: list[int]) -> int:
    """The smallest bucket that holds a row of this length."""
    return min(b for b in buckets if b >= length)


def tensor(values: NDArray[np.float32], spec: Mapping[str, Any]) -> NDArray[np.float32]:
    """Rows [n, ...] as the model wants them: reshape, then transpose (axes of a row), then scale and offset."""
    if "reshape" in spec:
        values = values.reshape(len(values), *spec["reshape"])
    if "transpose" in spec:
        values = values.transpose(0, *(axis + 1 for axis in spec["transpose"]))
    shifted = values * np.float32(spec.get("scale", 1.0)) + np.float32(spec.get("offset", 0.0))
    return np.ascontiguousarray(shifted, dtype=np.float32)


def probabilities(raw: NDArray[Any], spec: Mapping[str, Any], classes: list[str]) -> Scores:
    """A model's output as [n, C] in the application's order of classes; a bare label counts as certain."""
    if spec["form"] == "label":
        columns = np.array([classes.index(spec["labels"][int(label)]) for label in raw.reshape(-1)])
        return np.asarray(np.eye(len(classes))[columns])
    values = raw.astype(np.float64)
    if spec["form"] == "logits":
        values = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(values / values.sum(1, keepdims=True))


def feeds(
    said: Mapping[str, Any], variant: str, split: Split, batch: int
) -> list[tuple[Any, dict[str, Any]]]:
    """The split as batches of at most `batch` rows: (row indices, tensors by the model's own names).

    Rows of a ragged input are put with others of their own bucket, so that no row's padding depends on its company.
    """
    wanted = said["variants"][variant]["inputs"]
    ragged = [name for name in wanted if name in split.lengths]
    bucket = np.zeros(len(split), dtype=np.int64)
    for name in ragged:
        sizes = said["inputs"][name]["buckets"]
        bucket = np.array([bucket_of(length, sizes) for length in split.lengths[name]])
    made = []
    for size in np.unique(bucket):
        members = np.flatnonzero(bucket == size)
        for rows in np.array_split(members, -(-len(members) // batch)):
            values = {
                n: split.inputs[n][rows][:, :size] if n in ragged else split.inputs[n][rows] for n in wanted
            }
            made.append((rows, {spec["name"]: tensor(values[n], spec) for n, spec in wanted.items()}))
    return made


def answers(said: Mapping[str, Any], root: Path, variant: str, split: Split, batch: int = 32) -> Scores:
    """What the variant says of every row: probabilities [n, C]. `root` is the folder that holds application.yaml."""
    spec, classes = said["variants"][variant], class_names(said)
    model = session(root / spec["model"])
    out = np.empty((len(split), len(classes)))
    for rows, fed in feeds(said, variant, split, batch):
        out[rows] = probabilities(model.run([spec["output"]["name"]], fed)[0], spec["output"], classes)
    return out


def class_names(said: Mapping[str, Any]) -> list[str]:
    return [c["name"] if isinstance(c, dict) else str(c) for c in said["classes"]]
