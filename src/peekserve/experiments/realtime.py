"""Requests in real time: a front in this process, and worker processes that wait out profiled times.

The front, its scheduler, its sockets and the workers' processes are real. A worker takes as long as a profile says and
answers what was recorded, in full, so that a rule that looks at scores (a cascade's) works on them. What differs
from a simulation of the same requests is then one of time alone.
"""

import asyncio
import gc
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from peekserve.clock import WallClock
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application
from peekserve.domain.profile import LatencyCurve, Timing
from peekserve.domain.request import Request
from peekserve.domain.tensors import InputMap, TensorSpec
from peekserve.live.driver import LiveDriver
from peekserve.live.journalling import Journalling
from peekserve.live.loop import run
from peekserve.runtimes.scripted import RecordedAnswers
from peekserve.runtimes.spec import RuntimeSpec
from peekserve.sim.driver import Settled
from peekserve.sim.world import Recorded
from peekserve.state.journal import JournalWriter
from peekserve.workers.process import ProcessWorkers
from peekserve.workers.slots import Slot

INPUT = "sample"
# From there on nothing is late because something else began.
_BEFORE_S = 0.2
_RING_BYTES = 1 << 20


def slowed(app: Application, device: str, times: float) -> Application:
    """The same with one number for a sample where real models take signals, and variants that take so many times as
    long on `device`; of shape buckets the largest. Medians alone, and loads take no time."""
    variants = []
    for variant in app.variants:
        curve, known = variant.timing[device].curves[-1], variant.timing[device]
        slow = LatencyCurve(curve.batch_sizes, tuple(s * times for s in curve.median_s))
        timing = Timing((slow,), 0.0, known.bytes)
        variants.append(replace(variant, inputs=(InputMap(INPUT, INPUT),), timing={device: timing}))
    return replace(app, variants=tuple(variants), inputs=(TensorSpec(INPUT, "FP32", (1,)),), peek=None)


def lived(
    app: Application,
    recorded: Recorded,
    spec: SchedulerSpec,
    slots: Sequence[Slot],
    trace: Sequence[Request],
    journal: Path | None = None,
) -> list[Settled]:
    """Every request's outcome. `app`: as `slowed` makes it. `slots`: workers' names and devices; what they run is said
    here. `trace`: in order of arrival, with instants from 0; a payload is the number of a sample. Requests come back
    with the instants at which they really came. `journal`: where to write one."""
    with TemporaryDirectory(prefix="peekserve-") as folder:
        said = Path(folder) / "said.npz"
        RecordedAnswers(recorded.scores, INPUT).write(said)
        runtime = RuntimeSpec("scripted", answers=str(said))
        ours = [replace(slot, ring_bytes=_RING_BYTES, runtime=runtime) for slot in slots]
        return run(_lived(app, spec, ours, trace, journal))


async def _lived(
    app: Application,
    spec: SchedulerSpec,
    slots: Sequence[Slot],
    trace: Sequence[Request],
    journal: Path | None,
) -> list[Settled]:
    loop, clock = asyncio.get_running_loop(), WallClock()
    workers = ProcessWorkers(slots, {app.name: app}, loop, clock)
    driver = LiveDriver(spec.build([app]), [app], workers, None, clock, loop)
    with ExitStack() as stack:
        if journal is not None:
            driver.observe(Journalling(stack.enter_context(JournalWriter(journal, spec, [app]))))
        driver.start()
        stack.callback(driver.stop)
        await driver.until_ready()
        while not all(one.up and one.waiting_since is None for one in workers.health().values()):
            await asyncio.sleep(0.01)
        # As a server does: what is here already need not be looked through again while requests wait.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        return await _asked(driver, clock, trace, clock.now() + _BEFORE_S)


async def _asked(
    driver: LiveDriver, clock: WallClock, trace: Sequence[Request], begin_at: float
) -> list[Settled]:
    """Each request at its instant. One sleeper for all: a task for each would wake thousands at once."""
    pending: list[asyncio.Future[Settled]] = []
    for planned in trace:
        # The front must have its turn even when it is behind.
        await asyncio.sleep(max(begin_at + planned.arrived_at - clock.now(), 0.0))
        now = clock.now()
        request = replace(planned, arrived_at=now, due_at=now + planned.deadline_s, inputs=(INPUT,))
        pending.append(asyncio.ensure_future(_settled(driver, clock, request)))
    return list(await asyncio.gather(*pending))


async def _settled(driver: LiveDriver, clock: WallClock, request: Request) -> Settled:
    number = float(request.payload.key) if request.payload else 0.0
    answer = await driver.submit(request, {INPUT: np.array([[number]], np.float32)})
    return Settled(request, answer, clock.now())
