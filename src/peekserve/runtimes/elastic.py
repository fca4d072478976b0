"""Supernets in place: one copy of the weights in torch, and whichever subnet a batch asks for (SuperServe, 3).

The reference for what a subnet answers, and the way to run it on an accelerator. On a processor a session of ONNX
Runtime for each subnet answers sooner (runtimes/shared.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from peekserve.domain.application import Variant
from peekserve.errors import BackendError, InvalidModel
from peekserve.runtimes import mapping
from peekserve.runtimes.base import Inputs, Scores
from peekserve.runtimes.memory import give_back, held_bytes
from peekserve.supernets import storage
from peekserve.supernets.operators import Supernet


@dataclass(slots=True)
class _Resident:
    supernet: Supernet


class ElasticRuntime:
    """A supernet for each name of weights; a batch of another subnet than the last puts one reference into place.

    `device`: "cpu" or "cuda", and what may follow a colon there ("cuda:1"; "cpu:torch" is the processor). `load`
    prepares every subnet that is served, so that no batch finds its own unprepared, and reports the bytes of all
    parameters and statistics, or the growth of this process, whichever is larger.

    Raises InvalidModel when a folder holds no sound supernet, when there is no such device, and for variants that are
    no subnets; BackendError when torch fails on a batch.
    """

    def __init__(self, device: str = "cpu", threads: int = 1) -> None:
        self._device = torch.device("cpu" if device.startswith("cpu") else device)
        self._resident: dict[str, _Resident] = {}
        torch.set_num_threads(threads)

    def load(self, variant: Variant, classes: int) -> int:
        if variant.output is None or len(variant.inputs) != 1:
            raise InvalidModel(
                f"variant {variant.name!r} feeds {len(variant.inputs)} tensors; a supernet has one input and one output"
            )
        if not variant.subnet:
            raise InvalidModel(f"variant {variant.name!r} is no subnet of a supernet")
        before, folder = held_bytes(), Path(variant.model)
        served = variant.together or [one.name for one in storage.read_description(folder).offered]
        try:
            supernet = storage.load(folder).to(self._device).eval()
        except (RuntimeError, AssertionError) as error:  # how torch says that it was built without the device
            raise InvalidModel(f"{folder}: {self._device}: {_first_line(error)}") from error
        for name in dict.fromkeys([*served, variant.subnet]):
            supernet.actuate(name)
        self._resident[variant.weights] = _Resident(supernet)
        give_back()  # the file, which was read whole
        weights: int = sum(tensor.nbytes for tensor in _tensors(supernet))
        return max(held_bytes() - before, weights)

    def run(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        resident = self._resident.get(variant.weights)
        if resident is None:
            raise BackendError(f"variant {variant.name!r}: weights {variant.weights!r} are not resident")
        assert variant.output is not None  # load refused it otherwise
        (array,) = mapping.feeds(variant.inputs, inputs).values()
        if not array.flags.writeable:
            array = array.copy()  # torch has no read-only tensors, and says so at length
        try:
            resident.supernet.actuate(variant.subnet)
            with torch.inference_mode():
                batch = torch.from_numpy(array).to(self._device, torch.float32)
                output = resident.supernet(batch).cpu().numpy()
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            raise BackendError(f"variant {variant.name!r}: {_first_line(error)}") from error
        return mapping.scores(variant.output, output, len(array), classes)

    def prove(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        return self.run(variant, classes, inputs)

    def unload(self, weights: str) -> None:
        resident = self._resident.pop(weights, None)
        if resident is not None:
            # The record knows the blocks, and they the record: so none would go before a collection of garbage.
            resident.supernet.switch.record = None
            del resident
            give_back()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()


def _tensors(supernet: Supernet) -> Iterator[torch.Tensor]:
    """Everything that is resident, each once: weights, buffers, and the statistics of every subnet."""
    statistics = chain.from_iterable(pair for layers in supernet.norms.values() for pair in layers.values())
    every = chain(supernet.parameters(), supernet.buffers(), statistics)
    return iter({tensor.data_ptr(): tensor for tensor in every}.values())


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
