"""A server as a process of its own, started and stopped around a piece of work."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from peekserve.errors import NotReady


class ServerProcess:
    """`peekserve serve` on free ports. Use it as a context; `http` is its address, `told` its ready line.

    Its log goes to `log` (a file), so that a terminal stays readable. Raises NotReady with the last lines of
    the log when it does not come up.
    """

    def __init__(self, root: Path, settings: Mapping[str, str], log: Path) -> None:
        self._root = root
        self._settings = {"http": "127.0.0.1:0", "grpc": "off", **settings}
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self.told: dict[str, object] = {}

    @property
    def http(self) -> str:
        return str(self.told["http"])

    @property
    def pid(self) -> int:
        return int(str(self.told["pid"]))

    def __enter__(self) -> "ServerProcess":
        flags = [part for key, value in self._settings.items() for part in ("--set", f"{key}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "peekserve.cli.main", "serve", str(self._root), *flags],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        line = _first_line(self._process.stdout)
        if not line:
            self._process.wait()
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
            raise NotReady(f"the server ended with {self._process.returncode} before it was ready:\n{tail}")
        self.told = json.loads(line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self, patience_s: float = 15.0) -> int:
        """Ask it to end, as a service manager would; its exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return self._process.wait()

    def wait(self) -> None:
        """Until it is stopped from elsewhere."""
        assert self._process is not None
        self._process.wait()


def _first_line(stream: IO[str] | None) -> str:
    return stream.readline() if stream is not None else ""
