"""Serving an ASGI application inside the event loop that is running already: the scheduler lives there too.

uvicorn would take SIGTERM for itself and close the listener at once; here the caller owns signals and the
drain.
"""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from peekserve.errors import InvalidConfiguration
from peekserve.server.guard import Refused
from peekserve.server.handshakes import TlsListener
from peekserve.server.patience import PatientProtocol


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers, which says when it listens."""

    def __init__(self, config: uvicorn.Config, protocol: type[PatientProtocol]) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._protocol = protocol

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        context = self.config.ssl
        await super().startup(sockets if context is None else [])
        for listener in sockets or ():
            if context is None:
                break
            tls = TlsListener(listener, context, self._protocol, self._connection, self._open_connections)
            tls.start()
            self.servers.append(tls)  # type: ignore[arg-type]  # it is closed, and waited for, like any other
        self.listening.set()

    def _connection(self) -> asyncio.Protocol:
        return self._protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def _open_connections(self) -> int:
        return len(self.server_state.connections)


class HttpServer:
    """One listening address. `start` returns when connections are taken, `stop` when none is left."""

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 8000,
        certificate: tuple[str, str] | None = None,
        protocol: type[PatientProtocol] = PatientProtocol,
        refused: Refused | None = None,
    ) -> None:
        """`certificate`: files with the certificate and its private key, to speak TLS. `refused`: is told of each
        connection that is turned away before there is a request."""
        self._app = app
        self._asked = (host, port)
        self._certificate = certificate
        told = {} if refused is None else {"refused": staticmethod(refused)}
        self._protocol: type[PatientProtocol] = type(protocol.__name__, (protocol,), told)
        self._server: _Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> tuple[str, int]:
        """The address in use: with port 0, the free port that was found.

        Raises InvalidConfiguration when the address cannot be had.
        """
        listener = listen(*self._asked)
        config = uvicorn.Config(
            self._app,
            http=self._protocol,
            loop="none",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",  # its warnings are about bytes that anybody may send, in words that are no JSON
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
            ssl_certfile=self._certificate[0] if self._certificate else None,
            ssl_keyfile=self._certificate[1] if self._certificate else None,
            ssl_keyfile_password="none",  # or OpenSSL would ask for one at the terminal
        )
        try:
            config.load()
        except OSError as error:
            listener.close()
            files = " and ".join(self._certificate or ())
            raise InvalidConfiguration(
                f"tls: {files}: no certificate with its key, in PEM and without a password: {error}"
            ) from None
        self._server = _Uvicorn(config, self._protocol)
        self._serving = asyncio.create_task(self._server.serve([listener]))
        await self._server.listening.wait()
        host, port = listener.getsockname()[:2]
        return host, port

    async def stop(self) -> None:
        """Close the listener, let open requests end, and return."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        await self._serving


def listen(host: str, port: int) -> socket.socket:
    """A bound TCP socket. Raises InvalidConfiguration when the address cannot be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(found[0], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[4])
    except (OSError, OverflowError) as error:
        raise InvalidConfiguration(f"cannot listen at {host}:{port}: {error}") from None
    listener.setblocking(False)
    return listener
