"""A worker's own process: `python -m peekserve.workers.child`, started by spawn.py and by nothing else.

Takes messages one by one from the socket it was born with, and ends when the front does: the socket closes, or, in
the middle of a batch, the kernel's parent-death signal comes.
"""

import ctypes
import os
import signal
import socket
import sys

import msgspec

from peekserve.clock import WallClock
from peekserve.errors import PeekserveError
from peekserve.runtimes.spec import RuntimeSpec
from peekserve.workers.frames import Hello, ToFront, Unpacker, pack, to_worker
from peekserve.workers.host import Host
from peekserve.workers.mortality import go_before_others, no_core_files
from peekserve.workers.ring import RingReader

_PR_SET_PDEATHSIG = 1


class Birth(msgspec.Struct, frozen=True):
    """All that a worker is told on its command line."""

    parent: int
    socket: int
    ring: int
    ring_bytes: int
    device: str
    cores: tuple[int, ...] | None
    runtime: RuntimeSpec


def main(argument: str) -> None:
    birth = msgspec.json.decode(argument, type=Birth)
    _die_with(birth.parent)
    no_core_files()
    go_before_others()
    # Whoever stops the server stops the front, which ends its workers once their answers are out.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if birth.cores is not None:
        # Before the runtime makes its threads: they inherit it.
        # The front may have bound itself to other cores, which we inherited; the system knows which exist.
        os.sched_setaffinity(0, birth.cores)
    clock = WallClock()
    pipe = socket.socket(fileno=birth.socket)
    host = Host(birth.runtime.make(birth.device), RingReader(birth.ring, birth.ring_bytes), clock)
    pipe.sendall(pack(Hello(os.getpid())))
    unpacker = Unpacker()
    while data := pipe.recv(1 << 18):
        for body in unpacker.feed(data):
            started_at = clock.now()
            reply: ToFront | None = host.handle(to_worker(body), started_at)
            if reply is not None:
                pipe.sendall(pack(reply))


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before we asked
        sys.exit(0)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)
    except PeekserveError as error:
        sys.exit(f"{type(error).__name__}: {error}")
