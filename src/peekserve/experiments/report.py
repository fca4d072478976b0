"""Tables for people from what experiments wrote: `peekserve experiment report FOLDER`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peekserve.errors import DataUnavailable
from peekserve.experiments.recalls import worst_table
from peekserve.experiments.run import EXPERIMENTS


def read_summaries(folder: Path) -> list[Mapping[str, Any]]:
    """Every summary.json below a folder, in the order of the figures. Raises DataUnavailable where there is none."""
    found = [json.loads(path.read_text()) for path in sorted(folder.rglob("summary.json"))]
    if not found:
        raise DataUnavailable(
            f"no summary.json below {folder}: run peekserve experiment NAME --out {folder}/NAME"
        )
    order = list(EXPERIMENTS)
    return sorted(found, key=lambda s: order.index(s["name"]) if s["name"] in order else len(order))


def markdown(summaries: Sequence[Mapping[str, Any]]) -> str:
    """One table of claims for each experiment, and what else it printed."""
    parts = []
    for one in summaries:
        windows = f", of {one['windows']} windows each" if one["windows"] else ""
        lines = [
            f"### {one['name']}: {one['what']}",
            "",
            f"Seeds: {one['seeds']}{windows}. Times: {one['device']}.",
            "",
            "| the paper | measured here | value | 95% | holds |",
            "| --- | --- | --- | --- | --- |",
        ]
        for claim in one["claims"]:
            value, low, high = (_number(claim[key]) for key in ("measured", "low", "high"))
            holds = "yes" if claim["holds"] else "**no**"
            lines.append(f"| {claim['paper']} | {claim['claim']} | {value} | {low}..{high} | {holds} |")
        lines += ["", _separation(one.get("separation", ()))]
        for table in one.get("tables", ()):
            lines += ["", *_table(table)]
        if one.get("recalls"):
            lines += ["", *_table(worst_table(one["recalls"]))]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _separation(pairs: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on the curves whose paired differences do not leave out 0 everywhere."""
    close = [p for p in pairs if p["separated"] < p["points"]]
    if not pairs:
        return "No curves to tell apart."
    if not close:
        return "The intervals tell all curves apart at every point."
    told = [
        f"{p['first']} and {p['second']} ({p['panel']}) at {p['separated']} of {p['points']} points"
        for p in close
    ]
    rest = "" if len(close) == len(pairs) else "; all others at every point"
    return f"The intervals tell apart {', '.join(told)}{rest}."


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
