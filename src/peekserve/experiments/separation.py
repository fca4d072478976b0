"""Which curves of a picture are told apart by their intervals, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from peekserve.experiments.spec import Panel
from peekserve.experiments.table import Interval


@dataclass(frozen=True, slots=True)
class Pair:
    """Two curves of one panel: at how many of their points the 95% interval of their paired difference leaves out 0."""

    panel: str
    first: str
    second: str
    separated: int
    points: int

    def as_json(self) -> dict[str, str | int]:
        return {
            "panel": self.panel,
            "first": self.first,
            "second": self.second,
            "separated": self.separated,
            "points": self.points,
        }


def pairs(panels: Sequence[Panel]) -> list[Pair]:
    """Every pair of curves over the same points."""
    found = []
    for panel in panels:
        for one, two in combinations(panel.series, 2):
            if list(one.x) != list(two.x):
                continue
            apart = [Interval.of(a - b) for a, b in zip(one.values, two.values, strict=True)]
            separated = sum(i.low > 0.0 or i.high < 0.0 for i in apart)
            found.append(Pair(panel.title, one.label, two.label, separated, len(apart)))
    return found
