"""Clients that nobody here wrote, at a real server.

    python -m tests.whole.outside REPO                        # all of them; about five minutes
    python -m tests.whole.outside REPO --only perf_analyzer

REPO is a prepared and profiled repository (docs/demo.md); it is read, and what its server learns is kept elsewhere.
Each client has an environment of its own, made at the first run in a cache folder, and a server of its own. The exit
status is 1 if any check failed. What cannot be installed on this machine is said aloud, and fails nothing.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from peekserve.cli.launch import ServerProcess
from peekserve.errors import PeekserveError
from tests.whole.outside import environments, programs
from tests.whole.outside.checks import Target
from tests.whole.outside.environments import Environment, Installed, NotHere
from tests.whole.outside.programs import Row

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "peekserve" / "outside"
Run = Callable[[str, Installed, Target, Path], Iterator[Row]]


def _script(module: str, which: str, heading: str = "") -> Run:
    def run(client: str, env: Installed, target: Target, folder: Path) -> Iterator[Row]:
        yield from programs.script(client, module, which, env, target, folder)
        if heading:
            yield from programs.snippets(client, heading, env, target, folder)

    return run


def clients(cases: int) -> dict[str, tuple[Environment, Run]]:
    """Each client with what it needs and what it does."""
    return {
        "tritonclient-http": (environments.TRITON, _script("triton", "http")),
        "tritonclient-grpc": (environments.TRITON, _script("triton", "grpc", "tritonclient")),
        "kserve-rest": (environments.KSERVE, _script("kserve_sdk", "rest")),
        "kserve-grpc": (environments.KSERVE, _script("kserve_sdk", "grpc", "kserve")),
        "mlserver": (environments.MLSERVER, programs.mlserver),
        "perf_analyzer": (environments.PERF_ANALYZER, programs.perf_analyzer),
        "schemathesis": (
            environments.SCHEMATHESIS,
            lambda client, env, target, folder: programs.schemathesis(client, env, target, cases, folder),
        ),
    }


def rows_of(client: str, environment: Environment, run: Run, told: argparse.Namespace) -> Iterator[Row]:
    """Install it, start a server for it, let it work."""
    try:
        env = environments.installed(environment, told.cache)
    except NotHere as error:
        yield Row(client, "SKIPPED", f"{', '.join(environment.packages)} in an environment", None, str(error))
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield from _served(client, env, run, told, Path(folder))
        except (
            PeekserveError,
            OSError,
        ) as error:  # one that breaks down takes no other client's rows with it
            yield Row(client, "the server", "comes up and stays", False, str(error).replace("\n", " / "))


def _served(client: str, env: Installed, run: Run, told: argparse.Namespace, folder: Path) -> Iterator[Row]:
    state, log = folder / "state", folder / "server.log"
    state.mkdir()
    for file in (told.repository / ".peekserve").glob("state.sqlite*"):  # its profiles
        shutil.copy(file, state)
    settings = {"log": "warning", "grpc": "127.0.0.1:0", "state": str(state)}
    with ServerProcess(told.repository, settings, log) as server:
        grpc = str(server.told["grpc"])
        target = programs.target_of(told.repository, server.http, grpc, told.application, folder)
        yield from run(client, env, target, folder)
        status = server.stop()
    wrong = _errors(log)
    seen = f"exit status {status}; {'; '.join(wrong) or 'no error logged'}"
    what = "ends with 0 on SIGTERM and has logged no error"
    yield Row(client, "the server", what, status == 0 and not wrong, seen)


def _errors(log: Path) -> list[str]:
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if "Traceback" in line or '"level":"error"' in line.replace(" ", "")][:2]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(clients(0))
    parser.add_argument("repository", type=Path, metavar="REPO")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="CLIENT", help=", ".join(names)
    )
    parser.add_argument("--application", default="", help="which to ask; the first that fits, if not told")
    parser.add_argument("--cases", type=int, default=5000, help="of schemathesis")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"where environments are kept ({CACHE})")
    parser.add_argument("--json", action="store_true", help="the same for machines")
    parser.add_argument("--markdown", action="store_true", help="the same for docs/clients.md")
    told = parser.parse_args()
    if not told.repository.is_dir():
        parser.error(f"{told.repository} is no folder")
    told.cache = told.cache.resolve()
    every = clients(told.cases)
    console, rows = Console(stderr=True), []
    for client in told.only:
        for row in rows_of(client, *every[client], told):
            rows.append(row)
            console.print(f"{_mark(row)} {row.client}: {row.check}", highlight=False)
            if not row.passed:
                console.print(f"     {row.seen}", highlight=False, markup=False, style="yellow")
    if told.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    elif told.markdown:
        print(markdown(rows))
    else:
        # Half the words of a table are lost where it is piped and 80 columns are believed.
        Console(width=max(console.width, 140)).print(table(rows))
    skipped = sorted({row.client for row in rows if row.passed is None})
    failed = sum(row.passed is False for row in rows)
    if skipped:
        console.print(f"[bold black on yellow] SKIPPED, not tried here: {', '.join(skipped)} ")
    passed = sum(row.passed is True for row in rows)
    console.print(f"{passed} passed, {failed} failed; clients skipped: {len(skipped)}")
    return int(failed > 0)


def _mark(row: Row) -> str:
    return {True: "[green]  ok[/]", False: "[bold red]FAIL[/]", None: "[bold black on yellow]SKIP[/]"}[
        row.passed
    ]


def table(rows: list[Row]) -> Table:
    made = Table("", "client", "check", "what it does", "what was seen")
    for row in rows:
        made.add_row(_mark(row), *(escape(cell) for cell in (row.client, row.check, row.what, row.seen)))
    return made


def markdown(rows: list[Row]) -> str:
    lines = ["| client | check | what it does | passed | what was seen |", "| --- | --- | --- | --- | --- |"]
    words = {True: "yes", False: "**no**", None: "skipped"}
    for row in rows:
        cells = (row.client, row.check, row.what, words[row.passed], row.seen)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
