"""The driver over scripted workers, in one process: what goes in, what comes out, and that nothing is lost."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from peekserve.clock import WallClock
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import OnMiss
from peekserve.domain.request import Outcome, Reason
from peekserve.errors import InvariantBroken
from peekserve.live.driver import LiveDriver
from peekserve.live.journalling import Journalling, replay
from peekserve.peeking.scripted import ScriptedPeek, ScriptedPeeks
from peekserve.runtimes.scripted import ScriptedRuntime
from peekserve.state.journal import JournalReader, JournalWriter
from peekserve.workers.local import LocalWorkers
from peekserve.workers.slots import Slot
from tests.core.stories import a_peek, a_request, an_application, takes

SPEC = SchedulerSpec(policy="sneakpeek", preload=True)
INPUTS = {"x": np.zeros((1, 2), np.float32)}


class Stage:
    """A driver with one local worker; its runtime takes no time and is always sure of class 0."""

    def __init__(self, spec=SPEC, broken=frozenset(), peek=None, **app):
        self.app = an_application(
            takes(0.001, "small"), takes(0.002, "large"), peek=a_peek(), on_miss=OnMiss.DEGRADE, **app
        )
        self.apps = {"app": self.app}
        loop, clock = asyncio.get_running_loop(), WallClock()
        runtime = ScriptedRuntime(clock=clock, wait_until=lambda at: None, broken=frozenset(broken))
        self.workers = LocalWorkers([(Slot("w"), runtime)], self.apps, clock, loop)
        self.peeks = ScriptedPeeks(
            {"app": peek or ScriptedPeek.always([5.0, 0.0])},
            lambda results: self.driver.post_peeks(results),
            at_once=False,
        )
        self.driver = LiveDriver(spec.build([self.app]), [self.app], self.workers, self.peeks, clock, loop)

    async def ready(self):
        self.driver.start()
        await asyncio.wait_for(self.driver.until_ready(), 5)
        return self

    def submit(self, id="r1", seconds=5.0, **kwargs):
        now = self.driver.now()
        request = replace(a_request(id, **kwargs), arrived_at=now, due_at=now + seconds)
        return self.driver.submit(request, INPUTS)

    async def answer(self, *futures):
        self.peeks.turn()
        return await asyncio.wait_for(asyncio.gather(*futures), 5)


def on_stage(story):
    """Run a story on the event loop."""

    def test():
        asyncio.run(asyncio.wait_for(story(), 20))

    test.__name__, test.__doc__ = story.__name__, story.__doc__
    return test


@on_stage
async def test_a_request_is_answered():
    stage = await Stage().ready()
    [answer] = await stage.answer(stage.submit())
    assert answer.outcome is Outcome.ANSWERED
    assert answer.rows[0].variant in ("small", "large")
    assert stage.driver.open_requests == 0


@on_stage
async def test_a_hundred_at_once_each_get_their_own():
    stage = await Stage().ready()
    futures = [stage.submit(f"r{i}") for i in range(100)]
    answers = await stage.answer(*futures)
    assert [a.request_id for a in answers] == [f"r{i}" for i in range(100)]


@on_stage
async def test_it_is_not_ready_before_its_models_are_loaded_and_ready_after():
    stage = Stage()
    assert not stage.driver.ready()
    await stage.ready()
    assert stage.driver.ready("app", "small")
    assert stage.driver.state("app", "small") == ("READY", "")


@on_stage
async def test_a_model_that_does_not_load_is_unavailable_with_its_reason_and_the_other_serves():
    stage = await Stage(broken={"sha-large"}).ready()
    state, why = stage.driver.state("app", "large")
    assert state == "UNAVAILABLE"
    assert "large" in why
    [answer] = await stage.answer(stage.submit())
    assert answer.rows[0].variant == "small"


@on_stage
async def test_losing_the_worker_in_the_middle_loses_no_request():
    stage = await Stage().ready()
    futures = [stage.submit(f"r{i}") for i in range(50)]
    stage.peeks.turn()
    for _ in range(10):
        await asyncio.sleep(0)
        stage.workers.lose("w")
    answers = await stage.answer(*futures)
    assert len(answers) == 50


@on_stage
async def test_a_cancelled_request_resolves_as_cancelled():
    stage = await Stage().ready()
    future = stage.submit()
    stage.driver.cancel("r1")
    [answer] = await stage.answer(future)
    assert answer.outcome is Outcome.CANCELLED
    stage.driver.cancel("r1")  # a second time does no harm


@on_stage
async def test_a_peek_that_fails_does_not_fail_its_request():
    def fails(glance):
        raise ValueError("no")

    stage = await Stage(peek=ScriptedPeek(fails)).ready()
    [answer] = await stage.answer(stage.submit())
    assert answer.outcome is Outcome.ANSWERED


@on_stage
async def test_draining_answers_what_is_under_way_and_turns_the_rest_away():
    stage = await Stage().ready()
    future = stage.submit()
    stage.peeks.turn()
    drained = asyncio.ensure_future(stage.driver.drain(5.0))
    await asyncio.sleep(0)
    assert not stage.driver.ready()
    late = await stage.submit("r2")
    assert (late.outcome, late.reason) == (Outcome.REFUSED, Reason.DRAINING)
    assert (await future).outcome is Outcome.ANSWERED
    await drained


@on_stage
async def test_one_that_leaves_is_not_ready_and_serves_on():
    stage = await Stage().ready()
    assert stage.driver.ready()
    stage.driver.leave()
    assert not stage.driver.ready()
    assert not stage.driver.ready("app")
    assert stage.driver.live()
    [answer] = await stage.answer(stage.submit())
    assert answer.outcome is Outcome.ANSWERED


@on_stage
async def test_a_batch_that_cannot_be_handed_over_fails_instead_of_hanging():
    stage = await Stage().ready()

    def refuses(command, rows):
        raise ValueError("no room")

    stage.workers.run = refuses
    [answer] = await stage.answer(stage.submit(counts=None, pinned="small"))
    assert (answer.outcome, answer.detail) == (Outcome.FAILED, "not started: no room")


@on_stage
async def test_an_id_that_is_used_twice_is_a_bug():
    stage = await Stage().ready()
    stage.submit("r1")
    with pytest.raises(InvariantBroken):
        stage.submit("r1")


def test_what_was_journalled_live_replays_to_the_same_commands(tmp_path):
    path = tmp_path / "live.journal"

    async def story():
        stage = Stage()
        with JournalWriter(path, SPEC, [stage.app]) as writer:
            stage.driver.observe(Journalling(writer))
            await stage.ready()
            futures = [stage.submit(f"r{i}", seconds=0.001 if i % 5 == 0 else 5.0) for i in range(60)]
            await asyncio.sleep(0)
            stage.workers.lose("w")
            await stage.answer(*futures)
            stage.driver.stop()

    asyncio.run(asyncio.wait_for(story(), 20))
    replayed = replay(JournalReader(path))
    assert replayed.difference is None
    assert replayed.steps > 60
