"""Where people read: one way to make a console, and one bar for long work."""

import os
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Without a terminal nobody has set a width, and eighty columns would cut every table.
_WIDE = 150


def console(stderr: bool = False) -> Console:
    """A console of the terminal's width, or a wide one where output goes into a file or a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDE
    # No pictures: what stands between two colons is a line of a file (`:100:`) or a name.
    return Console(stderr=stderr, highlight=False, emoji=False, width=width)


def progress(quiet: bool) -> Progress:
    """A bar beside its task's description, which goes away when the work is done; none where `quiet`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        disable=quiet,
        transient=True,
    )
