"""What clients, load balancers and service managers see of a server that is asked to stop."""

import json
import os
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as over_grpc
from tritonclient.utils import InferenceServerException

from peekserve.cli.launch import ServerProcess
from peekserve.server.oip import NOT_SERVING, SERVING
from peekserve.server.oip_messages import HEALTH_V1

pytestmark = pytest.mark.whole

PINNED = "/v2/models/digits/versions/linear/infer"
PACED = "runtime: {kind: paced, device: slow}"
SLOW = "profile: {devices: {slow: {latency: 6s, load: 1ms}}}"


@pytest.fixture(scope="module")
def slow_repository(repository, tmp_path_factory):
    """Digits, with six seconds for each batch: requests that are long under way."""
    root = tmp_path_factory.mktemp("slow")
    shutil.copytree(repository / "digits", root / "digits")
    file = root / "digits" / "application.yaml"
    file.write_text(file.read_text().replace("    max_batch: 32\n", f"    max_batch: 32\n    {SLOW}\n"))
    (root / "peekserve.yaml").write_text(
        f"workers: [{{name: one, {PACED}}}, {{name: two, {PACED}}}]\npolicy: {{short_circuit: false}}\n"
    )
    return root


def asking(milliseconds):
    tensor = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}
    return {"inputs": [tensor], "parameters": {"deadline_ms": milliseconds}}


def an_image():
    tensor = over_grpc.InferInput("image", [1, 8, 8], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 8, 8), np.float32))
    return [tensor]


def health_of(channel):
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    return HEALTH_V1["HealthCheckResponse"].FromString(check(b"", timeout=10)).status


def test_it_says_so_serves_on_drains_and_ends_well(slow_repository, tmp_path, monkeypatch):
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.bind(str(tmp_path / "notify"))
    heard.settimeout(10.0)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    settings = {"grpc": "127.0.0.1:0", "drain.delay": "3s", "drain.at_most": "20s", "log": "info"}
    log = tmp_path / "server.log"
    with ServerProcess(slow_repository, settings, log) as server, ThreadPoolExecutor(2) as beside:
        assert heard.recv(100) == b"READY=1"
        assert heard.recv(100) == b"WATCHDOG=1"
        channel = grpc.insecure_channel(str(server.told["grpc"]))
        calls = over_grpc.InferenceServerClient(str(server.told["grpc"]))
        client = httpx.Client(base_url=f"http://{server.http}", timeout=20)
        assert health_of(channel) == SERVING

        os.kill(server.pid, signal.SIGTERM)
        while client.get("/v2/health/ready").status_code == 200:
            pass
        told = b"WATCHDOG=1"
        while told == b"WATCHDOG=1":
            told = heard.recv(100)
        assert told == b"STOPPING=1"
        assert heard.recv(100) == b"WATCHDOG=1", "it is alive as long as it drains"
        # Not ready, and alive, and whoever has not heard of it yet is served.
        assert client.get("/v2/health/live").status_code == 200
        assert health_of(channel) == NOT_SERVING
        assert not calls.is_server_ready()
        late = beside.submit(client.post, PINNED, json=asking(9000))
        later = beside.submit(calls.infer, "digits", an_image(), "linear", parameters={"deadline_ms": 9000.0})

        # Both are under way when the delay is over: they are answered, and nobody else is.
        with httpx.Client(base_url=f"http://{server.http}", timeout=20) as other:
            while (refused := other.post(PINNED, json=asking(1))).json()["code"] != "draining":
                pass
            assert (refused.status_code, refused.headers["connection"]) == (503, "close")
            with pytest.raises(InferenceServerException, match="going down") as error:
                over_grpc.InferenceServerClient(str(server.told["grpc"])).infer(
                    "digits", an_image(), "linear"
                )
            assert error.value.status() == str(grpc.StatusCode.UNAVAILABLE)
            assert other.get("/v2/health/live").status_code == 200
        assert late.result().status_code == 200
        assert later.result().as_numpy("label").shape == (1,)
        server.wait()
        assert server.stop() == 0
    heard.close()
    told = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    [draining] = [line for line in told if line["event"] == "draining"]
    assert draining["open"] == 2, "both were under way when the delay was over"


def test_asked_twice_it_ends_at_once(slow_repository, tmp_path):
    with ServerProcess(slow_repository, {"drain.delay": "600s"}, tmp_path / "log") as server:
        os.kill(server.pid, signal.SIGTERM)
        with httpx.Client(base_url=f"http://{server.http}", timeout=20) as client:
            while client.get("/v2/health/ready").status_code == 200:
                pass
        assert server.stop() == 128 + signal.SIGTERM
