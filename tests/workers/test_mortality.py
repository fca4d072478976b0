"""Memory that runs out: a load that fails in words, a worker that goes on, and one that the system took."""

import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from peekserve.clock import ManualClock
from peekserve.domain.tensors import OutputForm, OutputMap
from peekserve.errors import BackendError, InvalidModel
from peekserve.workers.frames import Describe, LoadModel, ModelRefused, RunFailed, RunModel
from peekserve.workers.host import Host
from peekserve.workers.remote import RemoteRuntime
from peekserve.workers.ring import Ring, RingReader
from peekserve.workers.slots import Slot
from peekserve.workers.spawn import spawn
from tests.runtimes.tiny import a_variant, an_application, save_linear, some_rows

MIB = 2**20


class Starving:
    """A runtime without memory, for loads or for batches."""

    def __init__(self, at_load):
        self._at_load = at_load
        self.unloaded = []

    def load(self, variant, classes):
        if self._at_load:
            raise MemoryError
        return 1

    def run(self, variant, classes, inputs):
        raise MemoryError("8 GiB for an array")

    def prove(self, variant, classes, inputs):
        return np.full((len(next(iter(inputs.values()))), classes), 1.0 / classes)

    def unload(self, weights):
        self.unloaded.append(weights)


@pytest.mark.parametrize("at_load", [True, False])
def test_memory_that_runs_out_is_told_and_ends_nobody(at_load, tmp_path):
    variant = a_variant("linear", save_linear(tmp_path / "linear.onnx"))
    application, ring = an_application(variant), Ring(4096)
    runtime = Starving(at_load)
    host = Host(runtime, RingReader(ring.fd, ring.capacity), ManualClock())
    host.handle(Describe("tiny", variant, len(application.classes), application.inputs), 0.0)
    loaded = host.handle(LoadModel("tiny", "linear"), 0.0)
    if at_load:
        assert isinstance(loaded, ModelRefused)
        assert "out of memory" in loaded.error
        assert runtime.unloaded == [variant.weights]
    else:
        ran = host.handle(RunModel(1, "tiny", "linear", ()), 0.0)
        assert isinstance(ran, RunFailed)
        assert ran.error == "out of memory 8 GiB for an array"
    ring.close()


def sizes(pid):
    """Bytes of address space that a process has, and of memory."""
    with open(f"/proc/{pid}/statm") as statm:
        return [int(pages) * os.sysconf("SC_PAGE_SIZE") for pages in statm.read().split()[:2]]


@pytest.mark.whole
def test_a_model_for_which_there_is_no_memory_is_refused_and_the_worker_goes_on(tmp_path):
    small = a_variant("small", save_linear(tmp_path / "small.onnx"))
    large = a_variant("large", save_linear(tmp_path / "large.onnx", hidden=2_000_000))  # 56 MB
    application = an_application(small, large)
    with RemoteRuntime(Slot("cpu:0"), application.inputs) as runtime:
        classes = len(application.classes)
        runtime.load(small, classes)
        limit = sizes(runtime.pid)[0] + 40 * MIB
        resource.prlimit(runtime.pid, resource.RLIMIT_AS, (limit, limit))
        with pytest.raises(InvalidModel, match="not enough memory to load it"):
            runtime.load(large, classes)
        rows = {"signal": some_rows(2)}
        assert runtime.run(small, classes, rows).shape == (2, classes)
        with pytest.raises(BackendError, match="not resident"):
            runtime.run(large, classes, rows)


@pytest.mark.whole
def test_loads_that_fail_half_way_leave_nothing_behind(tmp_path):
    model = save_linear(tmp_path / "large.onnx", hidden=400_000)  # 11 MB
    wrong = a_variant("wrong", model, output=OutputMap("no such output", OutputForm.LOGITS))
    application, held = an_application(wrong), []
    with RemoteRuntime(Slot("cpu:0"), application.inputs) as runtime:
        for _ in range(12):
            with pytest.raises(InvalidModel, match="no such output"):
                runtime.load(wrong, len(application.classes))
            held.append(sizes(runtime.pid)[1])
    assert held[-1] - held[1] < 4 * MIB


@pytest.mark.whole
def test_a_worker_that_the_system_took_for_its_memory_is_told_from_one_that_was_killed():
    ring = Ring(4096)
    for fewer, told in ((0, False), (1, True)):
        child = spawn(Slot("cpu:0"), ring)
        # As if the kernel had ended that many processes since.
        child.starved_before -= fewer
        os.kill(child.process.pid, signal.SIGKILL)
        how = child.end(grace_s=5.0)
        assert "was ended by SIGKILL" in how
        assert ("the system ran out of memory" in how) is told
    child = spawn(Slot("cpu:0"), ring)
    child.starved_before -= 1
    # We ended this one.
    assert "out of memory" not in child.end()
    ring.close()


@pytest.mark.whole
def test_a_worker_leaves_no_core_file_and_goes_before_its_front():
    code = (
        "import resource; from pathlib import Path; from peekserve.workers.mortality import *;"
        "no_core_files(); go_before_others();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), Path('/proc/self/oom_score_adj').read_text().strip())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("(0, 0) ")
    assert int(out.split()[-1]) >= 500
