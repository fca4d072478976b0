"""Three processes that imitate three devices, live under load: more workers than this machine has cores."""

import asyncio
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from peekserve.clock import WallClock
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import OnMiss
from peekserve.domain.messages import RunBatch, WorkerUp
from peekserve.domain.profile import LatencyCurve, Timing
from peekserve.domain.request import Outcome
from peekserve.domain.tensors import TensorSpec
from peekserve.live.driver import LiveDriver
from peekserve.runtimes.spec import RuntimeSpec
from peekserve.workers.process import ProcessWorkers
from peekserve.workers.slots import Slot
from tests.core.stories import a_request, an_application, takes

pytestmark = pytest.mark.whole

PACES = {"big": 1.0, "middle": 2.0, "little": 4.0}
INPUTS = {"x": np.zeros((1, 2), np.float32)}
LIMIT_S = 60.0


def a_timed_application():
    """Two variants with timings on each of the three devices; the better one has none on the slowest."""

    def timed(variant, devices):
        curve = variant.timing["cpu"].curve(0)
        timing = {
            name: Timing((LatencyCurve(curve.batch_sizes, tuple(s * PACES[name] for s in curve.median_s)),))
            for name in devices
        }
        return replace(variant, timing=timing)

    small = timed(takes(0.004, "small", recall=(0.8, 0.8), grows=20.0), PACES)
    large = timed(takes(0.010, "large", recall=(0.95, 0.95), grows=20.0), ["big", "middle"])
    return an_application(small, large, on_miss=OnMiss.LATE, inputs=(TensorSpec("x", "FP32", (2,)),))


class Watching:
    """What each worker was given, and when all of them are up."""

    def __init__(self):
        self.given = []
        self.up = set()
        self.all_up = asyncio.Event()

    def event(self, event, now):
        if isinstance(event, WorkerUp):
            self.up.add(event.worker)
            if self.up == set(PACES):
                self.all_up.set()

    def commands(self, commands, now):
        self.given += [command for command in commands if isinstance(command, RunBatch)]


@pytest.mark.parametrize("planning", ["rolling", "window(30ms, rebalance=5ms)"])
async def test_each_request_has_one_outcome_and_the_quicker_workers_do_more(planning):
    app, clock, loop = a_timed_application(), WallClock(), asyncio.get_running_loop()
    slots = [Slot(name, device=name, runtime=RuntimeSpec("scripted")) for name in PACES]
    workers = ProcessWorkers(slots, {app.name: app}, loop, clock)
    spec = SchedulerSpec(policy="grouped", planning=planning, lead_s=0.002, peek=False)
    driver = LiveDriver(spec.build([app]), [app], workers, None, clock, loop)
    seen = Watching()
    driver.observe(seen)
    try:
        driver.start()
        await asyncio.wait_for(seen.all_up.wait(), LIMIT_S)
        futures = []
        for i in range(300):
            now = driver.now()
            request = replace(a_request(f"r{i}"), arrived_at=now, due_at=now + 0.1)
            futures.append(driver.submit(request, INPUTS))
            await asyncio.sleep(0.002)  # real arrivals: a load is what this story is about
        answers = await asyncio.wait_for(asyncio.gather(*futures), LIMIT_S)
    finally:
        driver.stop()
    assert [a.request_id for a in answers] == [f"r{i}" for i in range(300)]
    assert all(a.outcome in (Outcome.ANSWERED, Outcome.LATE) for a in answers)
    rows = Counter(dict.fromkeys(PACES, 0))
    for batch in seen.given:
        rows[batch.worker] += len(batch.rows)
    assert sum(rows.values()) == 300
    assert rows["big"] > rows["little"] > 0 < rows["middle"]
    assert not any(batch.worker == "little" and batch.variant == "large" for batch in seen.given)
