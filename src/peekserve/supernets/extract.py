"""A subnet as a plain network of its own: what is left when everything that the subnet does not use is cut away."""

import copy
from typing import Any

import torch
from torch import nn

from peekserve.supernets.layers import Operator, WeightSlice
from peekserve.supernets.operators import Supernet
from peekserve.supernets.space import Subnet


def extract(supernet: Supernet, subnet: Subnet) -> nn.Module:
    """A copy in evaluation, with small parameters of its own and torch's own layers; it computes what `subnet` does.

    Raises InvalidConfiguration for a subnet outside the space, InvalidModel if its statistics are missing.
    """
    record = supernet.prepare(subnet)
    # What deepcopy finds in its memo it does not copy: so the full weights are never doubled.
    memo: dict[int, Any] = {}
    for operator in supernet.operators.values():
        held = record.held[operator.place]
        if held is not None:  # else the layer is in a block that was left out
            memo[id(operator)] = plain(operator, held)
    for select, blocks in zip(supernet.network.stages, record.blocks, strict=True):
        copies = [copy.deepcopy(block, memo) for block in blocks]
        memo[id(select)] = nn.Sequential(*copies) if select.kind is nn.Sequential else nn.ModuleList(copies)
    return copy.deepcopy(supernet.network, memo).eval()


def plain(operator: Operator, held: tuple[torch.Tensor | None, ...]) -> nn.Module:
    """The torch layer that an operator stands for, of the size of what it holds."""
    copies = [None if part is None else part.detach().clone() for part in held]
    if isinstance(operator, WeightSlice):
        weight, bias = copies
        assert weight is not None
        out, inputs, *kernel = weight.shape
        sized = (inputs, out, tuple(kernel)) if kernel else (inputs, out)
        layer = nn.utils.skip_init(operator.kind, *sized, bias=bias is not None, **operator.settings)
    else:
        mean, var, weight, bias = copies
        assert mean is not None
        layer = operator.kind(len(mean), operator.eps, operator.momentum, affine=weight is not None)
        layer.running_mean, layer.running_var = mean, var
    layer.weight = None if weight is None else nn.Parameter(weight)
    layer.bias = None if bias is None else nn.Parameter(bias)
    return layer
