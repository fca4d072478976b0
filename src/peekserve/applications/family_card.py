"""The card of a supernet: what it had, what its subnets are worth, and what separate models of the same sizes are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peekserve.applications.card import Share, table

CARD = "README.md"


def write_card(folder: Path, said: Mapping[str, Any], title: str) -> None:
    """README.md in the folder. `said`: as `family.recorded` gives it."""
    (folder / CARD).write_text(card(said, title), encoding="utf-8")


def card(said: Mapping[str, Any], title: str) -> str:
    """As markdown: both budgets, the separate models beside their twins, and what is offered."""
    subnets, offered = said["subnets"], said["offered"]
    theirs, work = float(np.sum(said["separate_cpu_s"])), float(np.sum(said["separate_work"]))
    ours, own_work = said["supernet_cpu_s"], said["supernet_work"]
    beside = []
    for i, name in enumerate(said["separate"]):
        j = subnets.index(name)
        shares = [
            str(_share(said[f"{which}_{part}"][k], said[labels]))
            for part, labels in (("validation", "validation_labels"), ("test", "labels"))
            for which, k in (("subnets", j), ("separate", i))
        ]
        beside.append(
            [name, f"{said['separate_parameters'][i]:,}", *shares, f"{said['separate_cpu_s'][i]:.0f}"]
        )
    on_front = [
        [
            subnets[j],
            f"{said['subnets_parameters'][j]:,}",
            f"{said['subnets_multiply_adds'][j]:,}",
            str(_share(said["subnets_validation"][j], said["validation_labels"])),
            str(_share(said["subnets_test"][j], said["labels"])),
        ]
        for j in np.flatnonzero(offered).tolist()
    ]
    return "\n".join(
        [
            f"# {title}",
            "",
            f"{len(subnets)} subnets of one set of weights were calibrated and evaluated; {len(on_front)} are on the",
            "front of validation accuracy over multiply-adds, and offered. Nothing was chosen on the test part.",
            "Shares of right answers with Wilson's 95% interval; one seed.",
            "",
            f"**Training.** The supernet took {ours:.0f} s of one processor core and {own_work:.3g} multiply-adds in",
            f"its forward passes; the {len(beside)} separate models together {theirs:.0f} s and {work:.3g}, so it had",
            f"{ours / theirs:.1f} times the time and {own_work / work:.1f} times the work. Both sides saw the same",
            "augmented rows (`training.json` has the numbers).",
            "",
            "## What sharing costs",
            "",
            *table(
                [
                    "size",
                    "parameters",
                    "subnet, validation",
                    "alone, validation",
                    "subnet, test",
                    "alone, test",
                    "s alone",
                ],
                beside,
            ),
            "## On offer",
            "",
            *table(["subnet", "parameters", "multiply-adds", "validation", "test"], on_front),
        ]
    )


def _share(scores: NDArray[Any], labels: NDArray[np.int64]) -> Share:
    return Share(int((scores.argmax(1) == labels).sum()), len(labels))
