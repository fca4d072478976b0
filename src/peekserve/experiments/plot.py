"""Panels as pictures, in the paper's form: bars with error bars, curves with bands. The only file with matplotlib."""

import importlib.util
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peekserve.experiments.spec import Panel
from peekserve.experiments.table import Interval

# One look for each approach in all figures; told apart without colour by line and marker.
_STYLES = (
    ("#4477aa", "o", "-"),
    ("#ee6677", "s", "--"),
    ("#228833", "^", "-."),
    ("#aa3377", "D", "-"),
    ("#ccbb44", "v", ":"),
    ("#332288", "P", "-"),
)
_FIXED = {"lo-edf": 0, "lo-priority": 1, "grouped": 2, "sneakpeek": 3, "maxacc-edf": 4, "horizon": 5}
_MANY = 8
# Characters of a y label on one line: more would reach into the panel above or below.
_Y_LABEL = 32


def draw(panels: Sequence[Panel], title: str, paths: Sequence[Path]) -> bool:
    """Draw the panels side by side into each path, by its suffix. False, and nothing drawn, without matplotlib (the
    extra `plots`)."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    import matplotlib

    matplotlib.use("Agg")
    # The same bytes on every run: no date, no random ids, and text that stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "peekserve", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    long = any(len(p.categories) > _MANY for p in panels)
    many = len(panels)
    columns = 1 if long else min(many, 2) if many == 4 else many
    lines = math.ceil(many / columns)
    tall = [0.8 + 0.22 * len(p.categories) if len(p.categories) > _MANY else 3.4 for p in panels]
    heights = tall if long else [3.4] * lines
    figure, grid = pyplot.subplots(
        lines,
        columns,
        figsize=(9.5 if long else 5.2 * columns, sum(heights)),
        squeeze=False,
        height_ratios=heights,
    )
    for axes, panel in zip(grid.ravel(), panels, strict=False):
        if len(panel.categories) > _MANY:
            _lying(axes, panel)
        elif panel.categories:
            _bars(axes, panel)
        else:
            _lines(axes, panel)
    figure.suptitle(title)
    figure.tight_layout()
    for path in paths:
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return True


def _lines(axes: Any, panel: Panel) -> None:
    for series, (colour, marker, line) in zip(panel.series, _styles(panel), strict=True):
        found = [Interval.of(v) for v in series.values]
        xs = list(series.x)
        marker = marker if len(xs) <= 25 else ""
        axes.plot(
            xs, [f.measured for f in found], line, color=colour, marker=marker, ms=4, label=series.label
        )
        axes.fill_between(xs, [f.low for f in found], [f.high for f in found], color=colour, alpha=0.18, lw=0)
    if panel.log_x:
        axes.set_xscale("log")
        _in_plain_numbers(axes.xaxis)
    _dress(axes, panel)


def _bars(axes: Any, panel: Panel) -> None:
    width = 0.8 / len(panel.series)
    for number, (series, (colour, _, _)) in enumerate(zip(panel.series, _styles(panel), strict=True)):
        found = [Interval.of(v) for v in series.values]
        at = [x + (number - (len(panel.series) - 1) / 2) * width for x in series.x]
        axes.bar(at, [f.measured for f in found], width * 0.92, color=colour, label=series.label)
        low = [max(f.measured - f.low, 0.0) for f in found]
        high = [max(f.high - f.measured, 0.0) for f in found]
        axes.errorbar(
            at, [f.measured for f in found], [low, high], fmt="none", ecolor="black", capsize=2, lw=1
        )
    crowded = sum(len(name) for name in panel.categories) > 40
    axes.set_xticks(range(len(panel.categories)), panel.categories, rotation=15 if crowded else 0)
    _dress(axes, panel)


def _lying(axes: Any, panel: Panel) -> None:
    """Many categories with long names: one line each, a point with its interval."""
    for series, (colour, _, _) in zip(panel.series, _styles(panel), strict=True):
        found = [Interval.of(v) for v in series.values]
        at = [-x for x in series.x]
        low = [max(f.measured - f.low, 0.0) for f in found]
        high = [max(f.high - f.measured, 0.0) for f in found]
        axes.errorbar(
            [f.measured for f in found], at, xerr=[low, high], fmt="o", color=colour, ms=4, capsize=2,
            label=series.label,
        )  # fmt: skip
    axes.set_yticks([-i for i in range(len(panel.categories))], panel.categories)
    if panel.log_y:  # of ratios
        axes.axvline(1.0, color="grey", lw=0.8)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    if len(panel.series) > 1:
        axes.legend(fontsize=7)
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel(panel.y_label)
    axes.grid(axis="x", alpha=0.3)


def _dress(axes: Any, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(textwrap.fill(panel.y_label, _Y_LABEL))
    if panel.log_y:
        axes.set_yscale("log")
        _in_plain_numbers(axes.yaxis)
    elif panel.from_zero and all(Interval.of(v).low >= 0.0 for series in panel.series for v in series.values):
        axes.set_ylim(bottom=0.0)
    if any(Interval.of(v).low < 0.0 for series in panel.series for v in series.values):
        axes.axhline(0.0, color="grey", lw=0.8)
    axes.grid(axis="y", alpha=0.3)
    if len(panel.series) > 1:
        axes.legend(fontsize=7)


def _styles(panel: Panel) -> list[tuple[str, str, str]]:
    """One for each series: its own if it has one and nobody before has it, else the first that is left."""
    taken: list[int] = []
    for number, series in enumerate(panel.series):
        own = _FIXED.get(series.label, number % len(_STYLES))
        free = [i for i in range(len(_STYLES)) if i not in taken] or [own]
        taken.append(own if own in free else free[0])
    return [_STYLES[i] for i in taken]


def _in_plain_numbers(axis: Any) -> None:
    """On a logarithmic axis 0.2 and 50, not powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
