"""`peekserve serve`: a repository, served until it is told to stop."""

import asyncio
import gc
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Coroutine, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from peekserve import __version__
from peekserve.cli.admission import access_of
from peekserve.cli.assembly import (
    Layout,
    as_sneakpeek,
    labelled_of,
    lay_out,
    open_store,
    oversized,
    read_profiled,
    sample_inputs,
    scheduler_spec,
    start_core,
    state_folder,
    time_provisionally,
)
from peekserve.cli.planned import doubts, gear_plans
from peekserve.cli.registered import make_registrar, with_registered
from peekserve.domain.application import Application
from peekserve.domain.gears import GearPlan
from peekserve.errors import BackendError, InvalidConfiguration, InvalidData, InvalidModel, NotReady
from peekserve.live.loop import run
from peekserve.live.notify import ServiceManager
from peekserve.policies import PLANNED
from peekserve.registry.check import idle
from peekserve.registry.settings import ServerSettings, read_settings
from peekserve.server.access import Access
from peekserve.server.observing import Following
from peekserve.server.statistics import Statistics
from peekserve.server.telemetry import Telemetry
from peekserve.workers.mortality import no_core_files

READY_WITHIN_S = 120.0
# Connections at both doors, and some for everything else. Many systems give 1024 unless asked for more.
OPEN_FILES = 8192


def serve(root: Path, flags: Mapping[str, str]) -> None:
    """Read the repository, serve it, print one JSON line when ready, and return after SIGTERM or SIGINT: not ready at
    once, served still for `drain.delay`, then drained (docs/deployment.md). A second signal ends it where it stands.

    Raises InvalidConfiguration when the repository or the settings are wrong, NotReady when no worker comes up.
    """
    settings, _ = read_settings(root, os.environ, flags)
    access = access_of(root, settings, _tell)
    layout = lay_out(settings)
    with open_store(root, settings) as store:
        own = read_profiled(root, store, [s.device for s in layout.slots], _tell)
    served = with_registered(own, root, settings, [s.device for s in layout.slots], _tell)
    applications = served.applications
    policy = settings.policy.name
    plans = gear_plans(root, applications, policy) if policy in PLANNED else {}
    spec = scheduler_spec(settings, plans)
    spec.build(())  # a policy that does not exist is said before anything takes time
    for sentence in as_sneakpeek(spec, applications):
        _tell(sentence)
    applications = tuple(_timed(applications, layout))
    for sentence in oversized(applications, layout):
        _tell(sentence)
    for sentence in doubts(plans, [slot.name for slot in layout.slots]):
        _tell(sentence)
    for what, hint in idle(applications, settings.workers):
        _tell(f"{what}; {hint}")
    os.sched_setaffinity(0, layout.front)
    allow_files(OPEN_FILES)
    no_core_files()
    history = state_folder(root, settings) / "history.sqlite"
    run(_serve(root, settings, applications, served.own, layout, history, plans, access))


def allow_files(wanted: int) -> None:
    """Let this process have so many files open, as far as it may: sockets are files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _timed(applications: tuple[Application, ...], layout: Layout) -> Iterator[Application]:
    """Those that can be served; what keeps one from it is told and does not keep the others."""
    # Who imitates a device needs what the owner states of it, and runs nothing else: there is nothing to time there.
    own, left = [slot for slot in layout.slots if slot.runtime.kind != "paced"], len(applications)
    for app in applications:
        try:
            if not own or all(own[0].device in variant.timing for variant in app.variants):
                yield app
            else:
                samples = sample_inputs(app, labelled_of(app.validation, app))
                yield time_provisionally(app, own[0], samples)
        except (InvalidModel, InvalidData, BackendError) as error:
            left -= 1
            _tell(f"{app.name} is left out: {error}")
    if not left:
        raise InvalidConfiguration("no application can be served; peekserve check says why")


async def _serve(
    root: Path,
    settings: ServerSettings,
    applications: tuple[Application, ...],
    own: Mapping[str, Application],
    layout: Layout,
    history: Path,
    plans: Mapping[str, GearPlan],
    access: Access,
) -> None:
    loop = asyncio.get_running_loop()
    manager = ServiceManager.of(os.environ, os.getpid())
    core = start_core(settings, applications, layout, loop, history, plans)
    telemetry = Telemetry(__version__)
    statistics = Statistics(lambda: time.time_ns() // 1_000_000)
    core.driver.observe(Following([telemetry, statistics], core.driver.label))
    try:
        module = await loop.run_in_executor(None, import_module, "peekserve.cli.doors")
        registrar, mirror = make_registrar(root, settings, layout, core.driver, core, own)
        core.driver.observe(mirror)
        doors = module.Doors(
            settings,
            core.driver,
            core.stage,
            telemetry,
            statistics,
            core.confirmations,
            access,
            registrar,
            mirror,
        )
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _asked_to_stop, stopping, number)
        await registrar.tidy()
        addresses = await doors.open()
        if not await _ready_before(stopping, core.driver.until_ready()):
            await doors.close()
            return
        await registrar.resume()
        # What was made until now stays: a full collection over it would stop the event loop for many milliseconds.
        gc.collect()
        gc.freeze()
        ready = {"ready": True, **addresses, "pid": os.getpid(), "policy": settings.policy.name}
        print(json.dumps({**ready, "models": [a.name for a in applications]}), flush=True)
        doors.log.info("ready", **ready)
        manager.tell("READY=1")
        watching = asyncio.create_task(manager.watch(core.driver.live))
        await stopping.wait()
        manager.tell("STOPPING=1")
        core.driver.leave()
        doors.log.info("leaving", delay_s=settings.drain.delay_s, open=core.driver.open_requests)
        await asyncio.sleep(settings.drain.delay_s)
        doors.log.info("draining", at_most_s=settings.drain.at_most_s, open=core.driver.open_requests)
        doors.streams.stop()
        await registrar.stop()
        await core.driver.drain(settings.drain.at_most_s)
        await doors.close()
        watching.cancel()
    finally:
        core.stop()


async def _ready_before(stopping: asyncio.Event, ready: Coroutine[Any, Any, None]) -> bool:
    """True when ready, False when asked to stop before. Raises NotReady when neither comes in time."""
    until_ready, until_stop = asyncio.ensure_future(ready), asyncio.ensure_future(stopping.wait())
    waiting = {until_ready, until_stop}
    done, _ = await asyncio.wait(waiting, timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    if not done:
        raise NotReady(f"no worker came up and loaded its models within {READY_WITHIN_S:.0f} s")
    return until_stop not in done


def _asked_to_stop(stopping: asyncio.Event, number: signal.Signals) -> None:
    if stopping.is_set():  # asked twice: now
        os._exit(128 + number)
    stopping.set()


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)
