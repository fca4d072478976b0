"""Applications and their revisions over HTTP (docs/registration.md): what comes in, where it stands, what is served.

An upload is written to the disk as it comes, and never lies in memory; no more than a few come in at a time.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive

from peekserve.errors import InvalidRequest, NotOffered, PeekserveError, TooFast, TooLarge, TooSlow
from peekserve.live.registering import Registrar, Wanted
from peekserve.live.serving import finding_room
from peekserve.registry.archives import check_path
from peekserve.server.bodies import PATIENCE_S, Gone, Unsupported, text
from peekserve.server.wire import UNSUPPORTED, error_body
from peekserve.state.registrations import OWN, Registration

BASE = "/api/v1/admin/applications/{name}"
ARCHIVES = (b"application/x-tar", b"application/gzip", b"application/x-gzip", b"application/zip")
AT_ONCE = 2
MOST_SHADOW_ROWS = 1_000_000
# Written in pieces of this size, so that a thread has something to do.
_TOGETHER = 1 << 20
# A body that was refused before a byte of it was read is taken and thrown away, if it is no larger and no slower: most
# clients read why only after they have sent everything.
_LINGER, _LINGER_S = 16 << 20, 2.0
# So many times the wait for any byte is the wait for a whole piece.
_SLOWEST = 10


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """`body`: bytes of one upload. `wait_s`: for the next of them; ten times as long for the next 1 MiB, or what is
    left. Who sends less holds one of the few places for nothing."""

    body: int = 512 << 20
    wait_s: float = PATIENCE_S


class Coming:
    """A request's body, of which nothing may have been read yet."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._begun = False

    async def __call__(self) -> Message:
        self._begun = True
        return await self._receive()

    async def linger(self, headers: dict[bytes, bytes]) -> None:
        """Throw it away, where nothing was read and it is small. Whoever asks before sending has sent nothing."""
        announced = headers.get(b"content-length", b"")
        if self._begun or b"expect" in headers or not announced.isdigit() or int(announced[:20]) > _LINGER:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while (await self()).get("more_body", False):
                    pass


class Uploads:
    """Bodies on their way to the disk."""

    def __init__(self, registrar: Registrar, limits: UploadLimits) -> None:
        self._registrar = registrar
        self._limits = limits
        self._coming = 0

    @asynccontextmanager
    async def received(self, headers: dict[bytes, bytes], receive: Receive) -> AsyncIterator[Path]:
        """The body, in a file that is gone afterwards. Raises TooLarge, TooSlow, TooFast, NoRoom, Gone, or
        NotReady where the server is stopped meanwhile."""
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:20]) > self._limits.body:
            raise TooLarge(
                f"the upload has {int(announced[:20])} bytes; the limit is {self._limits.body} (limits: upload)"
            )
        if self._coming >= AT_ONCE:
            raise TooFast(f"{self._coming} uploads are coming in, which is the limit; send it later")
        self._coming += 1
        folder: Path | None = None
        try:
            folder = await self._registrar.folder()
            file = folder / "body"
            with finding_room():  # also where the file is closed
                await self._take(file, receive)
            yield file
        finally:
            self._coming -= 1
            if folder is not None:
                await self._registrar.clear(folder)

    async def _take(self, file: Path, receive: Receive) -> None:
        size, more = 0, True
        held = bytearray()  # no list of pieces: somebody may send them byte by byte
        loop = asyncio.get_running_loop()
        most_s = _SLOWEST * self._limits.wait_s
        late_at = loop.time() + most_s
        with file.open("wb") as out:
            while more:
                if loop.time() > late_at:
                    raise TooSlow(f"of the upload {len(held)} bytes came in {most_s:g} s, and not its end")
                message = await self._next(receive, size)
                if message["type"] == "http.disconnect":
                    raise Gone
                piece: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                size += len(piece)
                if size > self._limits.body:
                    raise TooLarge(
                        f"the upload has more than {self._limits.body} bytes, which is the limit (limits: upload)"
                    )
                held += piece
                if len(held) >= _TOGETHER or not more:
                    await self._registrar.write(out, held)
                    held = bytearray()
                    late_at = loop.time() + most_s

    async def _next(self, receive: Receive, size: int) -> Message:
        """Whichever comes first: more of it, the end of patience, or the end of the server."""
        coming = asyncio.ensure_future(receive())
        leaving = asyncio.ensure_future(self._registrar.leaving.wait())
        try:
            await asyncio.wait(
                (coming, leaving), timeout=self._limits.wait_s, return_when=asyncio.FIRST_COMPLETED
            )
            if coming.done():
                return coming.result()
        finally:
            coming.cancel()
            leaving.cancel()
        self._registrar.check_open()
        raise TooSlow(f"nothing came for {self._limits.wait_s:g} s after {size} bytes of the upload")


def registration_routes(registrar: Registrar | None, limits: UploadLimits | None = None) -> list[Route]:
    """The paths of registration; of a server without it, too, so that it can say so."""
    pages = _Pages(registrar, limits or UploadLimits())
    revision = BASE + "/revisions/{revision}"
    return [
        Route(BASE + "/revisions", pages.upload, methods=["POST"]),
        Route(BASE + "/revisions", pages.list, methods=["GET"]),
        Route(revision, pages.show, methods=["GET"]),
        Route(revision, pages.forget, methods=["DELETE"]),
        Route(revision + "/swap", pages.swap, methods=["POST"]),
        Route(BASE + "/rollback", pages.rollback, methods=["POST"]),
        Route(BASE + "/files/{path:path}", pages.put_file, methods=["PUT"]),
        Route(BASE, pages.withdraw, methods=["DELETE"]),
    ]


class _Pages:
    def __init__(self, registrar: Registrar | None, limits: UploadLimits) -> None:
        self._registrar = registrar
        self._uploads = Uploads(registrar, limits) if registrar is not None else None

    @property
    def registrar(self) -> Registrar:
        if self._registrar is None:
            raise NotOffered("this server takes no registrations")
        return self._registrar

    async def upload(self, request: Request) -> Response:
        registrar, name = self.registrar, request.path_params["name"]
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        assert self._uploads is not None
        coming = Coming(request.receive)
        try:
            wanted = wanted_of(request)
            registrar.check(name)
            _check_kind(headers, ARCHIVES)
            async with self._uploads.received(headers, coming) as archive:
                return self._taken(await registrar.upload(name, archive, wanted))
        except Gone:
            return Response(status_code=400)
        except Unsupported as error:
            await coming.linger(headers)
            return _unsupported(error)
        except PeekserveError:
            await coming.linger(headers)
            raise

    async def put_file(self, request: Request) -> Response:
        registrar, name = self.registrar, request.path_params["name"]
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        assert self._uploads is not None
        coming = Coming(request.receive)
        try:
            wanted = wanted_of(request)
            registrar.check(name)
            path = check_path(request.path_params["path"]).as_posix()
            registrar.serving.application(name)
            async with self._uploads.received(headers, coming) as file:
                return self._taken(await registrar.amend(name, {path: file}, wanted))
        except Gone:
            return Response(status_code=400)
        except PeekserveError:
            await coming.linger(headers)
            raise

    async def list(self, request: Request) -> Response:
        name = request.path_params["name"]
        known = await self.registrar.of(name)
        serving = self.registrar.serving.current(name)
        told = [self._told(one, short=True) for one in known]
        return _json({"application": name, "serving": serving, "revisions": told})

    async def show(self, request: Request) -> Response:
        return _json(self._told(await self.registrar.find(*_names(request))))

    async def forget(self, request: Request) -> Response:
        await self.registrar.forget(*_names(request))
        return Response(status_code=204)

    async def swap(self, request: Request) -> Response:
        name, revision = _names(request)
        self.registrar.check(name)
        found = await self.registrar.serving.swap(name, revision)
        told = (
            {"application": name, "revision": OWN, "state": "active"} if found is None else self._told(found)
        )
        return _json(told)

    async def rollback(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.registrar.check(name)
        return _json({"application": name, "serving": await self.registrar.serving.rollback(name)})

    async def withdraw(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.registrar.check(name)
        await self.registrar.serving.withdraw(name)
        return Response(status_code=204)

    def _taken(self, one: Registration) -> Response:
        place = f"{BASE.replace('{name}', one.application)}/revisions/{one.revision}"
        told = {"application": one.application, "revision": one.revision, "state": one.state.value}
        return _json(told, 202, {"location": place})

    def _told(self, one: Registration, short: bool = False) -> dict[str, Any]:
        told: dict[str, Any] = {
            "application": one.application,
            "revision": one.revision,
            "state": one.state.value,
            "why": one.why,
            "swap": "manual" if one.by_hand else "auto",
            "made_at": one.made_at,
            "changed_at": one.changed_at,
        }
        progress = self.registrar.progress.get((one.application, one.revision))
        if progress is not None:
            told["progress"] = {"what": progress.what, "done": progress.done, "total": progress.total}
        if not short:
            told |= {
                "sha256": one.sha,
                "parent": one.parent,
                "problems": [msgspec.to_builtins(fault) for fault in one.faults],
                "profile": one.profile,
                "shadow": one.report,
            }
        return told


def wanted_of(request: Request) -> Wanted:
    """What the query says of how a revision comes in. Raises InvalidRequest."""
    query = request.query_params
    if unknown := sorted(set(query) - {"swap", "shadow"}):
        raise InvalidRequest(
            f"unknown parameter {unknown[0][:40]!r}; there are swap=auto|manual and shadow=ROWS"
        )
    swap, rows = query.get("swap", "auto"), query.get("shadow", str(Wanted().shadow_rows))
    if swap not in ("auto", "manual"):
        raise InvalidRequest(f"swap is auto or manual, not {swap[:40]!r}")
    if not (rows.isascii() and rows.isdigit() and len(rows) < 8 and int(rows) <= MOST_SHADOW_ROWS):
        raise InvalidRequest(f"shadow is a number of rows, 0 to {MOST_SHADOW_ROWS}, not {rows[:40]!r}")
    return Wanted(swap == "manual", int(rows))


def _check_kind(headers: dict[bytes, bytes], kinds: tuple[bytes, ...]) -> None:
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind not in kinds:
        raise Unsupported(
            f"content type {text(kind)!r}: an archive is application/x-tar, application/gzip or application/zip"
        )
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding != b"identity":
        raise Unsupported(f"content encoding {text(encoding)!r}: send the archive as it is")


def _names(request: Request) -> tuple[str, str]:
    return request.path_params["name"], request.path_params["revision"]


def _unsupported(error: Unsupported) -> Response:
    body = error_body(str(error), UNSUPPORTED)
    return Response(body, UNSUPPORTED.http, media_type="application/json")


def _json(told: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(told), status, headers, media_type="application/json")
