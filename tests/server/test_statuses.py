"""Every row of the table of errors (docs/protocol.md) once, at doors that really listen: what an HTTP client sees, and
what a gRPC client sees of the same event."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from peekserve.domain.request import Outcome, Reason
from peekserve.server.access import Access
from peekserve.server.frontdesk import Limits
from peekserve.server.guard import Guard
from peekserve.server.oip import GrpcServer
from peekserve.server.oip_guard import GrpcGuard
from peekserve.server.oip_messages import OIP
from peekserve.server.rates import Buckets
from peekserve.server.run import HttpServer
from peekserve.server.wire import ERRORS, OUTCOMES
from peekserve.state.keys import Keys, Scope
from tests.server.scripted import Doors, Script, ScriptedBackend, by_first_value, never

pytestmark = pytest.mark.whole

INFER = "/v2/models/plain/infer"
BODY_BYTES = 3000


def a_body(name: str = "x", **parameters: Any) -> bytes:
    tensor = {"name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 0, 0, 0]}
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode()


def a_message(name: str = "x", model: str = "plain", floor: float | None = None) -> bytes:
    request = OIP["ModelInferRequest"](model_name=model)
    request.inputs.add(name=name, datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([1, 0, 0, 0])
    if floor is not None:
        request.parameters["min_accuracy"].double_param = floor
    return bytes(request.SerializeToString())


def broken(request: Any, inputs: Any) -> Any:
    raise ZeroDivisionError


@dataclass(frozen=True)
class Event:
    """What happens, and what each door says; no gRPC code where that door knows no such thing. `library`: said by the
    library of the gRPC door, which knows no words of ours."""

    what: str
    http: int
    word: str
    grpc: str = ""
    script: Script = by_first_value
    path: str = INFER
    method: str = "POST"
    body: bytes = a_body()
    headers: dict[str, str] = field(default_factory=dict)
    call: str = "ModelInfer"
    message: bytes = a_message()
    key: str = "everything"
    also: dict[str, str] = field(default_factory=dict)
    library: bool = False


def refused(what: str, http: int, reason: Reason, code: str, **also: str) -> Event:
    return Event(what, http, reason.value, code, never(Outcome.REFUSED, reason), also=also)


EVENTS = [
    Event("malformed", 400, "invalid_request", "INVALID_ARGUMENT", body=b"{", message=b"\xff"),
    Event("no input", 400, "invalid_request", "INVALID_ARGUMENT", body=b'{"inputs": []}',
          message=OIP["ModelInferRequest"](model_name="plain").SerializeToString()),
    Event("wrong tensor", 400, "invalid_tensor", "INVALID_ARGUMENT", body=a_body("y"), message=a_message("y")),
    Event("no key", 401, "unauthenticated", "UNAUTHENTICATED", key="",
          also={"www-authenticate": 'Bearer realm="peekserve"'}),
    Event("another's key", 403, "permission_denied", "PERMISSION_DENIED", key="labels"),
    Event("unknown model", 404, "model_not_found", "NOT_FOUND", path="/v2/models/nobody/infer",
          message=a_message(model="nobody")),
    Event("unknown path", 404, "not_found", "UNIMPLEMENTED", path="/v2/nothing", call="Nothing", library=True),
    Event("wrong method", 405, "method_not_allowed", method="PUT", also={"allow": "POST"}),
    Event("too large", 413, "too_large", "RESOURCE_EXHAUSTED", body=b" " * (BODY_BYTES + 1),
          message=a_message("x" * BODY_BYTES), library=True),
    Event("content type", 415, "unsupported_media_type", headers={"content-type": "text/plain"}),
    Event("encoding", 415, "unsupported_media_type", headers={"content-encoding": "gzip"}),
    Event("too high a floor", 422, "constraint_infeasible", "FAILED_PRECONDITION", body=a_body(min_accuracy=0.99),
          message=a_message(floor=0.99)),
    Event("a bug", 500, "backend_error", "INTERNAL", broken),
    refused("a backend that threw", 500, Reason.BACKEND_ERROR, "INTERNAL"),
    Event("loading by hand", 501, "not_offered", "UNIMPLEMENTED", path="/v2/repository/models/plain/load",
          call="RepositoryModelLoad", message=b"\x12\x05plain"),
    Event("unloading by hand", 501, "not_offered", "UNIMPLEMENTED", path="/v2/repository/models/plain/unload",
          call="RepositoryModelUnload", message=b"\x12\x05plain"),
    refused("infeasible", 503, Reason.DEADLINE_INFEASIBLE, "UNAVAILABLE", **{"retry-after": "1"}),
    refused("overloaded", 503, Reason.OVERLOADED, "RESOURCE_EXHAUSTED", **{"retry-after": "1"}),
    refused("not ready", 503, Reason.NOT_READY, "UNAVAILABLE", **{"retry-after": "1"}),
    refused("draining", 503, Reason.DRAINING, "UNAVAILABLE", connection="close"),
    refused("expired", 504, Reason.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
]  # fmt: skip


@dataclass
class Open:
    """Both doors, guarded, and a client of each."""

    doors: Doors
    keys: dict[str, str]
    http: httpx.AsyncClient
    channel: grpc.aio.Channel

    async def over_http(self, event: Event) -> httpx.Response:
        headers = {"x-api-key": self.keys[event.key]} if event.key else {}
        return await self.http.request(
            event.method, event.path, content=event.body, headers=headers | event.headers
        )

    async def over_grpc(self, event: Event) -> grpc.aio.AioRpcError:
        method = self.channel.unary_unary(f"/inference.GRPCInferenceService/{event.call}")
        metadata = (("x-api-key", self.keys[event.key]),) if event.key else ()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await method(event.message, metadata=metadata)
        return ended.value


@asynccontextmanager
async def opened(folder: Any, buckets: Buckets | None = None) -> AsyncIterator[Open]:
    doors = Doors(ScriptedBackend(), Limits(body_bytes=BODY_BYTES))
    with Keys(folder / "keys.sqlite") as keys:
        told = {
            "everything": keys.add("everything", [Scope.INFER, Scope.ADMIN], 0.0),
            "labels": keys.add("labels", [Scope.FEEDBACK], 0.0),
        }
        access = Access(keys, buckets, doors.desk.now)
        http = HttpServer(Guard(doors.app, access, doors.accounts.turned_away("http")), port=0)
        guard = GrpcGuard(access, doors.accounts.turned_away("grpc"))
        rpc = GrpcServer(doors.desk, doors.accounts, doors.descriptions, port=0, guards=(guard,))
        base = "http://{}:{}".format(*await http.start())
        target = "{}:{}".format(*await rpc.start())
        async with httpx.AsyncClient(base_url=base) as client, grpc.aio.insecure_channel(target) as channel:
            yield Open(doors, told, client, channel)
        await http.stop()
        await rpc.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(tmp_path_factory) -> AsyncIterator[Open]:
    async with opened(tmp_path_factory.mktemp("keys")) as doors:
        yield doors


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.what)
async def test_every_event_has_its_status_at_both_doors(event, here):
    here.doors.backend.script = event.script
    answer = await here.over_http(event)
    assert (answer.status_code, answer.json()["code"]) == (event.http, event.word)
    assert answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"
    assert {name: answer.headers.get(name) for name in event.also} == event.also
    if not event.grpc:
        return
    ended = await here.over_grpc(event)
    assert (ended.code().name, bool(ended.details())) == (event.grpc, True)
    trailing = dict(ended.trailing_metadata())
    assert trailing.get("peekserve-code") == (None if event.library else event.word)
    assert trailing.get("retry-after") == event.also.get("retry-after")


async def test_a_client_that_asks_too_often_is_told_so_at_both_doors(tmp_path):
    event = Event("too often", 429, "rate_limited", "RESOURCE_EXHAUSTED")
    async with opened(tmp_path, Buckets(0.5, 1.0)) as here:
        assert (await here.over_http(event)).status_code == 200
        answer = await here.over_http(event)
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
            429,
            "rate_limited",
            "2",
        )
        ended = await here.over_grpc(event)
        trailing = dict(ended.trailing_metadata())
        assert (ended.code().name, trailing["peekserve-code"]) == ("RESOURCE_EXHAUSTED", "rate_limited")
        assert trailing["retry-after"] == "2"


async def test_what_nothing_can_answer_in_its_time_is_not_asked_to_come_again(tmp_path):
    event = replace(EVENTS[-5], body=a_body(deadline_ms=1))
    async with opened(tmp_path) as here:
        here.doors.backend.script = event.script
        answer = await here.over_http(event)
        assert (answer.status_code, answer.json()["code"]) == (503, "deadline_infeasible")
        assert "retry-after" not in answer.headers


async def test_reflection_needs_the_key_that_metadata_need_and_health_none(tmp_path):
    async with opened(tmp_path) as here:
        reflect = here.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest.SerializeToString,
            ServerReflectionResponse.FromString,
        )
        for key, code in (("", "UNAUTHENTICATED"), ("labels", "PERMISSION_DENIED"), ("everything", "OK")):
            metadata = (("x-api-key", here.keys[key]),) if key else ()
            stream = reflect(iter([ServerReflectionRequest(list_services="")]), metadata=metadata, timeout=10)
            try:
                told = "OK" if await stream.read() else ""
            except grpc.aio.AioRpcError as error:
                told = error.code().name
            assert told == code
        watch = here.channel.unary_stream("/grpc.health.v1.Health/Watch")
        assert await watch(b"", timeout=10).read() == b"\x08\x01"


def test_the_events_are_all_that_the_table_has():
    """But for those of streams, evidence first, feedback and registration, which have tests of their own, and clients
    that went."""
    elsewhere = {
        "stream_not_found", "stale", "not_wanted", "no_window", "request_not_found", "not_answered",
        "already_confirmed", "too_slow", "rate_limited", "cancelled", "ok",
        "revision_not_found", "wrong_state", "no_room",
    }  # fmt: skip
    words = {status.word for status in (*ERRORS.values(), *OUTCOMES.values())}
    assert words - elsewhere <= {event.word for event in EVENTS}
