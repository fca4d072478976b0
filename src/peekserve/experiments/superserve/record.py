"""What the subnets of one supernet, and separate models of the same sizes, said of an application's samples.

A file `recorded/superserve-NAME.npz` (NAME: ecg, keywords, keywords-transformer, digits) is a `Scored` on disk. S
subnets that were calibrated, M separately trained models, C classes, N test and n validation samples:

- `classes` [C], `subnets` [S], `separate` [M]: names; a subnet and a separate model of the same size have one name,
  such as `d2-2-1.w50`. Subnets stand in rising order of multiply-adds;
- `offered`: bool [S], whether the subnet is on the front of validation accuracy over cost;
- `labels`, `groups`: int64 [N] of test, `validation_labels`, `validation_groups`: int64 [n];
- `subnets_test` float16 [S, N, C], `subnets_validation` [S, n, C], `separate_test` [M, N, C], `separate_validation`
  [M, n, C]: probabilities, to the nearest 255th, and hence with sums of about 1; in the file they are those 255ths,
  uint8, with the axes turned round, which takes half the room;
- `borrowed_test`: int8 [S, N], what each subnet answers with the normalisation statistics of the largest one, which
  is what is left of it without SubnetNorm; -1 throughout where the network has none to borrow;
- `subnets_parameters`, `subnets_multiply_adds` int64 [S] (of one row), `separate_parameters`,
  `separate_multiply_adds` int64 [M];
- `supernet_cpu_s`, `supernet_work` (one number each), `separate_cpu_s`, `separate_work` float64 [M]: what training
  took, in seconds of one processor core and in multiply-adds of all forward passes.

Accuracies for profiles come from validation, answers from test: what is believed of a subnet and what it then does are
different data, as in service.

`python -m peekserve.experiments.superserve.record [NAME ...]` makes the files anew from the trained supernets of the
package and the data that they were trained on, and their cards with them (extra `train`).
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peekserve.errors import DataUnavailable, InvalidData

RECORDED = Path(__file__).parents[1] / "recorded"
# NAME -> the application and the supernet in its folder `supernets`.
SOURCES = {
    "ecg": ("ecg", "wide"),
    "keywords": ("keywords", "wide"),
    "keywords-transformer": ("keywords", "tokens"),
    "digits": ("digits", "wide"),
}
NAMES = tuple(SOURCES)
# No margin that anybody acts on is as small.
STEP = 1.0 / 255

_SCORES = tuple(f"{which}_{part}" for which in ("subnets", "separate") for part in ("test", "validation"))

Scores = npt.NDArray[np.float16]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """One file: see the module for every field's shape. Raises InvalidData where lengths do not agree."""

    classes: tuple[str, ...]
    subnets: tuple[str, ...]
    separate: tuple[str, ...]
    offered: npt.NDArray[np.bool_]
    labels: Ints
    groups: Ints
    validation_labels: Ints
    validation_groups: Ints
    subnets_test: Scores
    subnets_validation: Scores
    separate_test: Scores
    separate_validation: Scores
    borrowed_test: npt.NDArray[np.int8]
    subnets_parameters: Ints
    subnets_multiply_adds: Ints
    separate_parameters: Ints
    separate_multiply_adds: Ints
    supernet_cpu_s: float
    supernet_work: float
    separate_cpu_s: Floats
    separate_work: Floats

    def __post_init__(self) -> None:
        many = {"subnets": len(self.subnets), "separate": len(self.separate)}
        rows = {"test": len(self.labels), "validation": len(self.validation_labels)}
        for which, models in many.items():
            for part, samples in rows.items():
                scores: Scores = getattr(self, f"{which}_{part}")
                if scores.shape != (models, samples, len(self.classes)):
                    raise InvalidData(
                        f"{which}_{part} is {list(scores.shape)}; "
                        f"{[models, samples, len(self.classes)]} would fit the names and labels"
                    )

    def accuracies(self, part: str = "validation") -> dict[str, float]:
        """Subnet -> share of right answers on `validation` or `test`."""
        return self._right(self.subnets, part, "subnets")

    def separate_accuracies(self, part: str = "validation") -> dict[str, float]:
        """Separate model -> share of right answers on `validation` or `test`."""
        return self._right(self.separate, part, "separate")

    def borrowed_accuracies(self) -> dict[str, float]:
        """Subnet -> share of right answers on test with the largest subnet's statistics; empty without any."""
        if (self.borrowed_test < 0).all():
            return {}
        right = (self.borrowed_test == self.labels).mean(axis=1)
        return dict(zip(self.subnets, right.tolist(), strict=True))

    def _right(self, names: tuple[str, ...], part: str, which: str) -> dict[str, float]:
        labels = self.labels if part == "test" else self.validation_labels
        said = getattr(self, f"{which}_{part}").argmax(axis=2)
        return dict(zip(names, (said == labels).mean(axis=1).tolist(), strict=True))

    def save(self, path: Path) -> None:
        """Write the npz; labels and groups in as few bytes as they need."""
        content: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("labels", "validation_labels"):
            content[name] = content[name].astype(np.int16)
        for name in _SCORES:
            content[name] = np.round(content[name].astype(np.float64).T / STEP).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in content.items()}
        np.savez_compressed(path, **arrays)


def rounded(probabilities: npt.NDArray[Any]) -> Scores:
    """To the nearest `STEP`, without changing any row's answer: of two that become equal the first was the larger, or
    the larger stays one step above."""
    steps = np.round(
        np.asarray(probabilities, np.float64) / STEP
    )  # 0 to 255, since a leader at 255 has no equal
    leading = np.asarray(probabilities).argmax(axis=-1)[..., None]
    changed = steps.argmax(axis=-1)[..., None] != leading
    np.put_along_axis(steps, leading, np.take_along_axis(steps, leading, -1) + changed, -1)
    return np.asarray(steps * STEP, np.float16)


def load(name: str, folder: Path = RECORDED) -> Scored:
    """`superserve-NAME.npz` of the folder. Raises DataUnavailable where it is not there, InvalidData where it is of
    another form."""
    path = folder / f"superserve-{name}.npz"
    if not path.is_file():
        raise DataUnavailable(f"{path} is not there: `python -m {__name__} {name}` makes it")
    with np.load(path, allow_pickle=False) as file:
        absent = [field.name for field in fields(Scored) if field.name not in file.files]
        if absent:
            raise InvalidData(
                f"{path} has no {', '.join(absent)}: `python -m {__name__} {name}` makes it anew"
            )
        found: dict[str, Any] = {field.name: file[field.name] for field in fields(Scored)}
    for which in ("classes", "subnets", "separate"):
        found[which] = tuple(found[which].tolist())
    for which in _SCORES:
        found[which] = (found[which].T * STEP).astype(np.float16)
    for which in ("supernet_cpu_s", "supernet_work"):
        found[which] = float(found[which])
    for which in ("labels", "groups", "validation_labels", "validation_groups"):
        found[which] = found[which].astype(np.int64)
    return Scored(**found)


def main(names: list[str]) -> None:
    # Only this needs torch, and an experiment never does.
    import importlib

    from peekserve.applications.family import recorded
    from peekserve.applications.family_card import write_card

    for name in names:
        application, supernet = SOURCES[name]
        module = importlib.import_module(f"peekserve.applications.{application}.supernet")
        said = recorded(module.FAMILIES[supernet](), module.HOME / supernet)
        write_card(module.HOME / supernet, said, f"{application}: the supernet `{supernet}`")
        for field in _SCORES:
            said[field] = rounded(said[field])
        for field in ("groups", "validation_groups"):
            said[field] = np.unique(said[field], return_inverse=True)[1].reshape(-1).astype(np.int32)
        path = RECORDED / f"superserve-{name}.npz"
        Scored(**said).save(path)
        print(f"{path}: {len(said['subnets'])} subnets, {path.stat().st_size} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="all, if none is named")
    main(parser.parse_args().names or list(NAMES))
