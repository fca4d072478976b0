"""A real server with real models: other people's clients, killed workers, a journal, a polite end."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import psutil
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

from peekserve.cli.launch import ServerProcess
from peekserve.loadgen.client import Call, send

pytestmark = pytest.mark.whole


def infer_input(module, name, values):
    tensor = module.InferInput(name, values.shape, "FP32")
    tensor.set_data_from_numpy(values)
    return tensor


def http_infer(client, images, version="", binary=True, timeout=None, module=over_http):
    tensor = module.InferInput("image", images.shape, "FP32")
    if module is over_http:
        tensor.set_data_from_numpy(images, binary_data=binary)
        outputs = [module.InferRequestedOutput(n, binary_data=binary) for n in ("label", "scores")]
    else:
        tensor.set_data_from_numpy(images)
        outputs = [module.InferRequestedOutput(n) for n in ("label", "scores")]
    return client.infer("digits", [tensor], model_version=version, outputs=outputs, timeout=timeout)


def test_tritonclient_sees_a_live_ready_described_server(server):
    client = over_http.InferenceServerClient(server.http)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "committee")
    metadata = client.get_model_metadata("digits")
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 8, 8]}]
    assert "committee" in metadata["versions"]
    assert client.get_model_config("digits")["max_batch_size"] >= 32
    assert client.get_inference_statistics("digits")["model_stats"]


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_infers_in_json_and_binary(server, digits, binary):
    client = over_http.InferenceServerClient(server.http)
    result = http_infer(client, digits["image"][:4].astype(np.float32), binary=binary)
    assert result.as_numpy("label").shape == (4,)
    np.testing.assert_allclose(result.as_numpy("scores").sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("module", [over_http, over_grpc])
def test_rows_together_are_answered_as_rows_alone(server, digits, module):
    client = module.InferenceServerClient(server.http if module is over_http else str(server.told["grpc"]))
    images = digits["image"][:12].astype(np.float32)
    for version in ("linear", "committee"):
        together = http_infer(client, images, version, module=module, timeout=9_000_000).as_numpy("scores")
        alone = [
            http_infer(client, images[i : i + 1], version, module=module, timeout=9_000_000).as_numpy(
                "scores"
            )[0]
            for i in range(12)
        ]
        np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)


def test_a_pinned_variant_answers_and_says_so(server, digits):
    client = over_http.InferenceServerClient(server.http)
    response = http_infer(client, digits["image"][:1].astype(np.float32), "mlp").get_response()
    assert response["model_version"] == "mlp"
    assert response["parameters"]["variant"] == "mlp"
    assert len(response["parameters"]["revision"]) == 64


def test_the_served_accuracy_is_that_of_the_models(server, digits):
    client = over_http.InferenceServerClient(server.http)
    images, labels = digits["image"].astype(np.float32)[:200], digits["labels"][:200]
    said = np.concatenate(
        [
            http_infer(client, images[i : i + 20], "committee", timeout=9_000_000).as_numpy("label")
            for i in range(0, 200, 20)
        ]
    )
    assert (said == labels).mean() > 0.85


def test_lengths_that_vary_are_answered_the_same_in_any_company(server, appliances):
    client = over_http.InferenceServerClient(server.http)
    lengths = appliances["current_length"]
    rows = [int(np.flatnonzero(lengths <= 256)[0]), int(np.argmax(lengths))]
    for row in rows:
        wave = appliances["current"][row, : lengths[row]].astype(np.float32)
        result = client.infer("appliances", [infer_input(over_http, "current", wave[None])])
        assert result.as_numpy("scores").shape == (1, 11)


def post(server, path, body, headers=None):
    request = urllib.request.Request(
        f"http://{server.http}{path}", body, headers or {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


IMAGE = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"shape": [1, 8, 9], "data": [0.0] * 72}, 400, "image"),
        ({"name": "picture"}, 400, "image"),
        ({"datatype": "FP99"}, 400, "FP99"),
        ({"data": [0.0] * 63}, 400, "64"),
        ({"data": [float("nan")] * 64}, 400, ""),
        ({"data": ["x"] * 64}, 400, ""),
    ],
)
def test_bad_tensors_get_a_clear_4xx_and_the_server_goes_on(server, change, status, words):
    code, told = post(server, "/v2/models/digits/infer", json.dumps({"inputs": [IMAGE | change]}).encode())
    assert code == status
    assert words in told["error"]
    assert post(server, "/v2/models/digits/infer", json.dumps({"inputs": [IMAGE]}).encode())[0] == 200


def test_a_deadline_that_nothing_can_meet_is_told_in_time(server):
    body = json.dumps({"inputs": [IMAGE], "parameters": {"deadline_ms": 0.001}}).encode()
    code, told = post(server, "/v2/models/digits/versions/committee/infer", body)
    assert code in (503, 504)
    assert told["code"] in ("deadline_infeasible", "deadline_exceeded")


def load(digits, rate, seconds, seed=0):
    rng = np.random.default_rng(seed)
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "image",
                    "shape": [1, 8, 8],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": 256},
                }
            ]
        }
    ).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(header)),
        "Content-Type": "application/octet-stream",
    }
    images = digits["image"].astype(np.float32)
    instants = np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds)))
    return [
        Call(float(at), "/v2/models/digits/infer", header + images[i % len(images)].tobytes(), headers)
        for i, at in enumerate(instants)
    ]


def workers_of(pid):
    return [
        p for p in psutil.Process(pid).children(recursive=True) if "peekserve.workers.child" in p.cmdline()
    ]


def test_ten_killed_workers_under_load_leave_no_request_without_an_outcome_and_none_with_two(
    repository, digits, tmp_path
):
    journal = tmp_path / "killed.journal"
    settings = {"log": "info", "journal": str(journal)}
    log = tmp_path / "server.log"
    with ServerProcess(repository, settings, log) as server:
        killed = []

        async def kill_ten():
            while len(killed) < 10:
                # Longer than a second, so that each is a worker at work and not one that never came up.
                await asyncio.sleep(1.05)
                for worker in workers_of(server.pid):
                    if worker.pid not in killed:
                        worker.kill()
                        killed.append(worker.pid)

        async def story():
            task = asyncio.create_task(kill_ten())
            replies = await send(server.http, load(digits, rate=80, seconds=13.0))
            await task
            return replies

        replies = asyncio.run(story())
        assert len(killed) == 10
        assert {r.status for r in replies} <= {
            200,
            503,
            504,
        }  # an outcome each, and none of them a broken server
        assert sum(r.status == 200 for r in replies) > len(replies) / 2
        client = over_http.InferenceServerClient(server.http)
        assert http_infer(client, digits["image"][:1].astype(np.float32), timeout=9_000_000) is not None
        assert server.stop() == 0
    logged = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    ids = [line["request_id"] for line in logged if line["event"] == "request" and "request_id" in line]
    assert len(ids) == len(set(ids)) == len(replies) + 1
    # What the journal of all this says is done again, decision by decision, in a process with another hash seed.
    command = [sys.executable, "-m", "peekserve.cli.main", "replay", str(journal), "--json"]
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["steps"] > len(replies)


def test_it_ends_politely_and_leaves_no_process_behind(repository, tmp_path):
    with ServerProcess(repository, {"log": "error"}, tmp_path / "log") as server:
        workers = workers_of(server.pid)
        assert workers
        assert server.stop() == 0
    assert not [p for p in workers if p.is_running()]


def test_a_model_without_a_profile_is_served_and_marked(repository, digits, tmp_path):
    state = tmp_path / "empty-state"
    with ServerProcess(repository, {"log": "error", "state": str(state)}, tmp_path / "log") as server:
        client = over_http.InferenceServerClient(server.http)
        response = http_infer(
            client, digits["image"][:1].astype(np.float32), timeout=9_000_000
        ).get_response()
        assert "expected_accuracy" not in response["parameters"]
        metadata = client.get_model_metadata("digits", "mlp")
        assert metadata["properties"]["profile.mlp"] == "provisional"
        assert response["parameters"]["profile"] == "provisional"


def test_a_folder_that_is_no_repository_ends_with_3_and_a_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "peekserve.cli.main", "serve", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "no application here" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_simulation_in_which_nothing_arrives_ends_with_a_sentence(repository):
    command = [sys.executable, "-m", "peekserve.cli.main", "simulate", str(repository)]
    few = ["--rate", "0.01", "--seconds", "0.1"]
    done = subprocess.run([*command, *few], capture_output=True, text=True)
    assert done.returncode == 1
    assert "nothing arrives in 0.1 s at 0.01 a second" in done.stderr
    assert "Traceback" not in done.stderr
