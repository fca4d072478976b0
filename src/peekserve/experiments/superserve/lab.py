"""What the experiments on supernets share: what every subnet said of real samples, and how long it takes.

Times are those of one machine, measured through the runtime that serves (timing.py) and kept as data beside the
recordings. They are of small networks, a fraction of a millisecond; the paper's are of large ones on a GPU. So all of
one supernet's times are *stretched* by one factor, such that its deadline is the paper's 36 ms: rates, delays in
milliseconds and live runs at that pace then mean what they mean there, and what the subnets cost beside one another
stays as it was measured.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peekserve.domain.profile import LatencyCurve
from peekserve.errors import DataUnavailable, InvalidData
from peekserve.experiments.superserve.record import NAMES, RECORDED, Scored, load

TIMINGS = RECORDED / "superserve-timing.json"
VERSION = 1
# Of a trace's usual length, for a quick look.
SMALL = 0.25


@dataclass(frozen=True, slots=True)
class Timed:
    """One model: seconds by batch size, and what loading it from its file takes until its first answer."""

    curve: LatencyCurve
    load_s: float


@dataclass(frozen=True, slots=True)
class Timings:
    """`subnets`, `separate`: application -> name -> times. `machine`: in words. `quiet`: did nothing else run then?"""

    machine: str
    quiet: bool
    subnets: Mapping[str, Mapping[str, Timed]]
    separate: Mapping[str, Mapping[str, Timed]]

    def write(self, path: Path = TIMINGS) -> None:
        told = {
            "version": VERSION,
            "machine": self.machine,
            "quiet": self.quiet,
            "subnets": _plain(self.subnets),
            "separate": _plain(self.separate),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        # Each list on one line: a file that people can read and compare.
        text = re.sub(
            r"\[\s+([^]]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", json.dumps(told, indent=1)
        )
        path.write_text(text + "\n")


def read_timings(path: Path = TIMINGS) -> Timings:
    """Raises DataUnavailable where the file is not there, InvalidData where it is of another form."""
    if not path.is_file():
        raise DataUnavailable(
            f"{path} is not there: `python -m peekserve.experiments.superserve.timing` measures it"
        )
    told = json.loads(path.read_text())
    if told.get("version") != VERSION:
        raise InvalidData(f"{path} is of version {told.get('version')}, not {VERSION}: measure it anew")
    return Timings(
        told["machine"], bool(told["quiet"]), _timed(told["subnets"]), _timed(told.get("separate", {}))
    )


@dataclass(frozen=True, slots=True)
class Device:
    """Whose times they are."""

    name: str


@dataclass(frozen=True, slots=True)
class SuperLab:
    """The laboratory of this family. `share`: of the usual length of traces; a quick look takes less. `windows`: there
    are none here. `measured`: what else was measured on one machine, by kind (machine.py), and `folder` where it lies.
    """

    scored: Mapping[str, Scored]
    timings: Timings
    share: float = 1.0
    measured: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path = RECORDED
    windows: int = 0

    @property
    def device(self) -> Device:
        busy = "" if self.timings.quiet else ", measured while others used it"
        return Device(
            f"{self.timings.machine}{busy}; stretched to the paper's deadline where traces are served"
        )

    @property
    def names(self) -> list[str]:
        return list(self.scored)

    def classic(self) -> list[str]:
        """The convolutional supernets of real signals, which most experiments are about."""
        return [name for name in self.names if name in ("ecg", "keywords")]

    def traced(self) -> list[str]:
        """Those, and the transformer where it is there: the paper has one on the Functions trace, too."""
        return [name for name in self.names if name in ("ecg", "keywords", "keywords-transformer")]


def super_laboratory(
    small: bool = False, recordings: Path = RECORDED, timings: Path | None = None
) -> SuperLab:
    """All supernets of which both answers and times are there. Raises DataUnavailable where ecg or keywords lack
    either."""
    path = timings or recordings / TIMINGS.name
    timed = read_timings(path)
    found: dict[str, Scored] = {}
    for name in NAMES:
        needed = name in ("ecg", "keywords")
        if not needed and not (recordings / f"superserve-{name}.npz").is_file():
            continue
        scored = load(name, recordings)
        absent = set(scored.subnets) - set(timed.subnets.get(name, {}))
        if absent and needed:
            raise DataUnavailable(
                f"{path} has no times of {name}'s {', '.join(sorted(absent)[:4])} ({len(absent)} in all): "
                "`python -m peekserve.experiments.superserve.timing` measures them"
            )
        if not absent:
            found[name] = scored
    others = {
        what: json.loads(path.read_text())
        for what in ("memory", "switching")
        if (path := measured_file(recordings, what)).is_file()
    }
    return SuperLab(found, timed, SMALL if small else 1.0, others, recordings)


def measured_file(folder: Path, what: str) -> Path:
    """Where a measurement of this kind is kept."""
    return folder / f"superserve-{what}.json"


def _timed(told: Mapping[str, Any]) -> dict[str, dict[str, Timed]]:
    return {
        application: {
            name: Timed(
                LatencyCurve(tuple(one["batch_sizes"]), tuple(one["median_s"]), tuple(one["p95_s"])),
                float(one["load_s"]),
            )
            for name, one in models.items()
        }
        for application, models in told.items()
    }


def _plain(timed: Mapping[str, Mapping[str, Timed]]) -> dict[str, Any]:
    return {
        application: {
            name: {
                "batch_sizes": one.curve.batch_sizes,
                "median_s": [round(s, 8) for s in one.curve.median_s],
                "p95_s": [round(s, 8) for s in one.curve.p95_s],
                "load_s": round(one.load_s, 6),
            }
            for name, one in models.items()
        }
        for application, models in timed.items()
    }
