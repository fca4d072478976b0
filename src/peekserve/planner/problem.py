"""What a plan is made for: models, devices and the goal."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from peekserve.cascades.cascade import CONFIDENCE, Answers
from peekserve.cascades.thresholds import MOST_STAGES, STEPS
from peekserve.domain.application import Application
from peekserve.domain.profile import LatencyCurve
from peekserve.errors import InvalidConfiguration, ProfileMissing
from peekserve.planner.loads import Loads

_GOAL = re.compile(r"(p95)=(\d+(?:\.\d+)?)(ms|s)|(accuracy)=(\d*\.?\d+)")
_DEVICE = re.compile(r"(?:(\d+)x)?([a-z][a-z0-9._-]*)(?::(\d+))?(?:=(\d+(?:\.\d+)?)(KiB|MiB|GiB))?")
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_ROOM = 1 << 40


@dataclass(frozen=True, slots=True)
class Device:
    """A device and the bytes that it has for weights. `kind` is the key of its timings ("cpu", "cuda")."""

    name: str
    kind: str
    budget_bytes: int = _ROOM


def devices(text: str) -> tuple[Device, ...]:
    """Devices as they are written: `[COUNTx]KIND[:FIRST][=SIZE]`, with commas. Raises InvalidConfiguration.

    >>> [(d.name, d.budget_bytes) for d in devices("2xcpu=512MiB")]
    [('cpu:0', 536870912), ('cpu:1', 536870912)]
    """
    found: list[Device] = []
    counts: dict[str, int] = {}
    for part in text.split(","):
        match = _DEVICE.fullmatch(part.strip())
        if match is None or match[1] == "0":
            raise InvalidConfiguration(
                f"devices are written like 'cpu', '2xcpu=512MiB' or 'cpu:0,cuda:0=8GiB' (KiB, MiB, "
                f"GiB), not {part.strip()!r}"
            )
        kind, count = match[2], int(match[1] or 1)
        first = int(match[3]) if match[3] else counts.get(kind, 0)
        budget = int(float(match[4]) * _UNITS[match[5]]) if match[4] else _ROOM
        found += [Device(f"{kind}:{first + i}", kind, budget) for i in range(count)]
        counts[kind] = max(counts.get(kind, 0), first + count)
    if len({device.name for device in found}) < len(found):
        raise InvalidConfiguration(f"a device is named twice: {', '.join(d.name for d in found)}")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Model:
    """A variant as a planner sees it. `curves`: by kind of device. Variants with the same `weights` share their
    `bytes`."""

    name: str
    revision: str
    weights: str
    bytes: int
    max_batch: int
    curves: Mapping[str, LatencyCurve]


def models(app: Application, kinds: Iterable[str]) -> tuple[Model, ...]:
    """The variants of an application that are timed on one of these kinds of device or more; an application with shape
    buckets is timed at its largest. Raises ProfileMissing where there is none."""
    found = []
    for variant in app.variants:
        timings = {kind: variant.timing[kind] for kind in dict.fromkeys(kinds) if kind in variant.timing}
        if timings:
            curves = {kind: timing.curves[-1] for kind, timing in timings.items()}
            size = max(timing.bytes for timing in timings.values())
            found.append(
                Model(variant.name, variant.revision, variant.weights, size, variant.max_batch, curves)
            )
    if not found:
        raise ProfileMissing(
            f"{app.name}: no variant is timed on {' or '.join(dict.fromkeys(kinds))}; run peekserve profile"
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Slo:
    """The goal: a 95th percentile of the time to an answer (then as accurate as can be), an accuracy (then as quick as
    can be), or both: then as accurate as can be, and no less than that."""

    p95_s: float = inf
    accuracy: float = 0.0

    def __post_init__(self) -> None:
        if (
            not self.p95_s > 0.0
            or not 0.0 <= self.accuracy <= 1.0
            or (self.p95_s == inf and not self.accuracy)
        ):
            raise InvalidConfiguration(
                f"a goal is a positive p95, an accuracy above 0 and up to 1, or both; not {self}"
            )

    @classmethod
    def parse(cls, text: str) -> "Slo":
        """As it is written. Raises InvalidConfiguration.

        >>> Slo.parse("p95=400ms"), str(Slo.parse("accuracy=0.95,p95=1s"))
        (Slo(p95_s=0.4, accuracy=0.0), 'p95=1000ms,accuracy=0.95')
        """
        given: dict[str, float] = {}
        for part in text.split(","):
            match = _GOAL.fullmatch(part.strip())
            if match is None:
                raise InvalidConfiguration(
                    f"a goal is written like 'p95=400ms', 'accuracy=0.95' or both with a comma, not {part.strip()!r}"
                )
            if match[1]:
                given["p95_s"] = float(match[2]) * (1e-3 if match[3] == "ms" else 1.0)
            else:
                given["accuracy"] = float(match[5])
        return cls(**given)

    def __str__(self) -> str:
        parts = [f"p95={self.p95_s * 1e3:g}ms"] if self.p95_s < inf else []
        return ",".join(parts + ([f"accuracy={self.accuracy:g}"] if self.accuracy else []))

    @property
    def by_latency(self) -> bool:
        return self.p95_s < inf


@dataclass(frozen=True, slots=True)
class Problem:
    """All that a plan is made from. `answers`: of every model on validation samples. `stages`, `steps`,
    `confidence`: of the search for cascades (cascades/thresholds.py). `batch`: the batch size that cascades are costed
    at. `switching`: with it off, one cascade serves every load."""

    application: str
    models: tuple[Model, ...]
    answers: Answers
    devices: tuple[Device, ...]
    slo: Slo
    loads: Loads
    fingerprint: str = ""
    stages: int = MOST_STAGES
    steps: int = STEPS
    confidence: float = CONFIDENCE
    batch: int = 16
    switching: bool = True
    _by_name: dict[str, Model] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.devices:
            raise InvalidConfiguration("a plan needs one device or more")
        if self.batch < 1:
            raise InvalidConfiguration(f"cascades are costed at batches of one or more, not {self.batch}")
        for model in self.models:
            self.answers.index(model.name)
            self._by_name[model.name] = model

    def model(self, name: str) -> Model:
        return self._by_name[name]

    def seconds(self) -> dict[str, float]:
        """For a sample of each model, in batches of `batch` or as large as it takes, on the kind of device that is
        quickest."""
        kinds = dict.fromkeys(device.kind for device in self.devices)
        return {
            m.name: min(
                m.curves[k].seconds(min(self.batch, m.max_batch)) / min(self.batch, m.max_batch)
                for k in kinds
                if k in m.curves
            )
            for m in self.models
        }
