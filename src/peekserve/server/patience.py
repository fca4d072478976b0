"""HTTP connections that hold their side: heads and bodies that come in time and are not too large, answers that are
read, and not too many of anything at once.

uvicorn's own protocol waits for ever for a head and for a body, forgets its timer for idle connections when bytes come
that begin no request, and collects as many header fields and waiting requests as anybody sends. What it refuses it says
in plain text; here every body of an error is JSON.
"""

import asyncio
import time
from enum import Enum, auto
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from peekserve.server.guard import Refused
from peekserve.server.wire import Status, error_body

# From the connection, or from the first byte of a later request, to the end of the head; from there to the first byte
# of the body; and from an answer to the end of a body that nobody reads.
WAIT_S = 10.0
# For an answer to be read.
READ_S = 60.0
HEAD_BYTES = 64 << 10
HEAD_FIELDS = 128
CONNECTIONS = 2048
# Requests that wait on one connection for the answers to those before them.
PIPELINED = 16
# Of bodies that are not whole yet, on all connections together. Counted in steps: smaller bodies always come in.
BODY_BYTES = 1 << 30
_STEP = 256 << 10

_BAD = Status(400, "INVALID_ARGUMENT", "invalid_request")
_LONG = Status(431, "RESOURCE_EXHAUSTED", "too_large")
_FULL = Status(503, "RESOURCE_EXHAUSTED", "overloaded")
_SLOW = Status(408, "DEADLINE_EXCEEDED", "too_slow")
_REASONS = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large",
            503: "Service Unavailable"}  # fmt: skip


class _At(Enum):
    """Where in a request the bytes are that come next."""

    BETWEEN = auto()
    HEAD = auto()
    HEADED = auto()  # the head is whole, and nothing of the body is here
    BODY = auto()


class _Stopped(Exception):
    """Stops the parser; `PatientProtocol._wrong` has the words."""


class _Whole:
    """A transport for one answer, which hands its head to the system together with what follows in the same turn of the
    loop. uvicorn writes them apart, and each write wakes whoever reads."""

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = b""

    def write(self, data: bytes) -> None:
        if self._head is None or data.startswith(b"HTTP/1.1 100 "):
            self._transport.write(data)
        elif self._head:
            self._transport.write(self._head + data)
            self._head = None
        else:
            self._head = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class PatientProtocol(HttpToolsProtocol):
    """One connection. The limits are the class's, so that a test can have smaller ones; and so is `refused`, which is
    told once of each connection that was turned away."""

    wait_s = WAIT_S
    read_s = READ_S
    head_bytes = HEAD_BYTES
    head_fields = HEAD_FIELDS
    most = CONNECTIONS
    pipelined = PIPELINED
    most_body_bytes = BODY_BYTES
    refused: Refused = staticmethod(lambda status, sentence: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._at = _At.BETWEEN
        self._waits: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        # Since the end of a head or a piece of a body: what the parser may be keeping.
        self._loose_bytes = 0
        # Of a body that is not whole yet.
        self._body_bytes = 0
        self._wrong = _BAD, "these bytes are no HTTP request"
        self._turned_away = False

    # ---- the connection ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(_FULL, f"{self.most} connections are open, which is the limit")
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._come()
        self._taken()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._loose_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._loose_bytes > self.head_bytes:
            self._refuse(*self._too_long())
        elif self._waits is None:
            if self._at is _At.HEADED or (self._at is _At.BODY and self.cycle.response_complete):
                self._wait()
            elif self._at is _At.BETWEEN and self.cycle.response_complete:
                # These bytes began no request and stopped the timer of the idle connection.
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(self.read_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken()

    def timeout_keep_alive_handler(self) -> None:
        if not self.transport.is_closing():
            self._close()

    # ---- the parser --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._at = _At.HEAD
        if self._waits is None:
            self._wait()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._at is not _At.HEAD:
            return  # the trailer of a body in chunks: nobody reads it
        if len(self.headers) == self.head_fields:
            self._stop(
                _LONG, f"the head of a request has more than {self.head_fields} fields, which is the limit"
            )
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        # The request's deadline runs from here, not from when its task has its turn (http_api.ARRIVED_AT).
        self.scope["peekserve.arrived_at"] = time.monotonic()  # type: ignore[typeddict-unknown-key]
        # Only where so much came at once is there anything to count.
        if self._loose_bytes > self.head_bytes and self._head_size() > self.head_bytes:
            self._stop(*self._too_long())
        if len(self.pipeline) == self.pipelined:
            self._stop(_FULL, f"{self.pipelined} requests wait on this connection, which is the limit")
        self._come()
        self._at, self._loose_bytes = _At.HEADED, 0
        super().on_headers_complete()
        if (
            getattr(self.cycle, "transport", None) is self.transport
        ):  # there is none for what asks to be upgraded
            self.cycle.transport = _Whole(self.transport, self.loop)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        if self._at is _At.HEADED:
            self._come()
        self._at, self._loose_bytes = _At.BODY, 0
        if not self.cycle.response_complete:
            self._count(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._come()
        self._at, self._loose_bytes, self._body_bytes = _At.BETWEEN, 0, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:
            self._body_bytes = 0
        if self.transport.is_closing():
            self._close()
        elif self._at in (_At.HEADED, _At.BODY) and self.cycle.response_complete and self._waits is None:
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """For bytes that are no HTTP (`msg` says no more than that) and for what stopped the parser."""
        self._refuse(*self._wrong)

    # ---- what it takes -----------------------------------------------------------------------------------

    def _count(self, size: int) -> None:
        before = self._body_bytes // _STEP
        self._body_bytes += size
        if self._body_bytes // _STEP == before:
            return
        others = sum(getattr(one, "_body_bytes", 0) for one in self.connections if one is not self)
        # One alone has the limit of its own that its reader knows.
        if others and others + self._body_bytes > self.most_body_bytes:
            self._stop(_FULL, f"bodies of {self.most_body_bytes} bytes are coming in, which is the limit")

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _too_long(self) -> tuple[Status, str]:
        return _LONG, f"the head of a request has more than {self.head_bytes} bytes, which is the limit"

    def _wait(self) -> None:
        self._waits = self.loop.call_later(self.wait_s, self._late)

    def _come(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None

    def _taken(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _late(self) -> None:
        self._waits = None
        if self._owes():
            self._wait()  # nothing may have been read meanwhile
        elif self._at in (_At.HEADED, _At.BODY):
            self._refuse(_SLOW, f"the body of a request did not begin within {self.wait_s:g} s")
        else:
            self._refuse(_SLOW, f"the head of a request did not come to its end within {self.wait_s:g} s")

    def _owes(self) -> bool:
        """Does a request before the one that comes in wait for its answer, or for the end of it?"""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        return bool(self.pipeline) or cycle.response_started or not cycle.more_body

    def _stop(self, status: Status, sentence: str) -> None:
        self._wrong = status, sentence
        raise _Stopped

    def _refuse(self, status: Status, sentence: str) -> None:
        self._come()
        if self.transport.is_closing():
            return
        if not self._turned_away:
            self._turned_away = True
            self.refused(status, sentence)
        if self._owes():
            # What is said now would be taken for their answers: they are told that nothing comes after them.
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if self._at not in (_At.HEADED, _At.BODY) or not self.cycle.response_complete:
            body = error_body(sentence, status)
            head = (
                f"HTTP/1.1 {status.http} {_REASONS[status.http]}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self._close()

    def _close(self) -> None:
        """Once what was written is read, or after `read_s`."""
        self._come()
        self.transport.close()
        self._waits = self.loop.call_later(self.read_s, self.transport.abort)
