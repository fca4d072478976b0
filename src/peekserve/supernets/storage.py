"""A supernet on disk: `supernet.json`, which needs no torch to be read, and `weights.safetensors` beside it.

    supernet.json         format version, architecture and sizes, space, classes, shape of a row, which subnets were
                          calibrated, which are offered and what each is worth and costs, how it was trained, and the
                          sha256 of the weights
    weights.safetensors   the full network's parameters and buffers by their names in it, and the SubnetNorm tables:
                          `norm/SUBNET/LAYER/mean` and `.../var`, float32 [channels]

Safetensors are bytes with a table of contents: nothing in them is ever executed. What is read is compared with the
checksum before anything is made of it.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from peekserve.domain.shares import wilson
from peekserve.errors import DataUnavailable, InvalidConfiguration, InvalidModel, UnknownVariant
from peekserve.supernets.space import Space, Subnet

if TYPE_CHECKING:
    from peekserve.supernets.operators import Supernet

FORMAT = 1
DESCRIPTION, WEIGHTS = "supernet.json", "weights.safetensors"
_NORM = "norm"

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Offered:
    """A subnet that is worth serving: right on `right` of `of` validation rows; `multiply_adds` of one row."""

    subnet: Subnet
    right: int
    of: int
    parameters: int
    multiply_adds: int

    @property
    def name(self) -> str:
        return self.subnet.name

    @property
    def accuracy(self) -> float:
        return self.right / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """95%, Wilson 1927."""
        return wilson(self.right, self.of)


@dataclass(frozen=True, slots=True)
class Description:
    """What `supernet.json` says. `sizes`: what `networks.build` takes beside the architecture. `row`: shape of one row
    of the network's input. `calibrated`: names of the subnets that have statistics. `trained`: how the weights came
    about, for people. `files`: name -> sha256."""

    space: Space
    sizes: Mapping[str, Any]
    classes: tuple[str, ...]
    row: tuple[int, ...]
    calibrated: tuple[str, ...] = ()
    offered: tuple[Offered, ...] = ()
    trained: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def architecture(self) -> str:
        return self.space.architecture

    def offer(self, name: str) -> Offered:
        """Raises UnknownVariant for a subnet that is not offered; says which are."""
        for one in self.offered:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.offered) or "none yet: run `peekserve supernet pareto`"
        raise UnknownVariant(f"there is no subnet {name!r} on offer; there are {known}")


class _Offer(msgspec.Struct, forbid_unknown_fields=True):
    subnet: str
    right: int
    of: int
    parameters: int
    multiply_adds: int
    # For people and other programs; read back from the counts.
    accuracy: float = 0.0
    interval: tuple[float, float] = (0.0, 0.0)


class _Space(msgspec.Struct, forbid_unknown_fields=True):
    depths: tuple[int, ...]
    least: tuple[int, ...]
    widths: tuple[float, ...]
    uniform: bool


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    architecture: str
    sizes: dict[str, Any]
    space: _Space
    classes: tuple[str, ...]
    row: tuple[int, ...]
    calibrated: tuple[str, ...]
    offered: list[_Offer]
    trained: dict[str, Any]
    files: dict[str, str]


class _Version(msgspec.Struct):
    format: int


def save(supernet: "Supernet", folder: Path, description: Description) -> Description:
    """Write both files (each whole or not at all, the description last) and return the description as written.

    `calibrated` and `files` are filled in from what is written; of what was exported into `folder` the checksums stay
    where the weights do. Raises InvalidModel where `description` offers a subnet that has no statistics although the
    network needs some, or is of another space.
    """
    if description.space != supernet.space:
        raise InvalidModel(f"the description is of {description.space}, the supernet of {supernet.space}")
    calibrated = tuple(sorted(supernet.norms, key=_by_size))
    bare = [one.name for one in description.offered if one.name not in supernet.norms]
    if bare:
        raise InvalidModel(f"{', '.join(bare)}: statistics missing: calibrate before offering")
    arrays = {name: _plain(tensor) for name, tensor in supernet.network.state_dict().items()}
    for subnet, layers in supernet.norms.items():
        if subnet == supernet.space.largest.name:
            continue  # the network's own running statistics
        for layer, (mean, var) in layers.items():
            arrays[f"{_NORM}/{subnet}/{layer}/mean"] = _plain(mean)
            arrays[f"{_NORM}/{subnet}/{layer}/var"] = _plain(var)
    folder.mkdir(parents=True, exist_ok=True)
    content = _safetensors().save(arrays)
    _replace(folder / WEIGHTS, content)
    digest = hashlib.sha256(content).hexdigest()
    before = description.files if description.files.get(WEIGHTS) == digest else {}
    exported = {name: said for name, said in before.items() if (folder / name).is_file()}
    made = replace(
        description,
        calibrated=calibrated,
        files={**exported, WEIGHTS: digest},
        format=FORMAT,
    )
    write_description(folder, made)
    return made


def write_description(folder: Path, description: Description) -> None:
    """supernet.json alone: what is offered may change while the weights stay."""
    space = description.space
    written = _Written(
        format=description.format,
        architecture=space.architecture,
        sizes=dict(description.sizes),
        space=_Space(space.depths, space.least, space.widths, space.uniform),
        classes=description.classes,
        row=description.row,
        calibrated=description.calibrated,
        offered=[_offer(one) for one in description.offered],
        trained=dict(description.trained),
        files=dict(description.files),
    )
    _replace(folder / DESCRIPTION, msgspec.json.format(msgspec.json.encode(written), indent=2) + b"\n")


def read_description(folder: Path) -> Description:
    """What supernet.json says; no other file is opened, and torch is not needed.

    Raises InvalidModel for a file that is absent, no JSON, of another version or of another form; InvalidConfiguration
    for a space that cannot be or an offered subnet outside it. All name the file.
    """
    path = folder / DESCRIPTION
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidModel(f"{folder} holds no supernet: {path.name}: {error.strerror}") from error
    try:
        version = msgspec.json.decode(raw, type=_Version).format
        if version != FORMAT:
            raise InvalidModel(
                f"{path} is of format {version}, and this peekserve reads {FORMAT}: "
                "train it anew, or serve it with the version that wrote it"
            )
        written = msgspec.json.decode(raw, type=_Written)
    except msgspec.DecodeError as error:
        raise InvalidModel(f"{path} is cut off or damaged ({error}): copy the folder again") from error
    try:
        space = Space(
            written.architecture,
            written.space.depths,
            written.space.least,
            written.space.widths,
            written.space.uniform,
        )
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{path}: {error}") from error
    offered = []
    for one in written.offered:
        try:
            subnet = Subnet.parse(one.subnet)
            space.check(subnet)
        except InvalidConfiguration as error:
            raise InvalidConfiguration(f"{path}: offers {error}") from error
        offered.append(Offered(subnet, one.right, one.of, one.parameters, one.multiply_adds))
    return Description(
        space=space,
        sizes=written.sizes,
        classes=written.classes,
        row=written.row,
        calibrated=written.calibrated,
        offered=tuple(offered),
        trained=written.trained,
        files=written.files,
    )


def read_arrays(folder: Path, description: Description) -> dict[str, Array]:
    """Every array of the weights file by name; torch is not needed.

    Raises InvalidModel for a file that is absent, truncated, or not the one that the description names.
    """
    path = folder / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidModel(f"{folder} lacks its weights: {path.name}: {error.strerror}") from error
    library = _safetensors()
    stated = description.files.get(WEIGHTS)
    found = hashlib.sha256(content).hexdigest()
    if found != stated:
        raise InvalidModel(
            f"{path} ({len(content)} bytes) has sha256 {found[:12]}..., {DESCRIPTION} says {str(stated)[:12]}...: "
            "truncated, or of another training; copy both files again"
        )
    try:
        return dict(library.load(content))
    except Exception as error:  # the library's own error class says no more than its text
        raise InvalidModel(f"{path}: {error}") from error


def load(folder: Path) -> "Supernet":
    """The supernet with all its statistics, ready to actuate any calibrated subnet.

    Raises InvalidModel as `read_description` and `read_arrays` do, and for weights that do not fit the architecture or
    statistics that are missing; InvalidConfiguration for a space that does not fit it.
    """
    description = read_description(folder)
    arrays = read_arrays(folder, description)
    # Here and not above: a registry reads descriptions where there is no torch.
    import torch

    from peekserve.supernets.networks import build
    from peekserve.supernets.operators import Supernet

    network = build(description.architecture, description.sizes)
    expected = network.state_dict()
    absent = [name for name in expected if name not in arrays]
    if absent:
        raise InvalidModel(f"{folder / WEIGHTS} lacks {', '.join(absent[:3])} ({len(absent)} in all)")
    for name, tensor in expected.items():
        if tuple(tensor.shape) != arrays[name].shape:
            raise InvalidModel(
                f"{folder / WEIGHTS}: {name} is {list(arrays[name].shape)}; "
                f"{description.architecture} of these sizes has {list(tensor.shape)}"
            )
    network.load_state_dict({name: torch.from_numpy(arrays[name].copy()) for name in expected})
    supernet = Supernet(network.eval(), description.space)
    tables: dict[str, dict[str, Any]] = {name: {} for name in description.calibrated}
    for key, mean in arrays.items():
        if key.startswith(f"{_NORM}/") and key.endswith("/mean"):
            _, name, layer, _ = key.split("/")
            var = arrays.get(f"{_NORM}/{name}/{layer}/var")
            if name not in tables or var is None:
                raise InvalidModel(
                    f"{folder / WEIGHTS}: {key} has no var beside it, or is of no calibrated subnet"
                )
            tables[name][layer] = (torch.from_numpy(mean.copy()), torch.from_numpy(var.copy()))
    for name, table in tables.items():
        subnet = Subnet.parse(name)
        if subnet != description.space.largest:
            supernet.keep_norms(subnet, table)
        supernet.prepare(subnet)  # raises where a layer that runs has no statistics
    return supernet


def _by_size(name: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    subnet = Subnet.parse(name)
    return subnet.widths, subnet.depths


def _offer(one: Offered) -> _Offer:
    return _Offer(one.name, one.right, one.of, one.parameters, one.multiply_adds, one.accuracy, one.interval)


def _plain(tensor: Any) -> Array:
    return np.array(
        tensor.detach().cpu().numpy(), order="C"
    )  # with no axes, too, which ascontiguousarray adds


def _safetensors() -> Any:
    try:
        import safetensors.numpy as library
    except ImportError as error:
        raise DataUnavailable(
            "the weights of a supernet are safetensors: pip install 'peekserve[train]'"
        ) from error
    return library


def _replace(path: Path, content: bytes) -> None:
    scratch = path.with_name(path.name + ".new")
    scratch.write_bytes(content)
    os.replace(scratch, path)
