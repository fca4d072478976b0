"""Workers that keep another device's pace: stated for it in application.yaml, chosen in peekserve.yaml."""

from dataclasses import replace

import pytest

from peekserve.cli.assembly import lay_out, own_slot, scheduler_spec
from peekserve.domain.profile import LatencyCurve, Timing
from peekserve.errors import InvalidConfiguration
from peekserve.profiling.device import fingerprint, fingerprint_of
from peekserve.registry.check import check
from peekserve.registry.profiled import with_profiles
from peekserve.registry.repository import read_repository
from peekserve.registry.settings import read_settings
from peekserve.registry.stated import STATED
from tests.registry import folders

WORKERS = """
workers:
  - {name: here}
  - {name: big, runtime: {kind: paced, device: big}, memory: 64MiB}
  - {name: little, runtime: {kind: paced, device: little}}
"""


def test_a_window_may_be_rebalanced(tmp_path):
    settings = settings_of(tmp_path, "planning: window(100ms, rebalance=20ms)")
    assert (settings.window_s, settings.rebalance_s) == (0.1, 0.02)
    assert scheduler_spec(settings).planning == "window(100ms, rebalance=20ms)"
    with pytest.raises(InvalidConfiguration, match="no way to plan"):
        settings_of(tmp_path, "planning: window(100ms, balance=20ms)")


def settings_of(folder, text):
    (folder / "peekserve.yaml").write_text(text)
    return read_settings(folder, {})[0]


def test_a_paced_worker_is_known_by_the_device_that_it_imitates(tmp_path):
    layout = lay_out(settings_of(tmp_path, WORKERS))
    assert [(s.name, s.device, s.runtime.kind) for s in layout.slots] == [
        ("here", "cpu", "onnx"), ("big", "big", "paced"), ("little", "little", "paced"),
    ]  # fmt: skip
    assert own_slot(layout).name == "here"
    imitating = replace(layout, slots=layout.slots[1:])
    assert (own_slot(imitating).device, own_slot(imitating).runtime.kind) == ("cpu", "onnx")


def test_subnets_in_torch_are_timed_apart_from_those_in_onnx(tmp_path):
    text = "supernets: torch\nworkers: [{}, {device: cuda:1}, {name: slow, runtime: {kind: paced, device: slow}}]"
    layout = lay_out(settings_of(tmp_path, text))
    assert [(s.name, s.device, s.runtime.kind) for s in layout.slots] == [
        ("cpu-0", "cpu:torch", "elastic"), ("cuda-1", "cuda:1", "elastic"), ("slow", "slow", "paced"),
    ]  # fmt: skip
    assert len({fingerprint_of(device) for device in ("cpu", "cpu:torch", "cuda:1")}) == 3
    assert fingerprint_of("cpu") == fingerprint_of("slow") == fingerprint()


@pytest.mark.parametrize(
    ("runtime", "what"),
    [
        ("{kind: paced}", "needs the device whose pace it keeps"),
        ("{kind: onnx, device: big}", "no other runtime has one"),
        ("{kind: paced, device: cpu}", "'cpu' is a device of this machine"),
        ("{kind: padded, device: big}", "'padded'"),
        ("torch", "'torch'"),
    ],
)
def test_what_cannot_be_imitated_is_said(tmp_path, runtime, what):
    with pytest.raises(InvalidConfiguration, match=what):
        settings_of(tmp_path, f"workers: [{{runtime: {runtime}}}]")


def a_repository(folder, devices):
    """One whose first variant states timings for these devices."""
    text = folders.DIGITS.replace("memory: 12MiB}", f"memory: 12MiB, devices: {{{devices}}}}}")
    return read_repository(folders.repository(folder, text), folders.one_tensor)


class Measured:
    """A store in which everything was measured here."""

    timing_here = Timing((LatencyCurve((1,), (0.005,)),))

    def timing(self, model_sha, fingerprint):
        return self.timing_here

    def quality(self, model_sha, validation_sha):
        return None

    def timings_elsewhere(self, model_sha):
        return ()

    peek_quality = peek_latency = calibration = agreement = quality


def test_timings_are_stated_by_device_and_measurements_leave_them_alone(tmp_path):
    stated = "big: {latency: {1: 2ms, 8: 4ms}, load: 20ms, memory: 1MiB}, little: {latency: 9ms}"
    app = a_repository(tmp_path, stated).sound().applications[0]
    for device in ("cpu", "big", "little", "unheard-of"):
        app = with_profiles(app, Measured(), "this machine", "", device)
    timing = app.variants[0].timing
    assert set(timing) == {STATED, "cpu", "big", "little"}
    assert set(app.variants[1].timing) == {"cpu"}
    assert timing["cpu"] is Measured.timing_here
    assert timing["big"].curve(0).seconds(8) == pytest.approx(0.004)
    assert (timing["big"].load_s, timing["big"].bytes) == (0.020, 1 << 20)
    assert timing["little"].curve(0).seconds(1) == pytest.approx(0.009)


def test_a_device_without_a_latency_is_an_error(tmp_path):
    problems = a_repository(tmp_path, "big: {memory: 20MiB}").problems
    assert any("states no latency" in str(p) for p in problems)


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        ("big: {latency: 2ms}, little: {latency: 9ms}", []),
        (
            "bigg: {latency: 2ms}, little: {latency: 9ms}",
            [
                "worker 'big': no variant states times for the device 'big': nothing will ever run there; did you mean "
                "'bigg'?"
            ],
        ),
    ],
)
def test_a_worker_that_imitates_what_nobody_states_is_warned_of(tmp_path, devices, told):
    root = tmp_path / "repository"
    a_repository(root, devices)
    settings_of(root, WORKERS)
    found = check(root, {}, lambda application, variants: ("",) * len(variants), folders.untouched)
    assert [str(p).partition(": ")[2].removeprefix("warning: ") for p in found] == told
