"""Connections that keep the server waiting, say too much, or are too many."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from peekserve.server.patience import PatientProtocol
from peekserve.server.run import HttpServer

pytestmark = pytest.mark.core


async def hello(scope, receive, send):
    """Answers at once, and reads no body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def length(scope, receive, send):
    """Answers a body with its length, once it is whole."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    told = b"%d" % size
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]}
    )
    await send({"type": "http.response.body", "body": told})


@asynccontextmanager
async def serving(app=hello, refused=None, **limits):
    """A way to connect to a server with these limits."""
    server = HttpServer(app, port=0, protocol=type("Small", (PatientProtocol,), limits), refused=refused)
    host, port = await server.start()
    writers = []

    async def connect():
        reader, writer = await asyncio.open_connection(host, port)
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()
    await server.stop()


async def said(parts, limits, others=0, app=hello):
    """What the server says to these bytes, and that it then hangs up; `others` are connected meanwhile."""
    async with serving(app, **limits) as connect:
        for _ in range(others):
            await connect()
        reader, writer = await connect()
        for part in parts:
            writer.write(part)
            await writer.drain()
        told = await reader.read()
    head, _, body = told.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


SOON = {"wait_s": 0.05}
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


def post(*fields):
    return b"\r\n".join([b"POST / HTTP/1.1", b"host: a", *fields]) + b"\r\n\r\n"


@pytest.mark.parametrize("parts", [[], [b"GET / HTTP/1.1\r\n"], [b"GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n"]])
async def test_a_head_that_does_not_end_is_not_waited_for(parts):
    status, told = await said(parts, SOON)
    assert (status, told["code"]) == (408, "too_slow")
    assert "head" in told["error"]
    assert "within 0.05 s" in told["error"]


async def test_a_second_request_is_not_waited_for_either():
    async with serving(**SOON) as connect:
        reader, writer = await connect()
        writer.write(GET + b"GET / HT")
        told = await reader.read()
    assert told.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in told


async def test_a_body_that_does_not_begin_is_not_waited_for():
    status, told = await said([post(b"content-length: 10")], SOON, app=length)
    assert (status, told["code"]) == (408, "too_slow")
    assert "body" in told["error"]


async def test_a_body_that_comes_slowly_is_its_readers_business():
    async with serving(length, **SOON) as connect:
        reader, writer = await connect()
        writer.write(post(b"content-length: 4"))
        for _ in range(4):
            writer.write(b"x")
            await asyncio.sleep(0.03)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await reader.read(1) == b"4"
        # The connection may rest longer than a head may take.
        await asyncio.sleep(0.1)
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_body_that_nobody_reads_may_end_and_not_go_on_for_ever():
    async with serving(**SOON) as connect:
        reader, writer = await connect()
        writer.write(post(b"content-length: 4"))
        await reader.readuntil(b"hi")
        writer.write(b"body")
        await asyncio.sleep(0.1)
        writer.write(post(b"content-length: 1000"))
        await reader.readuntil(b"hi")
        began = asyncio.get_running_loop().time()
        while not reader.at_eof() and asyncio.get_running_loop().time() < began + 5.0:
            writer.write(b"x")
            await asyncio.sleep(0.01)
        assert reader.at_eof()
        assert await reader.read() == b""


async def test_blank_lines_do_not_keep_an_idle_connection():
    class Restless(PatientProtocol):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.timeout_keep_alive = 0.05

    server = HttpServer(hello, port=0, protocol=Restless)
    reader, writer = await asyncio.open_connection(*await server.start())
    writer.write(GET)
    await reader.readuntil(b"hi")
    writer.write(b"\r\n")
    assert await asyncio.wait_for(reader.read(), 5.0) == b""
    writer.close()
    await server.stop()


@pytest.mark.parametrize(
    "head", [b"GET /" + b"a" * 3000, b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 3000 + b"\r\n",
             b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: %030d\r\n" % (i, i) for i in range(100)),
             b"GET / HTTP/1.1\r\nx: " + b"y" * 3000 + b"\r\n\r\n"]
)  # fmt: skip
async def test_a_head_that_is_too_long_is_not_collected(head):
    status, told = await said([head], {"head_bytes": 2000}, app=length)
    assert (status, told["code"]) == (431, "too_large")
    assert "2000 bytes" in told["error"]


@pytest.mark.parametrize("frame", [b"0\r\nx: " + b"y" * 3000, b"2;" + b"y" * 3000])
async def test_neither_is_what_stands_around_a_body_in_chunks(frame):
    async with serving(length, head_bytes=2000) as connect:
        reader, writer = await connect()
        writer.write(post(b"transfer-encoding: chunked") + b"1\r\nx\r\n")
        await asyncio.sleep(0.05)
        writer.write(frame)
        assert (await reader.read()).startswith(b"HTTP/1.1 431")


async def test_a_trailer_adds_no_fields():
    seen = []

    async def fields(scope, receive, send):
        await receive()
        seen.extend(name for name, _ in scope["headers"])
        await hello(scope, receive, send)

    async with serving(fields) as connect:
        reader, writer = await connect()
        writer.write(post(b"transfer-encoding: chunked") + b"1\r\nx\r\n0\r\nauthorization: Bearer k\r\n\r\n")
        await reader.readuntil(b"hi")
    assert seen == [b"host", b"transfer-encoding"]


async def test_a_head_has_only_so_many_fields():
    fields = [b"h%d: v" % i for i in range(20)]
    status, told = await said([post(*fields)], {"head_fields": 20})
    assert (status, told["code"]) == (431, "too_large")
    async with serving(head_fields=20) as connect:
        reader, writer = await connect()
        writer.write(post(*fields[:19]))
        assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")


async def test_a_large_body_counts_as_no_head():
    async with serving(length, head_bytes=2000) as connect:
        reader, writer = await connect()
        for _ in range(3):
            writer.write(post(b"content-length: 300000") + b"x" * 300_000)
            assert (await reader.readuntil(b"300000")).startswith(b"HTTP/1.1 200")


async def test_more_connections_than_the_limit_are_turned_away():
    status, told = await said([], {"most": 2}, others=2)
    assert (status, told["code"]) == (503, "overloaded")


async def test_of_many_requests_at_once_the_first_are_answered():
    async with serving(pipelined=5) as connect:
        reader, writer = await connect()
        writer.write(GET * 1000)
        told = await reader.read()
    assert told.count(b"HTTP/1.1 200") == told.count(b"HTTP/1.1") == 6
    assert told.count(b"connection: close") == 1


async def test_an_answer_that_is_under_way_is_not_mixed_up_with_a_refusal():
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(scope, receive, send):
        asked.set()
        await go.wait()
        await hello(scope, receive, send)

    async with serving(slow, **SOON) as connect:
        reader, writer = await connect()
        writer.write(GET + b"GET / HT")
        await asked.wait()
        await asyncio.sleep(0.1)
        writer.write(b" nonsense\r\n\r\n")
        await asyncio.sleep(0.01)
        go.set()
        told = await reader.read()
    assert told.startswith(b"HTTP/1.1 200")
    assert told.count(b"HTTP/1.1") == 1


async def test_bodies_together_have_a_limit_and_one_alone_has_its_own():
    size = 300_000
    async with serving(length, most_body_bytes=500_000) as connect:
        _, first = await connect()
        first.write(post(b"content-length: 1000000") + b"x" * size)
        await first.drain()
        await asyncio.sleep(0.05)
        reader, second = await connect()
        second.write(post(b"content-length: 1000000") + b"x" * size)
        told = await reader.read()
        assert told.startswith(b"HTTP/1.1 503")
        assert b"overloaded" in told
        first.write(b"x" * 700_000)  # whole: from here on it is counted as what waits
        await first.drain()
        await asyncio.sleep(0.05)
        reader, third = await connect()
        third.write(post(b"content-length: 1000000") + b"x" * 1_000_000)
        assert (await reader.readuntil(b"1000000")).startswith(b"HTTP/1.1 200")


async def test_an_answer_that_nobody_reads_is_let_go():
    gone = asyncio.Event()

    async def endless(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.is_set():
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})

    class Watched(PatientProtocol):
        read_s = 0.05

        def connection_lost(self, exc):
            super().connection_lost(exc)
            gone.set()

    server = HttpServer(endless, port=0, protocol=Watched)
    _, writer = await asyncio.open_connection(*await server.start(), limit=1)
    writer.write(GET)
    await asyncio.wait_for(gone.wait(), 5.0)
    writer.close()
    await server.stop()


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


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ([], "too_slow"),
        ([b"GET / HTTP/1.1\r\n"], "too_slow"),
        ([b"nonsense\r\n\r\n"], "invalid_request"),
        ([b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n"], "too_large"),
    ],
)
async def test_who_is_turned_away_is_told_of_once(parts, word):
    told = []
    status, body = await said(parts, {**SOON, "refused": lambda *refusal: told.append(refusal)})
    assert [(one.http, one.word, sentence) for one, sentence in told] == [(status, word, body["error"])]


async def test_who_asks_properly_is_told_of_to_nobody():
    told = []
    async with serving(refused=lambda *refusal: told.append(refusal)) as connect:
        reader, writer = await connect()
        writer.write(GET)
        assert await reader.readexactly(8) == b"HTTP/1.1"
        writer.close()
    assert told == []
