"""How processes of ours end when memory does: without a core file, and a worker before its front."""

import resource
from contextlib import suppress
from pathlib import Path

_SCORE = Path("/proc/self/oom_score_adj")
_EVENTS = Path("/proc/vmstat")
# Of 1000. A worker is replaced in less than a second; a front takes every request that waits with it.
_WORKER_SCORE = 500


def no_core_files() -> None:
    """A core file would hold whatever clients sent, and fill the disk of a box that nobody tends. Whoever this process
    starts inherits it."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def go_before_others() -> None:
    """Let the kernel take this process before its parent when memory runs out. Without effect where there is no such
    file."""
    with suppress(OSError):
        _SCORE.write_text(str(_WORKER_SCORE))


def oom_kills() -> int:
    """How many processes the kernel has ended since it started because memory ran out; 0 where it does not tell."""
    with suppress(OSError, ValueError):
        for line in _EVENTS.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
