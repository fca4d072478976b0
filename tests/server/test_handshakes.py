"""Connections that speak TLS, or never come to it."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme

from peekserve.server.patience import PatientProtocol
from peekserve.server.run import HttpServer
from tests.server.test_patience import GET, hello

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "server.pem")
    issued.private_key_pem.write_to_path(folder / "server.key")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return folder


@pytest.fixture(params=["asyncio", "uvloop"])
def loops(request):
    """Both loops that a server may run on: each has a TLS of its own."""
    if request.param == "asyncio":
        return asyncio.new_event_loop
    return pytest.importorskip("uvloop").new_event_loop


def on(loops, story):
    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(asyncio.wait_for(story, 20))


@asynccontextmanager
async def serving(files, told, **limits):
    """(connect without TLS, connect with TLS) to a server with these limits; `told`: of whom it turns away."""
    server = HttpServer(
        hello,
        port=0,
        certificate=(str(files / "server.pem"), str(files / "server.key")),
        protocol=type("Small", (PatientProtocol,), limits),
        refused=lambda status, sentence: told.append((status.word, sentence)),
    )
    host, port = await server.start()
    context = ssl.create_default_context(cafile=str(files / "ca.pem"))

    async def plainly():
        return await asyncio.open_connection(host, port)

    async def securely():
        return await asyncio.open_connection(host, port, ssl=context, server_hostname="localhost")

    yield plainly, securely
    await server.stop()


async def asked(reader, writer):
    writer.write(GET)
    head = await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(2) == b"hi"
    return head.split(b"\r\n")[0]


def test_requests_are_answered_one_after_another(files, loops):
    async def story():
        told = []
        async with serving(files, told) as (_, securely):
            reader, writer = await securely()
            for _ in range(3):
                assert await asked(reader, writer) == b"HTTP/1.1 200 OK"
            writer.close()
        assert told == []

    on(loops, story())


def test_a_handshake_that_does_not_end_is_not_waited_for(files, loops):
    async def story():
        for sent in (b"", b"\x16\x03\x01\x02\x00\x01"):
            told = []
            async with serving(files, told, wait_s=0.05) as (plainly, _):
                reader, writer = await plainly()
                writer.write(sent)
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
                writer.close()
            assert told == [("too_slow", "a TLS handshake did not come to its end within 0.05 s")]

    on(loops, story())


def test_who_only_shakes_hands_takes_a_place(files, loops):
    async def story():
        told = []
        async with serving(files, told, most=2) as (plainly, securely):
            first, _ = await plainly(), await plainly()
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await securely()
            assert told == [("overloaded", "2 connections are open, which is the limit")]
            first[1].close()
            await first[1].wait_closed()
            while True:  # until the server knows that the first has gone
                try:
                    again = await securely()
                    break
                except (ConnectionError, ssl.SSLError):
                    continue
            assert await asked(*again) == b"HTTP/1.1 200 OK"
            again[1].close()

    on(loops, story())


def test_plain_bytes_at_a_door_of_tls_are_turned_away(files, loops):
    async def story():
        told = []
        async with serving(files, told) as (plainly, _):
            reader, writer = await plainly()
            writer.write(GET)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(100)
            writer.close()
        [(word, sentence)] = told
        assert word == "invalid_request"
        assert "no TLS handshake" in sentence

    on(loops, story())
