"""What a service manager is told: that the server is ready, that it is alive, that it stops.

systemd's protocol (sd_notify(3), sd_watchdog_enabled(3)): lines of text in datagrams to the socket that NOTIFY_SOCKET
names. Where there is no such socket, nothing is told.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """`address`: of its socket, empty for none. `watchdog_s`: how long it goes without a sign of life before it starts
    the server anew, 0.0 for ever."""

    address: str = ""
    watchdog_s: float = 0.0

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> "ServiceManager":
        """As the variables say that it set for process `pid`.

        >>> ServiceManager.of({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7)
        ServiceManager(address='/run/n', watchdog_s=30.0)
        """
        watchdog = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        return cls(
            environment.get("NOTIFY_SOCKET", ""),
            int(watchdog) / 1e6 if meant and watchdog.isascii() and watchdog.isdigit() else 0.0,
        )

    def tell(self, *lines: str) -> None:
        """`READY=1`, `STOPPING=1`, `STATUS=...`. One who does not listen is not waited for."""
        if not self.address:
            return
        where = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), where)

    async def watch(self, live: Callable[[], bool]) -> None:
        """A sign of life at half the interval, as long as `live` says so. Returns at once where none is wanted. It
        comes from the event loop, so that a loop which does not turn gives none either."""
        while self.address and self.watchdog_s > 0.0:
            if live():
                self.tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / 2.0)
