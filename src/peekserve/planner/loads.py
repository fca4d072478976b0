"""How often which load comes: ranges of requests per second side by side, each with a weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidConfiguration

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Loads:
    """Ranges of load side by side: `edges` float, requests per second, from 0, rising; `weights`: how much of the time
    the load is in each, summing to 1."""

    edges: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.edges) < 2 or len(self.weights) != len(self.edges) - 1 or self.edges[0] != 0.0:
            raise InvalidConfiguration(
                "loads begin at 0 and have a weight for each range between two edges; there are "
                f"{len(self.edges)} edges and {len(self.weights)} weights"
            )
        for low, high in zip(self.edges, self.edges[1:], strict=False):
            if not low < high < inf:
                raise InvalidConfiguration(
                    f"an empty load range: {low:g} to {high:g} requests per second; edges rise"
                )
        if any(not 0.0 <= w < inf for w in self.weights) or abs(sum(self.weights) - 1.0) > 1e-9:
            raise InvalidConfiguration(
                f"the weights of loads are 0 or more and sum to 1, not {list(self.weights)}"
            )

    @classmethod
    def zipf(cls, highest: float, ranges: int, exponent: float = 1.0) -> "Loads":
        """Equal ranges of [0, highest]; the n-th is as frequent as 1 / n^exponent (the paper's default).

        >>> [round(w, 3) for w in Loads.zipf(30.0, 3).weights]
        [0.545, 0.273, 0.182]
        """
        weights = 1.0 / np.arange(1, max(ranges, 1) + 1) ** exponent
        return cls(_equal(highest, ranges), tuple((weights / weights.sum()).tolist()))

    @classmethod
    def measured(cls, rates: Sequence[float] | Floats, highest: float, ranges: int) -> "Loads":
        """Equal ranges of [0, highest], weighed by how many of these measured rates fall into each; those above
        `highest` count for the last."""
        if not len(rates):
            raise InvalidConfiguration("no rate was measured")
        edges = _equal(highest, ranges)
        of = np.clip(np.searchsorted(edges, np.asarray(rates, np.float64), side="right") - 1, 0, ranges - 1)
        return cls(edges, tuple((np.bincount(of, minlength=ranges) / len(rates)).tolist()))

    @classmethod
    def given(cls, edges: Sequence[float], weights: Sequence[float]) -> "Loads":
        """Ranges and weights of their owner's; the weights need not sum to 1."""
        total = sum(weights)
        if not 0.0 < total < inf:
            raise InvalidConfiguration(f"some load has a weight above 0, unlike {list(weights)}")
        return cls(tuple(edges), tuple(w / total for w in weights))

    @classmethod
    def parse(cls, text: str, highest: float, ranges: int) -> "Loads":
        """As it is written: `zipf` or `zipf:EXPONENT`, `LOW-HIGH:WEIGHT` for each range with commas (`highest` and
        `ranges` then count for nothing), or a file with a measured rate on each line. Raises InvalidConfiguration.

        >>> Loads.parse("0-100:3,100-400:1", 400.0, 10).weights
        (0.75, 0.25)
        """
        name, _, exponent = text.partition(":")
        try:
            if name == "zipf":
                return cls.zipf(highest, ranges, float(exponent or 1.0))
            if Path(text).is_file():
                return cls.measured(_rates(Path(text)), highest, ranges)
            parts = [part.strip().partition(":") for part in text.split(",")]
            ends = [span.partition("-") for span, _, _ in parts]
            lows, highs = [float(low) for low, _, _ in ends], [float(high) for _, _, high in ends]
            weights = [float(weight) for _, _, weight in parts]
        except ValueError:
            raise InvalidConfiguration(
                "loads are 'zipf', 'zipf:1.5', ranges like '0-100:3,100-400:1', or a file with a rate on each line; "
                f"not {text!r}" + (", and there is no such file" if "/" in text or "." in text else "")
            ) from None
        if lows[1:] != highs[:-1]:
            raise InvalidConfiguration(f"load ranges lie side by side, unlike {text!r}")
        return cls.given([lows[0], *highs], weights)

    @property
    def ranges(self) -> int:
        return len(self.weights)


def _rates(path: Path) -> list[float]:
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            rate = float(line) if line.strip() else 0.0
        except ValueError:
            rate = -1.0
        if not 0.0 <= rate < inf:
            raise InvalidConfiguration(
                f"{path}:{number}: a rate is a number of requests per second, 0 or more, not {line.strip()!r}"
            )
        if line.strip():
            found.append(rate)
    if not found:
        raise InvalidConfiguration(f"{path}: no rate was measured; there is one on each line")
    return found


def _equal(highest: float, ranges: int) -> tuple[float, ...]:
    if not 0.0 < highest < inf or ranges < 1:
        raise InvalidConfiguration(
            f"an empty load range: {ranges} ranges up to {highest:g} requests per second; both are above 0"
        )
    return tuple(float(edge) for edge in np.linspace(0.0, highest, ranges + 1))
