"""Puts SubNetAct's operators into a given network, and finds out whether slicing it means what it should.

The walk replaces stages, convolutions, linear layers and batch normalisations. What it cannot tell from the layers
alone is how they are wired: so the sliced network is run once beside the whole one, in which the channels that were
sliced off are set to zero before every layer. Slicing is right where both agree: what a layer reads in the sliced
network is the beginning of what it reads in the masked one. A layer that reads [positions, channels] flattened,
or means of channels followed by their maxima, or a normalisation across channels, is found that way.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from peekserve.errors import InvalidModel
from peekserve.supernets.layers import (
    LayerSelect,
    Operator,
    Record,
    Statistics,
    SubnetNorm,
    Switch,
    WeightSlice,
)
from peekserve.supernets.networks import Attention, FeedForward
from peekserve.supernets.space import Space, Subnet

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
SLICED = (nn.Conv1d, nn.Conv2d, nn.Linear)
AGREE = 1e-3  # of the largest value: sums of other lengths, in float32, differ by rounding


def insert(
    network: nn.Module, space: Space, switch: Switch, norms: dict[str, Statistics]
) -> dict[str, Operator]:
    """The operators by the names of the layers whose places they took. Raises InvalidModel where one cannot be."""
    stages_fit(network, space)
    # A layer may stand at two places: it then has one operator, which stands at both.
    named = list(network.named_modules(remove_duplicate=False))
    modules = dict(named)
    first_of_stages = next(i for i, (name, _) in enumerate(named) if name.startswith("stages."))
    for name, layer in named:
        reason = why_not(layer, in_a_stage(name) and space.architecture != "transformer")
        if reason:
            raise InvalidModel(f"layer {name} ({type(layer).__name__}) cannot be sliced: {reason}")
    made: dict[int, Operator] = {}
    operators: dict[str, Operator] = {}
    for i, (name, layer) in enumerate(named):
        # The stem's channels go with the first stage's, those of layers after the stages with the last one's.
        stage = (
            int(name.split(".")[1]) if in_a_stage(name) else 0 if i < first_of_stages else space.stages - 1
        )
        parent, _, leaf = name.rpartition(".")
        if id(layer) not in made:
            if type(layer) in NORMS:
                made[id(layer)] = SubnetNorm(layer, name, len(operators), switch, space.largest, norms)
            elif type(layer) in SLICED:
                units, unit = units_of(layer, leaf, modules[parent], space)
                made[id(layer)] = WeightSlice(layer, name, len(operators), switch, stage, units, unit)
            else:
                continue
            operators[name] = made[id(layer)]
        setattr(modules[parent], leaf, made[id(layer)])
    narrows(space, operators)
    for number in range(space.stages):
        network.stages[number] = LayerSelect(network.stages[number], number, switch)
    return operators


def in_a_stage(name: str) -> bool:
    """Of a layer; the stages themselves are `stages.0` and so on."""
    return name.startswith("stages.") and name.count(".") > 1


def stages_fit(network: nn.Module, space: Space) -> None:
    stages = getattr(network, "stages", None)
    if not isinstance(stages, nn.ModuleList):
        raise InvalidModel(f"{type(network).__name__} has no `stages` (a ModuleList of stages of blocks)")
    counts = []
    for number, stage in enumerate(stages):
        if type(stage) not in (nn.ModuleList, nn.Sequential):
            raise InvalidModel(
                f"stages.{number} is a {type(stage).__name__}; a ModuleList or Sequential of blocks is right"
            )
        counts.append(len(stage))
    if tuple(counts) != space.depths:
        raise InvalidModel(f"stages of {counts} blocks; the space says {list(space.depths)}")


def why_not(layer: nn.Module, of_channels: bool) -> str:
    """Why a layer cannot be sliced; empty where it can, or needs not. `of_channels`: it is in a stage whose channels
    are sliced."""
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        if layer.groups != 1:
            return f"it has {layer.groups} groups, and the first channels are not the first of every group"
        if layer.padding_mode != "zeros":
            return f"its padding is {layer.padding_mode!r}; only zeros are supported"
    elif isinstance(layer, NORMS):
        if layer.running_mean is None:
            return "it has no running statistics, which are the largest subnet's"
    elif isinstance(layer, nn.MultiheadAttention):
        return "its queries, keys and values lie in one matrix; use peekserve.supernets.networks.Attention"
    elif isinstance(layer, nn.Linear):
        if of_channels:
            return "a linear layer between convolutions; a convolution with a kernel of 1 is right"
    elif of_channels and next(layer.parameters(recurse=False), None) is not None:
        return "it has weights, and is neither a convolution nor a batch normalisation"
    if isinstance(layer, (*NORMS, *SLICED)) and type(layer) not in (*NORMS, *SLICED):
        return f"it is a kind of {type(layer).__mro__[1].__name__} that may compute something else"
    return ""


def units_of(layer: nn.Module, leaf: str, parent: nn.Module, space: Space) -> tuple[int, int]:
    """How many units of rows a layer has, each how many rows; (0, 1) where its rows stay whole."""
    if space.architecture == "transformer":
        if isinstance(parent, Attention) and leaf in ("query", "key", "value"):
            return parent.heads, parent.of_head
        return (layer.out_features, 1) if isinstance(parent, FeedForward) and leaf == "up" else (0, 1)
    return (0, 1) if isinstance(layer, nn.Linear) else (layer.out_channels, 1)


def narrows(space: Space, operators: dict[str, Operator]) -> None:
    if len(space.widths) == 1:
        return
    for number in range(space.stages):
        inside = [o for name, o in operators.items() if name.startswith(f"stages.{number}.")]
        if not any(isinstance(operator, WeightSlice) and operator.units for operator in inside):
            wanted = "Attention or FeedForward" if space.architecture == "transformer" else "convolution"
            raise InvalidModel(f"stages.{number} has nothing to narrow: no {wanted} in it")


def check(
    network: nn.Module,
    space: Space,
    operators: dict[str, Operator],
    probe: Callable[[Subnet], Record],
    switch: Switch,
    example: Tensor,
) -> None:
    """Raises InvalidModel where a sliced or shortened network does not compute what it should."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            for narrow in narrowed(space):
                switch.record = probe(narrow)
                read: dict[str, Tensor] = {}
                scores = run(network, operators, example, partial(note, read), narrow)
                switch.record = probe(space.largest)
                masked = run(network, operators, example, partial(mask, read), narrow)
                if scores.shape != masked.shape or not agree(scores, masked):
                    raise InvalidModel(
                        f"what the network makes of {narrow.name} differs from itself with those channels at zero"
                    )
            short = Subnet(space.least, space.largest.widths)
            switch.record = probe(short)
            left_out = {
                f"stages.{stage}.{block}."
                for stage, kept in enumerate(space.kept(short))
                for block in set(range(space.depths[stage])) - set(kept)
            }
            run(network, operators, example, partial(whole, left_out), short)
    finally:
        network.train(was_training)


def narrowed(space: Space) -> list[Subnet]:
    """All blocks at the smallest width; and, where stages may differ, every other stage at the smallest one."""
    least = space.widths[0]
    drawn = [(least,) * space.stages]
    if not space.uniform and space.stages > 1:
        drawn += [tuple(1.0 if i % 2 == odd else least for i in range(space.stages)) for odd in (0, 1)]
    return [Subnet(space.depths, widths) for widths in drawn] if least < 1.0 else []


def note(read: dict[str, Tensor], operator: Operator, x: Tensor) -> None:
    read[operator.name] = x


def mask(read: dict[str, Tensor], operator: Operator, x: Tensor) -> Tensor:
    """`x` with what the sliced layer did not read at zero; the rest must be what it read."""
    sliced = read[operator.name]
    kept = sliced.shape[operator.axis]
    first = x.narrow(operator.axis, 0, kept) if kept <= x.shape[operator.axis] else x
    if first.shape != sliced.shape or not agree(first, sliced):
        raise InvalidModel(
            f"layer {operator.name} ({operator.kind.__name__}) cannot be sliced: of {x.shape[operator.axis]} inputs "
            f"it would read the first {kept}, and those are not what the channels kept make; pool over positions "
            "first, and keep what belongs to one channel side by side"
        )
    masked = torch.zeros_like(x)
    masked.narrow(operator.axis, 0, kept).copy_(
        sliced
    )  # so that rounding does not add up from layer to layer
    return masked


def whole(left_out: set[str], operator: Operator, x: Tensor) -> None:
    """In a subnet with fewer blocks of full width, each layer that runs reads as much as ever."""
    if any(operator.name.startswith(block) for block in left_out):
        raise InvalidModel(
            f"layer {operator.name} ran although its block was left out: "
            "the network's forward does not iterate over its stages"
        )
    if x.shape[operator.axis] != operator.inputs:
        raise InvalidModel(
            f"layer {operator.name} reads {x.shape[operator.axis]} channels and not {operator.inputs} once blocks "
            "are left out; a block that may be left out keeps the shape of what it reads"
        )


def agree(one: Tensor, other: Tensor) -> bool:
    scale = max(float(other.abs().max()), 1e-6) if other.numel() else 1.0
    return bool(torch.allclose(one, other, rtol=0.0, atol=AGREE * scale))


def run(
    network: nn.Module,
    operators: dict[str, Operator],
    example: Tensor,
    see: Callable[[Operator, Tensor], Tensor | None],
    subnet: Subnet,
) -> Tensor:
    """One pass in which `see` is shown what each operator reads, and may replace it; errors name the layer."""
    with watched(network, operators, see) as at:
        try:
            out: Tensor = network(example)
        except (RuntimeError, ValueError, IndexError) as wrong:
            name, layer = at[-1]
            reason = str(wrong).splitlines()[0]
            raise InvalidModel(
                f"layer {name} ({layer}) cannot be sliced: as {subnet.name} it fails with: {reason}"
            ) from wrong
    return out


@contextmanager
def watched(
    network: nn.Module, operators: dict[str, Operator], see: Callable[[Operator, Tensor], Tensor | None]
) -> Iterator[list[tuple[str, str]]]:
    at = [("stages", type(network).__name__)]
    hooks = []

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Any, ...]], Any]:
        def hook(layer: nn.Module, given: tuple[Any, ...]) -> Any:
            if not isinstance(layer, Operator):
                at.append((name, type(layer).__name__))
                return None
            at.append((name, layer.kind.__name__))
            replaced = see(layer, given[0])
            return None if replaced is None else (replaced,)

        return hook

    try:
        for name, layer in network.named_modules():
            if isinstance(layer, Operator) or not any(True for _ in layer.children()):
                hooks.append(layer.register_forward_pre_hook(hook_of(name)))
        yield at
    finally:
        for hook in hooks:
            hook.remove()
