"""What `peekserve data` does: a table of data sets, and their download with a bar."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from peekserve.cli.terminal import console
from peekserve.errors import DataUnavailable, PeekserveError
from peekserve.registry.datasets import DATASETS, VARIABLE, Dataset, find, own_home
from peekserve.registry.fetching import CONVERT, Fetched, fetch, sha256


def show(as_json: bool) -> None:
    """Print the table, or a list of objects with the same facts."""
    found = [(dataset, find(dataset.file)) for dataset in DATASETS.values()]
    sums = {dataset.name: sha256(path) if path else "" for dataset, path in found}
    if as_json:
        print(json.dumps([_facts(dataset, path, sums[dataset.name]) for dataset, path in found], indent=2))
        return
    table = Table(header_style="bold")
    for column in ("data set", "for", "licence", "size", "sha256", "here"):
        # A name is there to be copied: it stays whole in a narrow terminal.
        table.add_column(
            column, justify="right" if column == "size" else "left", no_wrap=column == "data set"
        )
    say = console()
    for dataset, path in found:
        here = "no" if path is None else "yes" if sums[dataset.name] == dataset.sha256 else "other checksum"
        size = f"{dataset.size / 1e6:.1f} MB"
        table.add_row(dataset.name, dataset.application, dataset.licence, size, dataset.sha256[:12], here)
    say.print(table)
    for dataset, path in found:
        say.print(
            f"{dataset.name}: {dataset.what}" + (f"\n  {path}" if path else ""), markup=False, soft_wrap=True
        )
    say.print(
        f"`peekserve data fetch NAME` puts data into {own_home()}; {VARIABLE} names another folder. A file of another "
        "checksum was converted from the published archive, or changed.",
        markup=False,
        soft_wrap=True,
    )


def _facts(dataset: Dataset, path: Path | None, found: str) -> dict[str, object]:
    return {
        "name": dataset.name,
        "application": dataset.application,
        "what": dataset.what,
        "licence": dataset.licence,
        "size": dataset.size,
        "sha256": dataset.sha256,
        "source": dataset.source.url,
        "source_checksum": f"{dataset.source.algorithm}:{dataset.source.checksum}"
        if dataset.source.checksum
        else None,
        "fetchable": dataset.name in CONVERT,
        "present": path is not None,
        "path": str(path) if path else None,
        "path_sha256": found or None,
    }


def named(names: Sequence[str]) -> list[Dataset]:
    """Data sets by their own or their application's name; all that can be converted, where none is named.

    Raises DataUnavailable for a name that is neither.
    """
    by_name = DATASETS | {dataset.application: dataset for dataset in DATASETS.values()}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise DataUnavailable(f"there is no data set {unknown[0]!r}; there are {', '.join(by_name)}")
    return list(dict.fromkeys(by_name[name] for name in names or CONVERT))


def get(names: Sequence[str], to: Path | None, source: str | None, again: bool, as_json: bool) -> int:
    """Fetch what is named; 1 if anything could not be had, and the rest is fetched all the same."""
    home, chosen = to or own_home(), named(names)
    if source is not None:
        if len(chosen) != 1:
            raise DataUnavailable(f"--from is one archive: name one data set of {', '.join(DATASETS)}")
        url = source if "://" in source else Path(source).resolve().as_uri()
        chosen = [replace(chosen[0], source=replace(chosen[0].source, url=url))]
    results: list[dict[str, object]] = []
    failed = 0
    screen = console(stderr=True)
    for dataset in chosen:
        here = home / dataset.file if to else find(dataset.file)
        if here is not None and here.is_file() and not again:
            screen.print(
                f"{dataset.name}: here already, {here}; --again gets it anew", markup=False, soft_wrap=True
            )
            results.append({"name": dataset.name, "path": str(here), "fetched": False})
            continue
        try:
            made = _with_a_bar(dataset, home)
        except PeekserveError as error:
            failed += 1
            screen.print(f"peekserve: {dataset.name}: {error}", markup=False, soft_wrap=True)
            results.append({"name": dataset.name, "fetched": False, "error": str(error)})
            continue
        screen.print(f"{dataset.name}: {made.path} ({made.size / 1e6:.1f} MB, {dataset.licence})")
        results.append(
            {
                "name": dataset.name,
                "path": str(made.path),
                "fetched": True,
                "size": made.size,
                "sha256": made.sha256,
            }
        )
    if as_json:
        print(json.dumps(results, indent=2))
    return 1 if failed else 0


def _with_a_bar(dataset: Dataset, home: Path) -> Fetched:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(dataset.name, total=dataset.source.size or None)

        def seen(done: int, whole: int) -> None:
            bar.update(task, completed=done, total=whole or None)

        return fetch(dataset, home, seen)
