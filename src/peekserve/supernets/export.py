"""A supernet as ONNX: a graph for each subnet that is offered, and one file of weights for all of them.

Every graph is traced from the subnet's static copy; then its weights are replaced by references into `weights.bin`.
A weight is known by its content, so that subnets which differ in their depth alone share every one of them. A narrower
subnet brings contiguous copies of the convolutions that it slices, since ONNX Runtime cannot read a slice in place; of
matrix products, and with `take_apart` of convolutions, it reads the beginnings of what is there (prefixes.py).

    subnets/d2-2-1.w50.onnx ...    graphs, some KiB each
    subnets/weights.bin            laid out as a safetensors file, which the graphs refer to by offset

Batch normalisation stays a product and a sum with vectors of each subnet (SubnetNorm): written into the convolution
before it, as exporters like to, it would give each subnet weights of its own.
"""

import hashlib
import io
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from peekserve.supernets import packed, storage
from peekserve.supernets.extract import extract
from peekserve.supernets.operators import Supernet
from peekserve.supernets.packed import Array
from peekserve.supernets.prefixes import share_prefixes
from peekserve.supernets.space import Subnet

INPUT, OUTPUT = "x", "logits"
OPSET = 17

# Smaller ones stay in the graph: a reference is no shorter, and shapes have to be there when a graph is read.
_SMALLEST = 1024


def export(
    supernet: Supernet,
    subnets: Sequence[Subnet],
    folder: Path,
    take_apart: int | None = None,
    seen: Callable[[Subnet], None] = lambda subnet: None,
) -> Path:
    """Write the graphs of `subnets` and their weights into `folder`/subnets, in place of what was there.

    Input `x` float32 [n, *row], output `logits` float32 [n, C]. The same supernet and subnets give the same bytes.
    `take_apart`: of convolutions with so many bytes of weights or more (prefixes.WORTH) narrow ones read the
    beginnings of the full ones and bring no copies: less memory, some more time.

    What was there stays until all is written, and whoever has mapped the old weights keeps them. Save the supernet
    first: the file tells which weights it was exported from, and supernet.json gets the sha256 of what is written.
    `seen` is told of every subnet whose graph is made. Raises InvalidModel where statistics are missing, and
    InvalidConfiguration on a subnet outside the space.
    """
    models = {}
    for subnet in subnets:
        models[subnet.name] = _traced(extract(supernet, subnet), supernet.example)
        seen(subnet)
    shared: dict[str, Array] = {}
    for model in models.values():
        _take_weights(model, shared)
    stored, prefixes = share_prefixes(models.values(), shared, take_apart)
    whole = folder / storage.WEIGHTS
    made_of = hashlib.sha256(whole.read_bytes()).hexdigest() if whole.is_file() else ""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".subnets-", dir=folder))
    try:
        places = packed.write(fresh / packed.WEIGHTS, stored, made_of, prefixes).places
        for name, model in models.items():
            for tensor in model.graph.initializer:
                if tensor.name in places:
                    _refer(tensor, places[tensor.name])
            (fresh / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        fresh.chmod(0o755)
        target = folder / packed.FOLDER
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)
        _say_what_is_there(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return target


def _say_what_is_there(folder: Path) -> None:
    if not (folder / storage.DESCRIPTION).is_file():
        return
    description = storage.read_description(folder)
    files = {
        name: said for name, said in description.files.items() if not name.startswith(f"{packed.FOLDER}/")
    }
    for file in sorted((folder / packed.FOLDER).iterdir()):
        files[f"{packed.FOLDER}/{file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
    storage.write_description(folder, replace(description, files=files))


def export_alone(network: nn.Module, example: torch.Tensor, path: Path) -> Path:
    """A plain network as a file of its own, weights inside and normalisation folded into them, the way of every
    exporter: what a separately trained model is served as. Input and output as of `export`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_trace(network, example, fold=True))
    return path


def _trace(network: nn.Module, example: torch.Tensor, fold: bool) -> bytes:
    mode = torch.onnx.TrainingMode
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter that follows it needs a package more, and writes copies of weights where this one refers.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval().cpu(),
            (example.cpu().repeat(2, *(1,) * (example.dim() - 1)),),
            buffer,
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
            opset_version=OPSET,
            do_constant_folding=fold,
            # PRESERVE is evaluation, too, by the modules' own word; the exporter's EVAL folds normalisation.
            training=mode.EVAL if fold else mode.PRESERVE,
        )
    return buffer.getvalue()


def _traced(network: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    """The network as torch traces it, nothing folded: weights are still as the network has them."""
    model = onnx.load_from_string(_trace(network, example, fold=False))
    _fold_views(model.graph)
    _spell_out_norms(onnx.shape_inference.infer_shapes(model).graph, model.graph)
    return model


def _fold_views(graph: onnx.GraphProto) -> None:
    """Weights seen through Identity and Transpose become weights themselves, and unused ones go."""
    values = {t.name: t for t in graph.initializer}
    kept = []
    for node in graph.node:
        source = values.get(node.input[0]) if node.op_type in ("Identity", "Transpose") else None
        if source is None:
            kept.append(node)
            continue
        array = numpy_helper.to_array(source)
        if node.op_type == "Transpose":
            axes = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
            array = np.ascontiguousarray(np.transpose(array, axes))
        values[node.output[0]] = numpy_helper.from_array(array, node.output[0])
    _replace(graph, kept, values.values())


def _spell_out_norms(inferred: onnx.GraphProto, graph: onnx.GraphProto) -> None:
    """BatchNormalization in evaluation, as x * scale + shift. `inferred`: the same graph with its shapes."""
    ranks = {i.name: len(i.type.tensor_type.shape.dim) for i in (*inferred.value_info, *inferred.input)}
    values = {t.name: t for t in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        weight, bias, mean, variance = (numpy_helper.to_array(values[name]) for name in node.input[1:5])
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        scale = weight / np.sqrt(variance + np.float32(epsilon))
        shape = (-1, *(1,) * (ranks[node.input[0]] - 2))
        at = node.output[0]
        for part, vector in (("scale", scale), ("shift", bias - mean * scale)):
            array = vector.astype(np.float32).reshape(shape)
            values[f"{at}/{part}"] = numpy_helper.from_array(array, f"{at}/{part}")
        nodes.append(helper.make_node("Mul", [node.input[0], f"{at}/scale"], [f"{at}/scaled"]))
        nodes.append(helper.make_node("Add", [f"{at}/scaled", f"{at}/shift"], [at]))
    _replace(graph, nodes, values.values())


def _take_weights(model: onnx.ModelProto, shared: dict[str, Array]) -> None:
    """Give the graph's larger weights names by their content, and put them into `shared`."""
    names: dict[str, str] = {}
    kept: dict[str, TensorProto] = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.nbytes < _SMALLEST or not packed.packable(array):
            kept[tensor.name] = tensor
            continue
        digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()
        names[tensor.name] = name = f"w{digest[:24]}"
        shared.setdefault(name, array)
        kept[name] = TensorProto(name=name, data_type=tensor.data_type, dims=tensor.dims)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept.values())


def _refer(tensor: TensorProto, place: packed.Place) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    where = {"location": packed.WEIGHTS, "offset": place.start, "length": place.end - place.start}
    for key, value in where.items():
        tensor.external_data.add(key=key, value=str(value))


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], weights: Iterable[TensorProto]) -> None:
    used = {name for node in nodes for name in node.input}
    nodes, weights = list(nodes), [tensor for tensor in weights if tensor.name in used]
    del graph.node[:]
    del graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
