"""`peekserve serve`: a repository, served until it is told to stop."""

import asyncio
import gc
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peekserve import __version__
from peekserve.cli.assembly import (
    Layout,
    boot_id,
    labelled_of,
    lay_out,
    open_store,
    read_profiled,
    sample_inputs,
    start_core,
    time_provisionally,
)
from peekserve.domain.application import Application
from peekserve.errors import NotReady
from peekserve.registry.settings import ServerSettings, read_settings
from peekserve.server.accounting import Accounts
from peekserve.server.describe import Descriptions
from peekserve.server.frontdesk import FrontDesk, Limits
from peekserve.server.http_api import make_app
from peekserve.server.logs import make_logger
from peekserve.server.observing import Following
from peekserve.server.run import HttpServer, run
from peekserve.server.statistics import Statistics
from peekserve.server.telemetry import Telemetry

if TYPE_CHECKING:
    from peekserve.server.oip import GrpcServer

READY_WITHIN_S = 120.0


def serve(root: Path, flags: Mapping[str, str], drain_s: float = 10.0) -> None:
    """Read the repository, serve it, print one JSON line when ready, and return after SIGTERM or SIGINT.

    Raises InvalidConfiguration when the repository or the settings are wrong, NotReady when no worker comes
    up.
    """
    settings, _ = read_settings(root, os.environ, flags)
    layout = lay_out(settings)
    os.sched_setaffinity(0, layout.front)
    with open_store(root, settings) as store:
        applications = read_profiled(root, store, [s.device for s in layout.slots], _tell)
    applications = tuple(
        time_provisionally(app, slot, sample_inputs(app, labelled_of(app.validation, app)))
        for app in applications
        for slot in layout.slots[:1]
    )
    run(_serve(settings, applications, layout, drain_s))


async def _serve(
    settings: ServerSettings, applications: tuple[Application, ...], layout: Layout, drain_s: float
) -> None:
    loop = asyncio.get_running_loop()
    core = start_core(settings, applications, layout, loop)
    log = make_logger(level=settings.log)
    telemetry = Telemetry(__version__)
    statistics = Statistics(lambda: time.time_ns() // 1_000_000)
    core.driver.observe(Following([telemetry, statistics]))
    desk = FrontDesk(core.driver, boot_id(), Limits(settings.limits.body, settings.limits.rows))
    accounts = Accounts(telemetry, log)
    descriptions = Descriptions(desk, statistics, __version__)
    http = HttpServer(make_app(desk, accounts, descriptions), settings.http.host, settings.http.port)
    grpc = _grpc_server(settings, desk, accounts, descriptions)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _asked_to_stop, stopping, number)
    try:
        host, port = await http.start()
        try:
            await asyncio.wait_for(core.driver.until_ready(), READY_WITHIN_S)
        except TimeoutError:
            raise NotReady(f"no worker came up and loaded its models within {READY_WITHIN_S:.0f} s") from None
        # What was made until now stays: a full collection over it would stop the event loop for tens of milliseconds.
        gc.collect()
        gc.freeze()
        ready: dict[str, Any] = {"ready": True, "http": f"{host}:{port}"}
        if grpc is not None:
            host, port = await grpc.start()
            ready["grpc"] = f"{host}:{port}"
        ready |= {"pid": os.getpid(), "policy": settings.policy.name}
        ready["models"] = [a.name for a in applications]
        print(json.dumps(ready), flush=True)
        log.info("ready", **ready)
        await stopping.wait()
        log.info("draining", open=core.driver.open_requests)
        await core.driver.drain(drain_s)
        await http.stop()
        if grpc is not None:
            await grpc.stop(1.0)
    finally:
        core.stop()


def _grpc_server(
    settings: ServerSettings, desk: FrontDesk, accounts: Accounts, descriptions: Descriptions
) -> "GrpcServer | None":
    """The gRPC door, where it is wanted and its packages are here."""
    if settings.grpc is None:
        return None
    if importlib.util.find_spec("grpc") is None:
        _tell("no gRPC: it comes with pip install 'peekserve[grpc]'; --grpc off says that none is wanted")
        return None
    from peekserve.server.oip import GrpcServer

    return GrpcServer(desk, accounts, descriptions, settings.grpc.host, settings.grpc.port)


def _asked_to_stop(stopping: asyncio.Event, number: signal.Signals) -> None:
    if stopping.is_set():  # asked twice: now
        os._exit(128 + number)
    stopping.set()


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)
