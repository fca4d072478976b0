"""Trains the five variants of `falls` (five minutes of one core) and writes them as ONNX.

`python -m peekserve.applications.falls.train --out DIR`, where the recordings lie: what is learnt from them is not
shipped. Without --out, where `prepare` looks for it. Everything was chosen on the validation part.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from peekserve.applications.falls.load import load, spoiled
from peekserve.applications.nets import Residual
from peekserve.applications.splits import Split
from peekserve.applications.training import Batch, Epoch, export, fit, seeded, shuffled
from peekserve.registry.datasets import trained_home

CLASSES = 2
DILATIONS = (1, 4, 16)


@dataclass(frozen=True, slots=True)
class Size:
    """One size of the net on the tags, and how it is fitted. It sees every `every`-th frame of a row, from `clips`
    beginnings, the features averaged: all frames are seen if these are equal."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    every: int
    clips: int
    epochs: int


SIZES = {
    "x3d_s": Size((12, 24, 48), (1, 2, 2), every=4, clips=1, epochs=14),
    "x3d_m": Size((12, 24, 48), (1, 2, 2), every=2, clips=1, epochs=14),
    "x3d_l": Size((16, 32, 64), (2, 3, 3), every=2, clips=2, epochs=12),
}
FUSED = Size((16, 32, 64), (1, 2, 2), every=2, clips=2, epochs=7)
MEMBERS = 8
SEED = 20_25

Rows = NDArray[np.float32]
Nets = dict[str, nn.Module]
Look = Callable[[Split], Rows]  # a split's rows as a network takes them


class Rocket(nn.Module):
    """A transform like MiniRocket's (Dempster et al., KDD 2021), then one linear layer, on acceleration [n, 3, t].

    The 84 kernels of nine weights, six of them -1 and three 2, at each dilation, each summed over a random choice of
    channels (the three axes and the magnitude); of what comes out, the share above a bias. Unlike the paper's: three
    dilations, one bias a kernel, always padded.
    """

    def __init__(self, rng: np.random.Generator, dilations: tuple[int, ...] = DILATIONS) -> None:
        super().__init__()
        self.dilations = dilations
        shapes = np.full((84, 9), -1.0, dtype=np.float32)
        for row, chosen in zip(shapes, combinations(range(9), 3), strict=True):
            row[list(chosen)] = 2.0
        heard = rng.random((len(dilations), 84, 4)) < 0.5
        heard[~heard.any(2), 3] = True  # who would hear nothing hears the magnitude
        self.kernels = nn.Buffer(torch.from_numpy((heard[..., None] * shapes[:, None]).astype(np.float32)))
        self.biases = nn.Buffer(torch.zeros(len(dilations), 84))
        self.head = nn.Linear(84 * len(dilations), CLASSES)

    def responses(self, x: Tensor) -> list[Tensor]:
        """For each dilation, [n, 84, t]."""
        heard = torch.cat([x, x.square().sum(1, keepdim=True).sqrt()], 1)
        return [
            functional.conv1d(heard, self.kernels[i], padding=4 * d, dilation=d)
            for i, d in enumerate(self.dilations)
        ]

    def shares(self, x: Tensor) -> Tensor:
        """The proportions of positive values, [n, 84 * dilations]."""
        above = [y > bias[:, None] for y, bias in zip(self.responses(x), self.biases, strict=True)]
        return torch.cat([y.float().mean(2) for y in above], 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.shares(x))
        return scores

    def learn(self, rows: Rows, labels: NDArray[np.int64], seed: int) -> "Rocket":
        """Biases at a random quantile of what each kernel gives on `rows`, then a linear layer on the shares."""
        rng = np.random.default_rng(seed)
        with torch.no_grad():
            for i, y in enumerate(self.responses(torch.from_numpy(rows[rng.permutation(len(rows))[:200]]))):
                quantiles = torch.from_numpy(rng.uniform(0.05, 0.95, 84).astype(np.float32))
                flat = y.transpose(0, 1).flatten(1).sort(1).values
                self.biases[i] = flat[torch.arange(84), (quantiles * (flat.shape[1] - 1)).long()]
            seen = torch.cat([self.shares(torch.from_numpy(part)) for part in np.array_split(rows, 20)])
            mean, spread = seen.mean(0), seen.std(0) + 1e-3
            even = ((seen - mean) / spread).numpy()

        def epoch(rng: np.random.Generator) -> list[Batch]:
            chosen = evenly(labels, rng)
            return shuffled([even[chosen]], labels[chosen], rng)

        fit(self.head, epoch, 60, seed, peak=2e-3)
        # The layer learnt on standardised shares; from here on it takes them as they are.
        with torch.no_grad():
            self.head.weight /= spread
            self.head.bias -= self.head.weight @ mean
        return self


class Bottleneck(nn.Module):
    """X3D's block (Feichtenhofer, CVPR 2020) where space is four places on a body: widen, filter each channel in
    time and then from place to place, weigh the channels, narrow."""

    def __init__(self, wide: int, out: int, stride: int) -> None:
        super().__init__()
        inner = wide * 9 // 4  # X3D's expansion of the bottleneck, 2.25
        self.widen = nn.Sequential(nn.Conv2d(wide, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU())
        self.time = nn.Conv2d(inner, inner, (5, 1), (stride, 1), (2, 0), groups=inner, bias=False)
        self.place = nn.Sequential(
            nn.Conv2d(inner, inner, (1, 3), padding=(0, 1), groups=inner, bias=False), nn.BatchNorm2d(inner)
        )
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inner, 8, 1), nn.ReLU(), nn.Conv2d(8, inner, 1), nn.Sigmoid()
        )
        self.narrow = nn.Sequential(nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out))
        self.past = (
            nn.Identity()
            if stride == 1 and wide == out
            else nn.Sequential(nn.Conv2d(wide, out, 1, (stride, 1), bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.place(self.time(self.widen(x)))
        y = functional.silu(y * self.weigh(y))
        return torch.relu(self.past(x) + self.narrow(y))


class X3d(nn.Module):
    """A net like X3D on tags [n, 6, t, 4]. As there, the small and the middle size differ in how much they see, the
    large one is deeper and wider, and several clips of a row are averaged. Every stage begins by halving time."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.every, self.clips, widths = size.every, size.clips, size.widths
        layers: list[nn.Module] = [
            nn.Conv2d(7, widths[0], (1, 3), padding=(0, 1), bias=False),
            nn.Conv2d(widths[0], widths[0], (5, 1), padding=(2, 0), groups=widths[0], bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        ]
        before = widths[0]
        for width, depth in zip(widths, size.depths, strict=True):
            for i in range(depth):
                layers.append(Bottleneck(before, width, 1 if i else 2))
                before = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(2 * before, CLASSES))

    def features(self, x: Tensor) -> Tensor:
        """[n, 2 * widths[-1]]: what the scores are made of. A tag that is all zeros was not worn: a channel says so."""
        worn = (x.abs().amax((1, 2), keepdim=True) > 0).float().expand(-1, 1, x.shape[2], -1)
        rows = torch.cat([x, worn], 1)
        clips = torch.cat([rows[:, :, first :: self.every] for first in range(self.clips)])
        seen = self.body(clips).flatten(2)
        pooled = torch.cat([seen.mean(2), seen.amax(2)], 1)
        return pooled.reshape(self.clips, -1, pooled.shape[1]).mean(0)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(x))
        return scores


class Fusion(nn.Module):
    """Both sensors: a residual net's features of the phone beside an X3D's of the tags, and one layer on them."""

    def __init__(self, phone: Residual, tags: X3d) -> None:
        super().__init__()
        self.phone, self.tags = phone, tags
        wide = phone.head[-1].in_features + tags.head[-1].in_features
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(wide, CLASSES))

    def forward(self, phone: Tensor, tags: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.cat([self.phone.features(phone), self.tags.features(tags)], 1))
        return scores


class Committee(nn.Module):
    """The mean of the probabilities of several nets."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, phone: Tensor, tags: Tensor) -> Tensor:
        return torch.stack([torch.softmax(member(phone, tags), 1) for member in self.members]).mean(0)


def phone_rows(split: Split) -> Rows:
    """[n, 3, 150]."""
    return np.ascontiguousarray(split.inputs["phone"].transpose(0, 2, 1))


def tag_rows(split: Split) -> Rows:
    """[n, 6, 60, 4]."""
    return np.ascontiguousarray(split.inputs["tags"].transpose(0, 3, 1, 2))


def turns(n: int, spread: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """n random rotations by about `spread` radians: [n, 3, 3]."""
    x, y, z = rng.normal(0.0, spread, (3, n))
    none = np.zeros(n)
    skew = np.array([[none, -z, y], [z, none, -x], [-y, x, none]]).transpose(2, 0, 1)
    turned, upper = np.linalg.qr(np.eye(3) + skew)
    return np.asarray(turned * np.sign(np.einsum("nii->ni", upper))[:, None, :])


def worn_differently(tags: Rows, rng: np.random.Generator) -> Rows:
    """Each tag turned on its own by a little, and everybody a little stronger or weaker: [n, t, position, 6]."""
    n, t, positions, _ = tags.shape
    sensors = tags.transpose(0, 2, 3, 1).reshape(n * positions, 2, 3, t)
    turned = (turns(n * positions, 0.3, rng)[:, None] @ sensors).reshape(n, positions, 6, t)
    return (turned.transpose(0, 3, 1, 2) * rng.uniform(0.8, 1.2, (n, 1, 1, 1))).astype(np.float32)


def evenly(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The rows of one epoch: every fall, and twice as many windows of daily life, drawn anew."""
    falls, daily = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    return np.concatenate([falls, rng.permutation(daily)[: 2 * len(falls)]])


def spoiling(train: Split, *looks: Look) -> Epoch:
    """Epochs of rows that are spoiled as those of the other parts are, but each time otherwise."""

    def epoch(rng: np.random.Generator) -> list[Batch]:
        rows = train.rows(evenly(train.labels, rng))
        worn = Split(
            {**rows.inputs, "tags": worn_differently(rows.inputs["tags"], rng)}, rows.labels, rows.groups
        )
        seen = spoiled(worn, rng)
        return shuffled([look(seen) for look in looks], seen.labels, rng)

    return epoch


def untrained() -> Nets:
    """The five variants before they have learnt, by name; built with `seeded`, they are always the same."""
    seeded(1)
    nets: Nets = {"minirocket": Rocket(np.random.default_rng(1))}
    for seed, (name, size) in enumerate(SIZES.items(), 2):
        seeded(seed)
        nets[name] = X3d(size)
    members = []
    for seed in range(11, 11 + MEMBERS):
        seeded(seed)
        members.append(Fusion(Residual(1, 3, CLASSES, (16, 32, 48), blocks=1, kernel=5), X3d(FUSED)))
    return {**nets, "fusion": Committee(members)}


def write(nets: Nets, out: Path, shown: Split) -> None:
    """VARIANT.onnx for each; two rows of `shown` are traced."""
    motion, body = phone_rows(shown)[:2], tag_rows(shown)[:2]
    export(nets["minirocket"], out / "minirocket.onnx", [motion], ["acceleration"], "logits")
    for name in SIZES:
        export(nets[name], out / f"{name}.onnx", [body], ["tags"], "logits")
    export(nets["fusion"], out / "fusion.onnx", [motion, body], ["phone", "tags"], "probabilities")


def main(out: Path) -> None:
    train, nets = load().train, untrained()
    often = spoiled(train.rows(np.tile(np.arange(len(train)), 2)), np.random.default_rng(SEED))
    nets["minirocket"].learn(phone_rows(often), often.labels, 1)
    for seed, (name, size) in enumerate(SIZES.items(), 2):
        torch.manual_seed(seed)  # of dropout
        fit(nets[name], spoiling(train, tag_rows), size.epochs, seed)
    for seed, member in enumerate(nets["fusion"].members, 11):
        torch.manual_seed(seed)
        fit(member, spoiling(train, phone_rows, tag_rows), FUSED.epochs, seed)
    write(nets, out, often)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    main(parser.parse_args().out or trained_home("falls"))
