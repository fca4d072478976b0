"""A stage in a process of its own, as SneakPeek has it (section 3.2: "a distinct process for asynchronous data
staging, preprocessing, and sharpening accuracy estimates").

Frames of msgpack go through a pair of pipes: four bytes of length, then a struct of stage.py. The process reads an
event, handles it, looks at the windows that it brought, and writes the news. The pipe itself is the
back-pressure: whoever writes faster than the process reads has to wait.
"""

import logging
import struct
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

import msgspec

from peekserve.errors import WorkerFailed
from peekserve.peeking.base import Glance, Looks
from peekserve.peeking.stage import (
    Chunk,
    Forget,
    Found,
    Gone,
    Looked,
    Ready,
    StageEvent,
    StageNews,
    Taken,
    Tell,
    Tick,
    Turned,
)
from peekserve.peeking.staging import Staging

LOG = logging.getLogger(__name__)

_LENGTH = struct.Struct("<I")
_ENCODER = msgspec.msgpack.Encoder()
_EVENTS = msgspec.msgpack.Decoder(Chunk | Forget | Looked | Tick)
_NEWS = msgspec.msgpack.Decoder(list[Taken | Turned | Ready | Gone])


def write_frame(pipe: IO[bytes], body: bytes) -> None:
    pipe.write(_LENGTH.pack(len(body)) + body)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> bytes | None:
    """The next frame; None at the pipe's end. Raises WorkerFailed when it ends inside a frame."""
    head = pipe.read(_LENGTH.size)
    if not head:
        return None
    size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
    body = pipe.read(size)
    if len(head) < _LENGTH.size or len(body) < size:
        raise WorkerFailed("the pipe of a stage ended inside a frame")
    return body


def serve(events: IO[bytes], news: IO[bytes], staging: Staging, peeks: Mapping[str, Looks]) -> None:
    """The process: events in, news out, until the events end. A peek that raises leaves its window without
    counts."""
    while (frame := read_frame(events)) is not None:
        write_frame(news, _ENCODER.encode(list(handle(_EVENTS.decode(frame), staging, peeks))))


def handle(event: StageEvent, staging: Staging, peeks: Mapping[str, Looks]) -> Iterable[StageNews]:
    """What one event brings, its windows looked at."""
    for one in staging.handle(event):
        if isinstance(one, Found):
            staging.handle(Looked(one.application, one.stream, one.opened, one.bytes))
            yield Ready(one, _counts(one, peeks.get(one.application)))
        else:
            yield one


def _counts(window: Found, peek: Looks | None) -> list[float] | None:
    if peek is None:
        return None
    try:
        counts = peek.look_all([Glance(window.arrays(), window.true_lengths())])[0]
    except Exception:
        # A window without evidence is planned with the prior; the bug of the peek is told, not hidden.
        LOG.warning("the peek failed at a window of %s/%s", window.application, window.stream, exc_info=True)
        return None
    return [float(value) for value in counts[0]]


class PipedStage:
    """The near end: a Stage whose work is done in the process at the other end of two pipes.

    `submit` waits for the news of its event. A server would read them beside its event loop instead; the frames
    are the same.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._command = list(command)
        self._environment = None if environment is None else dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._tell: Tell = lambda news: None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment
        )

    def listen(self, tell: Tell) -> None:
        self._tell = tell

    def submit(self, event: Chunk | Forget | Tick) -> None:
        """Raises WorkerFailed when the process is gone."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise WorkerFailed("the stage's process was not started")
        try:
            write_frame(process.stdin, _ENCODER.encode(event))
        except BrokenPipeError:
            raise WorkerFailed(f"the stage's process is gone (exit {process.poll()})") from None
        frame = read_frame(process.stdout)
        if frame is None:
            raise WorkerFailed(f"the stage's process is gone (exit {process.wait()})")
        self._tell(_NEWS.decode(frame))

    def stop(self) -> int:
        """End the process in order; its exit code."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return 0
        process.stdin.close()
        process.stdout.close()
        return process.wait(timeout=10.0)
