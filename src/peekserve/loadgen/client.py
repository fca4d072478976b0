"""An open-loop client: every request leaves at its own time, whatever became of those before it.

Latency is counted from the drawn instant, not from when the client got round to sending, so that a client which is
late itself is seen to be (its lag is in the replies) and never makes the server look better. A reply's time is
taken when its bytes arrive, before they are parsed: thirty replies of one batch are not thirty times later.
"""

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httptools


@dataclass(frozen=True, slots=True)
class Call:
    """A request ready to be sent: `at` seconds from the start."""

    at: float
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def wire(self, host: str) -> bytes:
        """The bytes of the request, as HTTP/1.1 wants them."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. Instants are seconds from the start; `status` 0 means no answer, with the reason in `body`."""

    sent_at: float
    done_at: float
    status: int
    body: bytes


async def send(
    base: str,
    calls: Sequence[Call],
    on_reply: Callable[[int, Reply], None] | None = None,
    patience_s: float = 30.0,
) -> list[Reply]:
    """Send all calls (rising in `at`) to `base` (HOST:PORT); the replies in the order of the calls.

    Connections are kept and used again; a call that finds none free opens one. A call without a reply `patience_s`
    after the last was sent, or whose connection broke, has status 0.
    """
    run = _Run(base, calls, on_reply)
    with _no_collections():
        await run.through(patience_s)
    return [
        reply or Reply(call.at, run.since(), 0, b"no reply")
        for reply, call in zip(run.replies, calls, strict=True)
    ]


@contextmanager
def _no_collections() -> Iterator[None]:
    """A full collection stops this process for tens of milliseconds, which would be counted as the server's."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Run:
    """One sending: its connections, what is under way, and what came back."""

    def __init__(
        self, base: str, calls: Sequence[Call], on_reply: Callable[[int, Reply], None] | None
    ) -> None:
        host, _, port = base.rpartition(":")
        self.loop = asyncio.get_running_loop()
        self.start = self.loop.time() + 0.05
        self.replies: list[Reply | None] = [None] * len(calls)
        self._address = (host, int(port))
        self._calls = calls
        self._wires = [call.wire(base) for call in calls]
        self._on_reply = on_reply
        self._free: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._left = len(calls)
        self._over = asyncio.Event()
        if not calls:
            self._over.set()

    async def through(self, patience_s: float) -> None:
        """Send everything at its time, then wait for what is still to come."""
        for index, call in enumerate(self._calls):
            wait = self.start + call.at - self.loop.time()
            if wait > 0.0:
                await asyncio.sleep(wait)
            self.leave(index)
        await self.end(patience_s)

    def since(self) -> float:
        return self.loop.time() - self.start

    def leave(self, index: int) -> None:
        sent_at = self.since()
        if self._free:
            self._free.pop().send(index, sent_at, self._wires[index])
            return
        task = self.loop.create_task(self._open(index, sent_at))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, index: int, sent_at: float) -> None:
        try:
            _, connection = await self.loop.create_connection(lambda: _Connection(self), *self._address)
        except OSError as error:
            self.arrived(index, Reply(sent_at, self.since(), 0, str(error).encode()))
            return
        self._all.add(connection)
        connection.send(index, sent_at, self._wires[index])

    def arrived(self, index: int, reply: Reply) -> None:
        self.replies[index] = reply
        self._left -= 1
        if not self._left:
            self._over.set()
        if self._on_reply is not None:
            self._on_reply(index, reply)

    def released(self, connection: "_Connection") -> None:
        self._free.append(connection)

    def lost(self, connection: "_Connection") -> None:
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)

    async def end(self, patience_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), patience_s)
        for connection in list(self._all):
            connection.close()


class _Connection(asyncio.Protocol):
    """One kept connection with at most one request under way."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._index = -1
        self._sent_at = 0.0
        self._body: list[bytes] = []
        self._complete = self._kept = False
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, index: int, sent_at: float, wire: bytes) -> None:
        assert self._transport is not None
        self._index, self._sent_at = index, sent_at
        self._body, self._complete, self._kept = [], False, False
        self._transport.write(wire)

    def data_received(self, data: bytes) -> None:
        done_at = self._run.since()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error}")
            self.close()
            return
        if self._complete:
            index, self._index = self._index, -1
            reply = Reply(self._sent_at, done_at, self._parser.get_status_code(), b"".join(self._body))
            if self._kept:
                self._run.released(self)
            else:
                self.close()
            self._run.arrived(index, reply)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        # Asked here: when the message is over the parser has forgotten what its head said.
        self._complete, self._kept = True, self._parser.should_keep_alive()

    def connection_lost(self, error: Exception | None) -> None:
        self._run.lost(self)
        self._fail(f"the connection was lost: {error or 'closed by the server'}")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _fail(self, why: str) -> None:
        if self._index >= 0:
            index, self._index = self._index, -1
            self._run.arrived(index, Reply(self._sent_at, self._run.since(), 0, why.encode()))
