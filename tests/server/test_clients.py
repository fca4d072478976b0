"""Someone else's client against a server that really listens: tritonclient over HTTP and gRPC, on free ports."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

from peekserve.errors import InvalidConfiguration
from peekserve.live.loop import run
from peekserve.server.oip import GrpcServer
from peekserve.server.run import HttpServer
from tests.server.scripted import Doors, ScriptedBackend

pytestmark = pytest.mark.whole

ROWS = np.array([[0, 9, 9, 9], [2, 9, 9, 9], [1, 9, 9, 9]], np.float32)


class Serving:
    """Both doors, served from a thread of their own."""

    def __init__(self, backend: ScriptedBackend) -> None:
        self.doors = Doors(backend)
        self.http = self.grpc = ""
        self._ready = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=lambda: run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        doors = self.doors
        http = HttpServer(doors.app, port=0)
        grpc = GrpcServer(doors.desk, doors.accounts, doors.descriptions, port=0)
        self.http = "{}:{}".format(*await http.start())
        self.grpc = "{}:{}".format(*await grpc.start())
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._over.wait()
        await http.stop()
        await grpc.stop()

    @contextmanager
    def running(self) -> Iterator["Serving"]:
        self._thread.start()
        assert self._ready.wait(20)
        try:
            yield self
        finally:
            self.stop()
            self._thread.join(20)
            assert not self._thread.is_alive()

    def stop(self) -> None:
        """The beginning of the end; once is enough."""
        if not self._stopping:
            self._stopping = True
            self._loop.call_soon_threadsafe(self._over.set)


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with Serving(ScriptedBackend()).running() as serving:
        yield serving


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request, serving):
    module = over_http if request.param == "http" else over_grpc
    made = module.InferenceServerClient(getattr(serving, request.param))
    yield module, made
    made.close()


def an_input(module, rows, name="x", datatype="FP32", **rest):
    tensor = module.InferInput(name, list(rows.shape), datatype)
    tensor.set_data_from_numpy(rows, **rest)
    return tensor


def test_it_is_alive_and_ready(client):
    _, triton = client
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("plain")
    assert triton.is_model_ready("plain", "large")


def test_metadata_configuration_statistics_and_index(serving):
    with over_http.InferenceServerClient(serving.http) as triton:
        assert triton.get_server_metadata()["name"] == "peekserve"
        assert triton.get_model_metadata("plain")["versions"] == ["small", "large"]
        assert triton.get_model_config("plain")["max_batch_size"] == 8
        assert triton.get_model_repository_index()[0]["state"] == "READY"
        assert triton.get_inference_statistics("plain")["model_stats"][0]["name"] == "plain"
    with over_grpc.InferenceServerClient(serving.grpc) as triton:
        assert triton.get_server_metadata().name == "peekserve"
        metadata = triton.get_model_metadata("plain")
        assert list(metadata.versions) == ["small", "large"]
        assert (metadata.inputs[0].datatype, list(metadata.inputs[0].shape)) == ("FP32", [-1, 4])
        config = triton.get_model_config("plain", as_json=True)["config"]
        assert config["max_batch_size"] == 8
        assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}]
        assert config["output"][2]["data_type"] == "TYPE_STRING"
        assert triton.get_model_repository_index().models[0].state == "READY"
        triton.infer("plain", [an_input(over_grpc, ROWS)])
        stats = triton.get_inference_statistics("plain").model_stats[0]
        assert stats.inference_stats.success.count >= 1
        assert stats.batch_stats[0].compute_infer.count >= 1


def test_rows_in_answers_out(client):
    module, triton = client
    answer = triton.infer("plain", [an_input(module, ROWS)], request_id="seven")
    assert answer.as_numpy("label").tolist() == [0, 2, 1]
    assert answer.as_numpy("scores").tolist() == np.eye(3, dtype=np.float32)[[0, 2, 1]].tolist()
    response = answer.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "seven"


def test_rows_together_equal_rows_alone(client):
    module, triton = client
    together = triton.infer("plain", [an_input(module, ROWS)]).as_numpy("scores")
    alone = [
        triton.infer("plain", [an_input(module, ROWS[i : i + 1])]).as_numpy("scores")[0] for i in range(3)
    ]
    assert np.array_equal(together, np.array(alone))


def test_json_tensors_and_json_answers(serving):
    with over_http.InferenceServerClient(serving.http) as triton:
        wanted = [over_http.InferRequestedOutput(name, binary_data=False) for name in ("label", "class")]
        answer = triton.infer("plain", [an_input(over_http, ROWS, binary_data=False)], outputs=wanted)
        assert answer.as_numpy("label").tolist() == [0, 2, 1]
        assert answer.get_response()["outputs"][1]["data"] == ["low", "high", "mid"]
        mixed = triton.infer("plain", [an_input(over_http, ROWS, binary_data=False)])
        assert mixed.as_numpy("label").tolist() == [0, 2, 1]


def test_class_names_come_as_bytes(client):
    module, triton = client
    wanted = [module.InferRequestedOutput("class")]
    answer = triton.infer("plain", [an_input(module, ROWS)], outputs=wanted)
    assert answer.as_numpy("class").tolist() == [b"low", b"high", b"mid"]


def test_a_version_pins_a_variant(client, serving):
    module, triton = client
    answer = triton.infer("plain", [an_input(module, ROWS)], model_version="large").get_response()
    version = answer["model_version"] if isinstance(answer, dict) else answer.model_version
    assert version == "large"


def test_a_timeout_becomes_the_deadline(client, serving):
    module, triton = client
    triton.infer("plain", [an_input(module, ROWS)], timeout=30_000, parameters={"query": "urgent"})
    request = serving.doors.backend.last.request
    assert (request.query, request.deadline_s) == ("urgent", pytest.approx(0.03))


def test_errors_arrive_with_their_sentence(client):
    module, triton = client
    with pytest.raises(InferenceServerException, match="no application 'nobody'"):
        triton.infer("nobody", [an_input(module, ROWS)])
    with pytest.raises(InferenceServerException, match=r"shape \[-1, 4\]"):
        triton.infer("plain", [an_input(module, ROWS[:, :2].copy())])


def test_nobody_loads_or_unloads_by_hand_and_the_client_is_told_why(client):
    _, triton = client
    for control in (triton.load_model, triton.unload_model):
        with pytest.raises(InferenceServerException, match="not loaded or unloaded by hand"):
            control("plain")


def test_a_client_that_hangs_up_cancels(serving):
    with Serving(ScriptedBackend(script=None)).running() as holding:
        backend = holding.doors.backend
        host, port = holding.http.split(":")
        body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[0,0,0,0]}]}'
        with socket.create_connection((host, int(port))) as raw:
            head = f"POST /v2/models/plain/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            raw.sendall(head.encode() + body)
            wait_for(lambda: backend.held)
        wait_for(lambda: backend.cancelled == ["test-1"])
        with over_grpc.InferenceServerClient(holding.grpc) as triton:
            with pytest.raises(InferenceServerException, match="Deadline"):
                triton.infer("plain", [an_input(over_grpc, ROWS)], client_timeout=0.05)
            wait_for(lambda: backend.cancelled == ["test-1", "test-2"])
        # gRPC rounds a call's time up when it sends it; the application's own deadline is a second.
        assert backend.last.request.deadline_s < 0.1


def test_an_address_in_use_is_a_clear_error(serving):
    host, port = serving.http.split(":")

    async def again() -> None:
        await HttpServer(serving.doors.app, host, int(port)).start()

    with pytest.raises(InvalidConfiguration, match=f"cannot listen at {serving.http}"):
        run(again())


def wait_for(condition, seconds=10.0):
    over = threading.Event()
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        over.wait(0.005)
    raise AssertionError("it did not happen")
