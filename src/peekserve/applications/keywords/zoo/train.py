"""Trains the five sizes of the zoo of `keywords`, tiny to base (about four minutes of one core), as ONNX files.

`python -m peekserve.applications.keywords.zoo.train [SIZE ...] --out DIR`; without --out, into the package itself.

Each is a residual net over a log-mel front of its own. A front that is the same for all would be most of what the small
ones cost, and five sizes would be hardly different in price: a small net also gets shorter windows, fewer frames and
fewer bands. Sizes and epochs were written down before the first run and not changed after it; only the training part
is seen.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from peekserve.applications.keywords.load import FILE, WORDS, background, parted, read
from peekserve.applications.keywords.train import PEAK, Levelled, augmented
from peekserve.applications.nets import Residual
from peekserve.applications.training import export, fit, seeded
from peekserve.registry.datasets import dataset_file

REPORT = "training.json"


@dataclass(frozen=True, slots=True)
class Size:
    """Front: `window` and `hop` in samples, `bands`. Net: `widths` of its stages, `blocks` in each. `seed`: of weights,
    augmentation and order."""

    window: int
    hop: int
    bands: int
    widths: tuple[int, int, int]
    blocks: int
    epochs: int
    seed: int


SIZES = {
    "tiny": Size(128, 256, 16, (8, 12, 16), 0, 40, 11),
    "mini": Size(128, 160, 20, (8, 16, 32), 1, 40, 12),
    "small": Size(256, 200, 24, (12, 24, 48), 1, 40, 13),
    "medium": Size(256, 160, 32, (16, 32, 64), 2, 40, 14),
    "base": Size(256, 128, 32, (32, 64, 96), 2, 40, 15),
}


class Heard(nn.Module):
    """Samples [n, 8000] -> scores [n, classes]: the energies as an image, seen by a residual net."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.front = Levelled(size.window, size.hop, size.bands)
        self.net = Residual(2, 1, len(WORDS), size.widths, size.blocks, stem=2)

    def forward(self, clip: Tensor) -> Tensor:
        scores: Tensor = self.net(self.front(clip)[:, None])
        return scores


def main(names: list[str], out: Path) -> None:
    clips = read(dataset_file(FILE))
    train = parted(clips).train
    rows = train.inputs["clip"]
    epoch = augmented(rows, background(clips), train.labels)
    place = out / REPORT
    report = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
    for name in names:
        size = SIZES[name]
        seeded(size.seed)
        began = time.process_time()
        net = fit(Heard(size), epoch, size.epochs, size.seed, PEAK)
        took = time.process_time() - began
        export(net, out / f"{name}.onnx", [rows[:2]], ["clip"], "logits")
        weights = sum(p.numel() for p in net.parameters())
        report[name] = {"cpu_s": round(took, 1), "epochs": size.epochs, "parameters": weights}
        place.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(f"{name}: {weights} weights, {took:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*SIZES, []], help="all, if none is named")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    torch.set_num_threads(1)
    main(given.names or list(SIZES), given.out)
