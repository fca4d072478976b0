"""Several workers, also unlike ones, in pretended time: every invariant after every event."""

from collections import Counter
from dataclasses import replace

import pytest

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application
from peekserve.domain.messages import BatchDone, RunBatch
from peekserve.domain.profile import LatencyCurve
from peekserve.domain.request import Outcome
from peekserve.sim.driver import Settled, Simulation, SimWorker
from peekserve.sim.faults import Faults, Kill
from tests.sim.runs import a_trace, applications, world

PLANNINGS = ("rolling", "window(50ms)", "window(50ms, rebalance=10ms)")
UNLIKE = (SimWorker("quick", "cpu", 2000), SimWorker("slow", "little", 2000), SimWorker("old", "older", 2000))


def on(app: Application, device: str, slower: float, without: tuple[str, ...] = ()) -> Application:
    """The application with timings for a device that is slower, and lacks some variants."""

    def timed(variant):
        if variant.name in without:
            return variant
        timing = variant.timing["cpu"]
        curves = tuple(
            LatencyCurve(c.batch_sizes, tuple(slower * s for s in c.median_s)) for c in timing.curves
        )
        return replace(variant, timing={**variant.timing, device: replace(timing, curves=curves)})

    return replace(app, variants=tuple(timed(v) for v in app.variants))


def unlike() -> list[Application]:
    """The applications on three kinds of device; the slowest has no room for the dearest variants."""
    apps = [on(app, "little", 2.0) for app in applications()]
    return [on(app, "older", 4.0, without=("v2",)) for app in apps]


def lived(
    planning: str, rate: float = 900, policy: str = "sneakpeek", faults: Faults | None = None
) -> tuple[list[Settled], list[RunBatch]]:
    apps, batches = unlike(), []
    spec = SchedulerSpec(policy=policy, planning=planning, lead_s=0.001, preload=False)
    simulation = Simulation(
        spec.build(apps), UNLIKE, world(apps), 1, faults, check=True,
        observe=lambda event, now, commands: batches.extend(c for c in commands if isinstance(c, RunBatch)),
    )  # fmt: skip
    return simulation.run(a_trace(apps, rate=rate, seconds=1.5, rows=2)), batches


@pytest.mark.parametrize("planning", PLANNINGS)
def test_all_are_used_the_quicker_ones_more_and_none_for_what_it_was_never_timed_with(planning):
    settled, batches = lived(planning)
    assert len(settled) == len(a_trace(applications(), rate=900, seconds=1.5, rows=2))
    rows = Counter({w.name: 0 for w in UNLIKE})
    for batch in batches:
        rows[batch.worker] += len(batch.rows)
    assert rows["quick"] > max(rows["slow"], rows["old"])
    assert min(rows.values()) > 0
    assert not any(batch.worker == "old" and batch.variant == "v2" for batch in batches)


@pytest.mark.parametrize("planning", PLANNINGS)
def test_what_was_meant_for_a_lost_worker_is_done_by_the_others(planning):
    settled, batches = lived(planning, rate=300, faults=Faults(kills=(Kill("quick", 0.42, 0.5),)))
    answered = sum(s.answer.outcome is Outcome.ANSWERED for s in settled)
    assert answered > 0.9 * len(settled)
    assert not any(s.answer.outcome is Outcome.FAILED for s in settled)
    assert {batch.worker for batch in batches} == {w.name for w in UNLIKE}


def test_a_held_plan_is_given_away_one_batch_at_a_time():
    apps, given = unlike(), {w.name: 0 for w in UNLIKE}
    most = 0

    def observe(event, now, commands):
        nonlocal most
        for command in commands:
            if isinstance(command, RunBatch):
                given[command.worker] += 1
        if isinstance(event, BatchDone):
            given[names[event.batch_id]] -= 1
        names.update({c.batch_id: c.worker for c in commands if isinstance(c, RunBatch)})
        most = max(most, *given.values())

    names: dict[int, str] = {}
    spec = SchedulerSpec(planning="window(100ms, rebalance=10ms)", preload=False)
    Simulation(spec.build(apps), UNLIKE, world(apps), 1, check=True, observe=observe).run(
        a_trace(apps, rate=600, seconds=1.0)
    )
    assert most == 1
