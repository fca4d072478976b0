"""The open-loop client as a process of its own, so that neither whoever asks nor what it watches makes requests late.

Calls go to it over a pipe before the first of them is due, and replies come back when all are in. What it says of
itself belongs beside every figure that it measured: its share of a core, and how much later than meant it sent.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from peekserve.errors import BackendError
from peekserve.loadgen.client import Call, Reply, send


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of some calls. `cpu_s`: processor time of the client from the first to the last, out of `wall_s`."""

    replies: list[Reply]
    cpu_s: float
    wall_s: float

    @property
    def cpu_share(self) -> float:
        """Of one core."""
        return self.cpu_s / self.wall_s

    def lag_s(self, calls: Sequence[Call], share: float) -> float:
        """This share of the calls was sent no later than so much after it was meant to be."""
        late = [reply.sent_at - call.at for reply, call in zip(self.replies, calls, strict=True)]
        return float(np.quantile(late, share)) if late else 0.0


@dataclass(frozen=True, slots=True)
class _Told:
    base: str
    calls: list[Call]
    cores: list[int]
    patience_s: float


class Apart:
    """A client that has its calls and sends them once it is told to `go`; a context, which ends it.

    `cores`: those that it is bound to; none for any. Raises BackendError where it dies.
    """

    def __init__(
        self, base: str, calls: Sequence[Call], cores: Sequence[int] = (), patience_s: float = 30.0
    ) -> None:
        self._told = msgspec.msgpack.encode(_Told(base, list(calls), list(cores), patience_s))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Apart":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "peekserve.loadgen.apart"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._say(len(self._told).to_bytes(8, "little") + self._told)
        if self._heard(1) != _READY:
            raise BackendError(f"the load client ended with {self._process.wait()} before it sent anything")
        return self

    def go(self) -> None:
        """The first call is due from now on."""
        self._say(_READY)

    def sent(self) -> Sent:
        """Waits for all replies."""
        told = self._heard()
        assert self._process is not None
        if self._process.wait():
            raise BackendError(f"the load client ended with {self._process.returncode}")
        return msgspec.msgpack.decode(told, type=Sent)

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        # Closes the pipes too.
        self._process.communicate()

    def _say(self, told: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(told)
        self._process.stdin.flush()

    def _heard(self, many: int = -1) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.read(many)


def send_apart(base: str, calls: Sequence[Call], cores: Sequence[int] = (), patience_s: float = 30.0) -> Sent:
    """As client.send, from a process of its own."""
    with Apart(base, calls, cores, patience_s) as client:
        client.go()
        return client.sent()


_READY = b"."


def main() -> None:
    """The other end of the pipe."""
    asked, said = sys.stdin.buffer, sys.stdout.buffer
    told = msgspec.msgpack.decode(asked.read(int.from_bytes(asked.read(8), "little")), type=_Told)
    if told.cores:
        os.sched_setaffinity(0, told.cores)
    said.write(_READY)
    said.flush()
    if asked.read(1) != _READY:
        return
    wall, cpu = time.monotonic(), time.process_time()
    replies = asyncio.run(send(told.base, told.calls, None, told.patience_s))
    sent = Sent(replies, time.process_time() - cpu, time.monotonic() - wall)
    said.write(msgspec.msgpack.encode(sent))
    said.flush()


if __name__ == "__main__":
    main()
