"""What all Workers keep. The application has the variants `linear`, `other` (both fine) and `garbage`."""

import numpy as np
import pytest

from peekserve.domain.messages import (
    BatchDone,
    BatchFailed,
    Loaded,
    LoadFailed,
    Restart,
    RunBatch,
    Unloaded,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.request import RowRef
from peekserve.errors import UnknownVariant, WorkerFailed
from tests.runtimes.tiny import CLASSES, some_rows
from tests.workers.stories import WORKER, Story


async def check_load_run_done_in_order(story: Story) -> None:
    story.load("linear")
    for batch_id in range(5):
        story.run(batch_id, "linear", some_rows(batch_id + 1))
    loaded = await story.next()
    assert isinstance(loaded, Loaded)
    assert (loaded.worker, loaded.weights) == (WORKER, "linear")
    assert loaded.seconds >= 0.0
    last = 0.0
    for batch_id in range(5):
        done = await story.next()
        assert isinstance(done, BatchDone)
        assert (done.batch_id, done.scores.shape) == (batch_id, (batch_id + 1, CLASSES))
        assert np.allclose(done.scores.sum(axis=1), 1.0)
        assert last <= done.started_at <= done.finished_at
        last = done.finished_at
    await story.quiet()


async def check_rows_keep_their_places(story: Story) -> None:
    rows = some_rows(6)
    story.load("linear")
    story.run(1, "linear", rows)
    for i, row in enumerate(rows):
        story.run(2 + i, "linear", row[None])
    assert isinstance(await story.next(), Loaded)
    together = (await story.next()).scores
    alone = np.concatenate([(await story.next()).scores for _ in rows])
    assert np.abs(together - alone).max() < 1e-5


async def check_a_garbage_model_fails_to_load_and_the_worker_lives_on(story: Story) -> None:
    story.load("garbage")
    failed = await story.next()
    assert isinstance(failed, LoadFailed)
    assert failed.weights == "garbage"
    assert "garbage" in failed.error
    story.run(1, "garbage", some_rows(1))
    assert isinstance(await story.next(), BatchFailed)
    story.load("linear")
    assert isinstance(await story.next(), Loaded)


async def check_unloaded_weights_are_gone_and_the_others_stay(story: Story) -> None:
    story.load("linear")
    story.load("other")
    story.unload("linear")
    story.run(1, "linear", some_rows(1))
    story.run(2, "other", some_rows(1))
    told = [await story.next() for _ in range(5)]
    assert [type(event) for event in told] == [Loaded, Loaded, Unloaded, BatchFailed, BatchDone]
    assert told[2].weights == told[0].weights


async def check_rows_that_do_not_stack_fail_their_batch_alone(story: Story) -> None:
    story.load("linear")
    story.workers.run(_batch(1), [{"signal": some_rows(1)[0]}, {"signal": some_rows(1, width=5)[0]}])
    story.workers.run(_batch(2), [{"other": some_rows(1)[0]}] * 2)
    story.run(3, "linear", some_rows(1))
    events = [await story.next() for _ in range(4)]
    failed = {event.batch_id: event.error for event in events if isinstance(event, BatchFailed)}
    assert sorted(failed) == [1, 2]
    assert "differ" in failed[1]
    assert "'signal'" in failed[2]
    assert [e.batch_id for e in events if isinstance(e, BatchDone)] == [3]


async def check_a_restarted_worker_goes_down_once_and_comes_back_empty(story: Story) -> None:
    story.load("linear")
    assert isinstance(await story.next(), Loaded)
    story.run(1, "linear", some_rows(1))
    assert isinstance(await story.next(), BatchDone)
    story.workers.restart(Restart(WORKER, "it hangs"))
    down = await story.next()
    assert isinstance(down, WorkerDown)
    assert "it hangs" in down.error
    assert isinstance(await story.next(), WorkerUp)
    story.run(2, "linear", some_rows(1))
    assert isinstance(await story.next(), BatchFailed)
    story.load("linear")
    story.run(3, "linear", some_rows(1))
    assert [type(await story.next()) for _ in range(2)] == [Loaded, BatchDone]


async def check_a_command_to_nobody_is_an_error(story: Story) -> None:
    with pytest.raises(UnknownVariant, match="nothing"):
        story.load("nothing")
    with pytest.raises(WorkerFailed, match="gpu:7"):
        story.workers.restart(Restart("gpu:7", "why not"))


async def check_nothing_is_said_after_stop(story: Story) -> None:
    story.load("linear")
    story.run(1, "linear", some_rows(1))
    story.workers.stop()
    await story.quiet()
    story.workers.stop()


def _batch(batch_id: int) -> RunBatch:
    return RunBatch(batch_id, WORKER, "tiny", "linear", 0, (RowRef("r", 0), RowRef("r", 1)), 0.001, "full")


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
