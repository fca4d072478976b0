"""Trains the three variants of `watch` (about two minutes on one core) and writes them as ONNX.

`python -m peekserve.applications.watch.train --out DIR`; without --out, into the package itself.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from peekserve.applications.nets import Residual
from peekserve.applications.prepare import load_elsewhere
from peekserve.applications.splits import Split, Splits
from peekserve.applications.training import Epoch, export, fit, seeded, shuffled

TILTS = (
    -0.3,
    -0.2,
    -0.1,
    -0.05,
    0.05,
    0.1,
    0.2,
    0.3,
)  # radians about each axis: how differently two people wear a watch


def channels_first(split: Split, *sensors: str) -> NDArray[np.float32]:
    """[n, 3 * sensors, T]."""
    return np.concatenate([split.inputs[sensor].transpose(0, 2, 1) for sensor in sensors], 1)


def worn_differently(rows: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Each row [3k, T] turned by a small rotation, the same for all its sensors, a little scaled, and noisier."""
    n, (x, y, z) = len(rows), rng.normal(0.0, 0.15, (3, len(rows)))
    none = np.zeros(n)
    skew = np.array([[none, -z, y], [z, none, -x], [-y, x, none]]).transpose(2, 0, 1)
    turned, upper = np.linalg.qr(np.eye(3) + skew)
    turned = turned * np.sign(np.einsum("nii->ni", upper))[:, None, :]
    sensors = [turned @ rows[:, i : i + 3] for i in range(0, rows.shape[1], 3)]
    scaled = np.concatenate(sensors, 1) * rng.uniform(0.9, 1.1, (n, 1, 1))
    return (scaled + rng.normal(0.0, 0.05, scaled.shape)).astype(np.float32)


def tilts() -> NDArray[np.float32]:
    """The watch as it sits, and turned a little about each axis: [25, 3, 3]."""
    turns = [np.eye(3)]
    for axis in range(3):
        i, j = (other for other in range(3) if other != axis)
        for angle in TILTS:
            turn = np.eye(3)
            turn[[i, j], [i, j]], turn[i, j], turn[j, i] = np.cos(angle), -np.sin(angle), np.sin(angle)
            turns.append(turn)
    return np.array(turns, dtype=np.float32)


class TimeFirst(nn.Module):
    """A net of [n, C, T] for rows that come as [n, T, C]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(x.transpose(1, 2))
        return scores


class Fusion(nn.Module):
    """Nets that see both sensors, each shown the watch in 25 positions; the mean of all their probabilities."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.turns = nn.Buffer(torch.from_numpy(tilts()))

    def forward(self, motion: Tensor, rotation: Tensor) -> Tensor:
        turns = self.turns[None]
        views = torch.cat([turns @ motion[:, None], turns @ rotation.transpose(1, 2)[:, None]], 2).flatten(
            0, 1
        )
        said = torch.stack([torch.softmax(member(views), 1) for member in self.members]).mean(0)
        return said.reshape(-1, len(self.turns), 7).mean(1)


def augmented(rows: NDArray[np.float32], labels: NDArray[np.int64]) -> Epoch:
    return lambda rng: shuffled([worn_differently(rows, rng)], labels, rng)


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        load_elsewhere("watch", Path(scratch))
        train = Splits.read(Path(scratch)).train
    motion, rotation = (channels_first(train, sensor) for sensor in ("accelerometer", "gyroscope"))
    both = channels_first(train, "accelerometer", "gyroscope")

    seeded(1)
    small = fit(
        Residual(1, 3, 7, (8, 16), blocks=0, kernel=7, dropout=0.0), augmented(motion, train.labels), 10, 1
    )
    export(small, out / "accelerometer.onnx", [motion[:2]], ["motion"], "logits")
    seeded(2)
    net = Residual(1, 3, 7, (24, 48), blocks=1, kernel=5)
    middle = fit(net, augmented(rotation * np.float32(0.5), train.labels), 12, 2)
    export(
        TimeFirst(middle), out / "gyroscope.onnx", [rotation[:2].transpose(0, 2, 1).copy()], ["w"], "scores"
    )
    members = []
    for seed in range(3, 11):
        seeded(seed)
        net = Residual(1, 6, 7, (32, 64), blocks=1, kernel=5, stem=2, dropout=0.5)
        members.append(fit(net, augmented(both, train.labels), 12, seed))
    examples = [motion[:2], rotation[:2].transpose(0, 2, 1).copy()]
    export(Fusion(members), out / "fusion.onnx", examples, ["motion", "rotation"], "probabilities")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    main(parser.parse_args().out)
