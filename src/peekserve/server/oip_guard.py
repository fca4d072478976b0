"""The doorkeeper of the gRPC door: the keys and rates of access.py, before a message is parsed."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from peekserve.errors import Forbidden, RateLimited, Unauthenticated
from peekserve.server.access import Access, key_of, scope_of_call
from peekserve.server.guard import Refused
from peekserve.server.wire import retry_after, status_of_error


class GrpcGuard(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio comes without types
    """Stands before the handler of every method."""

    def __init__(self, access: Access, refused: Refused) -> None:
        self._access = access
        self._refused = refused

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        scope, inner = scope_of_call(details.method), handler.unary_unary
        metadata = {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}
        told = key_of(metadata.get("authorization", ""), metadata.get("x-api-key", ""))

        async def guarded(content: bytes, context: Any) -> Any:
            try:
                self._access.admit(scope, told, _host(context.peer()))
            except (Unauthenticated, Forbidden, RateLimited) as error:
                status = status_of_error(error)
                self._refused(status, str(error))
                trailing = [("peekserve-code", status.word)]
                if isinstance(error, RateLimited):
                    trailing.append(("retry-after", str(retry_after(error.wait_s))))
                await context.abort(grpc.StatusCode[status.grpc], str(error), tuple(trailing))
            return await inner(content, context)

        return grpc.unary_unary_rpc_method_handler(
            guarded, handler.request_deserializer, handler.response_serializer
        )


def _host(peer: str) -> str:
    """`ipv4:127.0.0.1:5000` -> `127.0.0.1`: a client is one, whatever ports it calls from."""
    kind, _, address = peer.partition(":")
    return address.rpartition(":")[0] if kind in ("ipv4", "ipv6") else peer
