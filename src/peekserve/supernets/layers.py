"""SubNetAct's three operators (SuperServe, section 3.1 and appendix A.1); `insertion` puts them into a network.

- LayerSelect stands in a stage's place and hands out the blocks that the subnet keeps.
- WeightSlice stands in a convolution's or linear layer's place and computes with a prefix of its weights.
- SubnetNorm stands in a batch normalisation's place and looks up the mean and variance of the subnet in a table:
  those of another subnet are wrong for it (accuracy falls to chance). Gamma and beta are shared.

All operators of a network look at one `Switch`, which holds one `Record`: the blocks that run, and for each operator
the views of weights that it computes with. A record is prepared once for each subnet, by a forward pass of one row,
so that to actuate a subnet is to put another record into the switch. Views are parts of the full parameters; nothing
is copied. Parameters keep the names and the identity that they have in the plain network.

While it trains, nothing is prepared: the views are cut anew in each pass, so that gradients flow, and batches are
normalised by their own statistics.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peekserve.errors import InvalidModel
from peekserve.supernets.space import Subnet, kept_units

FUNCTIONS = {nn.Conv1d: functional.conv1d, nn.Conv2d: functional.conv2d}

Statistics = dict[str, tuple[Tensor, Tensor]]  # layer -> (mean, variance), each float32 [channels]


class Mode(Enum):
    """What a SubnetNorm normalises with."""

    TABLE = "the subnet's statistics"
    BATCH = "each batch's own statistics"
    COLLECT = "each batch's own statistics, which are added up"
    PREFIX = "the first channels of the plain network's own statistics"


class Record:
    """All that one subnet computes with: `blocks` of each stage, and `held`, by place, what each operator holds."""

    __slots__ = ("blocks", "held", "keeps", "mode", "subnet", "sums")

    def __init__(
        self,
        subnet: Subnet,
        blocks: tuple[tuple[nn.Module, ...], ...],
        places: int,
        mode: Mode,
        keeps: bool = False,
    ) -> None:
        self.subnet, self.blocks, self.mode, self.keeps = subnet, blocks, mode, keeps
        self.held: list[tuple[Tensor | None, ...] | None] = [None] * places
        self.sums: dict[str, tuple[Tensor, Tensor, int]] = {}  # layer -> (rows * mean, rows * variance, rows)


class Switch:
    """One reference that all operators of a network look at."""

    __slots__ = ("record",)

    def __init__(self) -> None:
        self.record: Record | None = None


class LayerSelect(nn.ModuleList):
    """A stage whose iteration yields the kept blocks only; called like a Sequential, it runs them in turn."""

    def __init__(self, stage: nn.Module, number: int, switch: Switch) -> None:
        super().__init__(list(stage))
        self.number, self.switch, self.kind = number, switch, type(stage)

    def __iter__(self) -> Iterator[nn.Module]:
        record = self.switch.record
        return super().__iter__() if record is None else iter(record.blocks[self.number])

    @property
    def every(self) -> list[nn.Module]:
        """The blocks that there are, kept or not."""
        return list(super().__iter__())

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = block(x)
        return x


class Operator(nn.Module):
    """What WeightSlice and SubnetNorm share: a name, a place in every record, and the axis that is sliced in what
    they read, `inputs` wide when it is whole."""

    def __init__(
        self, layer: nn.Module, name: str, place: int, switch: Switch, axis: int, inputs: int
    ) -> None:
        super().__init__()
        self.kind, self.name, self.place, self.switch = type(layer), name, place, switch
        self.axis, self.inputs = axis, inputs
        self.weight, self.bias = layer.weight, layer.bias
        self.training = layer.training

    def now(self) -> Record:
        record = self.switch.record
        if record is None:
            raise InvalidModel(
                f"layer {self.name}: no subnet is actuated; statistics missing: calibrate first"
            )
        return record


class WeightSlice(Operator):
    """The first rows of the weights that the width keeps, and as many columns as the input has channels or features.

    Rows come in `units` of `unit` (channels of 1, heads of their size, inner features of 1), of which the width of
    stage `stage` keeps ceil(width * units); all of them if `units` is 0.
    """

    def __init__(
        self, layer: nn.Module, name: str, place: int, switch: Switch, stage: int, units: int, unit: int = 1
    ) -> None:
        conv = not isinstance(layer, nn.Linear)
        super().__init__(
            layer, name, place, switch, 1 if conv else -1, layer.in_channels if conv else layer.in_features
        )
        self.stage, self.units, self.unit = stage, units, unit
        self.settings: dict[str, Any] = (
            {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation} if conv else {}
        )
        self.function = FUNCTIONS.get(self.kind, functional.linear)

    def forward(self, x: Tensor) -> Tensor:
        record = self.now()
        held = record.held[self.place]
        if held is None:
            held = self.cut(x, record)
        out: Tensor = self.function(x, held[0], held[1], **self.settings)
        return out

    def cut(self, x: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        inputs = x.shape[self.axis]
        if inputs > self.inputs:
            raise InvalidModel(f"layer {self.name} reads {inputs} channels or features; it has {self.inputs}")
        rows = kept_units(record.subnet.widths[self.stage], self.units) * self.unit or self.weight.shape[0]
        weight, bias = self.weight[:rows, :inputs], None if self.bias is None else self.bias[:rows]
        if not record.keeps:
            return weight, bias
        held = weight.detach(), None if bias is None else bias.detach()
        record.held[self.place] = held
        return held


class SubnetNorm(Operator):
    """Batch normalisation by the actuated subnet's own mean and variance; `norms` is the supernet's table of them."""

    def __init__(
        self,
        layer: nn.Module,
        name: str,
        place: int,
        switch: Switch,
        largest: Subnet,
        norms: dict[str, Statistics],
    ) -> None:
        super().__init__(layer, name, place, switch, 1, layer.num_features)
        self.eps, self.momentum, self.largest, self.norms = layer.eps, layer.momentum, largest, norms
        self.running_mean, self.running_var = nn.Buffer(layer.running_mean), nn.Buffer(layer.running_var)
        self.num_batches_tracked = nn.Buffer(layer.num_batches_tracked)

    def forward(self, x: Tensor) -> Tensor:
        record = self.now()
        held = record.held[self.place]
        if held is None:
            if record.mode in (Mode.BATCH, Mode.COLLECT):
                return self.by_batch(x, record)
            held = self.cut(x, record)
        mean, var, gamma, beta = held
        return functional.batch_norm(x, mean, var, gamma, beta, False, 0.0, self.eps)

    def affine(self, channels: int) -> tuple[Tensor | None, Tensor | None]:
        return (None, None) if self.weight is None else (self.weight[:channels], self.bias[:channels])

    def by_batch(self, x: Tensor, record: Record) -> Tensor:
        gamma, beta = self.affine(x.shape[1])
        if record.mode is Mode.COLLECT:
            self.add(x, record)
        elif record.subnet == self.largest:  # the plain network's own statistics follow its training
            self.num_batches_tracked += 1
            share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
            return functional.batch_norm(
                x, self.running_mean, self.running_var, gamma, beta, True, share, self.eps
            )
        return functional.batch_norm(x, None, None, gamma, beta, True, 0.0, self.eps)

    def add(self, x: Tensor, record: Record) -> None:
        """The batch's mean and biased variance, weighted by its rows, as Once-for-All's released calibration does."""
        rows = x.shape[0]
        var, mean = torch.var_mean(x.detach(), [axis for axis in range(x.dim()) if axis != 1], correction=0)
        means, variances, before = record.sums.get(self.name, (0.0, 0.0, 0))
        record.sums[self.name] = (means + rows * mean, variances + rows * var, before + rows)

    def cut(self, x: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        subnet, channels = record.subnet.name, x.shape[1]
        found = self.norms.get(subnet, {}).get(self.name)
        if record.mode is Mode.PREFIX:
            found = self.running_mean[:channels], self.running_var[:channels]
        if found is None:
            raise InvalidModel(f"{subnet}, layer {self.name}: statistics missing: calibrate first")
        for what, given in zip(("mean", "variance"), found, strict=True):
            if given.shape != (channels,):
                raise InvalidModel(
                    f"{subnet}, layer {self.name}: its {what} has shape {list(given.shape)}; "
                    f"the subnet has {channels} channels there"
                )
        gamma, beta = self.affine(channels)
        held = (*found, None if gamma is None else gamma.detach(), None if beta is None else beta.detach())
        if record.keeps:
            record.held[self.place] = held
        return held
