"""`peekserve supernet train | calibrate | pareto | export`: from labelled data to subnets that can be served."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="One set of weights, many speeds: train a supernet, choose its subnets, export them (docs/supernets.md).",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(help="An application's folder (docs/repository.md).")]
Name = Annotated[str, typer.Argument(help="The supernet's folder in it, such as wide.")]
Train = Annotated[Path | None, typer.Option("--train", help="Labelled training data; FOLDER/train.npz.")]
Json = Annotated[bool, typer.Option("--json", help="For machines: one JSON document on standard output.")]


@app.command()
def train(
    folder: Folder,
    name: Name,
    recipe: Annotated[
        Path | None, typer.Option(help="Architecture, space and course as YAML; FOLDER/NAME.yaml.")
    ] = None,
    data: Train = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of first weights, batches and drawn subnets.", min=0)] = 1,
    again: Annotated[bool, typer.Option("--again", help="In place of one that was trained before.")] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File written after every epoch; where it is there, training goes on from it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train shared weights by the sandwich rule; writes FOLDER/NAME."""
    from peekserve.cli.supernets import train as run

    recipe, data = recipe or folder / f"{name}.yaml", data or folder / "train.npz"
    run(folder, name, recipe, data, epochs, seed, again, checkpoint, as_json)


@app.command()
def calibrate(
    folder: Folder,
    name: Name,
    subnets: Annotated[
        str | None, typer.Option(help="Names with commas, or all; those on offer, or else all.")
    ] = None,
    data: Train = None,
    as_json: Json = False,
) -> None:
    """Compute normalisation statistics of single subnets, on training data."""
    from peekserve.cli.supernets import calibrate as run

    run(folder, name, subnets, data or folder / "train.npz", as_json)


@app.command()
def pareto(
    folder: Folder,
    name: Name,
    most: Annotated[int, typer.Option(help="How many subnets are evaluated at most.", min=8)] = 64,
    data: Train = None,
    validation: Annotated[
        Path | None, typer.Option(help="Data that subnets are judged on; FOLDER/validation.npz.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the search.", min=0)] = 1,
    as_json: Json = False,
) -> None:
    """Search the front of accuracy over cost; what is on it is on offer from then on."""
    from peekserve.cli.supernets import pareto as run

    run(
        folder,
        name,
        most,
        data or folder / "train.npz",
        validation or folder / "validation.npz",
        seed,
        as_json,
    )


@app.command()
def export(
    folder: Folder,
    name: Name,
    subnets: Annotated[str | None, typer.Option(help="Names with commas; those on offer.")] = None,
    take_apart: Annotated[
        bool,
        typer.Option("--take-apart", help="Large convolutions in one copy: less memory, some more time."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write an ONNX graph for each subnet and one file of weights for all of them."""
    from peekserve.cli.supernets import export as run

    run(folder, name, subnets, take_apart, as_json)
