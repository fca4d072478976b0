"""Trains the three variants of `appliances` (about a minute on one core) and writes them as ONNX.

`python -m peekserve.applications.appliances.train --out DIR`; without --out, into the package itself.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from peekserve.applications.appliances.load import load
from peekserve.applications.nets import Residual
from peekserve.applications.training import Batch, export, fit, seeded, shuffled

CLASSES = 11
BUCKETS = (256, 512, 1344)
SHORTEST = 100
BEGINNINGS = (0, 8, 16, 24, 32, 40)


class Spectrum(nn.Module):
    """Sines and cosines under a sliding window, the logs of their magnitudes, and a small net on mean and maximum."""

    def __init__(self, bins: int = 32, width: int = 100) -> None:
        super().__init__()
        wave = 2 * np.pi / width * np.arange(bins)[:, None] * np.arange(width)
        bank = np.concatenate([np.cos(wave), np.sin(wave)]) * np.hanning(width + 2)[1:-1] * (2 / width)
        self.bank = nn.Buffer(torch.from_numpy(bank[:, None].astype(np.float32)))
        self.bins = bins
        self.head = nn.Sequential(
            nn.BatchNorm1d(2 * bins),
            nn.Linear(2 * bins, 64),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(64, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        waves = functional.conv1d(x[:, None], self.bank, stride=50)
        power = torch.log(waves[:, : self.bins].square() + waves[:, self.bins :].square() + 1e-8)
        scores: Tensor = self.head(torch.cat([power.mean(2), power.amax(2)], 1))
        return scores


class Wave(nn.Module):
    """A residual net on a current [n, length]: its shape, how strong it is, and which samples are padding."""

    def __init__(self, widths: tuple[int, ...], dropout: float, stem: int = 2) -> None:
        super().__init__()
        self.net = Residual(1, 3, CLASSES, widths, blocks=1, kernel=7, stem=stem, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        real = (x != 0).float()
        strength = (x.square().sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)).sqrt() + 1e-4
        scores: Tensor = self.net(torch.stack([x / strength, real * (torch.log(strength) / 3), real], 1))
        return scores


class OneChannel(nn.Module):
    """A net of [n, length] for rows that come as [n, 1, length]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(x.flatten(1))
        return scores


class Ensemble(nn.Module):
    """Nets on waveform and spectrum, each shown the current both ways round and from six beginnings; their mean."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        length = flat.shape[1] - BEGINNINGS[-1]
        views = [sign * flat[:, begin : begin + length] for begin in BEGINNINGS for sign in (1.0, -1.0)]
        together = torch.stack(views, 1).flatten(0, 1)
        said = torch.stack([torch.softmax(member(together), 1) for member in self.members]).mean(0)
        return said.reshape(-1, 2 * len(BEGINNINGS), CLASSES).mean(1)


def measured_differently(
    rows: NDArray[np.float32], lengths: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Each row begun later or ended earlier, with the plug the other way round, and drawing a little more or less."""
    out, kept = np.zeros_like(rows), lengths.copy()
    for i, length in enumerate(lengths):
        begin = rng.integers(0, max(1, min(length - SHORTEST, length // 3))) if rng.random() < 0.7 else 0
        less = (
            rng.integers(0, max(1, min(length - begin - SHORTEST, length // 4))) if rng.random() < 0.5 else 0
        )
        kept[i] = length - less - begin
        strength = np.exp(rng.normal(0.0, 0.15)) * rng.choice([-1.0, 1.0])
        out[i, : kept[i]] = rows[i, begin : length - less] * strength
    return out, kept


def main(out: Path) -> None:
    train = load().train
    rows, lengths, labels = train.inputs["current"], train.lengths["current"], train.labels

    def epoch(rng: np.random.Generator) -> list[Batch]:
        seen, kept = measured_differently(rows, lengths, rng)
        bucket = np.searchsorted(BUCKETS, kept)
        batches: list[Batch] = []
        for i in np.unique(bucket):
            mine = np.flatnonzero(bucket == i)
            batches += shuffled([seen[mine, : BUCKETS[i]]], labels[mine], rng, size=32)
        return [batches[i] for i in rng.permutation(len(batches)) if len(batches[i][1]) > 1]

    short, free = rows[:2, :256].copy(), "length"
    seeded(1)
    net = nn.Sequential(fit(Spectrum(), epoch, 60, seed=1), nn.Softmax(1))
    export(net, out / "spectrum.onnx", [short], ["x"], "probabilities", {"x": {1: free}})
    seeded(2)
    small = OneChannel(fit(Wave((8, 16, 24), dropout=0.2), epoch, 40, seed=2))
    export(small, out / "waveform.onnx", [short[:, None]], ["wave"], "logits", {"wave": {2: free}})
    members = []
    for seed in (3, 4, 5, 6):
        seeded(seed)
        members.append(fit(Wave((16, 32, 48), dropout=0.5), epoch, 50, seed))
    for seed in (7, 8, 9, 10):
        seeded(seed)
        members.append(fit(Spectrum(), epoch, 60, seed))
    export(
        Ensemble(members),
        out / "ensemble.onnx",
        [short[:, :, None]],
        ["current"],
        "mean",
        {"current": {1: free}},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    main(parser.parse_args().out)
