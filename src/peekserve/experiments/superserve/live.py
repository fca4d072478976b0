"""Four worker processes in real time, half of them killed in mid run; and a stretch of the Functions-like trace.

Workers wait out the times of the subnets (a scripted runtime), and what a subnet says of a sample is in the recordings,
as in the simulations; the front, its scheduler, sockets and kills are real. Everything takes `SLOWER` times as long as
in the simulations, so that one front on a laptop keeps up with the requests. A killed worker is kept down: its process
is killed again whenever it is started anew. Beside each run stands the simulation of the same requests.

It wants the machine for itself: `peekserve experiment superserve-live`.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from peekserve.clock import WallClock
from peekserve.domain.application import QueryType
from peekserve.domain.messages import Answer
from peekserve.domain.profile import LatencyCurve, Timing
from peekserve.domain.request import Request
from peekserve.domain.tensors import InputMap, TensorSpec
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.superserve.entrants import DRAIN
from peekserve.experiments.superserve.fleets import FAULTS_LOAD, KILLED, kills
from peekserve.experiments.superserve.grid import LARGEST, Functions, capacity_of
from peekserve.experiments.superserve.lab import SuperLab
from peekserve.experiments.superserve.worlds import (
    DEVICE,
    WORKERS,
    World,
    accuracy,
    met_of,
    play,
    requests,
    spec_of,
    world_of,
)
from peekserve.experiments.table import Floats, Interval, Row, Table, Value, worst
from peekserve.live.driver import LiveDriver
from peekserve.live.loop import run
from peekserve.loadgen.rates import bursty
from peekserve.results import Row as Settled
from peekserve.results import row
from peekserve.runtimes.spec import RuntimeSpec
from peekserve.sim.faults import Faults
from peekserve.workers.process import ProcessWorkers
from peekserve.workers.slots import Slot

SLOWER = 8.0
# Of a run with kills, in real time.
LENGTH_S = 12.0
# Off every deadline when planning, for the ways that a simulation does not have.
MARGIN_S = 0.008
FAULTS, TRACE = "half killed", "functions"
FUNCTIONS = Functions(LARGEST, 2.0, 12)
LIVE, SIMULATED = "live", "simulated"
_INPUT = "sample"
_LIVE = 68
_KILL_S = 0.005


def slowed(world: World, times: float = SLOWER) -> World:
    """The same on a slower machine, with a deadline as much longer, and one number for a sample."""
    app = world.application
    variants = []
    for v in app.variants:
        curve = v.timing[DEVICE].curve(0)
        slow = LatencyCurve(curve.batch_sizes, tuple(s * times for s in curve.median_s))
        variants.append(
            replace(v, inputs=(InputMap(_INPUT, _INPUT),), timing={DEVICE: Timing((slow,), 0.0, 1)})
        )
    query = QueryType(app.query().deadline_s * times)
    served = replace(
        app,
        variants=tuple(variants),
        queries=(("default", query),),
        inputs=(TensorSpec(_INPUT, "FP32", (1,)),),
    )
    return replace(world, application=served)


def lived(world: World, trace: Sequence[Request], kill_at: Mapping[str, float]) -> list[Settled]:
    """Every request's outcome in real time. `kill_at`: worker -> when it is killed for good, seconds after the
    start."""
    return run(_lived(world, trace, kill_at))


async def _lived(world: World, trace: Sequence[Request], kill_at: Mapping[str, float]) -> list[Settled]:
    loop, clock, app = asyncio.get_running_loop(), WallClock(), world.application
    slots = [
        Slot(f"gpu-{i}", DEVICE, 1, ring_bytes=1 << 20, runtime=RuntimeSpec("scripted"))
        for i in range(WORKERS)
    ]
    workers = ProcessWorkers(slots, {app.name: app}, loop, clock)
    spec = replace(spec_of(DRAIN), margin_s=MARGIN_S, preload=True)
    driver = LiveDriver(spec.build([app]), [app], workers, None, clock, loop)
    driver.start()
    try:
        await driver.until_ready()
        while not all(one.up for one in workers.health().values()):
            await asyncio.sleep(0.01)
        # Each has loaded its weights by then; loads take no time here.
        begin_at = clock.now() + 0.5
        killer = asyncio.ensure_future(_kept_down(workers, clock, begin_at, kill_at))
        answers = await _asked(driver, clock, world, trace, begin_at)
        killer.cancel()
        return answers
    finally:
        driver.stop()


async def _asked(
    driver: LiveDriver, clock: WallClock, world: World, trace: Sequence[Request], begin_at: float
) -> list[Settled]:
    """Each request at its instant. One sleeper for all: a task for each would wake thousands at once."""
    pending: list[asyncio.Future[Settled]] = []
    for planned in trace:
        ahead_s = begin_at + planned.arrived_at - clock.now()
        # The front must have its turn even when it is behind.
        await asyncio.sleep(max(ahead_s, 0.0))
        now = clock.now()
        request = replace(planned, arrived_at=now, due_at=now + planned.deadline_s, inputs=(_INPUT,))
        pending.append(asyncio.ensure_future(_settled(driver, clock, world, request)))
    return list(await asyncio.gather(*pending))


async def _settled(driver: LiveDriver, clock: WallClock, world: World, request: Request) -> Settled:
    sample = world.recorded.sample(request, 0)
    answer: Answer = await driver.submit(request, {_INPUT: np.array([[float(sample)]], np.float32)})
    settled_at = clock.now()
    # What a script says is drawn; what the subnet said of this sample is recorded.
    said = [
        replace(a, label=int(world.recorded.scores[a.variant][sample].argmax())) if a.variant else a
        for a in answer.rows
    ]
    label = int(world.recorded.labels[sample])
    return row(request, world.application, [label], answer.outcome, answer.reason, said, settled_at)


async def _kept_down(
    workers: ProcessWorkers, clock: WallClock, begin_at: float, kill_at: Mapping[str, float]
) -> None:
    while True:
        health = workers.health()
        for name, at in kill_at.items():
            pid = health[name].pid
            if pid is not None and clock.now() >= begin_at + at:
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_KILL_S)


# ---- the experiment ----


def _jobs(lab: SuperLab) -> Sequence[Job]:
    return [_job(lab, name, part) for name in lab.classic() for part in (FAULTS, TRACE)]


def _job(lab: SuperLab, name: str, part: str) -> Job:
    def job(seed: int) -> list[Row]:
        world = slowed(world_of(lab, name))
        rng = np.random.default_rng([_LIVE, seed])
        length_s = LENGTH_S * lab.share
        if part == FAULTS:
            load, full = FAULTS_LOAD, capacity_of(world, FAULTS_LOAD.over)
            instants = bursty(load.base * full, load.varying * full, load.cv2, length_s, rng)
        else:
            # Drawn as in the simulations, and as much slower as everything is here.
            instants = FUNCTIONS.instants(world_of(lab, name), lab.share, rng) * SLOWER
        trace = requests(world, instants, seed)
        killed = kills(length_s) if part == FAULTS else ()
        live = lived(world, trace, {k.worker: k.at for k in killed})
        # A simulated worker is up at once; a live trace begins when all are.
        again = play(world, DRAIN, trace, faults=Faults(killed))
        return [
            met_of(
                world,
                served,
                seed=seed,
                part=part,
                which=which,
                policy=DRAIN.name,
                outcomes=len(served) / len(trace),
            )
            for which, served in ((LIVE, live), (SIMULATED, again))
        ]

    return job


def _measure(table: Table) -> Mapping[str, Floats]:
    apps = table.values("application")

    def least(part: str, which: str) -> Floats:
        return worst([table.mean("attainment", application=a, part=part, which=which) for a in apps])

    return {
        "live-faults-in-time": least(FAULTS, LIVE),
        "live-functions-in-time": least(TRACE, LIVE),
        "live-outcomes": worst([table.mean("outcomes", which=LIVE)]),
    }


def _panels(table: Table) -> Sequence[Panel]:
    places = [(str(a), p) for a in table.values("application") for p in (FAULTS, TRACE)]
    names = [f"{a}, {p}" for a, p in places]
    series = [
        Series(
            which,
            range(len(names)),
            [table.mean("attainment", application=a, part=p, which=which) for a, p in places],
        )
        for which in (LIVE, SIMULATED)
    ]
    return [Panel("In real time", "", "share in time", series, names)]


def _tables(table: Table) -> list[list[list[str]]]:
    lines = [["supernet", "run", "world", "requests of a seed", "in time", "profiled accuracy", "utility"]]
    for app in table.values("application"):
        for part in (FAULTS, TRACE):
            for which in (LIVE, SIMULATED):
                where: dict[str, Value] = {"application": app, "part": part, "which": which}
                many = [float(r["requests"]) for r in table.rows if all(r[k] == v for k, v in where.items())]
                lines.append(
                    [
                        str(app),
                        part,
                        which,
                        f"{np.mean(many):.0f}",
                        str(Interval.of(table.mean("attainment", **where))),
                        f"{accuracy(table, **where)[0]:.4f}",
                        str(Interval.of(table.mean("utility", **where))),
                    ]
                )
    return [lines]


EXPERIMENTS = (
    Experiment(
        "superserve-live",
        f"{WORKERS} worker processes in real time, {len(KILLED)} of them killed",
        _jobs,
        _measure,
        _panels,
        seeds=3,
        small_seeds=1,
        tables=_tables,
    ),
)
