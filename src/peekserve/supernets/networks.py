"""The plain networks that supernets are made of: nothing in here knows that it will be sliced.

Each has `stages`, a list of lists of blocks, and `example()`, an input of one row. `operators.Supernet` asks for no
more, so that any network which is built alike can be given to it.

The residual nets slice one width for each stage, through all of it: the prefix of a stage's channels that is kept is
the same in every block, at the shortcut and inside a block. The paper gives each block an inner width of its own and
leaves the stage's whole; then a stage costs in proportion to the width, and not to its square. The head reads the
prefix of the columns that belong to the channels kept.

One dimension is the second of two: a convolution with a height of 1 and channels last is faster in torch on a
processor than one in one dimension (measured on 24 channels: 1.6 times in batches of 16 and more).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from peekserve.errors import InvalidConfiguration
from peekserve.supernets.space import Space

Sizes = Mapping[str, int | list[int]]

FLOOR = 1e-6  # added to a band's power before its logarithm


class LogMel(nn.Module):
    """Samples [n, T] -> log-mel energies [n, 1, bands, 1 + (T - window) // hop], less their mean, times 0.3.

    Two fixed convolutions. Their kernels are buffers and come with the weights: `transform` [2 * frequencies, 1,
    window], all cosines, then all sines; `bands` [bands, frequencies, 1].
    """

    def __init__(self, frequencies: int, window: int, hop: int, bands: int) -> None:
        super().__init__()
        self.hop = hop
        self.transform = nn.Buffer(torch.zeros(2 * frequencies, 1, window))
        self.bands = nn.Buffer(torch.zeros(bands, frequencies, 1))

    def fill(self, bases: NDArray[np.float64], triangles: NDArray[np.float64]) -> None:
        """Its kernels, which are not learnt: with the zeros that it begins with it would hear nothing.

        `bases`: [2 F, window], cosines, then sines. `triangles`: [bands, F]. Frequencies that no band
        hears are left out.

        Raises InvalidConfiguration unless it was made for so many frequencies.
        """
        heard, (bands, frequencies, _) = triangles.any(0), self.bands.shape
        if frequencies != heard.sum():
            raise InvalidConfiguration(
                f"front: {bands} bands over a window of {bases.shape[1]} samples hear {heard.sum()} frequencies, "
                f"not {frequencies}"
            )
        self.transform.copy_(self.transform.new_tensor(bases[np.tile(heard, 2)][:, None]))
        self.bands.copy_(self.bands.new_tensor(triangles[:, heard, None]))

    def forward(self, clip: Tensor) -> Tensor:
        waves = functional.conv1d(clip[:, None], self.transform, stride=self.hop)
        cosines, sines = (waves * waves).chunk(2, 1)
        energies = torch.log(functional.conv1d(cosines + sines, self.bands) + FLOOR)
        levelled: Tensor = (energies - energies.mean((1, 2), keepdim=True)) * 0.3
        return levelled[:, None]


class Normed(nn.Module):
    """Convolution without bias, then batch normalisation."""

    def __init__(self, dims: int, wide: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        flat = dims == 1
        self.conv = nn.Conv2d(
            wide,
            out,
            (1, kernel) if flat else kernel,
            (1, stride) if flat else stride,
            padding=(0, kernel // 2) if flat else kernel // 2,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.conv(x))
        return normed


class Block(nn.Module):
    """relu(past(x) + second(relu(first(x)))): the basic block of residual nets (He et al., CVPR 2016)."""

    def __init__(self, dims: int, wide: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.first = Normed(dims, wide, out, kernel, stride)
        self.second = Normed(dims, out, out, kernel)
        # A stage with a stride begins with one: so it may be narrower or wider than the stage before.
        self.past = Normed(dims, wide, out, 1, stride) if stride > 1 or wide != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.past(x) + self.second(torch.relu(self.first(x))))


class ConvNet(nn.Module):
    """Stem, stages of residual blocks, the mean and the maximum of each channel, scores [n, classes].

    x [n, *shape], where `shape` is [channels, *space] (or [samples] before a front). Every stage but the first begins
    by halving its space.
    """

    def __init__(
        self,
        dims: int,
        shape: Sequence[int],
        classes: int,
        channels: Sequence[int],
        blocks: Sequence[int],
        kernel: int,
        stem_kernel: int,
        stem_stride: int,
        front: nn.Module,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.dims, self.shape, self.front = dims, tuple(shape), front
        read = shape[0]
        if isinstance(front, LogMel):
            read = len(front.bands) if dims == 1 else 1
        self.stem = Normed(dims, read, channels[0], stem_kernel, stem_stride)
        wide = channels[0]
        stages = []
        for stage, (out, count) in enumerate(zip(channels, blocks, strict=True)):
            first = Block(dims, wide, out, kernel, 2 if stage else 1)
            stages.append(
                nn.ModuleList([first, *(Block(dims, out, out, kernel, 1) for _ in range(count - 1))])
            )
            wide = out
        self.stages = nn.ModuleList(stages)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(2 * wide, classes)
        self.to(memory_format=torch.channels_last)

    def example(self) -> Tensor:
        """One row of noise, always the same."""
        return noise(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)
        if self.dims == 1:  # a front's bands are then the channels
            x = x.unsqueeze(2) if x.dim() == 3 else x.transpose(1, 2)
        x = torch.relu(self.stem(x.contiguous(memory_format=torch.channels_last)))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        # Mean and maximum side by side for each channel, so that a prefix of channels is a prefix of columns.
        seen = torch.stack([x.mean((2, 3)), x.amax((2, 3))], 2).flatten(1)
        scores: Tensor = self.head(self.drop(seen))
        return scores


class Attention(nn.Module):
    """Self-attention of `heads` heads over tokens [n, t, width]. Queries, keys and values have a layer each, so that
    a prefix of the heads is a prefix of each one's rows."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.of_head = heads, width // heads
        inner = heads * self.of_head
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(2, (-1, self.of_head)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        mixed: Tensor = self.out(seen)
        return mixed


class FeedForward(nn.Module):
    """down(gelu(up(x))): of its `inner` features a prefix can be kept."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        narrow: Tensor = self.down(functional.gelu(self.up(x)))
        return narrow


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward net, each behind a LayerNorm and added to what came in."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.before_attention, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.before_feed, self.feed = nn.LayerNorm(width), FeedForward(width, inner)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.before_attention(x)))
        return x + self.drop(self.feed(self.before_feed(x)))


class Transformer(nn.Module):
    """Tokens with learnt places, one stage of blocks, the mean over the tokens, scores [n, classes].

    x [n, features, tokens] (or [n, samples] before a front): each frame of a spectrogram is a token. The tokens' own
    width stays whole; heads and inner features are what can be sliced, as in DynaBERT (Hou et al., NeurIPS 2020).
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        tokens: Sequence[int],
        width: int,
        heads: int,
        inner: int,
        blocks: int,
        front: nn.Module,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.shape, self.front = tuple(shape), front
        count, features = tokens
        self.embed = nn.Linear(features, width)
        self.places = nn.Parameter(0.02 * torch.randn(count, width))
        made = [TransformerBlock(width, heads, inner, dropout) for _ in range(blocks)]
        self.stages = nn.ModuleList([nn.ModuleList(made)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def example(self) -> Tensor:
        """One row of noise, always the same."""
        return noise(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)
        if x.dim() == 4:
            x = x.squeeze(1)
        x = self.embed(x.transpose(1, 2)) + self.places
        for stage in self.stages:
            for block in stage:
                x = block(x)
        scores: Tensor = self.head(self.norm(x).mean(1))
        return scores


def noise(shape: Sequence[int]) -> Tensor:
    """float32 [1, *shape] from a fixed seed of its own; torch's own state of chance is left as it was."""
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(0))


def build(architecture: str, sizes: Sizes) -> nn.Module:
    """A network with first weights from torch's present seed.

    `conv1d` and `conv2d` take `shape`, `classes`, `channels` and `blocks` (one of each for every stage), and may take
    `kernel` (3), `stem_kernel` (as `kernel`) and `stem_stride` (1). `transformer` takes `shape`, `classes`, `width`,
    `heads`, `inner`, `blocks`, and `tokens` [count, features] where that is not `shape` turned round. `shape` is that
    of an input without its rows: [channels, length], [channels, height, width], or [features, tokens].

    Any may take `front` [frequencies, window, hop, bands]: then `shape` is [samples], and a `LogMel` comes first.
    Raises InvalidConfiguration for an unknown architecture, and for a size that is missing, unknown or impossible.
    """
    if architecture not in BUILDERS:
        raise InvalidConfiguration(
            f"architecture {architecture!r} is not known; there are {', '.join(BUILDERS)}"
        )
    maker, needed, allowed = BUILDERS[architecture]
    missing = sorted(set(needed) - set(sizes))
    unknown = sorted(set(sizes) - set(needed) - set(allowed) - {"front"})
    if missing or unknown:
        raise InvalidConfiguration(
            f"sizes of a {architecture}: missing {missing}, unknown {unknown}; "
            f"needed {sorted(needed)}, allowed {sorted({*allowed, 'front'})}"
        )
    for name, value in sizes.items():
        listed = value if isinstance(value, list) else [value]
        if not listed or any(type(item) is not int or item < 1 for item in listed):
            raise InvalidConfiguration(
                f"size {name} of a {architecture}: {value!r}; integers above 0 are right"
            )
    shape, axes = several(sizes, "shape"), 1 if "front" in sizes else 3 if architecture == "conv2d" else 2
    if len(shape) != axes:
        raise InvalidConfiguration(
            f"shape {shape} of a {architecture}: {axes} numbers are right, without the rows"
        )
    if "front" not in sizes:
        return maker(sizes, nn.Identity())
    front = several(sizes, "front")
    if len(front) != 4:
        raise InvalidConfiguration(f"front {front}: frequencies, window, hop and bands are right")
    return maker(sizes, LogMel(*front))


def several(sizes: Sizes, name: str) -> list[int]:
    value = sizes[name]
    if not isinstance(value, list):
        raise InvalidConfiguration(f"size {name}: {value!r}; a list of integers is right")
    return value


def one(sizes: Sizes, name: str, otherwise: int = 0) -> int:
    value = sizes.get(name, otherwise)
    if isinstance(value, list):
        raise InvalidConfiguration(f"size {name}: {value!r}; one integer is right")
    return value


def conv_net(dims: int) -> Callable[[Sizes, nn.Module], nn.Module]:
    def maker(sizes: Sizes, front: nn.Module) -> nn.Module:
        channels, blocks, kernel = (
            several(sizes, "channels"),
            several(sizes, "blocks"),
            one(sizes, "kernel", 3),
        )
        if len(channels) != len(blocks):
            raise InvalidConfiguration(
                f"channels {channels} and blocks {blocks}: one of each for every stage"
            )
        if kernel % 2 == 0:
            raise InvalidConfiguration(f"kernel {kernel}: odd, as blocks add what they read to what they say")
        stem = one(sizes, "stem_kernel", kernel), one(sizes, "stem_stride", 1)
        return ConvNet(
            dims, several(sizes, "shape"), one(sizes, "classes"), channels, blocks, kernel, *stem, front
        )

    return maker


def transformer(sizes: Sizes, front: nn.Module) -> nn.Module:
    shape, width, heads = several(sizes, "shape"), one(sizes, "width"), one(sizes, "heads")
    if width % heads:
        raise InvalidConfiguration(f"width {width} and heads {heads}: the width is a multiple of the heads")
    tokens = several(sizes, "tokens") if "tokens" in sizes else shape[::-1]
    if len(tokens) != 2:
        raise InvalidConfiguration(f"tokens {tokens}: how many, and the features of each")
    sized = (width, heads, one(sizes, "inner"), one(sizes, "blocks"))
    return Transformer(shape, one(sizes, "classes"), tokens, *sized, front)


# For what is said about memory: 11.9 million parameters, 48 MB, with the inputs and classes of `ecg`.
LARGE: Sizes = {
    "shape": [1, 180],
    "classes": 7,
    "channels": [120, 240, 480],
    "blocks": [3, 3, 3],
    "kernel": 7,
    "stem_stride": 2,
}
LARGE_SPACE = Space("conv1d", (3, 3, 3), (1, 1, 1), (0.25, 0.5, 0.75, 1.0))

OF_CONV = (("shape", "classes", "channels", "blocks"), ("kernel", "stem_kernel", "stem_stride"))
BUILDERS: Mapping[str, tuple[Callable[[Sizes, nn.Module], nn.Module], tuple[str, ...], tuple[str, ...]]] = {
    "conv1d": (conv_net(1), *OF_CONV),
    "conv2d": (conv_net(2), *OF_CONV),
    "transformer": (transformer, ("shape", "classes", "width", "heads", "inner", "blocks"), ("tokens",)),
}
