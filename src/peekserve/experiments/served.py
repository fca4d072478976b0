"""One workload through a real server, over loopback: what its clients saw."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from peekserve.cli.assembly import bound_to
from peekserve.cli.launch import ServerProcess
from peekserve.experiments.comparison import Contender
from peekserve.experiments.workload import Workload
from peekserve.loadgen.client import Reply, send
from peekserve.results import Row


def served(
    root: Path,
    who: Contender,
    workload: Workload,
    cores: Sequence[int],
    journal: Path | None = None,
    on_reply: Callable[[int, Reply], None] | None = None,
) -> list[Row]:
    """A fresh server of the repository at `root`, with the policy of `who`, and one row for each request of the
    workload. The load is sent from `cores`, those of the front. The server's log lies beside the repository. Raises
    NotReady when the server does not come up."""
    settings = {"log": "error", **who.settings()}
    if journal is not None:
        settings["journal"] = str(journal)
    # The load comes from another machine in real life; here it must at least leave the worker's core alone.
    with ServerProcess(root, settings, root.parent / "server.log") as server, bound_to(cores):
        return workload.rows(asyncio.run(send(server.http, workload.calls(), on_reply)))
