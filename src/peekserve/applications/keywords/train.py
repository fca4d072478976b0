"""Trains the two variants of `keywords` (about three minutes of one core) and writes them as ONNX.

`python -m peekserve.applications.keywords.train --out DIR`; without --out, into the package itself.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from peekserve.applications.keywords.load import FILE, RATE, WORDS, background, parted, read
from peekserve.applications.keywords.logmel import FLOOR, bases, triangles
from peekserve.applications.nets import conv
from peekserve.applications.training import Epoch, export, fit, seeded, shuffled
from peekserve.registry.datasets import dataset_file

PACES = (0.87, 1.15)  # how much faster or slower somebody else speaks; the pitch goes with it
EARLY_OR_LATE = 1_200  # samples: a word may begin this much sooner or later
LOUDNESS = (0.5, 1.5)
LOUDEST_NOISE = 0.5  # times the recorded noise
SHIFTS = (0, -500, -250, 250, 500)  # samples: when the dear variant hears a clip
MEMBERS = 3
PEAK = 1e-2


class LogMel(nn.Module):
    """Samples [n, T] -> log of each mel band's power in each frame, [n, bands, 1 + (T - window) // hop].

    Framing, window and transform are one convolution with fixed kernels (frequencies that no band hears are left
    out), the bands a second one. Power is the square of |sum over t of w(t) x(t) exp(-2 pi i f t)|, w's sum being 1.
    """

    def __init__(self, window: int, hop: int, bands: int) -> None:
        super().__init__()
        of_bands = triangles(window, bands)
        heard = of_bands.any(0)
        transform = bases(window)[np.tile(heard, 2)]
        self.hop = hop
        self.transform = nn.Buffer(torch.tensor(transform[:, None], dtype=torch.float32))
        self.bands = nn.Buffer(torch.tensor(of_bands[:, heard, None], dtype=torch.float32))

    def forward(self, clip: Tensor) -> Tensor:
        waves = torch.conv1d(clip[:, None], self.transform, stride=self.hop)
        cosines, sines = (waves * waves).chunk(2, 1)
        return torch.log(torch.conv1d(cosines + sines, self.bands) + FLOOR)


class Levelled(nn.Module):
    """Log-mel energies less their mean over the clip, so that loudness does not matter. While it trains, whole bands
    go missing now and then (the frequency masks of SpecAugment, Park et al., Interspeech 2019)."""

    def __init__(self, window: int, hop: int, bands: int, missing: float = 0.1) -> None:
        super().__init__()
        self.logmel = LogMel(window, hop, bands)
        self.mask = nn.Dropout1d(missing)

    def forward(self, clip: Tensor) -> Tensor:
        """[n, T] -> [n, bands, frames]."""
        energies = self.logmel(clip)
        masked: Tensor = self.mask((energies - energies.mean((1, 2), keepdim=True)) * 0.3)
        return masked


class Recurrent(nn.Module):
    """An LSTM over the frames; the mean and the maximum of its states make the scores."""

    def __init__(self, classes: int, bands: int, width: int, window: int, hop: int) -> None:
        super().__init__()
        self.front = Levelled(window, hop, bands)
        self.lstm = nn.LSTM(bands, width, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * width, classes))

    def forward(self, clip: Tensor) -> Tensor:
        states, _ = self.lstm(self.front(clip).transpose(1, 2))
        scores: Tensor = self.head(torch.cat([states.mean(1), states.amax(1)], 1))
        return scores


class Separable(nn.Module):
    """A 3 x 3 convolution of each channel by itself, then 1 x 1 across channels, each with batch normalisation
    (MobileNets, Howard et al., arXiv:1704.04861); what comes in is added where its shape fits."""

    def __init__(self, wide: int, out: int, stride: int = 1) -> None:
        super().__init__()
        depthwise = nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide, bias=False)
        self.body = nn.Sequential(depthwise, nn.BatchNorm2d(wide), nn.ReLU(), conv(2, wide, out, 1))
        self.same = stride == 1 and wide == out

    def forward(self, x: Tensor) -> Tensor:
        through: Tensor = self.body(x)
        return torch.relu(through + x if self.same else through)


class Mobile(nn.Module):
    """Separable convolutions over the spectrogram as an image, then the mean and maximum over what is left."""

    def __init__(
        self, classes: int, bands: int, widths: tuple[int, ...], blocks: int, window: int, hop: int
    ) -> None:
        super().__init__()
        self.front = Levelled(window, hop, bands)
        layers: list[nn.Module] = [conv(2, 1, widths[0], 3, 2), nn.ReLU()]
        for i, width in enumerate(widths):
            if i:
                layers.append(Separable(widths[i - 1], width, stride=2))
            layers += [Separable(width, width) for _ in range(blocks)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * widths[-1], classes))

    def scores(self, energies: Tensor) -> Tensor:
        """[n, bands, frames] -> [n, classes]."""
        seen = self.body(energies[:, None]).flatten(2)
        scores: Tensor = self.head(torch.cat([seen.mean(2), seen.amax(2)], 1))
        return scores

    def forward(self, clip: Tensor) -> Tensor:
        return self.scores(self.front(clip))


class Listeners(nn.Module):
    """Several nets behind one front, each of which hears the clip at several moments; the mean of all their
    probabilities. `shifts` in samples, 0 first; what is shifted in is silence.

    One moment after the other: all at once, a batch of a few clips would no longer fit in the cache.
    """

    def __init__(self, members: list[Mobile], shifts: tuple[int, ...]) -> None:
        super().__init__()
        # The exporter would fold each normalisation into a copy of the weights for every moment.
        self.members = nn.ModuleList([folded(member) for member in members])
        self.front = members[0].front  # the same in all: nothing in it is learnt
        self.shifts, self.edge = shifts, max(abs(shift) for shift in shifts)

    def forward(self, clip: Tensor) -> Tensor:
        wide = nn.functional.pad(clip, (self.edge, self.edge))
        said = []
        for shift in self.shifts:
            energies = self.front(wide[:, self.edge - shift : self.edge - shift + RATE])
            said += [torch.softmax(member.scores(energies), 1) for member in self.members]
        return torch.stack(said).mean(0)


def folded(net: nn.Module) -> nn.Module:
    """The net in evaluation, each normalisation that follows a convolution folded into it."""
    for part in [part for part in net.eval().modules() if isinstance(part, nn.Sequential)]:
        for i, (first, second) in enumerate(itertools.pairwise(part)):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                part[i], part[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return net


def spoken_differently(
    rows: NDArray[np.float32], noise: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Each clip [8000] at another pace, sooner or later, louder or softer, and with a clip of `noise` behind it."""
    n, middle, at = len(rows), RATE / 2, np.arange(RATE)
    paces = rng.uniform(*PACES, n)
    shifts = rng.integers(-EARLY_OR_LATE, EARLY_OR_LATE + 1, n)
    out = np.empty((n, RATE))
    for i in range(n):
        out[i] = np.interp((at - middle) * paces[i] + middle - shifts[i], at, rows[i], left=0.0, right=0.0)
    behind = noise[rng.integers(0, len(noise), n)] * rng.uniform(0.0, LOUDEST_NOISE, (n, 1))
    return (out * rng.uniform(*LOUDNESS, (n, 1)) + behind).astype(np.float32)


def augmented(rows: NDArray[np.float32], noise: NDArray[np.float32], labels: NDArray[np.int64]) -> Epoch:
    return lambda rng: shuffled([spoken_differently(rows, noise, rng)], labels, rng)


def recurrent() -> Recurrent:
    """24 bands every 25 ms, 24 units."""
    return Recurrent(len(WORDS), bands=24, width=24, window=256, hop=200)


def mobile() -> Mobile:
    """32 bands every 16 ms, halved three times."""
    return Mobile(len(WORDS), bands=32, widths=(32, 64, 96), blocks=2, window=256, hop=128)


def main(out: Path) -> None:
    clips = read(dataset_file(FILE))
    train = parted(clips).train
    rows = train.inputs["clip"]
    epoch = augmented(rows, background(clips), train.labels)

    seeded(1)
    lstm = fit(recurrent(), epoch, 30, 1, PEAK)
    export(lstm, out / "lstm.onnx", [rows[:2]], ["clip"], "logits")
    members = []
    for seed in range(2, 2 + MEMBERS):
        seeded(seed)
        member = mobile()
        fit(member, epoch, 25, seed, PEAK)
        members.append(member)
    export(Listeners(members, SHIFTS), out / "mobilenet.onnx", [rows[:2]], ["clip"], "probabilities")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    main(parser.parse_args().out)
