"""Models as ONNX files, through ONNX Runtime on the CPU."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from peekserve.domain.application import Variant
from peekserve.domain.tensors import DATATYPES
from peekserve.errors import BackendError, InvalidModel
from peekserve.runtimes import mapping
from peekserve.runtimes.base import Inputs, Scores
from peekserve.runtimes.memory import give_back, held_bytes
from peekserve.runtimes.shared import SharedWeights
from peekserve.supernets import packed

VERSION = f"onnxruntime {ort.__version__}"

# ONNX Runtime's names of element types, where they differ from those of the Open Inference Protocol.
_OF_ORT = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float": "FP32", "double": "FP64", "string": "BYTES",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelTensor:
    """An input or output as the file declares it. `shape` includes the batch axis; -1 is any length. `datatype` is
    the Open Inference Protocol's word, or ONNX Runtime's own for what has none (sequences, maps)."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What an ONNX file takes and gives."""

    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]


@dataclass(slots=True)
class _Resident:
    """`sessions` by subnet; a model of its own is under the empty name. `shared`: what they all read."""

    sessions: dict[str, ort.InferenceSession]
    dtypes: dict[str, np.dtype[np.generic]]
    shared: SharedWeights | None = None


class OnnxRuntime:
    """One session for each name of weights, in one thread that sleeps when it waits; of a supernet one for each of
    its subnets, over one copy of the weights (runtimes/shared.py). To switch subnets is to look into a dict.

    `load` reports the growth of this process or the size of the file, whichever is larger; what the first batches
    take besides (the arena) is seen by whoever warms the model up. Of a supernet it is the growth and the size of the
    weights, which are mapped. `unload` drops the sessions, gives up what their arena has free, and gives free pages
    back to the system.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._resident: dict[str, _Resident] = {}

    def load(self, variant: Variant, classes: int) -> int:
        if variant.output is None or not variant.inputs:
            raise InvalidModel(f"variant {variant.name!r} does not say which inputs and output its model has")
        before = held_bytes()
        resident, mapped = self._supernet(variant) if variant.subnet else self._model(variant)
        self._resident[variant.weights] = resident
        growth = held_bytes() - before
        return growth + mapped if variant.subnet else max(growth, mapped)

    def _model(self, variant: Variant) -> tuple[_Resident, int]:
        session = _session(variant.model, self._threads)
        dtypes = _check_names(variant, session)
        return _Resident({"": session}, dtypes), os.path.getsize(variant.model)

    def _supernet(self, variant: Variant) -> tuple[_Resident, int]:
        """Every subnet that is served, whoever is the first to be asked for."""
        graphs = packed.graphs(Path(variant.model))
        served = dict.fromkeys((variant.subnet, *(variant.together or graphs)))
        for name in served:
            if name not in graphs:
                raise InvalidModel(
                    f"{variant.model}: no exported graph of subnet {name!r}; there are {list(graphs)}: "
                    "`peekserve supernet export` writes them"
                )
        shared = SharedWeights(variant.model)
        resident = _Resident({}, {}, shared)
        for name in served:
            session = _session(str(graphs[name]), self._threads, shared=shared)
            resident.dtypes = _check_names(variant, session)
            resident.sessions[name] = session
        return resident, shared.bytes

    def run(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        resident = self._resident.get(variant.weights)
        # The name of weights is their digest: which copy of the file they came from makes no difference.
        if resident is None or variant.subnet not in resident.sessions:
            raise BackendError(f"variant {variant.name!r}: weights {variant.weights!r} are not resident")
        assert variant.output is not None  # load refused it otherwise
        tensors = mapping.feeds(variant.inputs, inputs)
        for name, tensor in tensors.items():
            tensors[name] = tensor.astype(resident.dtypes[name], copy=False)
        rows = len(next(iter(tensors.values())))
        try:
            output = resident.sessions[variant.subnet].run([variant.output.name], tensors)[0]
        except Exception as error:  # the binding raises plain Exceptions of its own making
            raise BackendError(f"variant {variant.name!r}: {_first_line(error)}") from error
        return mapping.scores(variant.output, output, rows, classes)

    def prove(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        return self.run(variant, classes, inputs)

    def unload(self, weights: str) -> None:
        resident = self._resident.pop(weights, None)
        if resident is not None:
            if resident.shared:
                resident.shared.shrink_arena(next(iter(resident.sessions.values())))
            resident.sessions.clear()  # before what they read
            del resident
            give_back()


def describe(path: str | Path) -> ModelDescription:
    """The inputs and outputs of an ONNX file. Raises InvalidModel when it is none."""
    return _described(_session(str(path), 1, optimise=False))


def _session(
    path: str, threads: int, optimise: bool = True, shared: SharedWeights | None = None
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # A thread that spins while it waits takes the core of whoever else runs on this box.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if not os.path.isfile(path):
        raise InvalidModel(f"{path}: no such file")
    try:
        left_out = shared.share(options, path) if shared else None
        return ort.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=left_out
        )
    except Exception as error:  # as above
        if _starved(error):
            raise InvalidModel(f"{path}: not enough memory to load it: {_first_line(error)}") from error
        raise InvalidModel(f"{path}: not a usable ONNX file: {_first_line(error)}") from error


def _starved(error: Exception) -> bool:
    """Did memory run out? ONNX Runtime has no type of error for that."""
    said = str(error)
    return isinstance(error, MemoryError) or "bad_alloc" in said or "Failed to allocate memory" in said


def _described(session: ort.InferenceSession) -> ModelDescription:
    return ModelDescription(
        tuple(_tensor(t) for t in session.get_inputs()), tuple(_tensor(t) for t in session.get_outputs())
    )


def _tensor(node: Any) -> ModelTensor:
    inner = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape or ())
    return ModelTensor(node.name, _OF_ORT.get(inner, node.type), shape)


def _check_names(variant: Variant, session: ort.InferenceSession) -> dict[str, np.dtype[np.generic]]:
    """The variant's maps name just the model's inputs, each of a datatype that we can feed, and one of its outputs.
    The datatypes of the inputs by name."""
    assert variant.output is not None
    described = _described(session)
    has = {t.name: t for t in described.inputs}
    named = [m.name for m in variant.inputs]
    if sorted(named) != sorted(has):
        raise InvalidModel(
            f"{variant.model}: variant {variant.name!r} feeds {sorted(named)}; the model takes {sorted(has)}"
        )
    for tensor in described.inputs:
        if tensor.datatype not in DATATYPES:
            raise InvalidModel(
                f"{variant.model}: input {tensor.name!r} is {tensor.datatype}; numbers are needed"
            )
    gives = {t.name: t for t in described.outputs}
    if variant.output.name not in gives:
        raise InvalidModel(
            f"{variant.model}: variant {variant.name!r} reads output {variant.output.name!r}; "
            f"the model gives {sorted(gives)}"
        )
    if gives[variant.output.name].datatype not in DATATYPES:
        kind = gives[variant.output.name].datatype
        raise InvalidModel(
            f"{variant.model}: output {variant.output.name!r} is {kind}; a tensor of numbers is needed (zipmap off, "
            "if it comes from scikit-learn)"
        )
    return {tensor.name: DATATYPES[tensor.datatype] for tensor in described.inputs}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
