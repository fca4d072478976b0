"""The checks of the family, on real processes; and what happens when these are killed."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import peekserve
from peekserve.clock import ManualClock
from peekserve.domain.messages import BatchFailed, Loaded, LoadFailed, WorkerDown, WorkerUp
from peekserve.errors import InvalidConfiguration, WorkerFailed
from peekserve.runtimes.spec import RuntimeSpec
from peekserve.workers.process import ProcessWorkers
from peekserve.workers.seat import BEAT_S
from peekserve.workers.slots import Slot
from tests.runtimes.tiny import a_variant, an_application, save_linear, save_slow, some_rows, takes
from tests.workers.checks import CHECKS
from tests.workers.stories import WORKER, Story

pytestmark = pytest.mark.whole


@pytest.fixture
def variants(tmp_path):
    (tmp_path / "garbage.onnx").write_bytes(b"garbage")
    return (
        a_variant("linear", save_linear(tmp_path / "linear.onnx"), timing=takes(1e-4)),
        a_variant("other", save_linear(tmp_path / "other.onnx", hidden=100)),
        a_variant("garbage", tmp_path / "garbage.onnx"),
        a_variant("slow", save_slow(tmp_path / "slow.onnx")),
    )


@asynccontextmanager
async def started(variants, clock=None, beat_s=BEAT_S, **fields):
    slots, applications = [Slot(WORKER, **fields)], {"tiny": an_application(*variants)}
    workers = ProcessWorkers(slots, applications, asyncio.get_running_loop(), clock, beat_s)
    try:
        yield await Story(workers).start()
    finally:
        workers.stop()


def pid(story):
    return story.workers.health()[WORKER].pid


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_process_workers(check, variants):
    async with started(variants) as story:
        await check(story)


async def test_killed_in_mid_batch(variants):
    async with started(variants) as story:
        story.load("slow")
        assert isinstance(await story.next(), Loaded)
        story.run(1, "slow", np.ones((2, 4), np.float32))
        story.run(2, "slow", some_rows(1))
        os.kill(pid(story), signal.SIGKILL)
        down = await story.next()
        assert isinstance(down, WorkerDown)
        assert "SIGKILL" in down.error
        assert isinstance(await story.next(), WorkerUp)
        story.load("linear")
        story.run(3, "linear", some_rows(4))
        assert isinstance(await story.next(), Loaded)
        assert (await story.next()).batch_id == 3
        assert [type(e) for e in story.told if isinstance(e, WorkerDown | BatchFailed)] == [WorkerDown]


async def test_ten_deaths_are_ten_downs_and_ten_ups(variants):
    clock = ManualClock()
    async with started(variants, clock) as story:
        seen = set()
        for _ in range(10):
            seen.add(pid(story))
            clock.advance(60.0)  # one that has long been well is born again at once
            os.kill(pid(story), signal.SIGKILL)
            assert [type(await story.next()) for _ in range(2)] == [WorkerDown, WorkerUp]
        assert len(seen) == 10
        health = story.workers.health()[WORKER]
        assert (health.up, health.restarts, health.waiting_since) == (True, 10, None)


async def test_an_idle_worker_answers_its_heartbeats(variants):
    async with started(variants, beat_s=0.05) as story:
        hello, heard = pid(story), set()
        while len(heard) < 4:
            await asyncio.sleep(0)
            heard.add(story.workers.health()[WORKER].heard_at)
        health = story.workers.health()[WORKER]
        assert (health.up, health.pid, health.restarts, health.waiting_since) == (True, hello, 0, None)
        story.load("linear")  # what it is asked between two beats is answered as ever
        story.run(1, "linear", some_rows(3))
        assert isinstance(await story.next(), Loaded)
        assert (await story.next()).batch_id == 1


async def test_an_idle_worker_that_stands_still_is_replaced(variants):
    async with started(variants, beat_s=0.1) as story:
        stopped = pid(story)
        os.kill(stopped, signal.SIGSTOP)
        down = await story.next()
        assert isinstance(down, WorkerDown)
        assert "it had nothing to do and did not answer for 0.3 s" in down.error
        assert isinstance(await story.next(), WorkerUp)
        assert pid(story) != stopped
        with pytest.raises(ProcessLookupError):
            os.kill(stopped, 0)


async def test_a_worker_that_stands_still_in_a_load_is_replaced(variants):
    async with started(variants, beat_s=0.01) as story:
        os.kill(pid(story), signal.SIGSTOP)
        story.load("linear")
        down = await story.next()
        assert isinstance(down, WorkerDown)
        assert "did not answer for" in down.error
        assert isinstance(await story.next(), WorkerUp)


async def test_commands_to_a_dead_worker_are_answered_by_its_death_alone(variants):
    async with started(variants) as story:
        os.kill(pid(story), signal.SIGKILL)
        story.load("linear")
        for batch_id in range(3):
            story.run(batch_id, "linear", some_rows(2))
        assert isinstance(await story.next(), WorkerDown)
        with pytest.raises(WorkerFailed, match="SIGKILL"):
            story.load("linear")
        assert isinstance(await story.next(), WorkerUp)
        await story.quiet()


async def test_a_worker_that_cannot_start_says_why_once(variants):
    workers = ProcessWorkers(
        [Slot(WORKER, runtime=RuntimeSpec("tensorflow"))],
        {"tiny": an_application(*variants)},
        asyncio.get_running_loop(),
    )
    story = Story(workers)
    workers.start(story.report)
    try:
        down = await story.next()
        assert isinstance(down, WorkerDown)
        assert "no runtime 'tensorflow'" in down.error
        while workers.health()[WORKER].restarts < 2:
            await asyncio.sleep(0)
        assert story.told == [down]
    finally:
        workers.stop()


async def test_a_batch_larger_than_the_ring_goes_another_way(variants):
    async with started(variants, ring_bytes=256) as story:
        rows = some_rows(100_000)
        story.load("linear")
        story.run(1, "linear", rows)
        story.run(2, "linear", rows[:3])
        assert isinstance(await story.next(), Loaded)
        large, small = await story.next(), await story.next()
        assert large.scores.shape == (100_000, 3)
        assert np.abs(large.scores[:3] - small.scores).max() < 1e-5


async def test_many_batches_pass_through_a_small_ring(variants):
    async with started(variants, ring_bytes=1024) as story:
        story.load("linear")
        assert isinstance(await story.next(), Loaded)
        probe = some_rows(1)
        story.run(0, "linear", probe)
        expected = (await story.next()).scores[0]
        rng = np.random.default_rng(2)
        for turn in range(0, 300, 2):  # two under way at a time, as a scheduler would have them
            sizes = rng.integers(1, 40, 2)
            for batch_id, size in enumerate(sizes, turn):
                story.run(batch_id, "linear", np.concatenate([some_rows(size - 1, seed=turn), probe]))
            for batch_id, size in enumerate(sizes, turn):
                done = await story.next()
                assert (done.batch_id, len(done.scores)) == (batch_id, size)
                assert np.abs(done.scores[-1] - expected).max() < 1e-5


async def test_a_model_that_gives_another_number_of_classes_is_refused_at_the_load(variants):
    application = replace(an_application(*variants), classes=("a", "b", "c", "d"), prior=(1.0,) * 4)
    workers = ProcessWorkers([Slot(WORKER)], {"tiny": application}, asyncio.get_running_loop())
    try:
        story = await Story(workers).start()
        story.load("linear")
        failed = await story.next()
        assert isinstance(failed, LoadFailed)
        assert "3 columns; 4 are needed" in failed.error
    finally:
        workers.stop()


async def test_nothing_is_left_after_stop(variants):
    before = sorted(os.listdir("/proc/self/fd"))
    async with started(variants) as story:
        story.load("linear")
        story.run(1, "linear", some_rows(5))
        assert isinstance(await story.next(), Loaded)
        child = pid(story)
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_a_worker_keeps_to_its_cores(variants):
    core = max(os.sched_getaffinity(0))
    async with started(variants, cores=(core,)) as story:
        assert os.sched_getaffinity(pid(story)) == {core}


async def test_a_slot_that_this_machine_lacks_is_refused(variants):
    for fields in ({"cores": (4095,)}, {"budget_bytes": 0}, {"ring_bytes": -1}):
        workers = ProcessWorkers([Slot(WORKER, **fields)], {}, asyncio.get_running_loop())
        with pytest.raises(InvalidConfiguration, match=WORKER):
            workers.start(lambda event: None)


async def test_a_worker_carries_none_of_the_fronts_packages(variants):
    async with started(variants) as story:
        maps = Path(f"/proc/{pid(story)}/maps").read_text()
        assert "onnxruntime" in maps
        assert not [
            name for name in ("faiss", "httptools", "uvloop", "_asyncio", "_ssl", "torch") if name in maps
        ]


def test_a_worker_dies_with_its_front(tmp_path):
    script = """
import asyncio, os, signal
from peekserve.workers.process import ProcessWorkers
from peekserve.workers.slots import Slot
async def main():
    workers = ProcessWorkers([Slot("cpu:0")], {}, asyncio.get_running_loop())
    up = asyncio.Event()
    workers.start(lambda event: up.set())
    await up.wait()
    print(workers.health()["cpu:0"].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    path = str(Path(next(iter(peekserve.__path__))).parent)
    front = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        timeout=30,
        check=False,
    )
    worker = os.pidfd_open(int(front.stdout)) if os.path.exists(f"/proc/{int(front.stdout)}") else None
    if worker is not None:
        assert select.select([worker], [], [], 10.0)[0], "the worker outlived its front"
        os.close(worker)
