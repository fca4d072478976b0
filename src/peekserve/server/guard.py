"""The doorkeeper of the HTTP door: asks for keys before anything of a body is read."""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from peekserve.errors import PeekserveError, RateLimited, Unauthenticated
from peekserve.server.access import Access, key_of, scope_of
from peekserve.server.wire import BROKEN, Status, error_body, retry_after, status_of_error

# (status, sentence) of what was turned away.
Refused = Callable[[Status, str], None]


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, access: Access, refused: Refused) -> None:
        self._app = app
        self._access = access
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        told = key_of((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
        address = scope["client"][0] if scope.get("client") else "unix"
        try:
            self._access.admit(scope_of(scope["path"]), told, address)
        except PeekserveError as error:
            await self._turn_away(error, send)
            return
        await self._app(scope, receive, send)

    async def _turn_away(self, error: PeekserveError, send: Send) -> None:
        status = status_of_error(error)
        body = error_body(sentence_of(error), status)
        more = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if isinstance(error, Unauthenticated):
            more.append((b"www-authenticate", b'Bearer realm="peekserve"'))
        if isinstance(error, RateLimited):
            more.append((b"retry-after", str(retry_after(error.wait_s)).encode()))
        self._refused(status, str(error))
        await send({"type": "http.response.start", "status": status.http, "headers": more})
        await send({"type": "http.response.body", "body": body})


def sentence_of(error: PeekserveError) -> str:
    """What a client is told: of what went wrong in here, only where it is written."""
    if status_of_error(error) is BROKEN:
        return "the server failed to handle this request; its log says why"
    return str(error)
