"""What `peekserve supernet` does: bars and tables for people around `peekserve.supernets`. Needs the extra `train`."""

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from peekserve.applications.keywords.logmel import bases, triangles
from peekserve.cli.recipes import Recipe, check_classes, labelled_rows, outline, parse_recipe, read_recipe
from peekserve.cli.terminal import console, progress
from peekserve.domain.application import Application, check_name
from peekserve.errors import DataUnavailable, InvalidConfiguration, InvalidModel
from peekserve.supernets.space import Space, Subnet
from peekserve.supernets.storage import DESCRIPTION, Description, Offered, load, read_description, save

try:
    from peekserve.supernets import calibrate as calibration
    from peekserve.supernets import export as exporting
    from peekserve.supernets import measure, networks, operators
    from peekserve.supernets import pareto as fronts
    from peekserve.supernets import train as training
    from peekserve.supernets.checkpoint import Checkpoint
    from peekserve.supernets.prefixes import WORTH
except ImportError as error:
    raise DataUnavailable(f"supernets need torch ({error}): pip install 'peekserve[train]'") from error

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

# Without a choice of theirs, so many subnets are calibrated at most: beyond, it takes as long as a training.
_ALL = 64


def train(
    folder: Path,
    name: str,
    recipe_path: Path,
    data: Path,
    epochs: int | None,
    seed: int,
    again: bool,
    checkpoint: Path | None,
    as_json: bool,
) -> None:
    """Train and write FOLDER/NAME; print what it took. `checkpoint` goes once that is written.

    Raises InvalidConfiguration where a supernet is there already, unless `again`; InvalidData for a class without rows;
    InvalidModel for a checkpoint of another training.
    """
    check_name(name, "supernet")
    if (folder / name / DESCRIPTION).exists() and not again:
        raise InvalidConfiguration(
            f"{folder / name} holds a trained supernet: choose another name, or train it anew with --again"
        )
    app = outline(folder)
    recipe = read_recipe(recipe_path, app)
    rows, labels = labelled_rows(data, app, recipe)
    check_classes(labels, app, data)
    recipe.augment.check(rows.shape[1:])
    training.seeded(seed)
    sizes = {
        **recipe.sizes,
        "shape": list(rows.shape[1:]),
        "classes": len(app.classes),
        "blocks": recipe.space.depths[0]
        if recipe.space.architecture == "transformer"
        else list(recipe.space.depths),
    }
    network = networks.build(recipe.space.architecture, sizes)
    if isinstance(network.front, networks.LogMel):
        # For samples at 8 kHz.
        front = network.front
        front.fill(bases(front.transform.shape[2]), triangles(front.transform.shape[2], len(front.bands)))
    supernet = operators.Supernet(network, recipe.space)
    last: list[training.Progress] = []
    with progress(as_json) as bar:
        task = bar.add_task("train", total=epochs or recipe.epochs)

        def seen(progress: training.Progress) -> None:
            last.append(progress)
            losses = f"largest {progress.largest:.3f}, smallest {progress.smallest:.3f}"
            bar.update(task, completed=progress.epoch, description=f"loss: {losses}")

        spent = training.train(
            supernet,
            _epochs(recipe, rows, labels),
            epochs or recipe.epochs,
            seed,
            recipe.peak,
            seen,
            _checkpoint(checkpoint, recipe, app, rows, labels),
        )
    trained = {"recipe": recipe.text, "seed": seed, "epochs": epochs or recipe.epochs}
    trained |= {"cpu_s": round(spent.cpu_s, 1), "steps": spent.steps}
    save(
        supernet,
        folder / name,
        Description(recipe.space, sizes, app.classes, tuple(rows.shape[1:]), trained=trained),
    )
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)  # what it would go on from is done
    facts = {
        "supernet": str(folder / name),
        "subnets": recipe.space.size,
        "parameters": measure.parameters(supernet),
        "loss": {"largest": last[-1].largest, "smallest": last[-1].smallest},
        "steps": spent.steps,
        "cpu_s": spent.cpu_s,
    }
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    console().print(_ends(measure.Costs(recipe.space, sizes), recipe.space, last))
    _say(
        f"{folder / name}: {recipe.space.size} subnets in {facts['parameters']:,} parameters, "
        f"{spent.cpu_s:.0f} s of processor time. Next: peekserve supernet pareto {folder} {name}"
    )


def calibrate(folder: Path, name: str, subnets: str | None, data: Path, as_json: bool) -> None:
    """Statistics of the subnets, written into FOLDER/NAME."""
    app, description, recipe = _known(folder, name)
    chosen = _chosen(subnets, description)
    rows = _as_learnt(recipe, *labelled_rows(data, app, recipe))
    supernet = load(folder / name)
    with progress(as_json) as bar:
        task = bar.add_task("calibrate", total=len(chosen))
        calibration.calibrate(
            supernet,
            chosen,
            rows,
            lambda subnet: bar.update(task, advance=1, description=subnet.name),
        )
    made = save(supernet, folder / name, description)
    if as_json:
        print(json.dumps({"supernet": str(folder / name), "calibrated": list(made.calibrated)}, indent=2))
        return
    _say(f"{folder / name}: {len(made.calibrated)} subnets have statistics")


def pareto(
    folder: Path, name: str, most: int, data: Path, validation: Path, seed: int, as_json: bool
) -> None:
    """Calibrate and evaluate at most `most` subnets, and offer the front."""
    app, description, recipe = _known(folder, name)
    rows = _as_learnt(recipe, *labelled_rows(data, app, recipe))
    judged, labels = labelled_rows(validation, app, recipe, "--validation")
    supernet = load(folder / name)
    costs = measure.Costs(description.space, description.sizes)
    with progress(as_json) as bar:
        task = bar.add_task("pareto", total=min(most, description.space.size))

        def judge(subnet: Subnet) -> tuple[int, int]:
            bar.update(task, advance=1, description=subnet.name)
            if subnet.name not in description.calibrated or subnet == description.space.largest:
                calibration.calibrate(supernet, [subnet], rows)
            supernet.actuate(subnet)
            return int((measure.probabilities(supernet, judged).argmax(1) == labels).sum()), len(labels)

        found = fronts.search(
            description.space, judge, lambda s: float(costs(s)[1]), np.random.default_rng(seed), most
        )
    offered = tuple(Offered(m.subnet, m.right, m.of, *costs(m.subnet)) for m in found.front)
    save(supernet, folder / name, replace(description, offered=offered))
    if as_json:
        facts = {
            "supernet": str(folder / name),
            "evaluated": len(found.measured),
            "exhaustive": found.exhaustive,
            "predictor_error": None if found.exhaustive else found.error,
            "offered": [_facts(one) for one in offered],
        }
        print(json.dumps(facts, indent=2))
        return
    console().print(_table(offered))
    how = (
        "the whole space"
        if found.exhaustive
        else f"of {description.space.size}; the predictor errs by {found.error * 100:.1f} points"
    )
    _say(f"{len(found.measured)} subnets evaluated, {how}. Next: peekserve supernet export {folder} {name}")


def export(folder: Path, name: str, subnets: str | None, take_apart: bool, as_json: bool) -> None:
    """ONNX graphs and their weights in FOLDER/NAME/subnets. Raises InvalidModel for a subnet without statistics."""
    description = read_description(folder / name)
    if subnets is None and not description.offered:
        raise InvalidConfiguration(
            f"{folder / name} offers no subnet: run `peekserve supernet pareto {folder} {name}`, "
            "or name some with --subnets"
        )
    chosen = _chosen(subnets, description)
    bare = ",".join(subnet.name for subnet in chosen if subnet.name not in description.calibrated)
    if bare:
        raise InvalidModel(
            f"{folder / name}: statistics missing: "
            f"run `peekserve supernet calibrate {folder} {name} --subnets {bare}`"
        )
    with progress(as_json) as bar:
        task = bar.add_task("export", total=len(chosen))
        place = exporting.export(
            load(folder / name),
            chosen,
            folder / name,
            WORTH if take_apart else None,
            lambda subnet: bar.update(task, advance=1, description=subnet.name),
        )
    size = sum(path.stat().st_size for path in place.iterdir())
    if as_json:
        facts = {"folder": str(place), "subnets": [subnet.name for subnet in chosen], "bytes": size}
        print(json.dumps(facts, indent=2))
        return
    _say(f"{place}: {len(chosen)} subnets, {size / 1e6:.1f} MB")


def _epochs(recipe: Recipe, rows: Floats, labels: Ints) -> training.Epoch:
    return training.as_seen(rows, labels, recipe.augment, recipe.per_class, recipe.batch)


def _as_learnt(recipe: Recipe, rows: Floats, labels: Ints) -> Floats:
    """What statistics are computed on: rows as the weights learnt from them, in that mix of classes."""
    made = _epochs(recipe, rows, labels)(np.random.default_rng(calibration.SEED))
    return calibration.drawn(np.concatenate([inputs[0] for inputs, _ in made]))


def _checkpoint(
    path: Path | None, recipe: Recipe, app: Application, rows: Floats, labels: Ints
) -> Checkpoint | None:
    """With all that the weights depend on and `training.train` is not told."""
    if path is None:
        return None
    data = sha256(rows.tobytes() + labels.tobytes()).hexdigest()
    about = {
        "training data": f"sha256 {data[:16]}, {len(rows)} rows of {list(rows.shape[1:])}",
        "classes": ", ".join(app.classes),
        "sizes": str(recipe.sizes),
        "batch": str(recipe.batch),
        "augment": str(recipe.augment),
        "per_class": str(recipe.per_class),
    }
    return Checkpoint(path, about)


def _known(folder: Path, name: str) -> tuple[Application, Description, Recipe]:
    """Raises InvalidConfiguration for a supernet that another program trained: how its rows are made is not known."""
    app, description = outline(folder), read_description(folder / name)
    text = description.trained.get("recipe")
    if not isinstance(text, str):
        raise InvalidConfiguration(
            f"{folder / name} has no recipe in it, which says how its input is made: "
            "it was not trained by `peekserve supernet train`"
        )
    return app, description, parse_recipe(text, f"{folder / name}/supernet.json", app)


def _chosen(subnets: str | None, description: Description) -> list[Subnet]:
    """Raises InvalidConfiguration for a name outside the space, and for more than are worth their while unasked."""
    space: Space = description.space
    if subnets is None and description.offered:
        return [one.subnet for one in description.offered]
    if subnets == "all" or (subnets is None and space.size <= _ALL):
        return list(space.all())
    if subnets is None:
        raise InvalidConfiguration(
            f"the space has {space.size} subnets: name some with --subnets, or let `peekserve supernet pareto` choose"
        )
    chosen = [Subnet.parse(text.strip()) for text in subnets.split(",")]
    for subnet in chosen:
        space.check(subnet)
    return chosen


def _facts(one: Offered) -> dict[str, Any]:
    return {
        "subnet": one.name,
        "accuracy": one.accuracy,
        "interval": list(one.interval),
        "parameters": one.parameters,
        "multiply_adds": one.multiply_adds,
    }


def _ends(costs: measure.Costs, space: Space, seen: Sequence[training.Progress]) -> Table:
    """The two subnets that every step trains, and how far they came; of a training that went on, since then."""
    table = Table(header_style="bold")
    table.add_column("subnet", no_wrap=True)
    first, last = seen[0], seen[-1]
    for column in ("parameters", "multiply-adds", f"loss, epoch {first.epoch}", f"epoch {last.epoch}"):
        table.add_column(column, justify="right")
    for subnet, began, ended in (
        (space.smallest, first.smallest, last.smallest),
        (space.largest, first.largest, last.largest),
    ):
        parameters, work = costs(subnet)
        table.add_row(subnet.name, f"{parameters:,}", f"{work:,}", f"{began:.3f}", f"{ended:.3f}")
    return table


def _table(offered: Sequence[Offered]) -> Table:
    table = Table(header_style="bold")
    table.add_column("subnet", no_wrap=True)
    for column in ("accuracy", "95%", "parameters", "multiply-adds"):
        table.add_column(column, justify="right")
    for one in offered:
        low, high = one.interval
        table.add_row(
            one.name,
            f"{one.accuracy:.4f}",
            f"{low:.4f} to {high:.4f}",
            f"{one.parameters:,}",
            f"{one.multiply_adds:,}",
        )
    return table


def _say(text: str) -> None:
    console().print(text, markup=False, soft_wrap=True)
