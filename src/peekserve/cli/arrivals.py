"""`--arrivals`, `--trace` and `--slot` of every command that has them, and `peekserve arrivals`, which shows what they
make."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from peekserve.cli.terminal import console
from peekserve.config import Entry, nearest
from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.experiments.plot import draw
from peekserve.experiments.spec import Panel, Series
from peekserve.loadgen.arrivals import Arrival, mixed, shares_of
from peekserve.loadgen.describe import describe, per_slot
from peekserve.loadgen.processes import Poisson, Process, arrive, parse_process
from peekserve.loadgen.trace_files import read_trace
from peekserve.loadgen.traces import Played, Trace
from peekserve.registry.datasets import find

# Of a picture: more are bands of ink, and a second of the run is then drawn as a mean over several.
MOST_POINTS = 240
PICTURES = (".svg", ".png")


def source_of(arrivals: str | None, trace: Path | None, slot: str | None) -> Process | Trace:
    """What the flags say, Poisson without any. A trace that is no file here is looked for in `traces/` of the folders
    for data. Raises InvalidConfiguration, InvalidData, OSError."""
    if trace is None:
        if slot is not None:
            raise InvalidConfiguration("--slot says how long a slot of --trace FILE is; there is no --trace")
        return Poisson() if arrivals is None else parse_process(arrivals)
    if arrivals is not None:
        raise InvalidConfiguration(f"--arrivals {arrivals} and --trace {trace}: give one of them")
    slot_s = None if slot is None else Entry("--slot", 0, "", slot).positive_seconds()
    known = None if trace.exists() else find(f"traces/{trace}")
    return read_trace(known or trace, slot_s)


def arrivals_of(played: Played, rows: Mapping[str, int], rng: np.random.Generator) -> list[Arrival]:
    """Requests for the applications that a trace names, else for all alike. `rows`: how many samples each has. Raises
    InvalidData for an application or a sample that is not there."""
    for name in dict.fromkeys(played.applications or ()):
        if name not in rows:
            raise InvalidData(f"the trace asks for the application {name[:60]!r}; {nearest(name, rows)}")
    if played.samples is not None and played.applications is None and len(rows) > 1:
        raise InvalidData(
            f"the trace has samples, but not whose: add a column application, of {', '.join(rows)}"
        )
    owners = played.applications or list(rows)[:1] * len(played.at)
    for name, sample in zip(owners, played.samples or (), strict=False):
        if sample >= rows[name]:
            raise InvalidData(
                f"the trace asks for sample {sample} of {name}, which has 0 to {rows[name] - 1}"
            )
    return mixed(played.at, shares_of(sorted(rows)), rows, rng, played.applications, played.samples)


def show(
    words: Sequence[str],
    traces: Sequence[Path],
    slot: str | None,
    rate: float | None,
    seconds: float | None,
    seed: int,
    picture: Path | None,
    as_json: bool,
) -> int:
    """A line for each process and trace, and their rates over time as a picture. `slot` is of the last trace. Raises
    as `source_of` does, and InvalidConfiguration where there is nothing to show, or no such kind of picture."""
    if not words and not traces:
        raise InvalidConfiguration("nothing to show: name a process, such as gamma:cv2=4, or --trace FILE")
    if picture is not None and picture.suffix not in PICTURES:
        raise InvalidConfiguration(f"--picture {picture}: a picture is {' or '.join(PICTURES)}")
    sources = {word: source_of(word, None, None) for word in words}
    named = [trace.name for trace in traces]
    for number, trace in enumerate(traces, 1):
        name = trace.name if named.count(trace.name) == 1 else str(trace)
        sources[name] = source_of(None, trace, slot if number == len(traces) else None)
    if not traces:
        source_of(None, None, slot)  # says what is wrong with a slot of no trace
    played = {name: arrive(s, rate, seconds, np.random.default_rng(seed)) for name, s in sources.items()}
    told = {name: describe(one.at, one.seconds) for name, one in played.items()}
    if picture is not None and not draw([_panel(n, p) for n, p in played.items()], "Arrivals", [picture]):
        raise InvalidConfiguration("--picture needs matplotlib: install peekserve[plots]")
    if as_json:
        print(json.dumps({name: one.as_json() for name, one in told.items()}))
        return 0
    table = Table(header_style="bold")
    for column in ("arrivals", "requests", "seconds", "mean /s", "peak /s", "CV² of gaps"):
        table.add_column(column, justify="left" if column == "arrivals" else "right", overflow="fold")
    for name, one in told.items():
        table.add_row(
            *(name, str(one.requests), f"{one.seconds:g}", f"{one.mean:.4g}", str(one.peak), f"{one.cv2:.2f}")
        )
    console().print(table)
    return 0


def _panel(name: str, played: Played) -> Panel:
    # Slots of whole seconds where there is one: a second that is cut off would look quiet.
    slot_s = min(max(1.0, np.ceil(played.seconds / MOST_POINTS)), played.seconds)
    rates = per_slot(played.at, played.seconds, slot_s) / slot_s
    x = [float(i * slot_s) for i in range(len(rates))]
    values = [np.array([rate, rate]) for rate in rates.tolist()]
    return Panel(name, "seconds", "requests per second", [Series(name, x, values)])
