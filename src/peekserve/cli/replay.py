"""`peekserve replay`: does the scheduler still decide what a journal says that it decided?"""

import json
from collections.abc import Iterator
from pathlib import Path

from peekserve.errors import JournalDamaged
from peekserve.live.journalling import replay as run
from peekserve.state.journal import JournalReader, Step


class _Readable(JournalReader):
    """A journal as far as it can be read: a power cut or a full disk leaves a last frame that is not whole."""

    damaged: str | None = None

    def __iter__(self) -> Iterator[Step]:
        try:
            yield from super().__iter__()
        except JournalDamaged as error:
            self.damaged = str(error)


def replay(path: Path, as_json: bool) -> int:
    """Print how many steps were the same, and where the journal cannot be read any further; 1 if it cannot, or at the
    first step that is not the same."""
    reader = _Readable(path)
    replayed = run(reader)
    same = replayed.difference is None
    if as_json:
        told = {
            "same": same,
            "steps": replayed.steps,
            "commands": replayed.commands,
            "damaged": reader.damaged,
        }
        print(json.dumps(told))
    elif same:
        print(f"{path}: {replayed.steps} events led to the same {replayed.commands} commands")
    else:
        print(f"{path}: after {replayed.steps} events the commands differ\n{replayed.difference}")
    if reader.damaged and not as_json:
        print(reader.damaged)
    return 0 if same and reader.damaged is None else 1
