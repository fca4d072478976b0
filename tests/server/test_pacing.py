"""What is told of batches that do not keep to their profiles: once when it begins, once when it is over."""

import numpy as np

from peekserve.domain.messages import BatchDone, WorkerUp
from peekserve.server.pacing import Pacing
from peekserve.server.telemetry import Telemetry

DONE = BatchDone(1, np.zeros((1, 2)), 0.0, 1.0)


class Scripted:
    """Paces as they are written, and a log that is kept."""

    def __init__(self):
        self.now, self.lines = {}, []

    def paces(self):
        return self.now

    def warning(self, event, **said):
        self.lines.append(("warning", event, said))

    def info(self, event, **said):
        self.lines.append(("info", event, said))


def after(*paces):
    """The lines that were logged by the end of each of these states."""
    scripted = Scripted()
    pacing, told = Pacing(scripted, Telemetry("1.2.3"), scripted), []
    for number, found in enumerate(paces):
        scripted.now = found
        pacing.event(WorkerUp("cpu-0", "cpu", 1) if number == 0 else DONE, float(number))
        pacing.event(DONE, float(number))
        told.append([said["sentence"] for _, _, said in scripted.lines])
        scripted.lines.clear()
    return told


def state(worker=1.0, cnn=1.0, tree=1.0):
    return {
        ("cpu-0", "", ""): worker,
        ("cpu-0", "digits@3f9a", "cnn"): cnn,
        ("cpu-0", "digits@3f9a", "tree"): tree,
    }


def test_a_wrong_profile_is_told_once_and_once_when_it_is_over():
    begun, on, over = after(state(cnn=1.949), state(cnn=2.14), state())
    assert begun == [
        "batches of digits/cnn take 1.9 times their profile on cpu-0: profile again if it stays so"
    ]
    assert on == []
    assert over == ["batches of digits/cnn keep to their profile on cpu-0 again"]


def test_a_slow_worker_is_told_for_itself_and_not_for_each_of_its_variants():
    begun, own, over = after(state(2.0, 1.9, 1.9), state(2.0, 1.9, 3.8), state(1.0, 1.0, 1.9))
    assert begun == ["all batches take 2 times their profile on cpu-0"]
    assert own == []
    assert over == ["all batches keep to their profile on cpu-0 again"]


def test_nothing_is_told_while_all_is_as_profiled():
    assert after(state(), state()) == [[], []]


def test_ratios_are_metrics_with_names_that_clients_know():
    scripted = Scripted()
    telemetry = Telemetry("1.2.3")
    Pacing(scripted, telemetry, scripted)
    scripted.now = state(2.0, 1.9, 3.8) | {("cpu-0", "digits@77aa", "cnn"): 1.0}

    def value(model, variant):
        labels = {"worker": "cpu-0", "model": model, "variant": variant}
        return telemetry.registry.get_sample_value("peekserve_pace_ratio", labels)

    assert [value("", ""), value("digits", "cnn"), value("digits", "tree")] == [2.0, 1.9, 3.8]
