"""Device classes: what each variant costs on a device that is not here, and how its requests arrive."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from peekserve.config import Entry, Problems, Section, read
from peekserve.domain.profile import LatencyCurve
from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidConfiguration

PAPER = Path(__file__).with_name("paper_class.yaml")


@dataclass(frozen=True, slots=True)
class Costs:
    """One application's variants, in the order of its application.yaml. `usual`: the share of class 0 in its stream,
    the others sharing the rest evenly; None for a uniform stream."""

    curves: tuple[LatencyCurve, ...]
    load_s: tuple[float, ...]
    usual: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """A device and a workload: the defaults of every experiment. `resident`: how many models fit at once, all being
    equally large."""

    name: str
    max_batch: int
    resident: int
    applications: Mapping[str, Costs]
    window_s: float
    requests: int
    deadline_s: float
    spread_s: float
    neighbours: int
    sigmoid_s: float
    linear_s: float

    def penalty(self, name: str) -> Penalty:
        """`step`, `sigmoid` or `linear`, with this class's widths. Raises InvalidConfiguration."""
        known = {
            "step": Penalty.step(),
            "sigmoid": Penalty.sigmoid(self.sigmoid_s),
            "linear": Penalty.linear(self.linear_s),
        }
        if name not in known:
            raise InvalidConfiguration(f"a penalty is one of {', '.join(known)}, not {name!r}")
        return known[name]


def read_class(path: Path = PAPER) -> DeviceClass:
    """A device class from its file. Raises InvalidConfiguration with file and line of all that is wrong."""
    problems = Problems()
    root = read(path, problems)
    problems.raise_errors()
    if root is None:
        raise InvalidConfiguration(f"{path}: holds nothing")
    top = Section(root)
    slope = top.need("batch_slope", lambda e: e.number(0.0, 10.0), 0.0)
    most = top.need("max_batch", lambda e: e.integer(1, 4096), 1)
    made = DeviceClass(
        name=top.need("device", Entry.text, ""),
        max_batch=most,
        resident=top.need("resident", lambda e: e.integer(1, 1000), 1),
        applications=top.need(
            "applications", lambda e: {n: _costs(each, slope, most) for n, each in e.pairs().items()}, {}
        ),
        window_s=top.need("window", Entry.positive_seconds, 0.1),
        requests=top.need("requests", lambda e: e.integer(1, 10_000), 1),
        deadline_s=top.need("deadline", Entry.positive_seconds, 0.1),
        spread_s=top.need("spread", Entry.seconds, 0.0),
        neighbours=top.need("neighbours", lambda e: e.integer(1, 100), 1),
        sigmoid_s=top.need("sigmoid", Entry.positive_seconds, 0.1),
        linear_s=top.need("linear", Entry.positive_seconds, 0.1),
    )
    top.done()
    problems.raise_errors()
    return made


def linear_curve(one_s: float, slope: float, most: int) -> LatencyCurve:
    """l(b) = l + (b - 1) slope l.

    >>> round(linear_curve(0.010, 0.3, 32).seconds(4), 4)
    0.019
    """
    return LatencyCurve((1, most), (one_s, one_s * (1.0 + (most - 1) * slope)))


def _costs(entry: Entry, slope: float, most: int) -> Costs:
    section = Section(entry)
    curves = section.need("latency", lambda e: e.each(lambda one: _curve(one, slope, most)), [])
    loads = section.need("load", lambda e: e.each(Entry.seconds), [])
    usual = section.take("usual", lambda e: e.number(0.0, 1.0), None)
    section.done()
    if len(curves) != len(loads) or not curves:
        raise entry.wrong(f"{len(curves)} latencies and {len(loads)} loads", "one of each for every variant")
    return Costs(tuple(curves), tuple(loads), usual)


def _curve(entry: Entry, slope: float, most: int) -> LatencyCurve:
    """A latency of one row, or a mapping of batch size to latency as it was measured."""
    if entry.is_text:
        return linear_curve(entry.positive_seconds(), slope, most)
    points = {int(size): one.positive_seconds() for size, one in entry.pairs().items()}
    sizes = tuple(sorted(points))
    return LatencyCurve(sizes, tuple(points[b] for b in sizes))
