"""`peekserve experiment`: list the experiments, run one, tell what they found."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryFile

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from peekserve.cli.terminal import console
from peekserve.errors import InvalidConfiguration
from peekserve.experiments.claims import read_claims
from peekserve.experiments.recalls import pooled, worst_table
from peekserve.experiments.report import markdown, read_summaries
from peekserve.experiments.run import (
    EXPERIMENTS,
    Laboratory,
    Result,
    find,
    kind_of,
    laboratory_of,
    run,
    write,
)
from peekserve.experiments.sneakpeek.device import PAPER
from peekserve.experiments.sneakpeek.recording import RECORDED
from peekserve.experiments.spec import Experiment

RESULTS = Path("results")
# This machine's own times, where somebody measured them.
HERE = PAPER.with_name("here_class.yaml")


def listed(as_json: bool) -> int:
    """Every experiment with its claims counted."""
    claims = read_claims()
    told = [
        {"name": e.name, "what": e.what, "claims": [c.id for c in claims if c.experiment == e.name]}
        for e in EXPERIMENTS.values()
    ]
    if as_json:
        print(json.dumps({"experiments": told}))
        return 0
    table = Table(header_style="bold")
    for column in ("experiment", "what", "claims"):
        table.add_column(column, justify="right" if column == "claims" else "left")
    for one in told:
        table.add_row(str(one["name"]), str(one["what"]), str(len(one["claims"])))
    console().print(table)
    return 0


def report(folder: Path) -> int:
    """The tables of docs/sneakpeek.md, from the summaries below a folder."""
    sys.stdout.write(markdown(read_summaries(folder)))
    return 0


def experiment(
    name: str,
    small: bool,
    seeds: int | None,
    out: Path | None,
    timing: str,
    recordings: Path | None,
    as_json: bool,
) -> int:
    """Run one experiment, or `all` of them, each into a folder of its own. A claim that does not hold is a result and
    no failure."""
    chosen = list(EXPERIMENTS.values()) if name == "all" else [find(name)]
    device = {"paper": PAPER, "here": HERE}.get(timing, Path(timing))
    # One for each family: what is learnt of the recordings is learnt once.
    labs = {
        kind: laboratory_of(
            next(e for e in chosen if kind_of(e) == kind), small, device, recordings or RECORDED
        )
        for kind in dict.fromkeys(map(kind_of, chosen))
    }
    summaries = []
    for one in chosen:
        place = (out or RESULTS) / one.name if name == "all" or out is None else out
        _room_for(place)
        result = _run_shown(one, labs[kind_of(one)], seeds, small, as_json)
        result = write(result, place)
        summaries.append(result.summary)
        if not as_json:
            _tell(result)
    if as_json:
        print(json.dumps(summaries[0] if name != "all" else {"experiments": summaries}))
    return 0


def _run_shown(one: Experiment, lab: Laboratory, seeds: int | None, small: bool, quiet: bool) -> Result:
    """Run it under a bar with the time left."""
    with Progress(
        TextColumn(one.name),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        disable=quiet,
    ) as shown:
        task = shown.add_task(one.name, total=None)
        return run(
            one, lab, seeds, small, lambda done, whole: shown.update(task, completed=done, total=whole)
        )


def _tell(result: Result) -> None:
    out = console()
    table = Table(
        title=f"{result.experiment.name}: {result.experiment.what}", title_justify="left", header_style="bold"
    )
    for column in ("claim", "the paper", "measured here", "value", "95%", "holds"):
        table.add_column(column, justify="right" if column in ("value", "95%") else "left")
    for found in result.findings:
        i = found.interval
        table.add_row(
            found.claim.id,
            found.claim.paper,
            found.claim.claim,
            f"{i.measured:.3f}",
            f"{i.low:.3f}..{i.high:.3f}",
            "[green]yes[/]" if found.holds else "[red]no[/]",
        )
    out.print(table)
    tables = list(result.experiment.tables(result.table)) if result.experiment.tables else []
    if recalls := pooled(result.table.rows):
        tables.append(worst_table(recalls))
    for rows in tables:
        more = Table(*rows[0], header_style="bold")
        for row in rows[1:]:
            more.add_row(*row)
        out.print(more)
    out.print("written:", ", ".join(str(path) for path in result.files))


def _room_for(folder: Path) -> None:
    """Raises InvalidConfiguration when nothing can be written there: said before minutes of measuring, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidConfiguration(
            f"--out {folder}: {error.strerror}; name a folder that can be written"
        ) from error
