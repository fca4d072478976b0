"""Figures 5 and 6 again with real clocks, processes and sockets, beside the simulation of the same requests.

One worker process waits out the times of the device class (a scripted runtime); what a model says of a sample is in the
recordings, as it is in the simulation, so that a difference between the two is one of time alone. The simulation
takes its paces, loads and ways from the live run's journal, as in the demo: half a millisecond for each of twelve
batches is a lot beside a sigmoid of 10 ms. Windows follow each other with a pause that is long enough for the slowest
policy; weights stay resident from one to the next.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from peekserve.clock import WallClock
from peekserve.core.spec import SchedulerSpec, windowed
from peekserve.domain.application import Application, OnMiss
from peekserve.domain.messages import Answer
from peekserve.domain.request import Request, RowAnswer, TensorRef
from peekserve.domain.tensors import InputMap, TensorSpec
from peekserve.experiments.service import seen_in, service_of
from peekserve.experiments.sneakpeek.lab import DEVICE, FIVE, Contender, Lab, Setting, Stage
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Row, Table, best
from peekserve.live.driver import LiveDriver
from peekserve.live.journalling import Journalling
from peekserve.live.loop import run
from peekserve.results import Row as Served
from peekserve.results import row
from peekserve.runtimes.spec import RuntimeSpec
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.world import Recorded, RecordedWorld, Service
from peekserve.state.journal import JournalWriter
from peekserve.workers.process import ProcessWorkers
from peekserve.workers.slots import Slot

# From the beginning of one window to that of the next: the slowest policy runs each of twelve requests by itself, with
# the dearest model and a swap before each, in less.
PERIOD_S = 1.5
# Twins must meet their windows' ends: a request that comes later than this before one may slip into the next.
_GUARD_S = 0.004
_INPUT = "sample"


def requests(stage: Stage, begin_at: float, window_s: float) -> list[Request]:
    """Every request of every window, in order of arrival, with its evidence; the first window begins at `begin_at`."""
    found: list[Request] = []
    for number, asked in enumerate(stage.asked):
        for i, one in enumerate(sorted(asked, key=lambda a: a.offset_s)):
            at = begin_at + number * PERIOD_S + min(one.offset_s, window_s - _GUARD_S)
            counts = stage.recorded[one.application].counts
            evidence = None if counts is None else (tuple(counts[one.sample].tolist()),)
            found.append(
                Request(
                    f"w{number}-{i}",
                    one.application,
                    at,
                    at + one.deadline_s,
                    payload=TensorRef(str(one.sample)),
                    counts=evidence,
                    inputs=(_INPUT,),
                )
            )
    return found


def simulated(stage: Stage, who: Contender, window_s: float, service: Service) -> list[Served]:
    """All windows in pretended time, on a machine that differs from its profiles by `service`."""
    applications = _applications(stage)
    world = RecordedWorld({a.name: a for a in applications}, stage.recorded, service=service)
    worker = SimWorker("gpu-0", DEVICE, stage.workers[0].budget_bytes)
    trace = requests(stage, window_s, window_s)
    settled = Simulation(_spec(who, window_s).build(applications), [worker], world).run(trace)
    by_name = {a.name: a for a in applications}
    return [_served(s.request, s.answer, s.at, by_name, stage.recorded) for s in settled]


def live(stage: Stage, who: Contender, window_s: float, journal: Path) -> list[Served]:
    """All windows in real time: a front, and a worker process at the pace of the device class. Writes a journal."""
    return run(_live(stage, who, window_s, journal))


async def _live(stage: Stage, who: Contender, window_s: float, journal: Path) -> list[Served]:
    loop, clock, applications = asyncio.get_running_loop(), WallClock(), _applications(stage)
    by_name = {a.name: a for a in applications}
    slot = Slot("gpu-0", DEVICE, stage.workers[0].budget_bytes, runtime=RuntimeSpec("scripted"))
    workers = ProcessWorkers([slot], by_name, loop, clock)
    spec = _spec(who, window_s)
    driver = LiveDriver(spec.build(applications), applications, workers, None, clock, loop)
    with JournalWriter(journal, spec, applications) as writer:
        driver.observe(Journalling(writer))
        driver.start()
        try:
            await driver.until_ready()
            begin_at = (ceil(clock.now() / window_s) + 2) * window_s
            answered = [
                asyncio.ensure_future(_ask(driver, clock, planned))
                for planned in requests(stage, begin_at, window_s)
            ]
            return [_served(*each, by_name, stage.recorded) for each in await asyncio.gather(*answered)]
        finally:
            driver.stop()


async def _ask(driver: LiveDriver, clock: WallClock, planned: Request) -> tuple[Request, Answer, float]:
    await asyncio.sleep(max(planned.arrived_at - clock.now(), 0.0))
    now = clock.now()
    request = replace(planned, arrived_at=now, due_at=now + planned.deadline_s)
    assert planned.payload is not None
    sample = np.array([[float(planned.payload.key)]], np.float32)
    answer = await driver.submit(request, {_INPUT: sample})
    return request, answer, clock.now()


def _applications(stage: Stage) -> list[Application]:
    """The stage's, with one number for a sample where real models take signals."""
    maps = (InputMap(_INPUT, _INPUT),)
    return [
        replace(
            app,
            inputs=(TensorSpec(_INPUT, "FP32", (1,)),),
            variants=tuple(replace(v, inputs=maps) for v in app.variants),
        )
        for app in stage.with_penalty()
    ]


def _spec(who: Contender, window_s: float) -> SchedulerSpec:
    return SchedulerSpec(
        policy=who.policy,
        switches=who.switches,
        policy_options=dict(who.options),
        planning=windowed(window_s),
        patience_s=window_s,
        preload=False,
        on_miss=OnMiss.LATE,
        hang_s=60.0,
    )


def _served(
    request: Request,
    answer: Answer,
    settled_at: float,
    applications: Mapping[str, Application],
    recorded: Mapping[str, Recorded],
) -> Served:
    own = recorded[request.application]
    label = int(own.labels[own.sample(request, 0)])
    answers = [_as_recorded(a, own, own.sample(request, 0)) for a in answer.rows or ()]
    app = applications[request.application]
    return row(request, app, [label], answer.outcome, answer.reason, answers, settled_at)


def _as_recorded(answer: RowAnswer, recorded: Recorded, sample: int) -> RowAnswer:
    if answer.variant is None:
        return answer
    return replace(answer, label=int(recorded.scores[answer.variant][sample].argmax()))


# ---- the experiment ----

_NAMES = tuple(c.name for c in FIVE)
_WORLDS = ("live", "simulated")


def _jobs(lab: Lab) -> Sequence[Job]:
    def of(who: Contender) -> Job:
        def job(seed: int) -> list[Row]:
            stage = Stage(lab, Setting(), seed)
            window_s = lab.device.window_s
            with TemporaryDirectory() as folder:
                journal = Path(folder) / "live.journal"
                played = live(stage, who, window_s, journal)
                seen = seen_in(journal)
            again = simulated(
                stage, who, window_s, service_of(seen, [seen], window_s + stage.asked[0][0].offset_s)
            )
            return [
                _means(served, policy=who.name, world=world, seed=seed)
                for world, served in zip(_WORLDS, (played, again), strict=True)
            ]

        return job

    return [of(who) for who in FIVE]


def _means(served: Sequence[Served], **where: str | int) -> Row:
    late_s = np.array([max(one.settled_at - one.due_at, 0.0) for one in served])
    return {
        **where,
        "requests": len(served),
        "utility": float(np.mean([one.utility for one in served])),
        "accuracy": float(np.mean([one.correct for one in served])),
        "late": float(np.mean(late_s > 0.0)),
        "violation_ms": float(late_s.mean() * 1e3),
    }


def _measure(table: Table) -> Mapping[str, Floats]:
    def apart(metric: str) -> Floats:
        gaps = [
            table.mean(metric, policy=n, world="live") - table.mean(metric, policy=n, world="simulated")
            for n in _NAMES
        ]
        return best([np.abs(gap) for gap in gaps])

    return {"live-utility": apart("utility"), "live-late": apart("late")}


def _panels(table: Table) -> Sequence[Panel]:
    def bars(metric: str, title: str, label: str) -> Panel:
        series = [
            Series(world, range(len(_NAMES)), [table.mean(metric, policy=n, world=world) for n in _NAMES])
            for world in _WORLDS
        ]
        return Panel(title, "", label, series, _NAMES)

    return [
        bars("utility", "Utility (figure 5)", "mean realised utility"),
        bars("late", "Violations (figure 6)", "share of requests late"),
        bars("violation_ms", "Violation time (figure 6)", "mean over requests, ms"),
    ]


def _tables(table: Table) -> Sequence[Sequence[Sequence[str]]]:
    head = ["policy", "utility live", "simulated", "late live", "simulated"]
    rows = [
        [
            name,
            *(
                f"{table.mean(metric, policy=name, world=world)[0]:.3f}"
                for metric in ("utility", "late")
                for world in _WORLDS
            ),
        ]
        for name in _NAMES
    ]
    return [[head, *rows]]


EXPERIMENTS = (
    Experiment(
        "sneakpeek-live",
        "figures 5 and 6 in real time, beside the simulation of the same requests",
        _jobs,
        _measure,
        _panels,
        seeds=4,
        small_seeds=1,
        tables=_tables,
    ),
)
