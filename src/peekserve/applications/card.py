"""Measures the shipped variants and writes the measured half of each application's card (its README.md).

`python -m peekserve.applications.card [NAME ...]`, on a quiet machine. The written half of a card is kept.
"""

import argparse
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from peekserve.applications.direct import answers, bucket_of, class_names, declaration, feeds, session
from peekserve.applications.nearest import votes
from peekserve.applications.prepare import ALL, HOME, NAMES, prepare
from peekserve.applications.splits import Split
from peekserve.domain.shares import wilson

MARK = "<!-- measured: everything below is written by `python -m peekserve.applications.card` -->"
BATCHES = (1, 2, 4, 8, 16, 32)
PEEK = "(the peek)"


@dataclass(frozen=True, slots=True)
class Share:
    """`right` of `of`, with Wilson's 95% interval (Wilson 1927)."""

    right: int
    of: int

    @property
    def value(self) -> float:
        return self.right / self.of

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.right, self.of)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}]"


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of a card: what a variant (or the peek) answers on each part, and the labels there."""

    name: str
    said: dict[str, NDArray[np.int64]]
    labels: dict[str, NDArray[np.int64]]

    def overall(self, part: str) -> Share:
        return Share(int((self.said[part] == self.labels[part]).sum()), len(self.labels[part]))

    def of_class(self, part: str, c: int) -> Share:
        members = self.labels[part] == c
        return Share(int((self.said[part][members] == c).sum()), int(members.sum()))


def measure(place: Path, parts: tuple[str, ...] = ("validation", "test")) -> list[Measured]:
    """The peek's and every variant's answers, from a prepared application's folder."""
    said = declaration(place / "application.yaml")
    data = {part: Split.read(place / f"{part}.npz") for part in parts}
    labels = {part: split.labels for part, split in data.items()}
    made = [
        Measured(PEEK, {part: votes(said, place, split).argmax(1) for part, split in data.items()}, labels)
    ]
    for variant in said["variants"]:
        answered = {part: answers(said, place, variant, split).argmax(1) for part, split in data.items()}
        made.append(Measured(variant, answered, labels))
    return made


def latency_ms(said: dict[str, Any], place: Path, variant: str, size: int, bucket: int = 0) -> float:
    """Median milliseconds of processor time for one batch of `size` rows on one thread, mapping excluded; `bucket` for
    ragged inputs. Processor time: what else the machine does meanwhile is no property of the variant."""
    model = session(place / said["variants"][variant]["model"])
    split = Split.read(place / "validation.npz")
    for name, lengths in split.lengths.items():
        sizes = said["inputs"][name]["buckets"]
        split = split.rows(np.array([bucket_of(n, sizes) == bucket for n in lengths]))
    _, fed = feeds(said, variant, split.rows(np.resize(np.arange(len(split)), size)), size)[0]
    spent: list[float] = []
    began = time.perf_counter()
    while len(spent) < 15 or (time.perf_counter() - began < 0.4 and len(spent) < 2000):
        start = time.thread_time()
        model.run(None, fed)
        spent.append(time.thread_time() - start)
    return statistics.median(spent[3:]) * 1e3


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    return f"{cpu}, one thread of ONNX Runtime {ort.__version__}, {platform.system()}"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)] + [""]


def latencies(said: dict[str, Any], place: Path) -> dict[tuple[str, int], list[float]]:
    """(variant, bucket) -> milliseconds by batch size; bucket 0 where lengths are fixed."""
    buckets = next((spec["buckets"] for spec in said["inputs"].values() if "buckets" in spec), [0])
    return {
        (variant, bucket): [latency_ms(said, place, variant, size, bucket) for size in BATCHES]
        for variant in said["variants"]
        for bucket in buckets
    }


def measured_half(place: Path) -> str:
    """The tables of a card, as markdown."""
    said = declaration(place / "application.yaml")
    lines, spent = measure(place), latencies(said, place)
    cost = {variant: times[0] for (variant, _), times in reversed(spent.items())}
    seen: list[list[str]] = []
    for line in lines:
        alone = f"{cost[line.name]:.3f}" if line.name in cost else "-"
        ratio = f"{cost[line.name] / min(cost.values()):.0f}" if line.name in cost else "-"
        seen.append([line.name, str(line.overall("validation")), str(line.overall("test")), alone, ratio])
    classes = [
        [name, str(lines[0].of_class("test", c).of), *(str(line.of_class("test", c)) for line in lines)]
        for c, name in enumerate(class_names(said))
    ]
    ragged = any(bucket for _, bucket in spent)
    times = [
        [variant, *([str(bucket)] if ragged else []), *(f"{ms:.3f}" for ms in row)]
        for (variant, bucket), row in spent.items()
    ]
    return "\n".join(
        [
            "## On the front",
            "",
            "Accuracy with Wilson's 95% interval; milliseconds at batch 1"
            + (" in the shortest bucket." if ragged else "."),
            "",
            *table(["variant", "validation", "test", "ms", "times the cheapest"], seen),
            "## By class, on the test part",
            "",
            *table(["class", "rows", *(line.name for line in lines)], classes),
            "## Milliseconds by batch size",
            "",
            f"Medians of processor time on {machine()}, the tensors already made.",
            "",
            *table(["variant", *(["bucket"] if ragged else []), *(str(b) for b in BATCHES)], times),
        ]
    )


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch), names)
        for name in names:
            card = HOME / name / "README.md"
            written = card.read_text(encoding="utf-8").split(MARK)[0].rstrip()
            card.write_text(f"{written}\n\n{MARK}\n\n{measured_half(Path(scratch) / name)}", encoding="utf-8")
            print(card)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*ALL, []], help="which applications; the demo's, when none is named"
    )
    main(parser.parse_args().names or list(NAMES))
