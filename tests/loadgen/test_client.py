"""The load client: what it sends and gets, which connections it keeps, what it says of itself."""

import asyncio

import pytest

from peekserve.loadgen.apart import Sent, send_apart
from peekserve.loadgen.client import Call, Reply, _Connection, _Run, send

pytestmark = pytest.mark.core

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%s\r\nok"


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


def answered(answer: bytes) -> tuple[_Run, Wire]:
    """A run after its one call was sent over a connection of its own and got this answer."""

    async def story() -> tuple[_Run, Wire]:
        run, wire = _Run("127.0.0.1:1", [Call(0.0, "/x", b"body")], None), Wire()
        connection = _Connection(run)
        connection.connection_made(wire)
        connection.send(0, 0.0, b"the request")
        connection.data_received(answer[:20])
        connection.data_received(answer[20:])
        return run, wire

    return asyncio.run(story())


def test_a_connection_that_the_server_keeps_is_used_again():
    run, wire = answered(ANSWER % b"")
    assert run.replies[0].status == 200
    assert run.replies[0].body == b"ok"
    assert len(run._free) == 1
    assert not wire.closed


def test_one_that_it_will_not_keep_is_left():
    run, wire = answered(ANSWER % b"Connection: close\r\n")
    assert run.replies[0].status == 200
    assert not run._free
    assert wire.closed


class Echo:
    """Answers every POST with `ok`."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(ANSWER % b"")
        except asyncio.IncompleteReadError:
            writer.close()


async def asked(calls: list[Call], apart: bool = False) -> list[Reply] | Sent:
    server = await asyncio.start_server(Echo().serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    base = f"{host}:{port}"
    async with server:
        if apart:
            return await asyncio.get_running_loop().run_in_executor(None, send_apart, base, calls)
        return await send(base, calls)


CALLS = [Call(0.005 * i, "/x", b"body") for i in range(4)]


def test_every_call_has_its_reply():
    replies = asyncio.run(asked(CALLS))
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"ok")] * 4


def test_from_a_process_of_its_own_the_same_replies_come_with_what_the_client_took():
    sent = asyncio.run(asked(CALLS, apart=True))
    assert [(reply.status, reply.body) for reply in sent.replies] == [(200, b"ok")] * 4
    assert sent.cpu_s > 0.0
    assert sent.lag_s(CALLS, 0.0) <= sent.lag_s(CALLS, 0.5) <= sent.lag_s(CALLS, 1.0)
