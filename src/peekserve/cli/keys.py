"""`peekserve keys add`, `list` and `revoke`: who may use a server."""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from peekserve.state.keys import Keys

app = typer.Typer(help="API keys: made, listed, revoked; docs/security.md.", no_args_is_help=True)

Repo = Annotated[Path, typer.Argument(help="The repository that is served.")]
State = Annotated[str | None, typer.Option(help="Its state folder; REPO/.peekserve.")]
Name = Annotated[str, typer.Argument(help="Whose key it is.")]


@app.command()
def add(
    repo: Repo,
    name: Name,
    scopes: Annotated[
        str, typer.Option(help="What it is good for, with commas: infer, feedback, admin.")
    ] = "infer",
    state: State = None,
) -> None:
    """Make a key and print it, once: what is kept is its digest."""
    from peekserve.errors import InvalidConfiguration
    from peekserve.state.keys import Scope

    words = [word.strip() for word in scopes.split(",") if word.strip()]
    if wrong := [word for word in words if word not in list(Scope)]:
        raise InvalidConfiguration(f"unknown scope {wrong[0]!r}; scopes are {', '.join(Scope)}")
    with _keys(repo, state) as keys:
        first = not keys.all()
        print(keys.add(name, [Scope(word) for word in words], time.time()))
    if first:
        print("the first key: a server that runs asks for keys once it is started again", file=sys.stderr)


@app.command(name="list")
def list_(
    repo: Repo,
    state: State = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Every key's name, scopes and age; nobody can read the keys themselves."""
    from rich.table import Table
    from rich.text import Text

    from peekserve.cli.terminal import console

    with _keys(repo, state) as keys:
        known = list(keys.all().values())
    if as_json:
        told = [{"name": k.name, "id": k.id, "scopes": sorted(k.scopes), "made_at": k.made_at} for k in known]
        print(json.dumps({"keys": told}))
        return
    table = Table(header_style="bold")
    for column in ("name", "id", "good for", "made"):
        table.add_column(column)
    for key in known:
        made = time.strftime("%Y-%m-%d %H:%M", time.gmtime(key.made_at))
        table.add_row(Text(key.name), key.id, ", ".join(sorted(key.scopes)), f"{made} UTC")
    console().print(table if known else "no keys: docs/security.md says who may ask without")


@app.command()
def revoke(repo: Repo, name: Name, state: State = None) -> None:
    """From one second on it is good for nothing, on a running server too."""
    with _keys(repo, state) as keys:
        keys.revoke(name)
    print(f"revoked {name}")


def _keys(repo: Path, state: str | None) -> "Keys":
    from peekserve.cli.admission import open_keys
    from peekserve.registry.settings import read_settings

    settings, _ = read_settings(repo, os.environ, {"state": state} if state else None)
    return open_keys(repo, settings)
