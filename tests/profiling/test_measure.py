"""Measuring, in pretended time; and once for real."""

import os
from dataclasses import replace

import numpy as np
import pytest

from peekserve.clock import ManualClock, WallClock
from peekserve.domain.profile import LatencyCurve, Timing
from peekserve.errors import InvalidData
from peekserve.profiling.device import fingerprint
from peekserve.profiling.measure import Effort, Stopwatch, batches_of, measure_quality, measure_timing, steps
from peekserve.profiling.neighbour import busy
from peekserve.runtimes.onnx import OnnxRuntime
from peekserve.runtimes.scripted import RecordedAnswers, ScriptedRuntime
from tests.runtimes.tiny import CLASSES, a_variant, save_linear, some_rows, takes


def pretended():
    clock = ManualClock()
    runtime = ScriptedRuntime(clock=clock, wait_until=lambda at: clock.advance(max(at - clock.now(), 0.0)))
    return clock, Stopwatch(runtime, clock)


def test_what_a_script_takes_is_what_is_measured():
    clock, timed = pretended()
    stated = Timing((LatencyCurve((1, 8), (0.010, 0.045)),), load_s=0.3, bytes=77)
    variant = a_variant(max_batch=6, timing={"cpu": stated})
    timing = measure_timing(
        variant, CLASSES, [{"signal": some_rows(5)}], timed, clock=clock, runtime="scripted"
    )
    assert timing.curves[0].batch_sizes == (1, 2, 4, 6)
    assert timing.curves[0].median_s == pytest.approx((0.010, 0.015, 0.025, 0.035))
    assert (timing.load_s, timing.bytes, timing.runtime) == (pytest.approx(0.3), 77, "scripted")


def test_loads_are_told_by_their_median_and_by_what_most_of_them_stay_below():
    """The first reads the file; it is not what the scheduler meets."""
    clock, timed = pretended()

    class Uneven:
        seconds = iter((0.9, 0.1, 0.1, 0.1, 0.3))
        run, unload = timed.run, timed.unload

        def load(self, variant, classes):
            timed.load(variant, classes)
            return next(self.seconds), 7

    variant, rows = a_variant(max_batch=1, timing=takes(0.01)), [{"signal": some_rows(2)}]
    timing = measure_timing(variant, CLASSES, rows, Uneven(), effort=Effort(loads=5), clock=clock)
    assert (timing.load_s, timing.load_p95_s, timing.cautious_load_s) == (0.1, 0.3, 0.3)
    once = measure_timing(variant, CLASSES, rows, timed, effort=Effort(loads=1), clock=clock)
    assert once.cautious_load_s == once.load_s


def test_the_effort_is_bounded():
    clock, timed = pretended()
    variant = a_variant(max_batch=32, timing=takes(0.5))
    effort = Effort(least=2, most=1000, seconds=4.0, loads=1)
    told = []
    samples = [{"signal": some_rows(4)}]
    measure_timing(variant, CLASSES, samples, timed, effort=effort, clock=clock, progress=told.append)
    assert clock.now() < 6 * (0.5 * 17 * 3 + 4.0)  # six sizes; each warms up once, and ends what it has begun
    assert len(told) == steps(samples, (1, 2, 4, 8, 16, 32), 32, effort) == 7


def test_batches_go_round_the_samples():
    batches = batches_of({"signal": np.arange(3)[:, None]}, 2)
    assert [next(batches)["signal"].ravel().tolist() for _ in range(3)] == [[0, 1], [2, 0], [1, 2]]


def test_quality_is_that_of_the_answers():
    recorded = np.eye(3)[[0, 1, 1, 2, 2, 2]]
    runtime = ScriptedRuntime(RecordedAnswers({"linear": recorded}, index="signal"))
    variant = a_variant(max_batch=4)
    runtime.load(variant, CLASSES)
    inputs, labels = {"signal": np.arange(6)[:, None]}, np.array([0, 0, 1, 2, 2, 1])
    halves = [({"signal": inputs["signal"][part]}, labels[part]) for part in (slice(0, 5), slice(5, 6))]
    quality, scores = measure_quality(variant, CLASSES, halves, runtime)
    assert np.array_equal(scores, recorded)
    assert quality.recall == (0.5, 0.5, 1.0)


def test_labels_and_inputs_of_different_lengths_are_refused():
    with pytest.raises(InvalidData, match=r"3 labels for inputs of \{'signal': 2\} rows"):
        measure_quality(
            a_variant(), CLASSES, [({"signal": some_rows(2)}, np.zeros(3, int))], ScriptedRuntime()
        )
    with pytest.raises(InvalidData, match="no sample"):
        measure_timing(a_variant(), CLASSES, [], pretended()[1], clock=ManualClock())
    with pytest.raises(InvalidData, match="no labelled data"):
        measure_quality(a_variant(), CLASSES, [], ScriptedRuntime())


def test_a_fingerprint_tells_machines_apart_and_stays():
    arm = "processor : 0\nCPU part : 0xd0b\nCPU revision : 1\n"
    assert fingerprint(arm, 4, "aarch64") == fingerprint(arm, 4, "aarch64")
    assert fingerprint(arm, 4, "aarch64") != fingerprint(arm, 2, "aarch64")
    assert fingerprint(arm, 4, "aarch64") != fingerprint(arm.replace("d0b", "d08"), 4, "aarch64")
    assert fingerprint("", 1, "riscv64").startswith("cpu-1c-riscv64-")
    assert fingerprint() == fingerprint()


@pytest.mark.whole
def test_a_real_model_beside_a_busy_neighbour(tmp_path):
    variant = a_variant(model=save_linear(tmp_path / "wide.onnx", hidden=1000))
    timed = Stopwatch(OnnxRuntime(), WallClock())
    with busy((min(os.sched_getaffinity(0)),)):
        timing = measure_timing(
            replace(variant, max_batch=8),
            CLASSES,
            [{"signal": some_rows(20)}],
            timed,
            effort=Effort.quick(),
            clock=WallClock(),
        )
    assert timing.curves[0].batch_sizes == (1, 2, 4, 8)
    assert all(0.0 < s < 0.5 for s in timing.curves[0].median_s)
    assert timing.bytes > 0


@pytest.mark.whole
def test_no_core_of_ours_means_no_neighbour():
    with busy((4095,)):
        pass
