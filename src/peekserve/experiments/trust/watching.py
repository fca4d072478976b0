"""What the system says of a process from outside: its memory, files, threads and worker processes (Linux, /proc)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_WORKER = b"peekserve.workers.child"
MIB = 2.0**20


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds, bytes. `rss`: pages that it has in memory. `pss`: the same, each shared page divided by
    the processes that share it, so that it moves with its neighbours too. `own`: anonymous pages, which are there for
    this process alone. `files`: open descriptors."""

    rss: int
    pss: int
    own: int
    files: int
    threads: int


def held(pid: int) -> Held:
    """Of a process of ours. Raises OSError (ProcessLookupError, mostly) when it is gone."""
    memory = _lines(pid, "smaps_rollup")
    return Held(
        memory["Rss"] * 1024,
        memory["Pss"] * 1024,
        memory["Anonymous"] * 1024,
        len(os.listdir(_PROC / str(pid) / "fd")),
        _lines(pid, "status")["Threads"],
    )


def _lines(pid: int, name: str) -> dict[str, int]:
    """The lines `Name: number ...` of a file of this process."""
    found: dict[str, int] = {}
    for line in (_PROC / str(pid) / name).read_text().splitlines():
        key, colon, value = line.partition(":")
        first = value.split()[:1]
        if colon and first and first[0].isdigit():
            found[key] = int(first[0])
    return found


def workers_of(front: int) -> list[int]:
    """The process ids of a front's workers, the oldest first; none of a front that is gone."""
    try:
        children = (_PROC / str(front) / "task" / str(front) / "children").read_text().split()
    except OSError:
        return []
    return [int(pid) for pid in children if _WORKER in _command(int(pid))]


def _command(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def alive(pids: Sequence[int]) -> list[int]:
    """Those of these that are there and no zombies."""
    found = []
    for pid in pids:
        try:
            state = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            continue
        if state not in "ZX":
            found.append(pid)
    return found
