"""The checks of the family, on workers without processes; and what only these can do."""

import asyncio

import pytest

from peekserve.clock import ManualClock
from peekserve.domain.messages import BatchDone, Loaded, WorkerDown, WorkerUp
from peekserve.errors import WorkerFailed
from peekserve.runtimes.scripted import ScriptedRuntime
from peekserve.workers.local import LocalWorkers
from peekserve.workers.slots import Slot
from tests.runtimes.tiny import a_variant, an_application, some_rows, takes
from tests.workers.checks import CHECKS
from tests.workers.stories import WORKER, Story


def local(clock: ManualClock) -> LocalWorkers:
    runtime = ScriptedRuntime(
        clock=clock,
        wait_until=lambda instant: clock.advance(max(instant - clock.now(), 0.0)),
        broken=frozenset({"garbage"}),
    )
    variants = [a_variant(name, timing=takes(0.01, load_s=0.1)) for name in ("linear", "other", "garbage")]
    application = an_application(*variants)
    return LocalWorkers([(Slot(WORKER), runtime)], {"tiny": application}, clock, asyncio.get_running_loop())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_local_workers(check):
    await check(await Story(local(ManualClock())).start())


async def test_time_is_pretended():
    clock = ManualClock()
    story = await Story(local(clock)).start()
    story.load("linear")
    story.run(1, "linear", some_rows(2))
    loaded, done = await story.next(), await story.next()
    assert isinstance(loaded, Loaded)
    assert isinstance(done, BatchDone)
    assert loaded.seconds == pytest.approx(0.1)
    assert done.finished_at - done.started_at == pytest.approx(0.015)


async def test_what_waits_for_a_lost_worker_is_lost_with_it():
    story = await Story(local(ManualClock())).start()
    story.load("linear")
    story.run(1, "linear", some_rows(2))
    story.workers.lose(WORKER)
    with pytest.raises(WorkerFailed, match="not up"):
        story.load("linear")
    assert isinstance(await story.next(), WorkerDown)
    assert isinstance(await story.next(), WorkerUp)
    await story.quiet()
