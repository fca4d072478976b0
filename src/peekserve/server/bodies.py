"""Reading a request's body over bare ASGI: within its limits, and of a kind that somebody reads."""

import asyncio

from starlette.types import Message, Receive

from peekserve.errors import TooLarge, TooSlow

PATIENCE_S = 10.0


class Gone(Exception):
    """The client hung up before its body was here."""


class Unsupported(Exception):
    """A content type or encoding that no handler reads."""


async def read_body(
    headers: dict[bytes, bytes], receive: Receive, limit: int, patience_s: float = PATIENCE_S
) -> bytes:
    """The whole body. Its announced length is checked before anything is read, and a client that takes longer than
    `patience_s` over the rest of it is not waited for. Raises TooLarge, TooSlow or Gone."""
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced[:20]) > limit:
        raise TooLarge(f"the body has {int(announced[:20])} bytes; the limit is {limit}")
    message = await receive()
    chunks, size = [], 0
    loop, ends_at = asyncio.get_running_loop(), 0.0
    while True:
        if message["type"] == "http.disconnect":
            raise Gone
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body has more than {limit} bytes, which is the limit")
        if not message.get("more_body", False):
            return chunk if len(chunks) == 1 else b"".join(chunks)
        # Most bodies are one message, and cost no timer.
        ends_at = ends_at or loop.time() + patience_s
        try:
            async with asyncio.timeout_at(ends_at):
                message = await receive()
        except TimeoutError:
            raise TooSlow(f"of the body {size} bytes came within {patience_s:g} s, and not its end") from None


async def hung_up(receive: Receive) -> None:
    """Returns when the client goes away."""
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()


def check_content(headers: dict[bytes, bytes]) -> bytes:
    """The content type, in small letters; empty where none was named: tritonclient sends none at all. Raises
    Unsupported."""
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind not in (b"", b"application/json", b"application/octet-stream"):
        raise Unsupported(f"content type {text(kind)!r}: use application/json or application/octet-stream")
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding != b"identity":
        raise Unsupported(f"content encoding {text(encoding)!r}: send the body as it is")
    return kind


def text(value: bytes) -> str:
    """The beginning of a header's value, for a message."""
    return value[:80].decode("latin-1")
