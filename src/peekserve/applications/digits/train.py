"""Trains the four variants of `digits` (about two minutes on one core) and writes them as ONNX.

`python -m peekserve.applications.digits.train --out DIR`; without --out, into the package itself.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from peekserve.applications.digits.load import load, spoil
from peekserve.applications.nets import Residual
from peekserve.applications.training import Batch, export, fit, seeded, shuffled

SIGHTS = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2), (0, 0), (2, 2), (0, 2), (2, 0))


class Enlarged(Residual):
    """A residual net on the image at 12 x 12 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.interpolate(x, size=(12, 12), mode="bilinear", align_corners=False))


class Committee(nn.Module):
    """Several nets, each shown the image and its eight neighbours by a pixel; the mean of all their probabilities."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor) -> Tensor:
        wide = functional.pad(image, (1, 1, 1, 1))
        sights = torch.stack([wide[:, :, y : y + 8, x : x + 8] for y, x in SIGHTS], 1).flatten(0, 1)
        said = torch.stack([torch.softmax(member(sights), 1) for member in self.members]).mean(0)
        return said.reshape(-1, len(SIGHTS), 10).mean(1)


class Label(nn.Module):
    """A net that keeps its scores to itself and only names the winner."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).argmax(1)


def linear() -> nn.Module:
    return nn.Linear(64, 10)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(24 * 16, 10),
    )


def main(out: Path) -> None:
    train = load().train
    clean, labels = train.inputs["image"], train.labels

    def flat(rng: np.random.Generator) -> list[Batch]:
        return shuffled([spoil(clean, rng).reshape(-1, 64) / np.float32(16)], labels, rng)

    def framed(rng: np.random.Generator) -> list[Batch]:
        return shuffled([spoil(clean, rng)[:, None] / np.float32(16)], labels, rng)

    rows, images = np.zeros((2, 64), np.float32), np.zeros((2, 1, 8, 8), np.float32)
    seeded(1)
    export(Label(fit(linear(), flat, 100, seed=1, peak=1e-2)), out / "linear.onnx", [rows], ["x"], "label")
    seeded(2)
    net = nn.Sequential(fit(mlp(), flat, 100, seed=2), nn.Softmax(1))
    export(net, out / "mlp.onnx", [rows], ["pixels"], "probabilities")
    seeded(3)
    export(fit(cnn(), framed, 60, seed=3), out / "cnn.onnx", [images], ["image"], "logits")
    members = []
    for seed in (4, 5, 6):
        seeded(seed)
        members.append(fit(Enlarged(2, 1, 10, (40, 64), blocks=2), framed, 30, seed))
    export(Committee(members), out / "committee.onnx", [images], ["input"], "mean")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    main(parser.parse_args().out)
