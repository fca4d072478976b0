"""What a network answers and what it costs, counted and not timed: times belong to the device that serves."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from peekserve.supernets.extract import extract
from peekserve.supernets.networks import build
from peekserve.supernets.operators import Supernet
from peekserve.supernets.space import Space, Subnet

_ROWS = 256


def parameters(network: nn.Module) -> int:
    """Numbers that are learnt; running statistics and fixed kernels are not."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, row: Tensor) -> int:
    """Of one forward pass of `row` [1, ...] in evaluation: convolutions and matrix products, attention's included;
    what is done number by number (activations, normalisation) is left out, as is usual."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(row)
    return int(counter.get_total_flops()) // 2


def batches(rows: NDArray[np.float32], size: int = _ROWS) -> Iterator[Tensor]:
    """The rows in order, `size` at a time."""
    for start in range(0, len(rows), size):
        yield torch.from_numpy(np.ascontiguousarray(rows[start : start + size]))


def probabilities(network: nn.Module, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [n, C]: the softmax of the network's scores, in evaluation. `rows` float32 [n, *row]."""
    with torch.no_grad():
        said = [torch.softmax(network(batch), 1) for batch in batches(rows)]
    return np.asarray(torch.cat(said).numpy(), np.float32)


class Costs:
    """Subnet -> (parameters, multiply-adds of one row), counted on an untrained twin, so that a subnet can be weighed
    before it has statistics. `front`: whether what comes before the learnt layers counts, too."""

    def __init__(self, space: Space, sizes: Mapping[str, Any], front: bool = True) -> None:
        self._twin = Supernet(build(space.architecture, dict(sizes)), space)
        self._row = self._twin.example
        if not front:
            self._row = self._twin.network.front(self._row).detach()
            self._twin.network.front = nn.Identity()
            self._twin.example = self._row
        self._known: dict[Subnet, tuple[int, int]] = {}

    def __call__(self, subnet: Subnet) -> tuple[int, int]:
        """Raises InvalidConfiguration for a subnet outside the space."""
        if subnet not in self._known:
            with self._twin.collecting(subnet):
                adds = multiply_adds(self._twin, self._row)
            self._known[subnet] = parameters(extract(self._twin, subnet)), adds
        return self._known[subnet]
