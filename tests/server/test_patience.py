"""Connections that keep the server waiting, say too much, or are too many."""

import asyncio
import json

import pytest

from peekserve.server.patience import PatientProtocol
from peekserve.server.run import HttpServer

pytestmark = pytest.mark.core


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def said(parts, limits, others=0):
    """What the server says to these bytes, and that it then hangs up; `others` are connected meanwhile."""
    kind = type("Small", (PatientProtocol,), limits)
    server = HttpServer(hello, port=0, protocol=kind)
    host, port = await server.start()
    waiting = [await asyncio.open_connection(host, port) for _ in range(others)]
    reader, writer = await asyncio.open_connection(host, port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    told = await reader.read()
    for _, one in [*waiting, (reader, writer)]:
        one.close()
    await server.stop()
    head, _, body = told.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


SOON = {"head_s": 0.05}


@pytest.mark.parametrize("parts", [[], [b"GET / HTTP/1.1\r\n"], [b"GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n"]])
async def test_a_head_that_does_not_end_is_not_waited_for(parts):
    status, told = await said(parts, SOON)
    assert (status, told["code"]) == (408, "too_slow")
    assert "within 0.05 s" in told["error"]


async def test_a_second_request_is_not_waited_for_either():
    server = HttpServer(hello, port=0, protocol=type("Small", (PatientProtocol,), SOON))
    host, port = await server.start()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HT")
    told = await reader.read()
    writer.close()
    await server.stop()
    assert told.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in told


@pytest.mark.parametrize(
    "head", [b"GET /" + b"a" * 3000, b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 3000 + b"\r\n",
             b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: v\r\n" % i for i in range(400))]
)  # fmt: skip
async def test_a_head_that_is_too_long_is_not_collected(head):
    status, told = await said([head], {"head_bytes": 2000})
    assert (status, told["code"]) == (431, "too_large")
    assert "2000 bytes" in told["error"]


async def test_more_connections_than_the_limit_are_turned_away():
    status, told = await said([], {"most": 2}, others=2)
    assert (status, told["code"]) == (503, "overloaded")


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS, to a server that speaks plainly
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n",
    ],
)
async def test_bytes_that_could_be_read_in_two_ways_are_refused_in_json(request_):
    status, told = await said([request_], {})
    assert (status, told["code"]) == (400, "invalid_request")
