"""Why a row is answered as it is, as a table for people: of a planned window, or of an answer that a server gave."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

Json = Mapping[str, Any]

# The terminal's columns below which each is left out, so that the rest, and the reason above all, can be read.
_NUMBERS = {"finish": 76, "value": 96, "utility": 66, "others": 80, "loss": 0}
_STYLES = {"chosen": "bold", "better": "red"}


def explained(row: Json, width: int) -> Table:
    """One row of `policies.explain.Explained.as_json`, for a terminal of this many columns."""
    name = f" ({row['application']})" if "application" in row else ""
    table = Table(
        title=f"Row {row['row']}{name}: {_choice(row['chosen'])}",
        title_justify="left",
        header_style="bold",
        pad_edge=False,
    )
    for column in ("choice", "where"):
        table.add_column(column, no_wrap=True)
    numbers = [name for name, least in _NUMBERS.items() if width >= least]
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why", no_wrap=True)
    for choice in (row["chosen"], *row["alternatives"]):
        told = _told(choice)
        line = (_choice(choice), _where(choice), *(told[name] for name in numbers), choice["why"])
        table.add_row(*line, style=_STYLES.get(choice["why"]))
    return table


def _told(choice: Json) -> dict[str, str]:
    told = dict.fromkeys(_NUMBERS, "")
    if "finish_s" in choice:
        told["finish"] = f"{choice['finish_s'] * 1e3:.1f} ms"
    for name in ("value", "utility"):
        if name in choice:
            told[name] = f"{choice[name]:.4f}"
    if choice["why"] != "chosen":
        told |= {name: _signed(choice[name]) for name in ("others", "loss") if name in choice}
    return told


def _choice(choice: Json) -> str:
    return str(choice.get("variant") or {"nothing": "no answer"}.get(choice["kind"], choice["kind"]))


def _where(choice: Json) -> str:
    """The worker, which of its batches (the first is 1), and how many rows stand beside it there."""
    if "worker" not in choice:
        return ""
    beside = choice["rows_beside"]
    return f"{choice['worker']} #{choice['position'] + 1}" + (f" +{beside}" if beside else "")


def _signed(number: float) -> str:
    return f"{number:+.4f}" if abs(number) >= 5e-5 else "0"
