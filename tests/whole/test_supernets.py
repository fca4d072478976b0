"""A supernet of four tiny subnets behind a real server: each is a version, and one load serves them all."""

import re
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import tritonclient.http as over_http

from peekserve.cli.launch import ServerProcess
from peekserve.registry.repository import read_repository
from peekserve.runtimes.onnx import OnnxRuntime
from tests.registry.test_supernets import TINY, repository
from tests.runtimes.nets import SUBNETS
from tests.runtimes.tiny import CLASSES, some_rows
from tests.whole.test_serving import workers_of

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The repository, profiled, and its server."""
    root = tmp_path_factory.mktemp("supernets") / "repository"
    repository(root, TINY + "validation: validation.npz\n")
    np.savez(root / "tiny" / "validation.npz", signal=some_rows(30), labels=np.arange(30) % CLASSES)
    command = [sys.executable, "-m", "peekserve.cli.main", "profile", str(root), "--quick", "--json"]
    subprocess.run(command, check=True, capture_output=True)
    log = root.parent / "server.log"
    with ServerProcess(root, {"log": "error"}, log) as server:
        yield root, server


def infer(client, rows, version, **options):
    tensor = over_http.InferInput("signal", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    return client.infer("tiny", [tensor], model_version=version, **options)


def loads(server):
    with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=10) as response:
        told = response.read().decode()
    (count,) = re.findall(r'^peekserve_model_loads_total\{.*result="ok".*\} (\S+)$', told, re.M)
    return float(count)


def test_each_subnet_is_a_version_that_answers_as_itself_and_none_needs_another_load(served):
    root, server = served
    client = over_http.InferenceServerClient(server.http)
    runtime, rows = OnnxRuntime(), some_rows(5, seed=9)
    variants = read_repository(root).applications[0].variants
    runtime.load(variants[0], CLASSES)
    for variant in (*variants, *reversed(variants)):
        result = infer(client, rows, variant.name)
        assert result.get_response()["parameters"]["variant"] == variant.name
        expected = runtime.run(variant, CLASSES, {"signal": rows})
        np.testing.assert_allclose(result.as_numpy("scores"), expected, atol=1e-5)
    assert loads(server) == 1.0


def test_the_subnets_are_described_as_versions_of_the_model(served):
    _, server = served
    metadata = over_http.InferenceServerClient(server.http).get_model_metadata("tiny")
    assert metadata["versions"] == [f"wide.{name}" for name in SUBNETS]


def test_a_profile_has_one_load_and_one_size_for_all_subnets(served):
    root, _ = served
    from peekserve.cli.assembly import open_store, read_profiled
    from peekserve.registry.settings import read_settings

    settings, _ = read_settings(root)
    with open_store(root, settings) as store:
        (tiny,) = read_profiled(root, store, ["cpu"], print)
    timings = [variant.timing["cpu"] for variant in tiny.variants]
    assert len({(timing.load_s, timing.bytes) for timing in timings}) == 1
    assert timings[0].load_s > 0.0
    assert all(variant.profiled == "complete" for variant in tiny.variants)


def test_a_subnet_that_is_not_served_is_named_with_those_that_are(served):
    _, server = served
    client = over_http.InferenceServerClient(server.http)
    with pytest.raises(over_http.InferenceServerException, match=r"wide\.d3\.w50.*wide\.d2\.w100"):
        infer(client, some_rows(1), "wide.d3.w50")


def test_the_worker_after_a_killed_one_serves_every_subnet_after_one_load_too(served):
    _, server = served
    client, rows = over_http.InferenceServerClient(server.http), some_rows(3)
    before = {name: infer(client, rows, f"wide.{name}").as_numpy("scores") for name in SUBNETS}
    loaded = loads(server)
    (worker,) = workers_of(server.pid)
    worker.kill()
    worker.wait(10)
    for name in reversed(SUBNETS):
        after = infer(client, rows, f"wide.{name}", timeout=9_000_000).as_numpy("scores")
        assert np.array_equal(after, before[name])
    assert loads(server) == loaded + 1.0
