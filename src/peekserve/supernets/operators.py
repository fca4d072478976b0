"""A network with SubNetAct's operators in it: one set of weights that computes as any of its subnets."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

from peekserve.errors import InvalidModel
from peekserve.supernets.insertion import check, insert
from peekserve.supernets.layers import (
    LayerSelect,
    Mode,
    Operator,
    Record,
    Statistics,
    SubnetNorm,
    Switch,
    WeightSlice,
)
from peekserve.supernets.space import Space, Subnet

__all__ = ["LayerSelect", "Statistics", "SubnetNorm", "Supernet", "WeightSlice"]


class Supernet(nn.Module):
    """`network`, changed in place so that it computes as the actuated subnet of `space`; the largest at first.

    The network has `stages`, which its forward iterates over, and `example()`, an input of one row, unless `example`
    is given. Raises InvalidModel, naming the layer and the reason, where it cannot be sliced.

    `norms` has, by a subnet's name, each batch normalisation's mean and variance. The largest subnet's are the plain
    network's own running statistics, the very tensors. The parameters are those of the network, and the keys of
    `network.state_dict()` are what they were.

    In evaluation, what is computed has no gradients. Not for several threads at once: one subnet is actuated.
    """

    def __init__(self, network: nn.Module, space: Space, example: Tensor | None = None) -> None:
        super().__init__()
        self.space, self.switch = space, Switch()
        self.norms: dict[str, Statistics] = {}
        if example is None:
            if not hasattr(network, "example"):
                raise InvalidModel(f"{type(network).__name__} has no example(): give an input of one row")
            example = network.example()
        self.example = example
        self.records: dict[Subnet | str, Record] = {}
        self.operators: dict[str, Operator] = insert(network, space, self.switch, self.norms)
        self.network = network
        self.training = network.training
        self.own_statistics()
        check(network, space, self.operators, self.without_norms, self.switch, example.to(self.place()))
        self.settle(space.largest)

    def place(self) -> torch.device:
        return next(self.network.parameters()).device

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x)
        return out

    @property
    def actuated(self) -> Subnet:
        """The subnet that a forward pass computes as."""
        record = self.switch.record
        return self.space.largest if record is None else record.subnet

    def actuate(self, subnet: Subnet | str) -> None:
        """From now on compute as `subnet`: one reference is set. The first time in evaluation it is prepared.

        Raises InvalidConfiguration for one outside the space; InvalidModel if its statistics are missing, except in
        training mode, where none are used.
        """
        record = None if self.training else self.records.get(subnet)
        if record is None:
            wanted = Subnet.parse(subnet) if isinstance(subnet, str) else subnet
            self.space.check(wanted)
            record = self.loose(wanted, Mode.BATCH) if self.training else self.prepare(wanted)
        self.switch.record = record

    def prepare(self, subnet: Subnet) -> Record:
        """The record that `actuate` puts into the switch, made by one forward pass of one row, and kept.

        Raises as `actuate` does in evaluation.
        """
        found = self.records.get(subnet)
        if found is not None:
            return found
        self.space.check(subnet)
        record = Record(subnet, self.blocks(subnet), len(self.operators), Mode.TABLE, keeps=True)
        before, was_training = self.switch.record, self.network.training
        self.network.eval()
        self.switch.record = record
        try:
            with torch.no_grad():
                self.network(self.example.to(self.place()))
        finally:
            self.switch.record = before
            self.network.train(was_training)
        record.keeps = False
        self.records[subnet] = self.records[subnet.name] = record
        return record

    def keep_norms(self, subnet: Subnet, statistics: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """These are the subnet's statistics from now on; of the largest, they become the plain network's own."""
        self.space.check(subnet)
        unknown = sorted(set(statistics) - set(self.norm_layers))
        if unknown:
            raise InvalidModel(
                f"{subnet.name}: statistics of {unknown}, which are no layers to normalise here"
            )
        device = self.place()
        if subnet == self.space.largest:
            for name, given in statistics.items():
                for own, new in zip(self.norms[subnet.name][name], given, strict=True):
                    own.copy_(new)
        else:
            self.norms[subnet.name] = {
                name: (mean.detach().to(device), var.detach().to(device))
                for name, (mean, var) in statistics.items()
            }
        self.forget(subnet)

    @contextmanager
    def collecting(self, subnet: Subnet) -> Iterator[None]:
        """What runs in here runs as `subnet`, normalised batch by batch; the averages, weighted by rows, are kept as
        its statistics at the end (SubnetNorm's table; the way of Once-for-All's released calibration).

            with supernet.collecting(subnet):
                for batch in batches:
                    supernet(batch)
        """
        self.space.check(subnet)
        before, was_training = self.actuated, self.training
        self.eval()
        self.switch.record = record = self.loose(subnet, Mode.COLLECT)
        try:
            with torch.no_grad():
                yield
            if self.norm_layers and not record.sums:
                raise InvalidModel(f"{subnet.name}: nothing ran, so there are no statistics to keep")
            self.keep_norms(subnet, {n: (m / rows, v / rows) for n, (m, v, rows) in record.sums.items()})
        finally:
            self.train(was_training)
            self.settle(before)

    @property
    def norm_layers(self) -> list[str]:
        """The names of all layers that have statistics, in the network's order."""
        return [name for name, operator in self.operators.items() if isinstance(operator, SubnetNorm)]

    def train(self, mode: bool = True) -> Self:
        """As of any module. Where the actuated subnet has no statistics, evaluation begins; a forward pass raises."""
        subnet = self.actuated
        super().train(mode)
        self.settle(subnet)
        return self

    def settle(self, subnet: Subnet) -> None:
        """Put a record of the subnet for the present mode into the switch, without preparing one."""
        if self.training:
            self.switch.record = self.loose(subnet, Mode.BATCH)
        else:
            self.switch.record = self.records.get(subnet) or self.loose(subnet, Mode.TABLE)

    def loose(self, subnet: Subnet, mode: Mode) -> Record:
        """A record that keeps nothing: every pass cuts anew."""
        return Record(subnet, self.blocks(subnet), len(self.operators), mode)

    def without_norms(self, subnet: Subnet) -> Record:
        """A record as `loose`, for a network without SubnetNorm: each layer is normalised by the first channels of
        the plain network's own statistics. To see what that costs, put it into the switch."""
        return Record(subnet, self.blocks(subnet), len(self.operators), Mode.PREFIX)

    def blocks(self, subnet: Subnet) -> tuple[tuple[nn.Module, ...], ...]:
        kept = self.space.kept(subnet)
        return tuple(
            tuple(select.every[i] for i in of) for select, of in zip(self.network.stages, kept, strict=True)
        )

    def own_statistics(self) -> None:
        largest = {
            name: (operator.running_mean, operator.running_var)
            for name, operator in self.operators.items()
            if isinstance(operator, SubnetNorm)
        }
        self.norms[self.space.largest.name] = largest

    def forget(self, subnet: Subnet) -> None:
        self.records.pop(subnet, None)
        self.records.pop(subnet.name, None)
        if self.actuated == subnet:
            self.settle(subnet)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moved or cast: views of what was moved are views of nothing any more."""
        super()._apply(fn, recurse)
        for statistics in self.norms.values():
            statistics.update({name: (fn(mean), fn(var)) for name, (mean, var) in statistics.items()})
        self.own_statistics()
        self.records.clear()
        self.settle(self.actuated)
        return self
