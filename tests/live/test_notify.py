"""What a service manager hears, through a real socket."""

import asyncio
import os
import socket
from contextlib import contextmanager

import pytest

from peekserve.live.notify import ServiceManager

pytestmark = pytest.mark.core


@contextmanager
def listening(where):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.settimeout(10.0)
        heard.bind("\0" + where[1:] if where.startswith("@") else where)
        yield heard


def test_it_hears_what_it_is_told(tmp_path):
    for where in (str(tmp_path / "notify"), f"@peekserve-test-{os.getpid()}"):
        with listening(where) as heard:
            ServiceManager(where).tell("READY=1", "STATUS=serving digits")
            assert heard.recv(1000) == b"READY=1\nSTATUS=serving digits"


def test_signs_of_life_come_while_there_is_life(tmp_path):
    where, asked = str(tmp_path / "notify"), []

    def live():
        asked.append(len(asked))
        return len(asked) != 2

    async def story():
        watching = asyncio.create_task(ServiceManager(where, watchdog_s=0.002).watch(live))
        while len(asked) < 4:
            await asyncio.sleep(0)
        watching.cancel()

    with listening(where) as heard:
        asyncio.run(asyncio.wait_for(story(), 10))
        heard.setblocking(False)
        told = []
        while len(told) < 3:
            told.append(heard.recv(1000))
        assert told == [b"WATCHDOG=1"] * 3
        with pytest.raises(BlockingIOError):
            heard.recv(1000)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": "/run/n"},
        {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "8"},
    ],
)
def test_without_an_interval_of_its_own_there_is_nothing_to_watch(environment):
    manager = ServiceManager.of(environment, pid=7)
    assert manager.watchdog_s == 0.0
    asyncio.run(asyncio.wait_for(manager.watch(lambda: 1 / 0), 5))


def test_nobody_there_is_no_reason_to_fail(tmp_path):
    ServiceManager().tell("READY=1")
    ServiceManager(str(tmp_path / "nobody")).tell("READY=1")
