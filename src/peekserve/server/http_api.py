"""The protocol over HTTP: routes, and nothing that gRPC would need too.

The inference route is written against bare ASGI: it reads, decodes, waits and writes, with no object that it
can do without, because this is where a small model's time goes.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from peekserve.errors import InvalidRequest, PeekserveError, TooFast
from peekserve.live.registering import Registrar
from peekserve.server import openapi
from peekserve.server.accounting import Accounts
from peekserve.server.bodies import Gone, Unsupported, check_content, hung_up, read_body, text
from peekserve.server.by_hand import read_control
from peekserve.server.calls import InferCall
from peekserve.server.checking import seconds_from_text
from peekserve.server.describe import Descriptions
from peekserve.server.feedback import FeedbackDesk, feedback_routes
from peekserve.server.frontdesk import FrontDesk, Limits, refusal
from peekserve.server.on_demand import PARAMETER, OnDemand, Wanted
from peekserve.server.registrations import UploadLimits, registration_routes
from peekserve.server.streams import StreamDesk
from peekserve.server.streams_api import stream_routes
from peekserve.server.wire import (
    METHOD_NOT_ALLOWED,
    OK,
    UNSUPPORTED,
    Status,
    error_body,
    read_infer,
    status_of_answer,
    status_of_error,
    write_infer,
)

JSON = (b"content-type", b"application/json")
BINARY = (b"content-type", b"application/octet-stream")
LATER = (b"retry-after", b"1")
Headers = list[tuple[bytes, bytes]]
Answered = Callable[[Request], Any]

# In the scope of a connection that notes it: when the head of the request was whole, on the desk's clock.
ARRIVED_AT = "peekserve.arrived_at"
# Where the data go that were asked for.
DATA_PATH = "/api/v1/data/{token}"

_GRPC_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def make_app(
    desk: FrontDesk,
    accounts: Accounts,
    descriptions: Descriptions,
    streams: StreamDesk | None = None,
    on_demand: OnDemand | None = None,
    feedback: FeedbackDesk | None = None,
    registrar: Registrar | None = None,
    uploads: UploadLimits | None = None,
) -> Starlette:
    """The ASGI application: all paths of docs/protocol.md."""
    pages = _Pages(descriptions, accounts, desk.limits)
    infer = _Infer(desk, accounts, on_demand or OnDemand(desk, accounts))
    routes = [
        Route(f"/v2/models/{{model}}{v}/infer", infer, methods=["POST"]) for v in ("", "/versions/{version}")
    ]
    routes += [
        Route("/v2/health/live", pages.live),
        Route("/v2/health/ready", pages.ready),
        Route("/v2", pages.server),
        Route("/v2/", pages.server),
        Route("/v2/models/stats", pages.all_statistics),
        Route("/v2/repository/index", pages.index, methods=["POST"]),
        Route("/v2/repository/models/{model}/load", pages.load, methods=["POST"]),
        Route("/v2/repository/models/{model}/unload", pages.unload, methods=["POST"]),
        Route("/metrics", pages.metrics),
        Route("/openapi.json", pages.openapi),
        Route("/docs", pages.docs),
    ]
    for v in ("", "/versions/{version}"):
        routes += [
            Route(f"/v2/models/{{model}}{v}", pages.model),
            Route(f"/v2/models/{{model}}{v}/ready", pages.model_ready),
            Route(f"/v2/models/{{model}}{v}/config", pages.config),
            Route(f"/v2/models/{{model}}{v}/stats", pages.statistics),
        ]
    routes.append(Route(DATA_PATH, infer, methods=["POST"]))
    routes += stream_routes(streams, desk.limits.body_bytes, desk.limits.body_wait_s)
    routes += feedback_routes(feedback, desk.limits.body_wait_s)
    routes += registration_routes(registrar, uploads)
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _http_error, PeekserveError: _error, Exception: _bug(accounts)},
    )
    app.router.redirect_slashes = False
    return app


# ---- inference -------------------------------------------------------------------------------------------


class _Infer:
    """POST .../infer as an ASGI application of its own."""

    def __init__(self, desk: FrontDesk, accounts: Accounts, on_demand: OnDemand) -> None:
        self._desk = desk
        self._accounts = accounts
        self._on_demand = on_demand

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        desk = self._desk
        # Of requests that came together the last has its turn late: its deadline runs from when it was read.
        arrived_at: float = scope.get(ARRIVED_AT) or desk.now()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        echo: Headers = []
        trace = headers.get(b"x-request-id")
        if trace is not None and len(trace) <= 128:
            echo.append((b"x-request-id", trace))
        model = ""
        try:
            path = scope["path_params"]
            version, token = path.get("version"), path.get("token")
            if token is None:
                model = desk.find(path["model"], version).name
            check_content(headers)
            body = await read_body(headers, receive, desk.limits.body_bytes, desk.limits.body_wait_s)
            asked = read_infer(body, _header_length(headers))
            outputs = tuple([want.name for want in asked.wanted])
            if token is None:
                call = InferCall(
                    application=model,
                    pinned=version,
                    tensors=asked.tensors,
                    arrived_at=arrived_at,
                    parameters=asked.parameters,
                    outputs=outputs,
                    call_deadline_s=_call_deadline_s(headers),
                )
            else:
                call = self._on_demand.bring(token, asked.tensors, outputs)
                model = call.application
            held = self._on_demand.ask(call) if PARAMETER in call.parameters else None
            if isinstance(held, Wanted):
                await _send(send, 202, _wanted(held, desk.now()), [*echo, JSON])
                return
            reply = held or await desk.submit(call, lambda: hung_up(receive))
            status = status_of_answer(reply.answer)
            if status is OK:
                content, header_length = write_infer(reply, asked.wanted, asked.id)
                echo.append(_server_timing(reply.queue_s, reply.compute_s))
                if header_length is None:
                    echo.append(JSON)
                else:
                    echo += [BINARY, (b"inference-header-content-length", str(header_length).encode())]
            else:
                content = error_body(refusal(reply), status)
                echo.append(JSON)
                if reply.retry_after_s is not None:
                    echo.append((b"retry-after", str(reply.retry_after_s).encode()))
                if status.word == "draining":
                    echo.append((b"connection", b"close"))
            if status.http != 499:
                await _send(send, status.http, content, echo)
            self._accounts.served(reply, status, "http")
            return
        except Gone:
            return
        except Unsupported as error:
            status, sentence = UNSUPPORTED, str(error)
        except PeekserveError as error:
            status, sentence = status_of_error(error), str(error)
            if isinstance(error, TooFast):
                echo.append(LATER)
        except Exception as error:
            self._accounts.log.exception("unexpected", path=scope["path"])
            status, sentence = (
                status_of_error(error),
                "the server failed to handle this request; its log says why",
            )
        self._accounts.refused(model, status, sentence, "http", desk.now() - arrived_at)
        await _send(send, status.http, error_body(sentence, status), [*echo, JSON])


def _wanted(wanted: Wanted, now: float) -> bytes:
    told = {
        "data_wanted": wanted.token,
        "path": DATA_PATH.replace("{token}", wanted.token),
        "inputs": wanted.inputs,
        "rows": wanted.rows,
        "time_left_us": max(round((wanted.due_at - now) * 1e6), 0),
    }
    return msgspec.json.encode(told)


async def _send(send: Send, status: int, body: bytes, headers: Headers) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _header_length(headers: dict[bytes, bytes]) -> int | None:
    value = headers.get(b"inference-header-content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise InvalidRequest(f"Inference-Header-Content-Length is a number of bytes, not {text(value)!r}")
    return int(value)


def _call_deadline_s(headers: dict[bytes, bytes]) -> float | None:
    """`x-request-timeout-seconds`, or else `grpc-timeout` as proxies pass it on (digits and a unit: 250m is
    250 ms)."""
    value = headers.get(b"x-request-timeout-seconds")
    if value is not None:
        return seconds_from_text(text(value), "header x-request-timeout-seconds")
    value = headers.get(b"grpc-timeout")
    if value is None:
        return None
    told = text(value)
    unit = _GRPC_UNITS.get(told[-1:])
    if unit is None or not told[:-1].isdigit() or len(told) > 9:
        raise InvalidRequest(f"header grpc-timeout is up to 8 digits and one of H M S m u n, not {told!r}")
    return seconds_from_text(told[:-1], "header grpc-timeout") * unit


def _server_timing(queue_s: float, compute_s: float) -> tuple[bytes, bytes]:
    return b"server-timing", f"queue;dur={queue_s * 1e3:.3f}, infer;dur={compute_s * 1e3:.3f}".encode()


# ---- everything else -------------------------------------------------------------------------------------


class _IndexJson(msgspec.Struct):
    """The request object of the repository index; an empty body means the same as {}."""

    ready: bool = False


class _Pages:
    """The quiet routes."""

    def __init__(self, descriptions: Descriptions, accounts: Accounts, limits: Limits) -> None:
        self._descriptions = descriptions
        self._accounts = accounts
        self._limits = limits

    async def live(self, _: Request) -> Response:
        live = self._descriptions.live()
        return _json({"live": live}, 200 if live else 503)

    async def ready(self, _: Request) -> Response:
        ready = self._descriptions.ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def server(self, _: Request) -> Response:
        return _json(self._descriptions.server())

    async def model(self, request: Request) -> Response:
        return _json(self._descriptions.model(*_names(request)))

    async def model_ready(self, request: Request) -> Response:
        model, version = _names(request)
        ready = self._descriptions.ready(model, version)
        return _json({"name": model, "ready": ready}, 200 if ready else 503)

    async def config(self, request: Request) -> Response:
        return _json(self._descriptions.config(*_names(request)))

    async def statistics(self, request: Request) -> Response:
        return _json(self._descriptions.statistics(*_names(request)))

    async def all_statistics(self, _: Request) -> Response:
        return _json(self._descriptions.statistics())

    async def index(self, request: Request) -> Response:
        headers = dict(request.scope["headers"])
        try:
            body = await read_body(headers, request.receive, 4096)
        except Gone:
            return Response(status_code=400)
        try:
            asked = msgspec.json.decode(body or b"{}", type=_IndexJson)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidRequest(
                f'the body of an index request is {{}} or {{"ready": true}}: {error}'
            ) from None
        return _json(self._descriptions.index(asked.ready))

    async def load(self, request: Request) -> Response:
        return await self._control("load", request)

    async def unload(self, request: Request) -> Response:
        return await self._control("unload", request)

    async def _control(self, word: str, request: Request) -> Response:
        headers = dict(request.scope["headers"])
        try:
            body = await read_body(
                headers, request.receive, self._limits.body_bytes, self._limits.body_wait_s
            )
        except Gone:
            return Response(status_code=400)
        told = await self._descriptions.control(word, request.path_params["model"], read_control(body))
        return _json(told)

    async def metrics(self, request: Request) -> Response:
        body, content_type = self._accounts.telemetry.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def openapi(self, _: Request) -> Response:
        return _json(openapi.document())

    async def docs(self, _: Request) -> Response:
        return HTMLResponse(openapi.PAGE)


def _names(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")


def _json(told: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(told), status, media_type="application/json")


def _told(sentence: str, status: Status, headers: dict[str, str] | None = None) -> Response:
    return Response(error_body(sentence, status), status.http, headers, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router itself refuses: a path or a method that it does not know."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 405:
        # The router tells of the first route of this path alone; its other methods may stand in routes of their own.
        here = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
        allow = ", ".join(sorted({method for route in here for method in route.methods or ()}))
        return _told(f"{path} takes {allow}, not {request.method[:20]}", METHOD_NOT_ALLOWED, {"Allow": allow})
    return _told(f"there is nothing at {path}", Status(error.status_code, "NOT_FOUND", "not_found"))


async def _error(_: Request, error: Exception) -> Response:
    headers = {"Retry-After": "1"} if isinstance(error, TooFast) else None
    return _told(str(error), status_of_error(error), headers)


def _bug(accounts: Accounts) -> Callable[[Request, Exception], Any]:
    async def handler(request: Request, error: Exception) -> Response:
        accounts.log.error("unexpected", path=request.url.path, error=repr(error))
        return _told("the server failed to handle this request; its log says why", status_of_error(error))

    return handler
