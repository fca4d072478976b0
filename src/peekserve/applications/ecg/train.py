"""Trains the two variants of `ecg` (about ten minutes on one core) and writes them as ONNX.

`python -m peekserve.applications.ecg.train --out DIR`; without --out, into the package itself. With `--patients` the
same nets are trained and tested on different patients, the accuracies printed and nothing written.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from peekserve.applications.ecg.load import SYMBOLS, load
from peekserve.applications.nets import conv
from peekserve.applications.splits import Split
from peekserve.applications.training import Epoch, as_seen, export, fit, seeded
from peekserve.supernets.augment import Augmentation

CLASSES = len(SYMBOLS)
DEPTH = (3, 4, 6, 3)  # blocks of two convolutions in each stage: with stem and head, 34 layers
WIDTHS = (24, 32, 48, 56)
SHIFT = 2  # samples: the R peak is found that much early or late
OF_A_CLASS = 3000  # rows of one class in an epoch, at most: three beats in five are normal


class Step(nn.Module):
    """A block of a residual net (He et al., CVPR 2016); the first of a stage halves the length and widens."""

    def __init__(self, wide: int, out: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv(1, wide, out, 7, stride), conv(1, out, out, 7)
        self.past = conv(1, wide, out, 1, stride) if stride > 1 or wide != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.past(x) + self.second(torch.relu(self.first(x))))


class Residual34(nn.Module):
    """The residual net of 34 layers in one dimension; x [n, 1, 180], scores [n, 7]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(1, 1, WIDTHS[0], 15, 2), nn.ReLU()]
        wide = WIDTHS[0]
        for stage, (depth, out) in enumerate(zip(DEPTH, WIDTHS, strict=True)):
            for i in range(depth):
                layers.append(Step(wide, out, 2 if stage and not i else 1))
                wide = out
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(wide, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(x).mean(2))
        return scores


class Shifted(nn.Module):
    """A net shown the beat where it is and up to `SHIFT` samples to either side; the mean of its probabilities."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        length, views = x.shape[2], 2 * SHIFT + 1
        wide = functional.pad(x, (SHIFT, SHIFT), mode="replicate")
        shown = torch.stack([wide[:, :, i : i + length] for i in range(views)], 1).flatten(0, 1)
        return torch.softmax(self.net(shown), 1).reshape(-1, views, CLASSES).mean(1)


def small() -> nn.Module:
    """Two convolutions: x [n, 1, 180], scores [n, 7]."""
    return nn.Sequential(
        nn.Conv1d(1, 6, 9, stride=3, padding=4),
        nn.ReLU(),
        nn.Conv1d(6, 8, 5, stride=3, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 20, CLASSES),
    )


# Found up to 17 ms early or late, a little higher or lower, on a drifting line, and noisier.
WORN_DIFFERENTLY = Augmentation(shift=(3,), scale=0.1, level=0.05, drift=0.05, noise=0.01)


def augmented(train: Split) -> Epoch:
    """Every class's beats, or `OF_A_CLASS` drawn anew each time, as they might have been recorded: [n, 1, 180]."""
    return as_seen(train.inputs["beat"][:, None], train.labels, WORN_DIFFERENTLY, OF_A_CLASS)


def trained(train: Split) -> dict[str, nn.Module]:
    """Both variants, from fixed seeds."""
    seeded(1)
    cnn = fit(small(), augmented(train), 30, seed=1, peak=1e-2)
    seeded(2)
    resnet34 = fit(Residual34(), augmented(train), 18, seed=2)
    return {"cnn": cnn, "resnet34": Shifted(resnet34).eval()}


def recalls(net: nn.Module, split: Split) -> str:
    """Accuracy, and the share found of each class that occurs."""
    with torch.no_grad():
        batches = torch.from_numpy(split.inputs["beat"][:, None]).split(512)
        right = torch.cat([net(batch).argmax(1) for batch in batches]).numpy() == split.labels
    each = [
        f"{name} {right[split.labels == c].mean():.3f} of {(split.labels == c).sum()}"
        for c, name in enumerate(SYMBOLS)
        if (split.labels == c).any()
    ]
    return f"{right.mean():.3f} ({', '.join(each)})"


def main(out: Path, patients: bool) -> None:
    splits = load("split_interpatient" if patients else "split_time")
    nets = trained(splits.train)
    for name, net in nets.items():
        print(f"{name}: validation {recalls(net, splits.validation)}; test {recalls(net, splits.test)}")
    if patients:
        return
    example = splits.train.inputs["beat"][:2, None].copy()
    export(nets["cnn"], out / "cnn.onnx", [example], ["beat"], "logits")
    export(nets["resnet34"], out / "resnet34.onnx", [example], ["x"], "mean")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    parser.add_argument(
        "--patients", action="store_true", help="train and test on different patients, write nothing"
    )
    given = parser.parse_args()
    main(given.out, given.patients)
