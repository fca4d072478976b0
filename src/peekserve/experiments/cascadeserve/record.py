"""What the five models of each application's zoo said of its samples, and what they take.

A zoo is five models that were trained separately, as the paper's five BERTs (applications/zoo.py). Of `ecg` and
`digits` they are the models that the SuperServe family has beside its supernets, and their answers and times lie in its
recordings. Of `keywords` those are too much alike in price, as most of it is their common front; it has a zoo of its
own, and a file `recorded/zoo-keywords.npz`. With M models, C classes, N test and n validation samples:

- `classes` [C], `models` [M]: names, in rising order of cost; `parameters`: int64 [M];
- `labels`, `groups`: int64 [N] of test, `validation_labels`, `validation_groups`: int64 [n];
- `test` [M, N, C], `validation` [M, n, C]: probabilities, to the nearest 255th, and hence with sums of about 1; in the
  file they are those 255ths, uint8.

`zoo-timing.json` has its times, in the form of superserve-timing.json.

`python -m peekserve.experiments.cascadeserve.record [NAME ...]` records answers anew, and with `--timing` the times: in
turn through the runtime that serves, as those of the SuperServe family (superserve/timing.py), as seconds that the
processor spent on it, or with `--quiet` by the wall clock.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peekserve.clock import Clock, WallClock
from peekserve.domain.application import Variant
from peekserve.domain.tensors import InputMap, OutputForm, OutputMap
from peekserve.errors import DataUnavailable
from peekserve.experiments.superserve.lab import TIMINGS, Timed, Timings, read_timings
from peekserve.experiments.superserve.record import RECORDED, STEP, Scored, rounded
from peekserve.experiments.superserve.record import load as load_family
from peekserve.profiling.device import fingerprint
from peekserve.profiling.fit import latency_curve
from peekserve.runtimes.onnx import OnnxRuntime

NAMES = ("ecg", "keywords", "digits")
# Those whose zoo has recordings of its own.
OWN = ("keywords",)
SIZES = ("tiny", "mini", "small", "medium", "base")
OWN_TIMINGS = "zoo-timing.json"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """Labelled samples: `labels`, `groups` int64 [N]; `scores`: model -> float64 [N, C], each row summing to 1."""

    labels: Ints
    groups: Ints
    scores: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Said:
    """Everything that is recorded of one zoo, or of subnets in the place of its models. `models`: size -> what it is
    called where it comes from; `parameters`, `timed`: by size, the cheapest first."""

    name: str
    classes: tuple[str, ...]
    models: Mapping[str, str]
    parameters: Mapping[str, int]
    timed: Mapping[str, Timed]
    validation: Part
    test: Part


def said(name: str, folder: Path = RECORDED) -> Said:
    """An application's zoo. Raises DataUnavailable where a recording is missing or there is no such zoo."""
    if name not in NAMES:
        raise DataUnavailable(f"there is no zoo {name!r}; there are {', '.join(NAMES)}")
    return _own(name, folder) if name in OWN else said_beside(name, folder)


def said_beside(name: str, folder: Path = RECORDED) -> Said:
    """The five separate models beside an application's supernet. Raises DataUnavailable where a recording is
    missing."""
    family, timings = load_family(name, folder), read_timings(folder / TIMINGS.name)
    at = np.argsort(family.separate_multiply_adds, kind="stable").tolist()
    return _of_family(
        name,
        family,
        {size: (family.separate[m], m) for size, m in zip(SIZES, at, strict=True)},
        timings.separate[name],
        (family.separate_parameters, family.separate_validation, family.separate_test),
    )


def said_by_subnets(name: str, folder: Path = RECORDED) -> Said:
    """Five subnets of an application's supernet, those of which there are separate models of the same size, by their
    own names. Raises DataUnavailable where a recording is missing."""
    family, timings = load_family(name, folder), read_timings(folder / TIMINGS.name)
    at = sorted(family.subnets.index(subnet) for subnet in family.separate)
    return _of_family(
        name,
        family,
        {family.subnets[m]: (family.subnets[m], m) for m in at},
        timings.subnets[name],
        (family.subnets_parameters, family.subnets_validation, family.subnets_test),
    )


def machine(folder: Path = RECORDED) -> str:
    """Whose times they are, in words."""
    timings = read_timings(folder / TIMINGS.name)
    return timings.machine if timings.quiet else f"{timings.machine}, measured while others used it"


def _of_family(
    name: str,
    family: Scored,
    models: Mapping[str, tuple[str, int]],
    timings: Mapping[str, Timed],
    of: tuple[Ints, npt.NDArray[np.float16], npt.NDArray[np.float16]],
) -> Said:
    """`models`: size -> name and row. `of`: parameters, validation and test scores by row."""
    parameters, validation, test = of

    def part(scores: npt.NDArray[np.float16], labels: Ints, groups: Ints) -> Part:
        return Part(labels, groups, {size: _shares(scores[m]) for size, (_, m) in models.items()})

    return Said(
        name,
        family.classes,
        {size: model for size, (model, _) in models.items()},
        {size: int(parameters[m]) for size, (_, m) in models.items()},
        {size: timings[model] for size, (model, _) in models.items()},
        part(validation, family.validation_labels, family.validation_groups),
        part(test, family.labels, family.groups),
    )


def _own(name: str, folder: Path) -> Said:
    path = folder / f"zoo-{name}.npz"
    if not path.is_file():
        raise DataUnavailable(f"{path} is not there: `python -m {__name__} {name}` makes it")
    timings = read_timings(folder / OWN_TIMINGS).separate[name]
    with np.load(path, allow_pickle=False) as file:
        found = {key: file[key] for key in file.files}
    models = found["models"].tolist()

    def part(scores: npt.NDArray[np.uint8], prefix: str) -> Part:
        labels, groups = (found[f"{prefix}{what}"].astype(np.int64) for what in ("labels", "groups"))
        return Part(labels, groups, {m: _shares(scores[i] * STEP) for i, m in enumerate(models)})

    return Said(
        name,
        tuple(found["classes"].tolist()),
        {model: model for model in models},
        dict(zip(models, found["parameters"].tolist(), strict=True)),
        {model: timings[model] for model in models},
        part(found["validation"], "validation_"),
        part(found["test"], ""),
    )


def _shares(scores: npt.NDArray[np.floating[Any]]) -> Floats:
    """Recorded scores [N, C] as they sum to 1: rounding has moved the sum a little."""
    values = scores.astype(np.float64)
    return np.asarray(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-9))


# ---- recording ----


def record(name: str, folder: Path) -> Path:
    """Write `zoo-NAME.npz`: the zoo's models run over the application's validation and test data."""
    from peekserve.applications.direct import answers, class_names
    from peekserve.applications.prepare import HOME, load_elsewhere
    from peekserve.applications.splits import Split
    from peekserve.applications.zoo import declared

    told, trained = declared(name), json.loads((HOME / name / "zoo" / "training.json").read_text("utf-8"))
    models = list(told["variants"])
    content: dict[str, Any] = {"classes": np.array(class_names(told)), "models": np.array(models)}
    content["parameters"] = np.array([trained[model]["parameters"] for model in models])
    with tempfile.TemporaryDirectory() as scratch:
        load_elsewhere(name, Path(scratch))
        for part, prefix in (("validation", "validation_"), ("test", "")):
            split = Split.read(Path(scratch) / f"{part}.npz")
            scores = np.stack([answers(told, HOME / name, model, split) for model in models])
            content[part] = np.round(rounded(scores).astype(np.float64) / STEP).astype(np.uint8)
            content[f"{prefix}labels"] = split.labels.astype(np.int16)
            content[f"{prefix}groups"] = np.unique(split.groups, return_inverse=True)[1].astype(np.int32)
    path = folder / f"zoo-{name}.npz"
    np.savez_compressed(path, **content)
    return path


def measure(name: str, clock: Clock, rounds: int) -> dict[str, Timed]:
    """Size -> its times."""
    from peekserve.applications.prepare import HOME
    from peekserve.applications.zoo import declared
    from peekserve.experiments.superserve import timing

    told = declared(name)
    (source, spec), *_ = told["inputs"].items()
    row = tuple(next(iter(told["variants"].values()))["inputs"][source].get("reshape", spec["shape"]))
    variants = [
        Variant(
            model,
            model,
            model,
            inputs=(InputMap("x", one["inputs"][source]["name"]),),
            output=OutputMap(one["output"]["name"], OutputForm(one["output"]["form"])),
            model=str(HOME / name / one["model"]),
            max_batch=max(timing.BATCHES),
        )
        for model, one in told["variants"].items()
    ]
    runtime, classes = OnnxRuntime(), len(told["classes"])
    one = {"x": np.zeros((1, *row), np.float32)}
    loads = {v.name: timing.loaded_s(v, classes, one, runtime, clock) for v in variants}
    spent = timing.alternated(variants, classes, row, runtime, clock, rounds)
    return {v.name: Timed(latency_curve(spent[v.name]), loads[v.name]) for v in variants}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*OWN, []], help="all that have recordings of their own")
    parser.add_argument("--out", type=Path, default=RECORDED)
    parser.add_argument("--timing", action="store_true", help="times instead of answers")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--quiet", action="store_true", help="nothing else runs on this machine now")
    given = parser.parse_args()
    for name in given.names or OWN:
        path = given.out / OWN_TIMINGS if given.timing else record(name, given.out)
        if given.timing:
            # Only this needs the extra `train`, by way of its neighbour.
            from peekserve.experiments.superserve.timing import CoreClock

            known = read_timings(path).separate if path.is_file() else {}
            found = measure(name, WallClock() if given.quiet else CoreClock(), given.rounds)
            Timings(fingerprint(), given.quiet, {}, {**known, name: found}).write(path)
        print(path)


if __name__ == "__main__":
    main()
