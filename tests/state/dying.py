"""Writes to every state file until it is killed, and says on standard output what it may no longer lose.

`python -m tests.state.dying FOLDER NUMBER` writes lives/NUMBER.journal and into the SQLite files that all lives share.
A line `KIND INDEX` follows each write that was acknowledged to a caller.
"""

import os
import sys
from pathlib import Path

from peekserve.domain.feedback import Lesson
from peekserve.domain.messages import Woke
from peekserve.state.history import Edition, History
from peekserve.state.journal import JournalWriter
from peekserve.state.keys import Keys, Scope
from peekserve.state.store import Store

EDITIONS = {"ward": Edition(("walk", "fall"), {"small": "sha-1"})}


def name_of(life: int, index: int) -> str:
    return f"{life}-{index}"


def lesson_of(life: int, index: int) -> Lesson:
    return Lesson("ward", "small", 0, 0, 1, float(life), (0.75, 0.25), (float(index), 1.0))


def main(folder: Path, life: int) -> None:
    def acknowledged(kind: str, index: int) -> None:
        os.write(1, f"{kind} {index}\n".encode())

    with (
        Store(folder / "state.sqlite") as store,
        Keys(folder / "keys.sqlite") as keys,
        History(folder / "history.sqlite", EDITIONS) as history,
        JournalWriter(folder / f"{life}.journal", {}, ()) as journal,
    ):
        for index in range(100_000):
            store.register("ward", name_of(life, index), "sha-1", float(index))
            acknowledged("state", index)
            keys.add(name_of(life, index), [Scope.INFER], 0.0)
            acknowledged("keys", index)
            history.add([lesson_of(life, index)], 0.0)
            acknowledged("history", index)
            journal.step(Woke(), float(index), ())
            journal.flush()
            acknowledged("journal", index)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
