"""The protocol over gRPC: servicers, and nothing that HTTP would need too.

A generic handler serves `inference.GRPCInferenceService` with the messages of oip_messages.py, and another
`grpc.health.v1.Health`; oip_reflection.py tells others what there is. Requests are parsed here, not by the library, so
that damaged bytes are INVALID_ARGUMENT.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from inspect import isawaitable
from math import prod
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from peekserve.domain.request import Reason
from peekserve.errors import InvalidConfiguration, InvalidRequest, InvalidTensor
from peekserve.server.accounting import Accounts
from peekserve.server.arrays import check_axes, dtype_of, from_bytes, strings_to_bytes
from peekserve.server.calls import DEFAULT_OUTPUTS, Array, InferCall, InferReply, Scalar, Tensor
from peekserve.server.classification import top_of
from peekserve.server.describe import Descriptions
from peekserve.server.frontdesk import FrontDesk, refusal
from peekserve.server.oip_messages import HEALTH_STATES, HEALTH_V1, OIP, POOL
from peekserve.server.oip_reflection import reflection_handlers
from peekserve.server.patience import WAIT_S
from peekserve.server.wire import GONE, OK, OUTCOMES, Wanted, output, status_of_answer, status_of_error

SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"

# Where typed contents of each datatype stand. FP16 has no such place: it comes raw.
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3  # in HEALTH_STATES
# Who watches holds a stream open without a key: no more of them than this, looked after so often.
MOST_WATCHING = 256
LOOK_S = 0.5
# At once, over all connections; more are told RESOURCE_EXHAUSTED before they are read.
CALLS = 2048
# For a connection without a call: its client will make another when it has something to ask.
IDLE_S = 600.0
_LONG_S = 1e9  # a call without a deadline may show a time of centuries


class GrpcServer:
    """One listening address. `start` returns when calls are taken."""

    def __init__(
        self,
        desk: FrontDesk,
        accounts: Accounts,
        descriptions: Descriptions,
        host: str = "127.0.0.1",
        port: int = 8001,
        guards: Sequence[grpc.aio.ServerInterceptor] = (),
        certificate: tuple[str, str] | None = None,
    ) -> None:
        """`guards`: interceptors that every call passes. `certificate`: files with the certificate and its private key,
        to speak TLS."""
        self._door = Door(desk, accounts, descriptions)
        self._asked = (host, port)
        self._guards = guards
        self._certificate = certificate
        self._bytes = desk.limits.body_bytes
        self._server: Any = None

    async def start(self) -> tuple[str, int]:
        """The address in use; with port 0 a free port is found. Raises InvalidConfiguration when it cannot be
        had."""
        host, port = self._asked
        options = [
            ("grpc.max_receive_message_length", self._bytes),
            ("grpc.max_send_message_length", self._bytes),
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", CALLS),
            ("grpc.server_handshake_timeout_ms", int(1e3 * WAIT_S)),
            ("grpc.max_connection_idle_ms", int(1e3 * IDLE_S)),
        ]
        self._server = grpc.aio.server(
            options=options, interceptors=self._guards, maximum_concurrent_rpcs=CALLS
        )
        self._server.add_generic_rpc_handlers(self._door.handlers())
        self._server.add_generic_rpc_handlers(reflection_handlers((SERVICE, HEALTH_SERVICE)))
        try:
            bound = self._listen(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError as error:
            raise InvalidConfiguration(f"cannot listen at {host}:{port} for gRPC: {error}") from None
        await self._server.start()
        return host, bound

    def _listen(self, address: str) -> int:
        if self._certificate is None:
            return int(self._server.add_insecure_port(address))
        certificate, key = (Path(file).read_bytes() for file in self._certificate)
        return int(self._server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)])))

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no new calls, let open ones end for so long, then cut them."""
        self._door.close()
        if self._server is not None:
            await self._server.stop(grace_s)


class Door:
    """Both services, without a listening address. `look_s`: how often the state is looked at for those who watch it;
    `most_watching`: how many may."""

    def __init__(
        self,
        desk: FrontDesk,
        accounts: Accounts,
        descriptions: Descriptions,
        look_s: float = LOOK_S,
        most_watching: int = MOST_WATCHING,
    ) -> None:
        self._desk = desk
        self._accounts = accounts
        self._told = descriptions
        self._look_s = look_s
        self._most_watching = most_watching
        self._watching = 0
        self._over = asyncio.Event()

    def close(self) -> None:
        """Tell those who watch that this is the end, so that nobody has to wait for them."""
        self._over.set()

    def handlers(self) -> tuple[Any, ...]:
        told = self._told
        answers: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: {"live": told.live()},
            "ServerReady": lambda _: {"ready": told.ready()},
            "ModelReady": lambda r: {"ready": told.ready(*_required(r))},
            "ServerMetadata": lambda _: told.server(),
            "ModelMetadata": lambda r: told.model(*_required(r)),
            "ModelConfig": lambda r: {"config": told.config(*_required(r))},
            "ModelStatistics": lambda r: told.statistics(r.name, r.version),
            "RepositoryIndex": lambda r: {"models": told.index(r.ready)},
            "RepositoryModelLoad": lambda r: told.control("load", *_controlled(r)),
            "RepositoryModelUnload": lambda r: told.control("unload", *_controlled(r)),
        }
        methods = {
            name: _unary(_answering(OIP[f"{name}Request"], OIP[f"{name}Response"], answer))
            for name, answer in answers.items()
        }
        methods["ModelInfer"] = _unary(self._infer)
        check = _answering(HEALTH_V1["HealthCheckRequest"], HEALTH_V1["HealthCheckResponse"], self._health)
        health = {"Check": _unary(check), "Watch": grpc.unary_stream_rpc_method_handler(self._watch)}
        return (
            grpc.method_handlers_generic_handler(SERVICE, methods),
            grpc.method_handlers_generic_handler(HEALTH_SERVICE, health),
        )

    def _health(self, request: Any) -> dict[str, Any]:
        state = self._state(request.service)
        if state == SERVICE_UNKNOWN:
            raise _UnknownService(f"there is no service {request.service[:80]!r}; there is {SERVICE}")
        return {"status": HEALTH_STATES[state]}

    def _state(self, service: str) -> int:
        if service not in ("", SERVICE):
            return SERVICE_UNKNOWN
        return SERVING if self._told.ready() and not self._over.is_set() else NOT_SERVING

    async def _watch(self, content: bytes, context: Any) -> AsyncIterator[bytes]:
        """The state as it is, and again whenever it is another."""
        try:
            service = _parsed(HEALTH_V1["HealthCheckRequest"], content).service
        except InvalidRequest as error:
            status = status_of_error(error)
            await _abort(context, status.grpc, str(error), status.word)
        if self._watching >= self._most_watching:
            status = OUTCOMES[Reason.OVERLOADED]
            await _abort(context, status.grpc, f"{self._watching} clients watch already", status.word)
        self._watching += 1
        try:
            told = None
            while True:
                over, state = self._over.is_set(), self._state(service)
                if state != told:
                    told = state
                    yield HEALTH_V1["HealthCheckResponse"](status=state).SerializeToString()
                if over:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), self._look_s)
        finally:
            self._watching -= 1

    async def _infer(self, content: bytes, context: Any) -> bytes:
        desk = self._desk
        arrived_at = desk.now()
        remaining = context.time_remaining()
        model = ""
        try:
            request = _parsed(OIP["ModelInferRequest"], content)
            model = desk.find(request.model_name, request.model_version).name
            wanted = _wanted(request)
            call = InferCall(
                application=model,
                pinned=request.model_version or None,
                tensors=_tensors(request),
                arrived_at=arrived_at,
                parameters=_parameters(request.parameters),
                outputs=tuple(want.name for want in wanted),
                call_deadline_s=None if remaining is None or remaining > _LONG_S else max(remaining, 1e-6),
            )
            reply = await desk.submit(call)
        except asyncio.CancelledError:
            self._accounts.refused(model, GONE, "the client went away", "grpc", desk.now() - arrived_at)
            raise
        except Exception as error:
            status, sentence = status_of_error(error), str(error)
            if status.http >= 500:
                self._accounts.log.exception("unexpected", method="ModelInfer")
                sentence = "the server failed to handle this request; its log says why"
            self._accounts.refused(model, status, sentence, "grpc", desk.now() - arrived_at)
            await _abort(context, status.grpc, sentence, status.word)
            raise
        status = status_of_answer(reply.answer)
        self._accounts.served(reply, status, "grpc")
        if status is not OK:
            await _abort(context, status.grpc, refusal(reply), status.word, reply.retry_after_s)
        answered: bytes = _response(request, reply, wanted).SerializeToString()
        return answered


class _UnknownService(Exception):
    """A health check of something that is not here."""


def _unary(handler: Callable[[bytes, Any], Awaitable[bytes]]) -> Any:
    return grpc.unary_unary_rpc_method_handler(handler)


def _answering(
    asked: Any, answered: Any, answer: Callable[[Any], Any]
) -> Callable[[bytes, Any], Awaitable[bytes]]:
    """A handler that tells what `answer` says, in the response's fields."""

    async def handler(content: bytes, context: Any) -> bytes:
        try:
            told = answer(_parsed(asked, content))
            if isawaitable(told):
                told = await told
        except _UnknownService as error:
            await _abort(context, "NOT_FOUND", str(error), "not_found")
            raise
        except Exception as error:
            status = status_of_error(error)
            await _abort(context, status.grpc, str(error), status.word)
            raise
        message = json_format.ParseDict(told, answered(), ignore_unknown_fields=True, descriptor_pool=POOL)
        written: bytes = message.SerializeToString()
        return written

    return handler


async def _abort(context: Any, code: str, sentence: str, word: str, retry_after_s: int | None = None) -> None:
    """End the call; does not return. The stable word and Retry-After stand in the trailing metadata."""
    trailing = [("peekserve-code", word)]
    if retry_after_s is not None:
        trailing.append(("retry-after", str(retry_after_s)))
    await context.abort(grpc.StatusCode[code], sentence, tuple(trailing))


def _parsed(kind: Any, content: bytes) -> Any:
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise InvalidRequest(f"the message is not a {kind.DESCRIPTOR.name}: {error}") from None


def _required(request: Any) -> tuple[str, str]:
    """The names in a request that must name a model."""
    if not request.name:
        raise InvalidRequest("the request names no model")
    return request.name, request.version


def _controlled(request: Any) -> tuple[str, dict[str, Scalar | bytes]]:
    """Whom a repository call is about, and what it brings."""
    if not request.model_name:
        raise InvalidRequest("the request names no model")
    told: dict[str, Scalar | bytes] = {}
    for name, value in request.parameters.items():
        fields = value.ListFields()
        told[name] = fields[0][1] if fields else None
    return request.model_name, told


def _parameters(parameters: Any) -> dict[str, Scalar]:
    told: dict[str, Scalar] = {}
    for name, value in parameters.items():
        which = value.WhichOneof("parameter_choice")
        told[name] = None if which is None else getattr(value, which)
    return told


def _tensors(request: Any) -> tuple[Tensor, ...]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest(f"there are {len(request.inputs)} inputs and {len(raw)} raw_input_contents")
    tensors = []
    for i, item in enumerate(request.inputs):
        shape = tuple(item.shape)
        if raw:
            if item.HasField("contents"):
                raise InvalidRequest(f"input {item.name!r} has contents beside raw_input_contents")
            data = from_bytes(item.name, item.datatype, shape, memoryview(raw[i]))
        else:
            data = _typed(item, shape)
        tensors.append(Tensor(item.name, item.datatype, data))
    return tuple(tensors)


def _typed(item: Any, shape: tuple[int, ...]) -> Array:
    dtype = dtype_of(item.name, item.datatype)
    check_axes(item.name, shape)
    place = _CONTENTS.get(item.datatype)
    if place is None:
        raise InvalidTensor(f"input {item.name!r}: {item.datatype} comes in raw_input_contents alone")
    values = list(getattr(item.contents, place))
    if len(values) != prod(shape):
        raise InvalidTensor(
            f"input {item.name!r}: shape {list(shape)} asks for {prod(shape)} elements, {place} has {len(values)}"
        )
    try:
        return np.array(values, dtype).reshape(shape)
    except OverflowError as error:
        raise InvalidTensor(f"input {item.name!r}: its data are not {item.datatype}: {error}") from None


def _wanted(request: Any) -> tuple[Wanted, ...]:
    raw = bool(request.raw_input_contents)
    if not request.outputs:
        return tuple(Wanted(name, raw) for name in DEFAULT_OUTPUTS)
    return tuple(Wanted(o.name, raw, top_of(o.name, _parameters(o.parameters))) for o in request.outputs)


def _response(request: Any, reply: InferReply, wanted: tuple[Wanted, ...]) -> Any:
    """Raw contents for those who sent raw contents, typed ones for those who sent typed ones."""
    response = OIP["ModelInferResponse"](
        model_name=reply.application.name, model_version=reply.version, id=request.id
    )
    for name, value in reply.parameters().items():
        _set(response.parameters[name], value)
    for want in wanted:
        datatype, shape, values = output(reply, want.name, want.top)
        entry = response.outputs.add(name=want.name, datatype=datatype, shape=shape)
        if want.binary:
            blob = strings_to_bytes(values) if isinstance(values, list) else values.tobytes()
            response.raw_output_contents.append(blob)
        else:
            flat = [text.encode() for text in values] if isinstance(values, list) else values.ravel().tolist()
            getattr(entry.contents, _CONTENTS[datatype]).extend(flat)
    return response


def _set(parameter: Any, value: Scalar) -> None:
    # bool before int: True is an int, too.
    for kind, field in (
        (bool, "bool_param"),
        (int, "int64_param"),
        (float, "double_param"),
        (str, "string_param"),
    ):
        if isinstance(value, kind):
            setattr(parameter, field, value)
            return
