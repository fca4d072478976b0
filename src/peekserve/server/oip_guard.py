"""The doorkeeper of the gRPC door: the keys and rates of access.py, before a message is read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import grpc

from peekserve.errors import PeekserveError, RateLimited
from peekserve.server.access import Access, key_of, scope_of_call
from peekserve.server.guard import Refused, sentence_of
from peekserve.server.patience import WAIT_S
from peekserve.server.wire import Status, retry_after, status_of_error

_SLOW = Status(408, "DEADLINE_EXCEEDED", "too_slow")


class GrpcGuard(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio comes without types
    """Stands before the handler of every method. Where a key is needed, methods with one message each way pass, and
    those with many each way (reflection): who may begin such a call may go on with it. A message that is not whole
    after `wait_s` is not waited for: a call takes a place, and there are only so many."""

    def __init__(self, access: Access, refused: Refused, wait_s: float = WAIT_S) -> None:
        self._access = access
        self._refused = refused
        self._wait_s = wait_s

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)
        scope = scope_of_call(details.method)
        if handler is None or scope is None:
            return handler
        inner, many = handler.unary_unary, handler.stream_stream
        metadata = details.invocation_metadata or ()
        told = key_of((name, value) for name, value in metadata if isinstance(value, str))

        async def admit(context: Any) -> None:
            try:
                self._access.admit(scope, told, host_of(context.peer()))
            except PeekserveError as error:
                status = status_of_error(error)
                self._refused(status, str(error))
                trailing = [("peekserve-code", status.word)]
                if isinstance(error, RateLimited):
                    trailing.append(("retry-after", str(retry_after(error.wait_s))))
                await context.abort(grpc.StatusCode[status.grpc], sentence_of(error), tuple(trailing))

        async def guarded_stream(contents: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            await admit(context)
            async for answer in many(contents, context):
                yield answer

        async def guarded(contents: AsyncIterator[bytes], context: Any) -> Any:
            await admit(context)
            if inner is None:
                await context.abort(
                    grpc.StatusCode.UNIMPLEMENTED, f"{details.method} is not served with keys"
                )
            try:
                async with asyncio.timeout(self._wait_s):
                    content = await anext(aiter(contents), None)
            except TimeoutError:
                sentence = f"the message of a call did not come within {self._wait_s:g} s"
                self._refused(_SLOW, sentence)
                trailing = (("peekserve-code", _SLOW.word),)
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, sentence, trailing)
            if content is None:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, f"{details.method} takes one message; none came"
                )
            return await inner(content, context)

        if many is not None:
            return grpc.stream_stream_rpc_method_handler(
                guarded_stream, handler.request_deserializer, handler.response_serializer
            )
        # As if it took many messages, because the library reads a single one, all of it, before it calls its handler.
        return grpc.stream_unary_rpc_method_handler(
            guarded, handler.request_deserializer, handler.response_serializer
        )


def host_of(peer: str) -> str:
    """A client is one, whatever ports it calls from, and at both doors.

    >>> host_of("ipv4:127.0.0.1:5000"), host_of("ipv6:%5B::1%5D:5000"), host_of("unix:")
    ('127.0.0.1', '::1', 'unix')
    """
    kind, _, address = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")
