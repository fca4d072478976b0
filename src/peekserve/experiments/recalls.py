"""Recall by class, for reports: of what some run or experiment answered, beside the mean that hides it.

In the rows of an experiment stand counts by application and class, so that recalls of many seeds come from their sums
and not from means of small shares.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peekserve.awareness.estimate import normalised
from peekserve.domain.application import Application
from peekserve.experiments.table import Row, Value
from peekserve.results import ClassRecall, per_class
from peekserve.results import Row as Settled

# The columns of an experiment's row: how many rows of a class, and how many of them were answered, answered rightly,
# and in time.
KINDS = ("rows", "answered", "right", "found")


@dataclass(frozen=True, slots=True)
class Named:
    """A recall with its class's name, and how much a right answer of it weighs, 1 on the mean over the classes."""

    name: str
    weight: float
    recall: ClassRecall

    def as_json(self) -> dict[str, object]:
        return {"class": self.name, "weight": self.weight, **told(self.recall)}


def told(one: ClassRecall) -> dict[str, object]:
    """Its counts and shares, for machines; null for a share of nothing."""
    low, high = one.interval
    found_low, found_high = one.found_interval
    shares = {
        "recall": one.recall, "low": low, "high": high,
        "found_share": one.found_share, "found_low": found_low, "found_high": found_high,
    }  # fmt: skip
    return {
        "application": one.application,
        "label": one.label,
        **{kind: getattr(one, kind) for kind in KINDS},
        **{name: None if share != share else share for name, share in shares.items()},
    }


def named(rows: Sequence[Settled], applications: Mapping[str, Application]) -> list[Named]:
    """The recalls of a run, by application and class. Applications that are not in the mapping have no names."""
    found = []
    for one in per_class(rows):
        app = applications.get(one.application)
        if app is not None:
            weight = float(normalised(app.weights)[one.label])
            found.append(Named(app.classes[one.label], weight, one))
    return found


def worst(recalls: Iterable[Named], application: str) -> Named | None:
    """The class of this application that is found least often; the first of equals."""
    own = [one for one in recalls if one.recall.application == application]
    return min(own, key=lambda one: one.recall.found_share, default=None)


def heaviest(recalls: Iterable[Named], application: str) -> Named | None:
    """The class that weighs most, where one does."""
    own = [one for one in recalls if one.recall.application == application]
    if len({one.weight for one in own}) < 2:
        return None
    return max(own, key=lambda one: one.weight)


def counted(rows: Sequence[Settled]) -> dict[str, Value]:
    """The counts of one application's rows, as columns `KIND_LABEL`."""
    return {f"{kind}_{one.label}": getattr(one, kind) for one in per_class(rows) for kind in KINDS}


def pooled(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Recalls by policy, application and class over all rows of an experiment that have counts, whatever their point:
    what `summary.json` says of them."""
    sums: dict[tuple[str, str, int], list[int]] = {}
    for row in rows:
        for label in sorted(int(c.removeprefix("rows_")) for c in row if c.startswith("rows_")):
            key = (str(row.get("policy", "")), str(row.get("application", "")), label)
            total = sums.setdefault(key, [0] * len(KINDS))
            for i, kind in enumerate(KINDS):
                total[i] += int(row[f"{kind}_{label}"])
    return [
        {"policy": policy, **told(ClassRecall(application, label, *counts))}
        for (policy, application, label), counts in sums.items()
    ]


def worst_table(recalls: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Of `pooled`, a head and a line for each policy: the class of each application that is found least often. Classes
    are numbered as in their application."""
    applications = sorted({str(one["application"]) for one in recalls})
    lines = [["found in time, worst class", *applications]]
    for policy in dict.fromkeys(str(one["policy"]) for one in recalls):
        line = [policy]
        for name in applications:
            own = [one for one in recalls if (one["policy"], one["application"]) == (policy, name)]
            least = min(own, key=lambda one: float(one["found_share"]), default=None)
            line.append(
                ""
                if least is None
                else f"class {least['label']}: {least['found_share']:.2f} "
                f"({least['found_low']:.2f}..{least['found_high']:.2f})"
            )
        lines.append(line)
    return lines
