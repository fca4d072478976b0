"""`peekserve data list` and `peekserve data fetch`: the data sets of ecg, keywords and falls."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The data sets of the applications ecg, keywords and falls: which are here, and how to get them.",
    no_args_is_help=True,
)

Json = Annotated[bool, typer.Option("--json", help="For machines: one JSON document on standard output.")]


@app.command(name="list")
def list_(as_json: Json = False) -> None:
    """Every data set: what it is, its licence, size and checksum, and where it lies if it is here."""
    from peekserve.cli.datasets import show

    show(as_json)


@app.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets or applications; all that can be, if none is named.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="The folder for data sets; $PEEKSERVE_DATA.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Another URL, or a file, that holds the published archive.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what is here already.")] = False,
    as_json: Json = False,
) -> None:
    """Download from the official places, compare checksums, and convert to the arrays that are read."""
    from peekserve.cli.datasets import get

    code = get(names or [], to, source, again, as_json)
    if code:
        raise typer.Exit(code)
