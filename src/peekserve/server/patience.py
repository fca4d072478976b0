"""HTTP connections that hold their side: a head that comes in time and is not too large, and not too many at once.

uvicorn's own protocol waits for ever for the first byte and for the rest of a head, and collects as many header fields
as anybody sends. What it refuses it says in plain text; here every body of an error is JSON.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from peekserve.server.wire import Status, error_body

# From the connection, or from the first byte of a later request, to the end of the head.
HEAD_S = 10.0
HEAD_BYTES = 64 << 10
CONNECTIONS = 2048

_BAD = Status(400, "INVALID_ARGUMENT", "invalid_request")
_LONG = Status(431, "RESOURCE_EXHAUSTED", "too_large")
_FULL = Status(503, "RESOURCE_EXHAUSTED", "overloaded")
_SLOW = Status(408, "DEADLINE_EXCEEDED", "too_slow")
_REASONS = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large",
            503: "Service Unavailable"}  # fmt: skip


class PatientProtocol(HttpToolsProtocol):
    """One connection. The limits are the class's, so that a test can have smaller ones."""

    head_s = HEAD_S
    head_bytes = HEAD_BYTES
    most = CONNECTIONS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waits: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(_FULL, f"{self.most} connections are open, which is the limit")
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._come()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waits is None:
            return
        # The head is still not whole, so all of this belongs to it (or to the end of the request before).
        self._head_bytes += len(data)
        if self._head_bytes > self.head_bytes:
            self._refuse(
                _LONG, f"the head of a request has more than {self.head_bytes} bytes, which is the limit"
            )

    def on_message_begin(self) -> None:
        if self._waits is None:
            self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._come()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """For bytes that are no HTTP; `msg` says no more than that."""
        self._refuse(_BAD, "these bytes are no HTTP request")

    def _wait(self) -> None:
        self._head_bytes = 0
        self._waits = self.loop.call_later(
            self.head_s,
            self._refuse,
            _SLOW,
            f"the head of a request did not come to its end within {self.head_s:g} s",
        )

    def _come(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None

    def _refuse(self, status: Status, sentence: str) -> None:
        self._come()
        if self.transport.is_closing():
            return
        body = error_body(sentence, status)
        head = (
            f"HTTP/1.1 {status.http} {_REASONS[status.http]}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
