"""A worker without its process: what it does for each message."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.clock import ManualClock
from peekserve.errors import InvalidModel
from peekserve.workers import frames
from peekserve.workers.host import Host
from peekserve.workers.ring import Ring, RingReader
from tests.runtimes.tiny import CLASSES, a_variant, an_application, takes


class Counting:
    """A runtime that notes the size of each batch that it is given."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def load(self, variant, classes):
        return 10

    def run(self, variant, classes, inputs):
        self.rows.append(len(inputs["signal"]))
        return np.full((self.rows[-1], CLASSES), 1 / CLASSES)

    prove = run

    def unload(self, weights):
        pass


@pytest.fixture
def host():
    ring = Ring(64)
    runtime = Counting()
    host = Host(runtime, RingReader(ring.fd, 64), ManualClock())
    app = an_application(a_variant(timing=takes(0.01)))
    host.handle(frames.Describe("tiny", app.variants[0], CLASSES, app.inputs), 0.0)
    yield host, runtime
    ring.close()


def test_a_load_that_a_batch_waits_for_runs_one_row_and_no_more(host):
    host, runtime = host
    assert isinstance(host.handle(frames.LoadModel("tiny", "linear"), 0.0), frames.ModelLoaded)
    assert runtime.rows == [1]


def test_a_load_that_nothing_waits_for_runs_the_larger_batches_too_the_first_time(host):
    host, runtime = host
    host.handle(frames.LoadModel("tiny", "linear", warm=True), 0.0)
    assert runtime.rows == [1, 2, 1]
    host.handle(frames.UnloadModel("linear"), 0.0)
    host.handle(frames.LoadModel("tiny", "linear", warm=True), 0.0)
    assert runtime.rows == [1, 2, 1, 1]


def test_whoever_shares_the_weights_is_warmed_up_with_them():
    ring = Ring(64)
    runtime = Counting()
    host = Host(runtime, RingReader(ring.fd, 64), ManualClock())
    app = an_application(
        a_variant("wide.a", weights="wide", subnet="a", timing=takes(0.01)),
        a_variant("wide.b", weights="wide", subnet="b", timing=takes(0.01)),
        a_variant("other", timing=takes(0.01)),
    )
    for variant in app.variants:
        host.handle(frames.Describe("tiny", variant, CLASSES, app.inputs), 0.0)
    host.handle(frames.LoadModel("tiny", "wide.a", warm=True), 0.0)
    assert runtime.rows == [1, 1, 2, 2, 1, 1], "a row each, then the largest batch of each, then the next"
    host.handle(frames.LoadModel("tiny", "wide.b"), 0.0)
    assert runtime.rows[6:] == [1], "nothing but the one that a batch waits for"
    ring.close()


def test_a_ping_is_answered(host):
    assert host[0].handle(frames.Ping(), 0.0) == frames.Pong()


class Missing(Counting):
    """A runtime that finds no file."""

    def load(self, variant, classes):
        raise InvalidModel(f"{variant.model}: no such file")


def test_where_a_model_lies_on_this_machine_is_nobodys_business():
    ring = Ring(64)
    host = Host(Missing(), RingReader(ring.fd, 64), ManualClock())
    app = an_application(a_variant(timing=takes(0.01)))
    variant = replace(app.variants[0], model="/srv/ward/repository/ecg/linear/model.onnx")
    host.handle(frames.Describe("tiny", variant, CLASSES, app.inputs), 0.0)
    refused = host.handle(frames.LoadModel("tiny", "linear"), 0.0)
    assert refused == frames.ModelRefused(variant.weights, "linear/model.onnx: no such file")
    ring.close()
