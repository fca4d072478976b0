"""Streams over HTTP: chunks in, status and results out (docs/protocol.md, Streams)."""

from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from peekserve.domain.application import NAME
from peekserve.domain.streams import StreamSpec
from peekserve.errors import InvalidRequest, UnknownStream
from peekserve.peeking.stage import Block, Taken
from peekserve.server.bodies import Gone, Unsupported, check_content, read_body, text
from peekserve.server.streams import StreamDesk
from peekserve.server.wire import UNSUPPORTED, error_body

PATH = "/api/v1/streams/{application}/{stream}"


class ChunkJson(msgspec.Struct, gc=False):
    """A chunk in JSON. The samples stay undecoded until it is known which of the two forms they have."""

    first: int
    samples: dict[str, msgspec.Raw]


_CHUNK = msgspec.json.Decoder(ChunkJson)
_VALUES = msgspec.json.Decoder(list[float])
_SAMPLES = msgspec.json.Decoder(list[list[float]])


def stream_routes(desk: StreamDesk | None, body_bytes: int, body_wait_s: float) -> list[Route]:
    """The paths of streams; of a server without them, too, so that they can say so."""
    pages = _Pages(desk, body_bytes, body_wait_s)
    return [
        Route(PATH, pages.stream, methods=["GET", "POST", "DELETE"]),
        Route(PATH + "/results", pages.results),
    ]


class _Pages:
    def __init__(self, desk: StreamDesk | None, body_bytes: int, body_wait_s: float) -> None:
        self._desk = desk
        self._body_bytes = body_bytes
        self._body_wait_s = body_wait_s

    @property
    def desk(self) -> StreamDesk:
        if self._desk is None:
            raise UnknownStream("this server takes no streams")
        return self._desk

    async def stream(self, request: Request) -> Response:
        application, stream = _names(request)
        if request.method == "POST":
            return await self._push(request, application, stream)
        if request.method == "DELETE":
            await self.desk.forget(application, stream)
            return Response(status_code=204)
        return _json(self.desk.status(application, stream))

    async def _push(self, request: Request, application: str, stream: str) -> Response:
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        try:
            kind = check_content(headers)
            body = await read_body(headers, request.receive, self._body_bytes, self._body_wait_s)
        except Gone:
            return Response(status_code=400)
        except Unsupported as error:
            return Response(
                error_body(str(error), UNSUPPORTED), UNSUPPORTED.http, media_type="application/json"
            )
        spec = self.desk.tracks_of(application)
        if kind == b"application/octet-stream":
            first, samples = read_binary(body, headers, spec)
        else:
            first, samples = read_json(body)
        taken = await self.desk.push(application, stream, first, samples)
        return _json(_receipt(taken))

    async def results(self, request: Request) -> Response:
        since = request.query_params.get("since", "0")
        if not since.isascii() or not since.isdigit() or len(since) > 18:
            raise InvalidRequest(f"since is the number of a result, 0 or more, not {since[:40]!r}")
        return _json(self.desk.results(*_names(request), int(since)))


def read_json(body: bytes) -> tuple[int, dict[str, Block]]:
    """`first` and the samples of each input, float32 [n, channels]. Raises InvalidRequest."""
    try:
        chunk = _CHUNK.decode(body)
    except RecursionError:
        raise InvalidRequest("the chunk is JSON nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f'the body is not a chunk: {error}; it is like {{"first": 0, "samples": {{"beat": [0.1, 0.2]}}}}'
        ) from None
    return chunk.first, {name: Block.of(_values(name, raw)) for name, raw in chunk.samples.items()}


def _values(name: str, raw: msgspec.Raw) -> np.ndarray[Any, np.dtype[np.float32]]:
    try:
        flat = _VALUES.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        pass
    else:
        return _narrow(flat).reshape(-1, 1)
    try:
        rows = _SAMPLES.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise InvalidRequest(
            f"input {name[:80]!r} is a list of numbers, or of one list of numbers for each sample"
        ) from None
    if len({len(row) for row in rows}) > 1:
        raise InvalidRequest(f"input {name[:80]!r} has samples of unequal lengths")
    return _narrow(rows)


def _narrow(values: list[float] | list[list[float]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and refused as such
        return np.array(values, np.float64).astype(np.float32)


def read_binary(body: bytes, headers: dict[bytes, bytes], spec: StreamSpec) -> tuple[int, dict[str, Block]]:
    """Little-endian float32 [n, channels] of one input: `Stream-First` says its number, `Stream-Input` its name,
    which a stream of one input may leave out. Raises InvalidRequest."""
    first = headers.get(b"stream-first")
    if first is None or not first.isdigit() or len(first) > 18:
        raise InvalidRequest(
            "a binary chunk has a header Stream-First, the number of its first sample, 0 or more"
            + ("" if first is None else f", not {text(first)!r}")
        )
    name = text(headers.get(b"stream-input", b""))
    if not name and len(spec.tracks) > 1:
        names = ", ".join(track.input for track in spec.tracks)
        raise InvalidRequest(f"a binary chunk of this application has a header Stream-Input: one of {names}")
    channels = next((t.channels for t in spec.tracks if t.input == (name or spec.lead.input)), 1)
    if not body or len(body) % (4 * channels):
        raise InvalidRequest(
            f"a binary chunk holds float32 samples of {channels} values; {len(body)} bytes are no whole number "
            "of them, or none"
        )
    shape = (len(body) // (4 * channels), channels)
    return int(first), {name or spec.lead.input: Block("<f4", shape, body)}


def _receipt(taken: Taken) -> dict[str, Any]:
    return {
        "application": taken.application,
        "stream": taken.stream,
        "next": taken.next,
        "found": taken.windows,
        **taken.tally,
    }


def _names(request: Request) -> tuple[str, str]:
    stream = request.path_params["stream"]
    if not NAME.fullmatch(stream):
        raise InvalidRequest(
            f"stream name {stream[:80]!r}: use 1 to 64 of a-z, 0-9, '.', '_', '-', starting with a letter or digit"
        )
    return request.path_params["application"], stream


def _json(told: Any) -> Response:
    return Response(msgspec.json.encode(told), media_type="application/json")
