"""Models that are tried in a process of their own."""

import os

import numpy as np
import pytest

from peekserve.domain.tensors import TensorSpec
from peekserve.errors import BackendError, InvalidModel, WorkerFailed
from peekserve.runtimes.onnx import OnnxRuntime
from peekserve.workers.remote import RemoteRuntime
from peekserve.workers.slots import Slot
from peekserve.workers.trial import WorkerStopwatch, trial_load
from tests.runtimes.checks import CHECKS, Subject
from tests.runtimes.tiny import CLASSES, COLUMNS, a_variant, save_linear, save_slow, some_rows, takes

pytestmark = pytest.mark.whole
SPECS = (TensorSpec("signal", "FP32", (COLUMNS,)),)


@pytest.fixture
def remotes():
    """Makes remote runtimes, and ends them after the test."""
    opened = []

    def open_one(**options):
        opened.append(RemoteRuntime(Slot("trial"), **options).__enter__())
        return opened[-1]

    yield open_one
    for remote in opened:
        remote.__exit__(None, None, None)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_remote_runtime_is_a_runtime(check, remotes, tmp_path):
    good = a_variant(model=save_linear(tmp_path / "linear.onnx"), timing=takes(1e-4))
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    check(Subject(remotes, good, a_variant("broken", tmp_path / "broken.onnx")))


def test_its_answers_are_those_of_the_runtime_within(remotes, tmp_path):
    variant, rows = a_variant(model=save_linear(tmp_path / "linear.onnx")), {"signal": some_rows(9)}
    here, there = OnnxRuntime(), remotes()
    here.load(variant, CLASSES)
    there.load(variant, CLASSES)
    assert np.array_equal(here.run(variant, CLASSES, rows), there.run(variant, CLASSES, rows))
    assert 0.0 < there.run_s < 1.0
    assert 0.0 < there.load_s < 1.0


def test_a_trial_reports_bytes_and_seconds(tmp_path):
    variant = a_variant(model=save_linear(tmp_path / "wide.onnx", hidden=300_000))
    held, seconds = trial_load(variant, CLASSES, SPECS)
    assert held >= os.path.getsize(variant.model)
    assert 0.0 < seconds < 10.0


def test_a_trial_finds_a_model_that_does_not_take_what_the_application_sends(tmp_path):
    variant = a_variant(model=save_linear(tmp_path / "linear.onnx", width=7))
    trial_load(variant, CLASSES)  # without the application's inputs nobody can tell
    with pytest.raises(InvalidModel, match="'linear'"):
        trial_load(variant, CLASSES, SPECS)


def test_a_model_that_kills_its_process_is_invalid(remotes, tmp_path):
    remote, variant = remotes(), a_variant(model=save_linear(tmp_path / "linear.onnx"))
    remote._child.process.kill()
    remote._child.process.wait()
    with pytest.raises(InvalidModel, match=r"'linear' could not be loaded: .*SIGKILL"):
        remote.load(variant, CLASSES)
    with pytest.raises(WorkerFailed, match="has ended"):
        remote.run(variant, CLASSES, {"signal": some_rows(1)})


def test_a_batch_that_never_ends_is_given_up(remotes, tmp_path):
    remote, variant = remotes(timeout_s=5.0), a_variant(model=save_slow(tmp_path / "slow.onnx"))
    remote.load(variant, CLASSES)
    remote._timeout_s = 0.05
    with pytest.raises(WorkerFailed, match=r"no reply in 0\.05 s"):
        remote.run(variant, CLASSES, {"signal": np.ones((1, COLUMNS), np.float32)})


def test_a_stopwatch_reads_the_workers_own_clock(remotes, tmp_path):
    remote, variant = remotes(specs=SPECS), a_variant(model=save_linear(tmp_path / "linear.onnx"))
    timed = WorkerStopwatch(remote)
    seconds, held = timed.load(variant, CLASSES)
    assert (seconds, held > 0) == (remote.load_s, True)
    assert timed.run(variant, CLASSES, {"signal": some_rows(2)}) == remote.run_s
    timed.unload("linear")
    with pytest.raises(BackendError, match="not resident"):
        timed.run(variant, CLASSES, {"signal": some_rows(2)})
