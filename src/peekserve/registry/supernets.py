"""The key `supernets` of application.yaml: one folder of weights becomes a variant for each subnet that is served.

Only what the files say of themselves is read here: no torch, and no weight but for its checksum.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path

from peekserve.config import Entry, Problems, Section, nearest, parse
from peekserve.domain.application import Variant, check_name
from peekserve.domain.profile import Quality, Timing
from peekserve.domain.tensors import InputMap, OutputMap, TensorSpec
from peekserve.errors import DataUnavailable, InvalidConfiguration, InvalidModel
from peekserve.registry.confined import check_inside, digest, folder_inside
from peekserve.registry.stated import variant_profile
from peekserve.registry.tensors import Describe, ModelFacts, input_maps, output_map
from peekserve.supernets import packed
from peekserve.supernets.space import Subnet
from peekserve.supernets.storage import DESCRIPTION, WEIGHTS, Description, read_description

# What to do about a folder that lacks a step: the command, of the application's folder and the supernet's name in it.
STEP = "`peekserve supernet {} {} {}`"


@dataclass(frozen=True, slots=True)
class _Folder:
    """A supernet on disk, its files compared with what its description says of them. `graphs`: subnet -> file."""

    path: Path
    description: Description
    graphs: dict[str, Path]

    def weights(self, subnets: Sequence[str]) -> str:
        """What these subnets need resident: the full network, the exported weights and their graphs, by content."""
        parts = [digest(self.path / WEIGHTS), digest(packed.weights_of(self.path))]
        parts += [f"{name}:{digest(self.graphs[name])}" for name in sorted(subnets)]
        return sha256("\n".join(parts).encode()).hexdigest()

    def revision(self, subnet: str) -> str:
        """Of one subnet: the full network, the exported weights, its graph."""
        files = (self.path / WEIGHTS, packed.weights_of(self.path), self.graphs[subnet])
        return sha256("\n".join(digest(file) for file in files).encode()).hexdigest()


def supernet_variants(
    entry: Entry,
    classes: Sequence[str],
    inputs: Sequence[TensorSpec],
    buckets: int,
    folder: Path,
    root: Path,
    describe: Describe,
) -> tuple[Variant, ...]:
    """The variants `SUPERNET.SUBNET` of every supernet. What is wrong is noted, with its line."""

    def read_one(name: str, item: Entry) -> tuple[Variant, ...]:
        return _one(name, item, classes, inputs, buckets, folder, root, describe)

    found = (made for name, item in entry.pairs().items() for made in item.attempt(partial(read_one, name)))
    return tuple(chain.from_iterable(found))


def _one(
    name: str,
    entry: Entry,
    classes: Sequence[str],
    inputs: Sequence[TensorSpec],
    buckets: int,
    folder: Path,
    root: Path,
    describe: Describe,
) -> tuple[Variant, ...]:
    check_name(name, "supernet")
    before = len(entry.problems.errors)
    section = None if entry.is_text else Section(entry)
    place = (section.get("path") if section else None) or entry
    if section is None:
        found = next(entry.attempt(lambda e: _folder(e, folder, root)), None)
    else:
        found = section.need("path", lambda e: _folder(e, folder, root), None)
    which_entry = section.get("subnets") if section else None
    chosen: tuple[str, ...] = ()
    if found is not None:
        chosen = next((which_entry or place).attempt(lambda e: _chosen(which_entry, e, found)), ())

    def tensors_of_graph() -> ModelFacts | None:
        if found is None or not chosen:
            return None
        try:
            return describe(str(found.graphs[chosen[0]]))
        except (InvalidModel, DataUnavailable) as error:
            place.note(str(error))
            return None

    known = [spec.name for spec in inputs]
    maps_entry, out_entry = (section.get("inputs"), section.get("output")) if section else (None, None)
    maps: tuple[InputMap, ...] = ()
    out: OutputMap | None = None
    if found is not None and chosen:

        def maps_of(_: Entry) -> tuple[InputMap, ...]:
            return input_maps(maps_entry or _input_as_trained(found, entry.problems), known, tensors_of_graph)

        maps = next((maps_entry or place).attempt(maps_of), ())
        out = next(
            (out_entry or place).attempt(lambda _: output_map(out_entry, classes, tensors_of_graph)), None
        )
        _check_classes(place, found.description, classes, out)
    max_batch, profiles = 32, {}
    if section is not None:
        max_batch = section.take("max_batch", lambda e: e.integer(1, 65536), 32)
        profiles = section.take("profiles", lambda e: _profiles(e, chosen, classes, buckets), {})
        section.done()
    if found is None or len(entry.problems.errors) > before:
        return ()
    weights = found.weights(chosen)
    return tuple(
        Variant(
            name=check_name(f"{name}.{subnet}", "variant"),
            revision=found.revision(subnet),
            weights=weights,
            inputs=maps,
            output=out,
            model=str(found.path),
            max_batch=max_batch,
            quality=profiles.get(subnet, (None, {}))[0],
            timing=profiles.get(subnet, (None, {}))[1],
            subnet=subnet,
            together=chosen,
        )
        for subnet in chosen
    )


def _folder(entry: Entry, folder: Path, root: Path) -> _Folder:
    """Raises Misread when the folder holds no supernet, one of another version, or files that are not its own."""
    path = folder_inside(entry, folder, root, f"{STEP.format('train', folder, entry.text())} makes one")
    try:
        weights, exported, graphs = path / WEIGHTS, packed.weights_of(path), packed.graphs(path)
        for file in (path / DESCRIPTION, weights, exported, *graphs.values()):
            check_inside(entry, file, root)
        description = read_description(path)
        if not weights.is_file():
            raise entry.wrong(f"{path} lacks its weights, {WEIGHTS}")
        has, says = digest(weights), description.files.get(WEIGHTS, "")
        if has != says:
            raise entry.wrong(
                f"{weights} ({weights.stat().st_size} bytes) has sha256 {has[:12]}..., and supernet.json says "
                f"{says[:12] or 'nothing'}...: it is cut off, or of another training",
                "copy both files again",
            )
        if not graphs:
            raise entry.wrong(f"{path} has no exported graph", _step("export", path))
        made_of = packed.read_layout(exported).made_of
        for file in (exported, *graphs.values()):
            # Exports of other programs may be without.
            exported_as = description.files.get(file.relative_to(path).as_posix())
            if exported_as and digest(file) != exported_as:
                raise entry.wrong(
                    f"{file} is not the file that was exported: its sha256 is not what supernet.json says",
                    _step("export", path),
                )
    except (InvalidModel, OSError) as error:
        raise entry.wrong(str(error)) from None
    if made_of and made_of != has:
        raise entry.wrong(
            f"{exported} was exported from other weights ({made_of[:12]}...) than {WEIGHTS} ({has[:12]}...)",
            _step("export", path),
        )
    return _Folder(path, description, graphs)


def _input_as_trained(found: _Folder, problems: Problems) -> Entry | None:
    """`input` of the recipe that it was trained by, since rows made in another way are answered at random; None where
    it came with no recipe."""
    text = found.description.trained.get("recipe")
    if not isinstance(text, str):
        return None
    return Section(parse(text, f"{found.path / DESCRIPTION} (recipe)", problems, "recipe")).get("input")


def _step(name: str, folder: Path) -> str:
    return STEP.format(name, folder.parent, folder.name)


def _chosen(which: Entry | None, place: Entry, found: _Folder) -> tuple[str, ...]:
    """Names of the subnets to serve: those on offer (`pareto`, and where nothing is written), or those written.

    A name that cannot be served is noted, and the others are kept, so that all that is wrong comes at once.
    """
    offered = [one.name for one in found.description.offered]
    if which is None or which.is_text:
        if which is not None:
            which.one_of(("pareto",), "choice of subnets")
        if not offered:
            raise place.wrong("the supernet offers no subnet", _step("pareto", found.path))
        return tuple(name for name in offered if _servable(place, name, found, offered))
    if not which.items():
        raise which.wrong("names no subnet", "write pareto, or a list of names")
    names = {item.text(): item for item in which.items()}
    return tuple(name for name, item in names.items() if _servable(item, name, found, offered))


def _servable(entry: Entry, name: str, found: _Folder, offered: Iterable[str]) -> bool:
    space = found.description.space
    try:
        subnet = Subnet.parse(name)
        space.check(subnet)
    except InvalidConfiguration as error:
        known = dict.fromkeys([*offered, *found.graphs])
        entry.note(f"subnet {name!r} is not in the space of {found.path.name}: {error}", nearest(name, known))
        return False
    if subnet.name != name:
        entry.note(f"subnet {name!r} is written {subnet.name!r}")
        return False
    if name not in found.description.calibrated:
        entry.note(f"subnet {name!r} has no statistics", _step("calibrate", found.path))
        return False
    if name not in found.graphs:
        entry.note(f"subnet {name!r} has no exported graph", _step("export", found.path))
        return False
    return True


def _check_classes(
    entry: Entry, description: Description, classes: Sequence[str], out: OutputMap | None
) -> None:
    """Its scores are in the order of its own classes: a table by position would swap them unseen."""
    own = description.classes
    if out is None or out.order or tuple(classes) == own:
        return
    if len(own) != len(classes):
        entry.note(f"the supernet tells {len(own)} classes apart; the application has {len(classes)}")
    elif set(own) == set(classes):
        entry.note(
            f"the supernet's classes are in the order {', '.join(own)}",
            f"write output: {{name: {out.name}, form: {out.form.value}, order: [{', '.join(own)}]}}",
        )


def _profiles(
    entry: Entry, chosen: Sequence[str], classes: Sequence[str], buckets: int
) -> dict[str, tuple[Quality | None, dict[str, Timing]]]:
    """What is stated of single subnets, by their names."""
    stated = {}
    for name, item in entry.pairs().items():
        if chosen and name not in chosen:
            item.note(f"a profile of {name!r}, which is not served", nearest(name, chosen))
            continue
        for one in item.attempt(lambda e: variant_profile(e, classes, buckets)):
            stated[name] = one
    return stated
