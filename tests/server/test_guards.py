"""The doorkeepers themselves: who is turned away, with what, and before anything else happens."""

import asyncio
import json

import grpc
import httpx
import pytest

from peekserve.errors import InvalidConfiguration
from peekserve.server.access import Access
from peekserve.server.guard import Guard
from peekserve.server.oip import GrpcServer
from peekserve.server.oip_guard import GrpcGuard, host_of
from peekserve.server.rates import Buckets
from peekserve.state.keys import Keys, Scope
from tests.server.scripted import Doors, ScriptedBackend

pytestmark = pytest.mark.core

SERVICE = "/inference.GRPCInferenceService/"


@pytest.fixture
def keys(tmp_path):
    with Keys(tmp_path / "keys.sqlite") as opened:
        yield opened


def over_http(access, doors):
    app = Guard(doors.app, access, doors.accounts.turned_away("http"))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a")


class Calls:
    """The gRPC door on a free port, and a way to call it with bare bytes."""

    def __init__(self, access, doors, wait_s=10.0):
        guards = (GrpcGuard(access, doors.accounts.turned_away("grpc"), wait_s),)
        self._server = GrpcServer(doors.desk, doors.accounts, doors.descriptions, port=0, guards=guards)

    async def __aenter__(self):
        host, port = await self._server.start()
        self.channel = grpc.aio.insecure_channel(f"{host}:{port}")
        return self

    async def __aexit__(self, *_):
        await self.channel.close()
        await self._server.stop(0.0)

    async def ask(self, method, content=b"", **metadata):
        return await self.channel.unary_unary(method)(content, metadata=tuple(metadata.items()), timeout=5.0)

    async def refused(self, method, content=b"", **metadata):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.ask(method, content, **metadata)
        return refused.value


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
@pytest.mark.parametrize(
    "path",
    ["/v2", "//v2", "/v2/", "/metrics", "/docs", "/V2/health/live", "/v2/health/live/", "/v2/health/../x"],
)
async def test_without_a_key_no_spelling_of_a_path_gets_in(keys, method, path):
    keys.add("ward", [Scope.INFER], 0.0)
    async with over_http(Access(keys, None, lambda: 0.0), Doors(ScriptedBackend())) as client:
        request = client.build_request(method, "/")
        request.url = request.url.copy_with(raw_path=path.encode())
        told = await client.send(request)
        assert told.status_code == 401
        assert told.headers["www-authenticate"].startswith("Bearer")
        assert (await client.get("/v2/health/live")).status_code == 200


async def test_a_client_is_told_the_way_in_and_the_log_that_it_was_turned_away(keys):
    doors, key = Doors(ScriptedBackend()), keys.add("ward", [Scope.INFER], 0.0)
    async with over_http(Access(keys, Buckets(1.0, 1.0), lambda: 0.0), doors) as client:
        assert (await client.get("/v2", headers={"x-api-key": key})).status_code == 200
        late = await client.get("/v2", headers={"authorization": f"Bearer {key}"})
        assert (late.status_code, late.headers["retry-after"]) == (429, "1")
        assert (await client.post("/api/v1/feedback", headers={"x-api-key": key})).status_code == 403
    assert [json.loads(line)["status"] for line in doors.log.getvalue().splitlines()] == [429, 403]
    assert key not in doors.log.getvalue()


async def test_keys_that_cannot_be_read_let_nobody_in(keys, tmp_path):
    class Broken(Keys):
        def edition(self):
            raise InvalidConfiguration(f"{self.path}: disk I/O error")

    key, doors = keys.add("ward", [Scope.INFER], 0.0), Doors(ScriptedBackend())
    access = Access(Broken(keys.path), None, lambda: 0.0)
    async with over_http(access, doors) as client:
        told = await client.get("/v2", headers={"x-api-key": key})
        assert (told.status_code, told.json()["code"]) == (500, "backend_error")
        assert str(tmp_path) not in told.text
        assert (await client.get("/v2/health/live")).status_code == 200
    assert "disk I/O error" in doors.log.getvalue()
    async with Calls(access, doors) as calls:
        refused = await calls.refused(SERVICE + "ServerMetadata", **{"x-api-key": key})
        assert refused.code() is grpc.StatusCode.INTERNAL
        assert str(tmp_path) not in refused.details()


async def test_grpc_asks_for_keys_and_health_does_not(keys):
    key = keys.add("ward", [Scope.INFER], 0.0)
    async with Calls(Access(keys, None, lambda: 0.0), Doors(ScriptedBackend())) as calls:
        assert await calls.ask(SERVICE + "ServerLive")
        assert await calls.ask("/grpc.health.v1.Health/Check")
        assert await calls.ask(SERVICE + "ServerMetadata", **{"x-api-key": key})
        for wrong in ({}, {"x-api-key": key + "x"}, {"authorization": "Basic abc"}):
            refused = await calls.refused(SERVICE + "ServerMetadata", **wrong)
            assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
            assert ("peekserve-code", "unauthenticated") in list(refused.trailing_metadata())
        unknown = await calls.refused(SERVICE + "Nothing", **{"x-api-key": key})
        assert unknown.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_grpc_refuses_before_the_message_is_there(keys):
    keys.add("ward", [Scope.INFER], 0.0)
    async with Calls(Access(keys, None, lambda: 0.0), Doors(ScriptedBackend())) as calls:
        hold = asyncio.Event()

        async def slowly():
            await hold.wait()
            yield b""

        call = calls.channel.stream_unary(SERVICE + "ModelInfer")(slowly(), timeout=5.0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_message_that_never_comes_is_not_waited_for(keys):
    key = keys.add("ward", [Scope.INFER], 0.0)
    async with Calls(Access(keys, None, lambda: 0.0), Doors(ScriptedBackend()), wait_s=0.05) as calls:
        call = calls.channel.stream_unary(SERVICE + "ModelMetadata")(
            metadata=(("x-api-key", key),), timeout=10.0
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "did not come within 0.05 s" in refused.value.details()
        assert dict(refused.value.trailing_metadata())["peekserve-code"] == "too_slow"


async def test_a_call_without_a_message_is_told_so(keys):
    key = keys.add("ward", [Scope.INFER], 0.0)
    async with Calls(Access(keys, None, lambda: 0.0), Doors(ScriptedBackend())) as calls:
        call = calls.channel.stream_unary(SERVICE + "ServerMetadata")(
            iter(()), metadata=(("x-api-key", key),), timeout=5.0
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_grpc_tells_when_to_come_again(keys):
    key = keys.add("ward", [Scope.INFER], 0.0)
    async with Calls(Access(keys, Buckets(0.5, 1.0), lambda: 0.0), Doors(ScriptedBackend())) as calls:
        await calls.ask(SERVICE + "ServerMetadata", **{"x-api-key": key})
        refused = await calls.refused(SERVICE + "ServerMetadata", **{"x-api-key": key})
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("retry-after", "2") in list(refused.trailing_metadata())


async def test_what_is_not_one_message_each_way_is_not_served_with_keys(keys):
    class Details:
        method = SERVICE + "ModelStreamInfer"
        invocation_metadata = ()

    class Ended(Exception):
        pass

    class Context:
        def peer(self):
            return "ipv4:127.0.0.1:5"

        async def abort(self, code, *_):
            raise Ended(code)

    async def stream(_):
        return grpc.unary_stream_rpc_method_handler(lambda contents, context: contents)

    for buckets_only in (True, False):
        access = Access(None if buckets_only else keys, Buckets(1.0, 1.0), lambda: 0.0)
        handler = await GrpcGuard(access, lambda status, sentence: None).intercept_service(stream, Details())
        code = grpc.StatusCode.UNIMPLEMENTED if buckets_only else grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(Ended, match=str(code)):
            await handler.stream_unary(iter(()), Context())


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:%5B::1%5D:5000", "::1"),
        ("ipv6:[::1]:5000", "::1"),
        ("unix:", "unix"),
        ("unix:/a/b", "unix"),
    ],
)
def test_a_client_is_one_whatever_port_it_calls_from(peer, host):
    assert host_of(peer) == host
