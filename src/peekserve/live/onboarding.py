"""Asks a process that is thrown away what a revision is worth: it checks the folder, runs the models, writes profiles.

The process is cli/onboarding.py. It works behind everything else (nice), far from the event loop, and whatever it dies
of is a sentence here.
"""

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

import peekserve
from peekserve.domain.application import Application
from peekserve.state.registrations import Fault, Life
from peekserve.workers.slots import CORES, Slot

MODULE = "peekserve.cli.onboarding"
PATIENCE_S = 3600.0
_LAST_WORDS = 12  # lines
_LAST_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the process is: a stage, and within it so many of so many steps."""

    stage: Life
    what: str = ""
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Onboarded:
    """What came of it. `ended`: INVALID, FAILED, or PROFILING where all went well; then there is an application, as it
    was read and with its profiles, also in the form in which it is kept."""

    ended: Life
    why: str = ""
    faults: tuple[Fault, ...] = ()
    profile: dict[str, Any] | None = None
    application: Application | None = None
    compiled: bytes | None = None


# (a repository with one application in it, the application's name, who is told of progress)
Onboards = Callable[[Path, str, Callable[[Progress], None]], Awaitable[Onboarded]]


class OnboardingProcess:
    """`state`: the file of profiles. `slot`: where to measure. `devices`: whose profiles are joined to the variants.
    `command`: what is run, for tests."""

    def __init__(
        self,
        state: Path,
        slot: Slot,
        devices: Sequence[str],
        command: Sequence[str] = (sys.executable, "-P", "-m", MODULE),
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._task = {
            "state": str(state),
            "slot": msgspec.to_builtins(slot),
            "devices": list(dict.fromkeys(devices)),
            "cores": sorted(CORES),
        }
        self._command = command
        self._patience_s = patience_s

    async def __call__(self, root: Path, name: str, tell: Callable[[Progress], None]) -> Onboarded:
        loop = asyncio.get_running_loop()
        package = str(Path(next(iter(peekserve.__path__))).parent)
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        task = json.dumps({**self._task, "root": str(root), "name": name}).encode() + b"\n"
        with tempfile.TemporaryFile() as words:
            # Not as the event loop would start it: libraries that are loaded here do things when a process forks.
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                start_new_session=True,  # so that all that it starts ends with it
                env={**os.environ, **threads, "PYTHONPATH": package},
            )

            def told(progress: Progress) -> None:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(tell, progress)

            try:
                async with asyncio.timeout(self._patience_s):
                    ended = await loop.run_in_executor(None, _listen, process, task, told)
                    code = await loop.run_in_executor(None, process.wait)
            except TimeoutError:
                return Onboarded(Life.FAILED, f"its profile was not done after {self._patience_s:g} s")
            finally:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            if ended is not None:
                return ended
            how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with {code}"
            last = await loop.run_in_executor(None, _last_words, words)
            said = f"; its last words: {last}" if last else ""
            return Onboarded(Life.FAILED, f"the process that looked at it ended {how}{said}")


def _listen(
    process: "subprocess.Popen[bytes]", task: bytes, tell: Callable[[Progress], None]
) -> Onboarded | None:
    """Until it says nothing more; None where it never said how it ended. In a thread of its own; its end is reaped
    there, too, also where nobody waits any more."""
    assert process.stdin is not None
    assert process.stdout is not None
    stage, done, total = Life.CHECKING, 0, 0
    faults: tuple[Fault, ...] = ()
    ended: Onboarded | None = None
    with process.stdin, process.stdout:
        with suppress(OSError):  # it is gone already: its exit says why
            process.stdin.write(task)
            process.stdin.flush()
        for line in process.stdout:
            message = json.loads(line)
            if "faults" in message:
                faults = tuple(Fault(**fault) for fault in message["faults"])
            elif "stage" in message:
                stage, done, total = Life(message["stage"]), 0, message.get("total", 0)
                tell(Progress(stage, "", done, total))
            elif "step" in message:
                done += 1
                tell(Progress(stage, message["step"], done, total))
            elif message.get("ended") == "profiled":
                compiled = base64.b64decode(message["application"])
                made = decompile(compiled)
                ended = Onboarded(Life.PROFILING, "", faults, message["profile"], made, compiled)
            elif "ended" in message:
                ended = Onboarded(Life(message["ended"]), message["why"], faults)
        process.wait()
    return ended


def decompile(compiled: bytes) -> Application:
    """An application as the process wrote it down. Raises msgspec.MsgspecError where another peekserve wrote it."""
    return msgspec.msgpack.decode(compiled, type=Application, strict=False)


def _last_words(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(size - _LAST_BYTES, 0))
    lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines()]
    # Where things lie on this machine is nobody's business.
    lines = [re.sub(r'File "[^"]*/', 'File "', line) for line in lines]
    text = " | ".join(line[:300] for line in lines[-_LAST_WORDS:] if line)
    return "".join(c if c.isprintable() else "?" for c in text)
