"""Starting a worker process, and what is left in our hands when it runs."""

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

import peekserve
from peekserve.workers.child import Birth
from peekserve.workers.mortality import oom_kills
from peekserve.workers.ring import Ring
from peekserve.workers.slots import Slot

_TAIL_LINES = 12
_TAIL_LINE_BYTES = 400
_STARVED = (
    "the system ran out of memory while it lived and killed a process, most likely this one: give the workers less "
    "memory, or serve smaller models"
)


@dataclass(slots=True)
class Child:
    """A worker process from its parent's side. `errors` is the reading end of its standard error (and output).
    `starved_before`: processes that the system had ended for want of memory when this one was born."""

    process: subprocess.Popen[bytes]
    pipe: socket.socket
    errors: int
    starved_before: int = field(default_factory=oom_kills)
    _tail: deque[bytes] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    _part: bytes = b""

    def drain_errors(self) -> None:
        """Read what it has written on standard error, and keep the last lines. Never waits."""
        while True:
            try:
                data = os.read(self.errors, 1 << 16)
            except (BlockingIOError, OSError):
                return
            if not data:
                return
            *lines, self._part = (self._part + data).split(b"\n")
            self._part = self._part[-_TAIL_LINE_BYTES:]
            self._tail.extend(line[:_TAIL_LINE_BYTES] for line in lines if line.strip())

    def end(self, grace_s: float = 0.0) -> str:
        """Make sure that it has ended, close everything, and say how: signal or status, and its last words.

        `grace_s`: how long one that has closed its socket may take to be gone. It is about to say by its status why,
        and to kill it then would hide that.
        """
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        by_itself = self.process.poll() is not None
        self.process.kill()
        status = self.process.wait()
        self.drain_errors()
        self.pipe.close()
        os.close(self.errors)
        words = [line.decode(errors="replace").strip() for line in (*self._tail, self._part) if line.strip()]
        starved = by_itself and status == -signal.SIGKILL and oom_kills() > self.starved_before
        return " | ".join([_how(self.process.pid, status), *([_STARVED] if starved else []), *words])


def spawn(slot: Slot, ring: Ring) -> Child:
    """Start a worker for this slot. It says Hello on the pipe when it can take work. The pipe does not block."""
    ours, theirs = socket.socketpair()
    errors, their_errors = os.pipe()
    birth = Birth(os.getpid(), theirs.fileno(), ring.fd, ring.capacity, slot.device, slot.cores, slot.runtime)
    try:
        process = subprocess.Popen(
            # -P: a numpy.py in the folder that the server was started from is nobody's numpy.
            [sys.executable, "-P", "-m", "peekserve.workers.child", msgspec.json.encode(birth).decode()],
            stdin=subprocess.DEVNULL,
            stdout=their_errors,  # standard output belongs to the front
            stderr=their_errors,
            pass_fds=(theirs.fileno(), ring.fd),
            env=_environment(slot.runtime.threads),
        )
    except OSError:
        ours.close()
        os.close(errors)
        raise
    finally:
        theirs.close()
        os.close(their_errors)
    ours.setblocking(False)
    os.set_blocking(errors, False)
    return Child(process, ours, errors)


def _environment(threads: int) -> dict[str, str]:
    """Ours, so that the child finds the same packages, and no thread pools that it did not ask for."""
    package = str(Path(next(iter(peekserve.__path__))).parent)
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    pools = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    return {**os.environ, **pools, "PYTHONPATH": path}


def _how(pid: int, status: int) -> str:
    if status < 0:
        name = {s.value: s.name for s in signal.Signals}.get(-status, f"signal {-status}")
        return f"worker process {pid} was ended by {name}"
    return f"worker process {pid} exited with status {status}"
