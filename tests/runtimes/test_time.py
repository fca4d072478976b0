"""Runtimes that keep to a stated time."""

import numpy as np
import pytest

from peekserve.clock import ManualClock, WallClock
from peekserve.errors import BackendError, DataUnavailable, ProfileMissing
from peekserve.runtimes.paced import PacedRuntime
from peekserve.runtimes.scripted import DrawnAnswers, RecordedAnswers, ScriptedRuntime
from peekserve.runtimes.spec import RuntimeSpec
from peekserve.runtimes.waiting import wait_until
from tests.runtimes.tiny import CLASSES, a_variant, right, some_rows, takes


class PretendedTime(ManualClock):
    def wait_until(self, instant):
        self.advance(max(instant - self.now(), 0.0))


def test_a_paced_batch_takes_the_stated_time_in_all():
    clock = PretendedTime()
    inner = ScriptedRuntime(clock=clock, wait_until=clock.wait_until)  # takes what "cpu" states
    timing = {**takes(0.004, load_s=0.5), "gpu": takes(0.010, load_s=2.0)["cpu"]}
    variant = a_variant(timing=timing)
    runtime = PacedRuntime(inner, "gpu", clock, clock.wait_until)
    assert runtime.load(variant, CLASSES) == 1000
    assert clock.now() == pytest.approx(2.0)
    runtime.prove(variant, CLASSES, {"signal": some_rows(2)})
    assert clock.now() == pytest.approx(2.0), "a stated load holds its proof"
    runtime.run(variant, CLASSES, {"signal": some_rows(2)})
    assert clock.now() == pytest.approx(2.015)


def test_a_paced_runtime_needs_a_stated_timing():
    runtime = PacedRuntime(ScriptedRuntime(), "tpu")
    with pytest.raises(ProfileMissing, match=r"'tpu'; it has cpu"):
        runtime.load(a_variant(timing=takes(1.0)), CLASSES)


@pytest.mark.whole
def test_waiting_ends_within_a_tenth_of_a_millisecond():
    clock = WallClock()
    late = []
    for _ in range(20):
        instant = clock.now() + 0.002
        wait_until(instant)
        late.append(clock.now() - instant)
    assert min(late) >= 0.0
    assert sorted(late)[5] < 1e-4  # not all: the machine may be busy


def test_a_script_is_right_as_often_as_its_recall():
    rows = some_rows(3000)
    truth = np.arange(3000) % CLASSES
    runtime = ScriptedRuntime(DrawnAnswers(3, lambda inputs: truth), wait_until=lambda instant: None)
    variant = a_variant(quality=right(0.9, 0.6, 0.75))
    runtime.load(variant, CLASSES)
    said = runtime.run(variant, CLASSES, {"signal": rows}).argmax(axis=1)
    recall = [(said[truth == i] == i).mean() for i in range(CLASSES)]
    assert recall == pytest.approx([0.9, 0.6, 0.75], abs=0.04)


def test_recorded_answers_are_looked_up_by_sample():
    recorded = np.eye(3)
    runtime = ScriptedRuntime(RecordedAnswers({"linear": recorded}, index="sample"))
    runtime.load(a_variant(), CLASSES)
    asked = {"sample": np.array([2, 0], np.int64)}
    assert np.array_equal(runtime.run(a_variant(), CLASSES, asked), recorded[[2, 0]])
    runtime.load(a_variant("other"), CLASSES)
    with pytest.raises(BackendError, match=r"'other', only of \['linear'\]"):
        runtime.run(a_variant("other"), CLASSES, asked)


def test_a_worker_is_told_by_a_file_what_models_said(tmp_path):
    path = tmp_path / "said.npz"
    recorded = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    RecordedAnswers({"linear": recorded}, index="sample").write(path)
    runtime = RuntimeSpec("scripted", answers=str(path)).make("cpu")
    runtime.load(a_variant(), CLASSES)
    # In full, to the last bit: a stop rule looks at how sure a model was.
    assert np.array_equal(runtime.run(a_variant(), CLASSES, {"sample": np.array([[1.0]])}), recorded[[1]])
    with pytest.raises(DataUnavailable, match=r"absent\.npz: there are no recorded answers"):
        RuntimeSpec("scripted", answers=str(tmp_path / "absent.npz")).make("cpu")


def test_a_runtime_is_made_from_plain_data():
    assert isinstance(RuntimeSpec("scripted", seed=3).make("cpu"), ScriptedRuntime)
    assert isinstance(RuntimeSpec("paced").make("cuda"), PacedRuntime)
    assert RuntimeSpec().version().startswith("onnxruntime 1.")
    with pytest.raises(Exception, match=r"no runtime 'tensorflow'; there are elastic, onnx, paced, scripted"):
        RuntimeSpec("tensorflow").make("cpu")
