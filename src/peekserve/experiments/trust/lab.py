"""What the experiments on trust work with: how long they run, and repositories whose models keep a stated pace.

A paced worker runs the real model and then waits until the time that is stated is over (runtimes/paced.py): so a small
machine has a model of 50 ms, and its own haste or sloth is in no figure but where a figure says so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from peekserve.errors import InvalidData
from peekserve.experiments.trust.yard import NAME

# The device whose pace is kept.
PACE = "stated"
# By number of rows, seconds.
Curve = Mapping[int, float]

# Of a full run's length, for a quick look.
SMALL = 0.02


@dataclass(frozen=True, slots=True)
class TrustLab:
    """`share`: of the full length of everything that is repeated."""

    share: float = 1.0


def trust_laboratory(small: bool) -> TrustLab:
    return TrustLab(SMALL if small else 1.0)


def keep_pace(root: Path, curves: Mapping[str, Curve], **keys: str) -> None:
    """State what the variants of the digits in this repository take, in batches as large as that says; leave out the
    others; and write `keys` of the application anew, or not at all if they are empty. Its worker keeps that pace.

    Raises InvalidData for a variant that it does not have."""
    file = root / NAME / "application.yaml"
    head, _, rest = file.read_text().partition("\nvariants:\n")
    body, _, tail = rest.rpartition("\nvalidation:")
    pieces = re.split(r"^  (?=\w)", body, flags=re.MULTILINE)[1:]
    variants = {piece.partition(":")[0]: piece for piece in pieces}
    missing = sorted(set(curves) - set(variants))
    if missing:
        raise InvalidData(f"{file} has no variant {', '.join(missing)}; it has {', '.join(variants)}")
    for key, value in keys.items():
        line = f"{key}: {value}\n" if value else ""
        head = re.sub(rf"^{key}:.*\n(?:[ \t].*\n)*", line, f"{head}\n", flags=re.MULTILINE).rstrip("\n")
    paced = "".join(_paced(variants[name], curve) for name, curve in curves.items())
    file.write_text(f"{head}\nvariants:\n{paced}validation:{tail}")
    settings = root / "peekserve.yaml"
    worker = f"{{name: paced, runtime: {{kind: paced, device: {PACE}}}, memory: 64MiB}}"
    settings.write_text(
        re.sub(r"^workers:.*$", f"workers: [{worker}]", settings.read_text(), flags=re.MULTILINE)
    )


def _paced(variant: str, curve: Curve) -> str:
    own = re.sub(r"max_batch: \d+", f"max_batch: {max(curve)}", variant.rstrip())
    times = ", ".join(f"{rows}: {seconds * 1e3:g}ms" for rows, seconds in sorted(curve.items()))
    return f"  {own}\n    profile: {{devices: {{{PACE}: {{latency: {{{times}}}}}}}}}\n"
