import pytest

from peekserve.errors import InvalidConfiguration
from peekserve.registry.settings import Address, Limits, PolicySettings, ServerSettings, Slot, read_settings

FULL = """\
http: 0.0.0.0:9000
grpc: off
policy: {name: grouped, aware: true, short_circuit: false, options: {limit: 500}}
planning: window(100ms)
workers:
  - {name: one, device: cpu:0, memory: 512MiB, cores: [1]}
  - {device: "cpu:1"}
margin: 3ms
peek_patience: 5ms
normalise: true
beliefs: calibrated
escalate: off
escalate_gain: 0.05
limits: {body: 1MiB, rows: 16, waiting_rows: 64, waiting_bytes: 2MiB}
log: debug
state: /var/lib/peekserve
journal: run.journal
supernets: torch
follow_pace: false
"""


def test_nothing_written_means_the_defaults(tmp_path):
    settings, origins = read_settings(tmp_path)
    assert settings == ServerSettings()
    assert origins.of("margin") == "default"


def test_every_key_of_the_file(tmp_path):
    (tmp_path / "peekserve.yaml").write_text(FULL)
    settings, origins = read_settings(tmp_path)
    assert settings == ServerSettings(
        http=Address("0.0.0.0", 9000),
        grpc=None,
        policy=PolicySettings("grouped", True, False, True, True, {"limit": 500.0}),
        window_s=0.1,
        workers=(Slot("one", "cpu:0", 512 << 20, (1,)), Slot("cpu-1", "cpu:1")),
        margin_s=0.003,
        peek_patience_s=0.005,
        normalise=True,
        beliefs="calibrated",
        escalate=False,
        escalate_gain=0.05,
        limits=Limits(1 << 20, 16, 64, 2 << 20),
        log="debug",
        state="/var/lib/peekserve",
        journal="run.journal",
        supernets="torch",
        follow_pace=False,
    )
    assert origins.of("limits.rows") == f"{tmp_path}/peekserve.yaml:14"


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path):
    (tmp_path / "peekserve.yaml").write_text(FULL)
    environment = {
        "PEEKSERVE_LIMITS__ROWS": "32",
        "PEEKSERVE_MARGIN": "4ms",
        "PEEKSERVE_WORKERS": "[{memory: 64MiB}]",
        "PEEKSERVE_DATA": "/data",
        "HOME": "/root",
    }
    settings, origins = read_settings(tmp_path, environment, {"margin": "5ms", "policy": "lo-edf"})
    assert settings.limits == Limits(1 << 20, 32, 64, 2 << 20)
    assert settings.margin_s == 0.005
    assert settings.workers == (Slot(memory=64 << 20),)
    assert settings.policy == PolicySettings("lo-edf")
    assert origins.of("margin") == "--margin"
    assert origins.of("limits.rows") == "PEEKSERVE_LIMITS__ROWS"
    assert origins.of("limits.body").endswith("peekserve.yaml:14")


def test_a_switch_can_be_set_beside_a_policy_named_in_one_word(tmp_path):
    (tmp_path / "peekserve.yaml").write_text("policy: grouped\n")
    settings, _ = read_settings(tmp_path, {"PEEKSERVE_POLICY__AWARE": "false"})
    assert settings.policy == PolicySettings("grouped", aware=False)


@pytest.mark.parametrize(("written", "read"), [("auto", None), ("on", True), ("off", False)])
def test_whether_to_escalate(tmp_path, written, read):
    (tmp_path / "peekserve.yaml").write_text(f"escalate: {written}\n")
    assert read_settings(tmp_path)[0].escalate is read
    assert read_settings(tmp_path, {"PEEKSERVE_ESCALATE": "auto"})[0].escalate is None
    settings, origins = read_settings(tmp_path, {}, {"escalate": "off", "escalate_gain": "0.1"})
    assert (settings.escalate, settings.escalate_gain) == (False, 0.1)
    assert origins.of("escalate") == "--escalate"


@pytest.mark.parametrize(
    ("address", "read"),
    [
        ("8080", Address("127.0.0.1", 8080)),
        ("box:0", Address("box", 0)),
        ("'[::1]:80'", Address("::1", 80)),
        ("':80'", Address("127.0.0.1", 80)),
    ],
)
def test_addresses(tmp_path, address, read):
    (tmp_path / "peekserve.yaml").write_text(f"http: {address}\n")
    assert read_settings(tmp_path)[0].http == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("supernets: jax", "peekserve.yaml:1: supernets: unknown runtime 'jax'; known: onnx, torch"),
        (
            "workers: [{device: cuda:0}]",
            "peekserve.yaml:1: workers: worker 'cuda-0' is on cuda:0, where only subnets run, and in torch; write "
            "supernets: torch, or cpu:0",
        ),
        ("margn: 2ms", "peekserve.yaml:1: unknown key 'margn'; did you mean 'margin'?"),
        (
            "http: here",
            "peekserve.yaml:1: http: 'here' is no address; write HOST:PORT, for example 0.0.0.0:8000",
        ),
        ("http: box:99999", "peekserve.yaml:1: http: 'box:99999' is no address"),
        ("planning: window(100)", "peekserve.yaml:1: planning: 100 has no unit; write 100ms or 100s"),
        (
            "planning: often",
            "peekserve.yaml:1: planning: 'often' is no way to plan; write rolling, window(100ms) or "
            "window(100ms, rebalance=20ms)",
        ),
        ("workers: []", "peekserve.yaml:1: workers: a server needs one worker or more"),
        ("workers: [{}, {}]", "peekserve.yaml:1: workers: two workers have one name: cpu-0, cpu-0"),
        ("workers: [{memory: -1MiB}]", "peekserve.yaml:1: workers[0].memory: -1MiB is below zero"),
        ("workers: [{device: tpu:0}]", "peekserve.yaml:1: workers[0].device: 'tpu:0' is no device"),
        ("policy: {aware: yes}", "peekserve.yaml:1: policy.aware: unknown value 'yes'; known: true, false"),
        ("policy: snekpeek", "peekserve.yaml:1: policy: unknown policy 'snekpeek'; did you mean 'sneakpeek'"),
        (
            "policy: optimal",
            "peekserve.yaml:1: policy: 'optimal' is a yardstick for small windows and cannot serve",
        ),
        ("policy: horizn", "peekserve.yaml:1: policy: unknown policy 'horizn'; did you mean 'horizon'"),
        ("escalate: of", "peekserve.yaml:1: escalate: unknown value 'of'; did you mean 'off'?"),
        ("escalate: true", "peekserve.yaml:1: escalate: unknown value 'true'; known: auto, on, off"),
        ("escalate_gain: 2", "peekserve.yaml:1: escalate_gain: 2 is not from 0 to 1"),
        (
            "escalate_gian: 0.1",
            "peekserve.yaml:1: unknown key 'escalate_gian'; did you mean 'escalate_gain'?",
        ),
        ("limits: {rows: 0}", "peekserve.yaml:1: limits.rows: 0 is not 1 or more"),
        ("[a]", "peekserve.yaml:1: must be a mapping of settings"),
    ],
)
def test_each_mistake_is_named(tmp_path, text, message):
    (tmp_path / "peekserve.yaml").write_text(text)
    with pytest.raises(InvalidConfiguration) as raised:
        read_settings(tmp_path)
    assert f"{tmp_path}/{message}" in str(raised.value)


def test_a_variable_that_is_nearly_a_setting_was_meant_to_be_one(tmp_path):
    with pytest.raises(InvalidConfiguration, match=r"PEEKSERVE_MARGN: unknown setting .* PEEKSERVE_MARGIN"):
        read_settings(tmp_path, {"PEEKSERVE_MARGN": "2ms"})
    with pytest.raises(
        InvalidConfiguration, match="PEEKSERVE_LIMITS__ROW: limits: unknown key 'row'; did you mean"
    ):
        read_settings(tmp_path, {"PEEKSERVE_LIMITS__ROW": "2"})
    with pytest.raises(InvalidConfiguration, match="--workers: not YAML"):
        read_settings(tmp_path, {}, {"workers": "[{"})
