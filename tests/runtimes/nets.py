"""Tiny supernets on disk, made without torch: what a training would leave behind."""

from hashlib import sha256
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, save

from peekserve.supernets import packed
from peekserve.supernets.space import Space, Subnet
from peekserve.supernets.storage import WEIGHTS, Description, Offered, write_description
from tests.runtimes.tiny import CLASSES, COLUMNS

SPACE = Space("conv1d", (2,), (1,), (0.5, 1.0))
SUBNETS = tuple(subnet.name for subnet in SPACE.all())  # d1.w50, d2.w50, d1.w100, d2.w100


def save_supernet(
    folder: Path, exported: tuple[str, ...] = SUBNETS, hidden: int = 8, seed: int = 5, **fields: object
) -> Path:
    """x [n, COLUMNS] -> hidden features, once or twice -> logits [n, CLASSES]; half of the features at width 50.

    `fields` of its description, in place of what would be right.
    """
    rng = np.random.default_rng(seed)
    whole = {
        "w1": rng.standard_normal((COLUMNS, hidden)),
        "w2": rng.standard_normal((hidden, hidden)),
        "head": rng.standard_normal((hidden, CLASSES)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    content = b"".join(array.tobytes() for array in whole.values())
    (folder / WEIGHTS).write_bytes(content)
    digest = sha256(content).hexdigest()
    offered = tuple(Offered(Subnet.parse(name), 9, 10, 100, 100) for name in SUBNETS)
    plain: dict[str, object] = {"calibrated": SUBNETS, "offered": offered, "files": {WEIGHTS: digest}}
    plain |= {"classes": ("a", "b", "c"), "row": (COLUMNS,), "sizes": {"classes": CLASSES}, "space": SPACE}
    write_description(folder, Description(**(plain | fields)))
    _export(folder, whole, exported, digest)
    return folder


def _export(folder: Path, whole: dict[str, np.ndarray], exported: tuple[str, ...], made_of: str) -> None:
    (folder / packed.FOLDER).mkdir(exist_ok=True)
    shared: dict[str, np.ndarray] = {}
    chains: dict[str, list[str]] = {}
    for name in exported:
        subnet = Subnet.parse(name)
        chains[name] = []
        for layer in ("w1", *["w2"] * (subnet.depths[0] - 1), "head"):
            rows, columns = whole[layer].shape
            kept = int(subnet.widths[0] * whole["w2"].shape[0])
            part = whole[layer][: min(rows, kept), : min(columns, kept)]
            known = f"{layer}.{part.shape[0]}.{part.shape[1]}"
            shared[known] = np.ascontiguousarray(part, np.float32)
            chains[name].append(known)
    places = packed.write(packed.weights_of(folder), shared, made_of).places
    for name, chain in chains.items():
        nodes, last = [], "x"
        for i, weight in enumerate(chain):
            nodes.append(helper.make_node("MatMul", [last, weight], [f"h{i}"]))
            last = f"h{i}"
        nodes[-1].output[0] = "logits"
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", COLUMNS])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
            [_outside(weight, places[weight]) for weight in dict.fromkeys(chain)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        save(model, folder / packed.FOLDER / f"{name}.onnx")


def _outside(name: str, place: packed.Place) -> TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=place.shape, data_location=TensorProto.EXTERNAL
    )
    for key, value in (
        ("location", packed.WEIGHTS),
        ("offset", place.start),
        ("length", place.end - place.start),
    ):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
