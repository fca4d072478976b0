"""What `peekserve supernet train` is told: architecture, sizes, space and course, as YAML.

    architecture: conv1d              # conv1d, conv2d or transformer
    input: {beat: {reshape: [1, 180]}}    # how an application's input becomes the network's, as in a variant's `inputs`
    sizes: {channels: [24, 48, 96], kernel: 3, stem_kernel: 15, stem_stride: 3}
    depths: [3, 3, 3]                 # most blocks of each stage, and the least
    least: [1, 1, 1]
    widths: [0.25, 0.5, 0.75, 1]
    epochs: 25
    batch: 64
    peak: 0.004                       # of the learning rate
    augment: {shift: 3, scale: 0.1, noise: 0.01}    # how rows change from epoch to epoch (supernets/augment.py)
    per_class: 3000                   # rows of one class in an epoch, at most

`sizes` are those of `supernets.networks.build`, less what follows from the rest: `shape`, `classes`, `blocks`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peekserve.config import Entry, Problems, Section, parse, read
from peekserve.domain.application import Application, Variant
from peekserve.domain.tensors import InputMap
from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.registry.labelled import Labelled, read_labelled
from peekserve.registry.tensors import input_maps, tensor_specs
from peekserve.runtimes.mapping import apply
from peekserve.supernets.augment import UNCHANGED, Augmentation
from peekserve.supernets.space import ARCHITECTURES, Space

_SIZES = ("channels", "kernel", "stem_kernel", "stem_stride", "width", "heads", "inner", "tokens", "front")


@dataclass(frozen=True, slots=True)
class Recipe:
    """`text`: the YAML itself, which is kept with the supernet so that later commands read data the same way."""

    space: Space
    sizes: dict[str, Any]
    input: InputMap
    epochs: int
    batch: int
    peak: float
    text: str
    augment: Augmentation = UNCHANGED
    per_class: int | None = None

    def rows(self, labelled: Labelled, path: Path) -> npt.NDArray[np.float32]:
        """float32 [n, *row], as the network reads them. Raises InvalidData where the input is not there."""
        if self.input.source not in labelled.inputs:
            raise InvalidData(
                f"{path} has no input {self.input.source!r}; it has {', '.join(labelled.inputs)}"
            )
        return np.asarray(apply(self.input, labelled.inputs[self.input.source]), np.float32)


def outline(folder: Path) -> Application:
    """The classes and inputs of an application, and nothing else of it: its variants may be still to come.

    Raises InvalidConfiguration, with file and line.
    """
    problems = Problems()
    entry = read(folder / "application.yaml", problems)
    classes: tuple[str, ...] = ()
    inputs: tuple[Any, ...] = ()
    name = folder.resolve().name
    if entry is not None:
        top = Section(entry)
        name = top.take("application", Entry.text, name)
        classes = top.need("classes", lambda e: tuple(_class(c) for c in e.items()), ())
        inputs = top.need("inputs", tensor_specs, ())
    problems.raise_errors()
    none = Variant("none", revision="", weights="")
    return Application(name, classes, (none,), (0.5,) * len(classes), inputs=inputs)


def _class(entry: Entry) -> str:
    return entry.text() if entry.is_text else Section(entry).need("name", Entry.text, "")


def read_recipe(path: Path, app: Application) -> Recipe:
    """Raises InvalidConfiguration with every problem of the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidConfiguration(
            f"{path}: cannot be read: {error.strerror}; write a recipe first, "
            "as docs/repository.md#supernets shows, or name one with --recipe"
        ) from error
    return parse_recipe(text, str(path), app)


def parse_recipe(text: str, file: str, app: Application) -> Recipe:
    """As `read_recipe`, of a text that lies in `file`."""
    problems = Problems()
    top = Section(parse(text, file, problems))
    architecture = top.need(
        "architecture", lambda e: e.one_of(ARCHITECTURES, "architecture"), ARCHITECTURES[0]
    )
    known = [spec.name for spec in app.inputs]
    maps = top.need("input", lambda e: input_maps(e, known, lambda: None), ())
    sizes = top.need("sizes", _sizes, {})
    depths = top.need("depths", _whole, (1,))
    least = top.take("least", _whole, (1,) * len(depths))
    widths = top.need("widths", lambda e: tuple(item.number(0.0, 1.0) for item in e.items()), (1.0,))
    uniform = top.take("uniform", Entry.boolean, True)
    epochs = top.take("epochs", lambda e: e.integer(1), 20)
    batch = top.take("batch", lambda e: e.integer(2), 64)
    peak = top.take("peak", lambda e: e.number(0.0, 1.0), 4e-3)
    augment = top.take("augment", _augmentation, UNCHANGED)
    per_class = top.take("per_class", lambda e: e.integer(1), None)
    top.done()
    problems.raise_errors()
    if len(maps) != 1:
        raise InvalidConfiguration(f"{file}: input: a supernet reads one input, not {len(maps)}")
    try:
        space = Space(architecture, depths, least, widths, uniform)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{file}: {error}") from error
    return Recipe(space, sizes, maps[0], epochs, batch, peak, text, augment, per_class)


def _whole(entry: Entry) -> tuple[int, ...]:
    return tuple(item.integer(1) for item in entry.items())


def _augmentation(entry: Entry) -> Augmentation:
    section = Section(entry)
    shift = section.take(
        "shift", lambda e: tuple(i.integer(0) for i in e.items()) if e.is_list else (e.integer(0),), ()
    )
    scale, level, drift, noise = (
        section.take(name, lambda e: e.number(0.0), 0.0) for name in ("scale", "level", "drift", "noise")
    )
    gap = section.take("gap", lambda e: e.integer(0), 0)
    mirror = section.take("mirror", Entry.boolean, False)
    section.done()
    return Augmentation(shift, scale, level, drift, noise, gap, mirror)


def _sizes(entry: Entry) -> dict[str, Any]:
    section = Section(entry)
    sizes: dict[str, Any] = {}
    for name in _SIZES:
        value = section.take(name, lambda e: list(_whole(e)) if e.is_list else e.integer(1), None)
        if value is not None:
            sizes[name] = value
    section.done()
    return sizes


def labelled_rows(
    path: Path, app: Application, recipe: Recipe, option: str = "--train"
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(rows as the network reads them, labels). `option`: by which another file is named.

    Raises InvalidData for a file that is absent or does not fit the application.
    """
    if not path.is_file():
        raise InvalidData(f"{path}: there is no such file; write it, or name another with {option}")
    labelled = read_labelled(path, app)
    return recipe.rows(labelled, path), labelled.labels


def check_classes(labels: npt.NDArray[np.int64], app: Application, path: Path) -> None:
    """Raises InvalidData where training rows leave a class out: nothing could be learnt of it."""
    counts = np.bincount(labels, minlength=len(app.classes))
    without = [name for name, n in zip(app.classes, counts.tolist(), strict=True) if n == 0]
    if without:
        raise InvalidData(
            f"{path}: none of its rows ({len(labels)}) is of {', '.join(without)}: "
            f"each of the {len(app.classes)} classes needs rows to be trained on"
        )
