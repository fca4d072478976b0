"""What a running server is told to serve: revisions that join, take over and go; load and unload by hand."""

import asyncio
from dataclasses import replace

import pytest

from peekserve.domain.messages import LoadFailed, Unloaded, WorkerDown, WorkerUp
from peekserve.domain.request import Outcome, Reason
from peekserve.errors import InvalidConfiguration, UnknownApplication, UnknownVariant
from peekserve.live.editions import Editions
from peekserve.live.journalling import Journalling, replay
from peekserve.state.journal import JournalReader, JournalWriter
from tests.core.stories import a_peek, an_application, takes
from tests.live.test_driver import SPEC, Stage, on_stage

NEW = "3f9a61c0"


def revised(stage, *variants):
    return replace(stage.app, edition=NEW, variants=variants or (takes(0.001, "third"),))


async def asked(stage, application="app", id="r1", **kwargs):
    [answer] = await stage.answer(stage.submit(id, application=application, **kwargs))
    return answer


@on_stage
async def test_a_revision_takes_over_and_what_ran_before_is_answered_by_the_old_one():
    stage = await Stage().ready()
    under_way = stage.submit("before")
    stage.driver.register(revised(stage))
    assert stage.driver.applications["app"] is stage.app  # nobody gets it yet
    stage.driver.activate(f"app@{NEW}")
    assert stage.driver.applications["app"].edition == NEW
    [old] = await stage.answer(under_way)
    assert old.rows[0].variant in ("small", "large")
    new = await asked(stage, f"app@{NEW}", "after")
    assert new.rows[0].variant == "third"


@on_stage
async def test_the_old_revision_takes_nothing_new_and_a_roll_back_brings_it_back():
    stage = await Stage().ready()
    stage.driver.register(revised(stage))
    stage.driver.activate(f"app@{NEW}")
    assert (await asked(stage, "app")).reason is Reason.NOT_READY
    stage.driver.activate("app")
    assert (await asked(stage, "app", "r2")).outcome is Outcome.ANSWERED
    assert (await asked(stage, f"app@{NEW}", "r3")).reason is Reason.NOT_READY


@on_stage
async def test_a_shadow_is_counted_apart_until_it_is_served():
    stage = await Stage().ready()
    stage.driver.register(revised(stage))
    assert stage.driver.label(f"app@{NEW}") == "app (shadow)"
    stage.driver.activate(f"app@{NEW}")
    assert stage.driver.label(f"app@{NEW}") == stage.driver.label("app") == "app"


@on_stage
async def test_unloaded_by_hand_it_says_so_and_loaded_again_it_serves():
    stage = await Stage().ready()
    assert await asyncio.wait_for(stage.driver.offer("app", ()), 5) == {}
    assert stage.driver.state("app", "small") == ("UNAVAILABLE", "unloaded by hand")
    assert not stage.driver.ready("app")
    refused = await asked(stage)
    assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.NOT_READY)
    done = stage.driver.offer("app", ("small", "large"))
    assert stage.driver.state("app", "small")[0] == "LOADING"
    assert await asyncio.wait_for(done, 5) == {}
    assert stage.driver.state("app", "small") == ("READY", "")
    assert (await asked(stage, id="r2")).outcome is Outcome.ANSWERED


@on_stage
async def test_a_load_that_fails_says_why():
    stage = await Stage(broken={"sha-large"}).ready()
    await asyncio.wait_for(stage.driver.offer("app", ()), 5)
    wrong = await asyncio.wait_for(stage.driver.offer("app", ("small", "large")), 5)
    assert list(wrong) == ["sha-large"]
    assert stage.driver.state("app", "large")[0] == "UNAVAILABLE"
    assert stage.driver.state("app", "small") == ("READY", "")


@on_stage
async def test_an_unload_waits_for_what_was_accepted():
    stage = await Stage().ready()
    future = stage.submit()
    gone = stage.driver.offer("app", ())
    [answer] = await stage.answer(future)
    assert answer.outcome is Outcome.ANSWERED
    assert await asyncio.wait_for(gone, 5) == {}


@on_stage
async def test_an_unload_of_one_variant_waits_for_what_was_accepted_too():
    """Found in review: only that of a whole application did."""
    stage = await Stage().ready()
    future = stage.submit()
    gone = stage.driver.offer("app", ("small",))
    await asyncio.sleep(0)
    assert not gone.done()
    await stage.answer(future)
    assert await asyncio.wait_for(gone, 5) == {}


@on_stage
async def test_a_load_that_takes_its_worker_with_it_was_none():
    """Found in review: it was reported as done."""
    stage = await Stage().ready()
    await asyncio.wait_for(stage.driver.offer("app", ()), 5)
    done = stage.driver.offer("app", ("small",))
    stage.workers.lose("w", "killed by a signal")
    assert await asyncio.wait_for(done, 5) == {"sha-small": "w: killed by a signal"}


def test_what_one_worker_could_not_load_another_still_has():
    editions = Editions([an_application(takes(0.1))])
    for worker in ("w", "other"):
        editions.note(WorkerUp(worker, "cpu", 1000))
    editions.note(LoadFailed("w", "sha-only", "no room"))
    assert editions.state("app", "only", up=True) == ("READY", "")
    editions.note(LoadFailed("other", "sha-only", "no room"))
    assert editions.state("app", "only", up=True) == ("UNAVAILABLE", "no room")
    editions.note(WorkerDown("w", "killed"))
    editions.note(WorkerUp("w", "cpu", 1000))
    assert editions.state("app", "only", up=True) == ("READY", "")


@on_stage
async def test_an_unload_is_done_when_the_worker_says_so():
    stage = await Stage().ready()
    unloaded = []

    class Notes:
        def event(self, event, now):
            unloaded.append(event) if isinstance(event, Unloaded) else None

        def commands(self, commands, now):
            pass

    stage.driver.observe(Notes())
    done = stage.driver.offer("app", ())
    assert not done.done()
    await asyncio.wait_for(done, 5)
    assert {event.weights for event in unloaded} == {"sha-small", "sha-large"}


@on_stage
async def test_what_is_withdrawn_is_unknown_to_clients():
    stage = await Stage().ready()
    stage.driver.withdraw("app")
    assert "app" not in stage.driver.applications
    with pytest.raises(UnknownApplication):
        stage.driver.withdraw("app")


@on_stage
async def test_what_is_not_there_or_there_already_is_told():
    stage = await Stage().ready()
    with pytest.raises(InvalidConfiguration, match="registered already"):
        stage.driver.register(stage.app)
    with pytest.raises(UnknownApplication):
        stage.driver.activate("app@none")
    with pytest.raises(UnknownVariant):
        stage.driver.offer("app", ("none",))
    assert (await asked(stage)).outcome is Outcome.ANSWERED


def test_a_journal_of_all_this_replays(tmp_path):
    path = tmp_path / "run.journal"

    @on_stage
    async def story():
        stage = Stage()
        writer = JournalWriter(path, SPEC, [stage.app])
        stage.driver.observe(Journalling(writer))
        await stage.ready()
        await asked(stage)
        stage.driver.register(replace(revised(stage), peek=a_peek(0.6)))
        await asked(stage, f"app@{NEW}", "r2")
        stage.driver.activate(f"app@{NEW}")
        await asked(stage, f"app@{NEW}", "r3")
        await stage.driver.offer(f"app@{NEW}", ())
        writer.close()

    story()
    told = replay(JournalReader(path))
    assert told.difference is None
    assert told.steps > 10


@on_stage
async def test_the_index_says_how_the_last_worker_died():
    stage = await Stage().ready()
    stage.workers.lose("w", "worker process 7 was ended by SIGKILL")
    while stage.driver.ready():
        await asyncio.sleep(0)
    assert stage.driver.state("app", "small") == (
        "UNAVAILABLE",
        "no worker is up; w: worker process 7 was ended by SIGKILL",
    )
