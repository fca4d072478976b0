"""Writes the measured half of each zoo's card: `python -m peekserve.experiments.cascadeserve.card [NAME ...]`.

From the recordings, so that a card says what the experiments use. The written half of a card is kept.
"""

import argparse

from peekserve.applications.card import Share, table
from peekserve.applications.prepare import HOME
from peekserve.experiments.cascadeserve.choice import at_best_batch
from peekserve.experiments.cascadeserve.record import NAMES, Part, Said, said

MARK = "<!-- measured: everything below is written by `python -m peekserve.experiments.cascadeserve.card` -->"


def measured_half(zoo: Said) -> str:
    """As markdown: what each size is worth and what it costs."""
    cheapest = at_best_batch(next(iter(zoo.timed.values())).curve)
    lines = []
    for size, model in zoo.models.items():
        curve = zoo.timed[size].curve
        each = at_best_batch(curve)
        lines.append(
            [
                size if size == model else f"{size} ({model})",
                f"{zoo.parameters[size]:,}",
                str(_share(zoo.validation, size)),
                str(_share(zoo.test, size)),
                f"{1e3 * curve.seconds(1):.3f}",
                f"{1e3 * curve.cautious_s(1):.3f}",
                f"{1e3 * each:.4f}",
                f"{each / cheapest:.1f}",
            ]
        )
    head = ["size", "weights", "validation", "test", "ms at batch 1", "its p95", "ms a row at the best batch",
            "times tiny"]  # fmt: skip
    return "\n".join(
        [
            "## What the sizes are worth and cost",
            "",
            "Accuracy with Wilson's 95% interval; one seed. Milliseconds of one core through the runtime that serves.",
            "",
            *table(head, lines),
        ]
    )


def _share(part: Part, size: str) -> Share:
    return Share(int((part.scores[size].argmax(axis=1) == part.labels).sum()), len(part.labels))


def main(names: list[str]) -> None:
    for name in names:
        card = HOME / name / "zoo" / "README.md"
        written = (
            card.read_text(encoding="utf-8").partition(MARK)[0]
            if card.is_file()
            else f"# {name}: the zoo\n\n"
        )
        card.write_text(f"{written}{MARK}\n\n{measured_half(said(name))}", encoding="utf-8")
        print(card)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="all, if none is named")
    main(parser.parse_args().names or list(NAMES))
