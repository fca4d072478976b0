"""TLS connections that count from the moment they are accepted: a client that is slow at shaking hands, or never does,
takes a place among the connections, and has as long as one that is slow with its head.

An event loop that listens with a certificate accepts as many as come, shakes hands with each for a minute, and shows
only what comes of that. So here the accepting is ours, and the loop is asked for one handshake at a time.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

from peekserve.server.patience import PatientProtocol
from peekserve.server.wire import Status

BACKLOG = 2048
# When the system has no more descriptors, there is nothing to do but to wait for some to be given back.
_BREATH_S = 0.5

_FULL = Status(503, "RESOURCE_EXHAUSTED", "overloaded")
_SLOW = Status(408, "DEADLINE_EXCEEDED", "too_slow")
_BAD = Status(400, "INVALID_ARGUMENT", "invalid_request")


class TlsListener:
    """Stands where uvicorn keeps what listens: `close`, then `wait_closed`.

    What goes wrong in a handshake cannot be said to the client, who would take it for bytes of TLS: the connection
    ends, and the protocol's `refused` is told why. `open_connections`: how many there are besides those that shake
    hands.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        protocol: type[PatientProtocol],
        make: Callable[[], asyncio.Protocol],
        open_connections: Callable[[], int],
    ) -> None:
        """`make`: a protocol for one connection; the limits are the class's."""
        self._listener = listener
        self._context = context
        self._protocol = protocol
        self._make = make
        self._open_connections = open_connections
        self._shaking: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take connections, on the running loop."""
        self._listener.listen(BACKLOG)
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """Take no more; who is not done with shaking hands is not waited for."""
        for task in (self._accepting, *self._shaking):
            if task is not None:
                task.cancel()

    async def wait_closed(self) -> None:
        tasks = [task for task in (self._accepting, *self._shaking) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        loop, most = asyncio.get_running_loop(), self._protocol.most
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(_BREATH_S)
                continue
            if self._open_connections() + len(self._shaking) >= most:
                self._protocol.refused(_FULL, f"{most} connections are open, which is the limit")
                connection.close()
                continue
            task = asyncio.create_task(self._shake(loop, connection))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    async def _shake(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        wait_s = self._protocol.wait_s
        try:
            await loop.connect_accepted_socket(
                self._make, connection, ssl=self._context, ssl_handshake_timeout=wait_s
            )
        except ConnectionAbortedError:
            self._protocol.refused(_SLOW, f"a TLS handshake did not come to its end within {wait_s:g} s")
        except ConnectionError:
            pass  # it went away, which is its right
        except OSError as error:
            self._protocol.refused(_BAD, f"no TLS handshake: {error}")
