"""The HTTP door, called in process, a scripted backend behind it."""

import json
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from peekserve.domain.request import Outcome, Reason
from peekserve.server.frontdesk import Limits
from tests.server.scripted import Doors, ScriptedBackend, by_first_value, each_row_its_own, never

X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [2, 0, 0, 0]}


def a_client(doors: Doors) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(doors.app), base_url="http://test")


async def post(doors: Doors, path: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with a_client(doors) as client:
        return await client.post(path, content=content, headers=names)


async def get(doors: Doors, path: str, **headers: str) -> httpx.Response:
    async with a_client(doors) as client:
        return await client.get(path, headers=headers)


async def infer(doors: Doors, *inputs: Any, app: str = "plain", **rest: Any) -> httpx.Response:
    return await post(doors, f"/v2/models/{app}/infer", {"inputs": list(inputs), **rest})


async def test_a_json_request_is_answered_in_json():
    doors = Doors(ScriptedBackend())
    answer = await infer(doors, X, id="mine")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["server-timing"] == "queue;dur=2.000, infer;dur=10.000"
    told = answer.json()
    assert told["model_name"] == "plain"
    assert told["model_version"] == "small"
    assert told["id"] == "mine"
    assert told["outputs"] == [
        {"name": "label", "shape": [1], "datatype": "INT64", "data": [2]},
        {"name": "scores", "shape": [1, 3], "datatype": "FP32", "data": [0.0, 0.0, 1.0]},
    ]
    assert told["parameters"] == {
        "request_id": "test-1",
        "variant": "small",
        "revision": "sha-small",
        "source": "model",
        "expected_accuracy": 0.75,
        "deadline_met": True,
        "queue_us": 2000,
        "compute_us": 10000,
        "slack_us": 188000,
        "predicted_us": 11000,
    }


async def test_an_id_is_echoed_only_where_one_was_sent():
    doors = Doors(ScriptedBackend())
    assert "id" not in (await infer(doors, X)).json()
    answer = await post(doors, "/v2/models/plain/infer", {"inputs": [X]}, x_request_id="trace-7")
    assert answer.headers["x-request-id"] == "trace-7"


async def test_a_version_pins_a_variant():
    doors = Doors(ScriptedBackend())
    answer = await post(doors, "/v2/models/plain/versions/large/infer", {"inputs": [X]})
    assert answer.json()["model_version"] == "large"
    assert doors.backend.last.request.pinned == "large"


async def test_rows_may_be_answered_by_different_variants():
    doors = Doors(ScriptedBackend(each_row_its_own))
    answer = (await infer(doors, {**X, "shape": [2, 4], "data": [[0, 0, 0, 0], [1, 0, 0, 0]]})).json()
    assert answer["model_version"] == "mixed"
    assert answer["parameters"]["variants"] == "small,peek"
    assert answer["parameters"]["source"] == "mixed"
    assert answer["parameters"]["expected_accuracies"] == "0.75,0.75"
    assert answer["outputs"][0]["data"] == [0, 1]


async def test_an_answer_of_the_peek_says_so():
    doors = Doors(ScriptedBackend(each_row_its_own))
    told = (await infer(doors, X)).json()
    assert (told["model_version"], told["parameters"]["source"]) == ("peek", "peek")
    assert "revision" not in told["parameters"]


async def test_a_late_answer_is_an_answer():
    def late(request, inputs):
        return replace(by_first_value(request, inputs), outcome=Outcome.LATE, reason=Reason.LATE)

    doors = Doors(ScriptedBackend(late))
    answer = await infer(doors, X)
    assert answer.status_code == 200
    assert answer.json()["parameters"]["deadline_met"] is False
    assert 'outcome="late"' in doors.metrics()


async def test_an_answer_that_came_to_the_door_too_late_is_late_whatever_was_decided():
    doors = Doors(ScriptedBackend())  # which answers after 12 ms
    told = (await infer(doors, X, parameters={"deadline_ms": 5})).json()["parameters"]
    assert (told["deadline_met"], told["slack_us"]) == (False, -7000)
    assert 'outcome="late"' in doors.metrics()
    assert 'outcome="ok"' not in doors.metrics()


async def test_outputs_can_be_chosen():
    doors = Doors(ScriptedBackend())
    answer = await infer(doors, X, outputs=[{"name": "class"}])
    assert answer.json()["outputs"] == [
        {"name": "class", "shape": [1], "datatype": "BYTES", "data": ["high"]}
    ]


async def test_binary_tensors_in_and_out():
    doors = Doors(ScriptedBackend())
    rows = np.array([[1, 0, 0, 0], [2, 0, 0, 0]], np.float32)
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}
            ],
            "outputs": [
                {"name": "label", "parameters": {"binary_data": True}},
                {"name": "scores"},
                {"name": "class", "parameters": {"binary_data": True}},
            ],
        }
    ).encode()
    answer = await post(
        doors, "/v2/models/plain/infer", head + rows.tobytes(), inference_header_content_length=str(len(head))
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    size = int(answer.headers["inference-header-content-length"])
    told, tail = json.loads(answer.content[:size]), answer.content[size:]
    assert [o.get("parameters") for o in told["outputs"]] == [
        {"binary_data_size": 16},
        None,
        {"binary_data_size": 15},
    ]
    assert np.frombuffer(tail[:16], np.int64).tolist() == [1, 2]
    assert tail[16:] == b"\x03\x00\x00\x00mid\x04\x00\x00\x00high"


async def test_binary_output_for_all_with_one_word():
    doors = Doors(ScriptedBackend())
    answer = await infer(doors, X, parameters={"binary_data_output": True})
    size = int(answer.headers["inference-header-content-length"])
    assert np.frombuffer(answer.content[size : size + 8], np.int64).tolist() == [2]
    assert np.frombuffer(answer.content[size + 8 :], np.float32).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("reason", "outcome", "status", "headers"),
    [
        (Reason.DEADLINE_INFEASIBLE, Outcome.REFUSED, 503, {"retry-after": "1"}),
        (Reason.DEADLINE_EXCEEDED, Outcome.EXPIRED, 504, {}),
        (Reason.OVERLOADED, Outcome.REFUSED, 503, {"retry-after": "1"}),
        (Reason.BACKEND_ERROR, Outcome.FAILED, 500, {}),
        (Reason.NOT_READY, Outcome.REFUSED, 503, {"retry-after": "1"}),
        (Reason.DRAINING, Outcome.REFUSED, 503, {"connection": "close"}),
    ],
)
async def test_every_other_outcome_has_its_status(reason, outcome, status, headers):
    doors = Doors(ScriptedBackend(never(outcome, reason)))
    answer = await infer(doors, X)
    assert answer.status_code == status
    assert answer.json()["code"] == reason.value
    assert "ms" in answer.json()["error"] or reason not in (
        Reason.DEADLINE_INFEASIBLE,
        Reason.DEADLINE_EXCEEDED,
    )
    assert {name: answer.headers.get(name) for name in headers} == headers


async def test_waiting_does_not_help_a_deadline_below_the_fastest_variant():
    doors = Doors(
        ScriptedBackend(never(Outcome.REFUSED, Reason.DEADLINE_INFEASIBLE, "needs 10 ms, has 1 ms"))
    )
    answer = await infer(doors, X, parameters={"deadline_ms": 1})
    assert "retry-after" not in answer.headers
    assert answer.json() == {"error": "needs 10 ms, has 1 ms", "code": "deadline_infeasible"}


async def test_a_client_that_goes_away_cancels_its_request():
    doors = Doors(ScriptedBackend(script=None))
    body = json.dumps({"inputs": [X]}).encode()
    messages = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v2/models/plain/infer",
        "headers": [],
        "query_string": b"",
        "root_path": "",
    }
    await doors.app(scope, receive, send)
    assert doors.backend.cancelled == ["test-1"]
    assert sent == []
    assert 'outcome="cancelled"' in doors.metrics()
    assert json.loads(doors.log.getvalue())["status"] == 499


async def test_a_body_over_the_limit_is_not_read():
    doors = Doors(ScriptedBackend(), Limits(body_bytes=100))
    answer = await post(doors, "/v2/models/plain/infer", b"x" * 101)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    async def chunks():
        for _ in range(30):
            yield b"x" * 10

    async with a_client(doors) as client:
        answer = await client.post("/v2/models/plain/infer", content=chunks())
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"content_type": "application/octet-stream"}, 200),
        ({"content_encoding": "gzip"}, 415),
        ({"x_request_timeout_seconds": "soon"}, 400),
        ({"x_request_timeout_seconds": "nan"}, 400),
        ({"grpc_timeout": "250"}, 400),
        ({"inference_header_content_length": "-4"}, 400),
        ({"inference_header_content_length": "99999"}, 400),
        ({"inference_header_content_length": "0"}, 400),
    ],
)
async def test_headers_are_checked(headers, status):
    doors = Doors(ScriptedBackend())
    answer = await post(doors, "/v2/models/plain/infer", {"inputs": [X]}, **headers)
    assert answer.status_code == status
    assert status == 200 or set(answer.json()) == {"error", "code"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"x_request_timeout_seconds": "0.05"}, 0.05), ({"grpc_timeout": "30m"}, 0.03), ({}, 0.2)],
)
async def test_headers_can_set_the_deadline(headers, seconds):
    doors = Doors(ScriptedBackend())
    await post(doors, "/v2/models/plain/infer", {"inputs": [X]}, **headers)
    assert doors.backend.last.request.deadline_s == pytest.approx(seconds)


async def test_health_follows_the_backend():
    doors = Doors(ScriptedBackend())
    assert (await get(doors, "/v2/health/live")).json() == {"live": True}
    assert (await get(doors, "/v2/health/ready")).json() == {"ready": True}
    assert (await get(doors, "/v2/models/plain/versions/small/ready")).json() == {
        "name": "plain",
        "ready": True,
    }
    doors.backend.up = False
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/plain/ready"):
        assert (await get(doors, path)).status_code == 503


async def test_metadata_of_server_application_and_variant():
    doors = Doors(ScriptedBackend())
    assert (await get(doors, "/v2")).json() == (await get(doors, "/v2/")).json()
    told = (await get(doors, "/v2/models/sensed")).json()
    assert told["versions"] == ["motion", "fusion", "spin"]
    assert told["inputs"][0] == {"name": "accel", "datatype": "FP32", "shape": [-1, -1, 2]}
    assert [o["name"] for o in told["outputs"]] == ["label", "scores", "class"]
    assert all(isinstance(value, str) for value in told["properties"].values())
    pinned = (await get(doors, "/v2/models/sensed/versions/spin")).json()
    assert [i["name"] for i in pinned["inputs"]] == ["gyro"]


async def test_configuration_and_index_are_in_tritons_shape():
    doors = Doors(ScriptedBackend())
    config = (await get(doors, "/v2/models/plain/config")).json()
    assert config["max_batch_size"] == 8
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4], "optional": False}]
    index = (await post(doors, "/v2/repository/index", b"")).json()
    assert index[0] == {"name": "plain", "version": "small", "state": "READY", "reason": ""}
    doors.backend.up = False
    assert (await post(doors, "/v2/repository/index", {"ready": True})).json() == []
    assert (await post(doors, "/v2/repository/index", {"ready": "no"})).status_code == 400


async def test_statistics_count_rows_requests_and_batches():
    doors = Doors(ScriptedBackend())
    await infer(doors, {**X, "shape": [2, 4], "data": [0] * 8})
    await infer(doors, X)
    whole = (await get(doors, "/v2/models/plain/stats")).json()["model_stats"]
    assert [(s["version"], s["inference_count"], s["execution_count"]) for s in whole] == [("0", 3, 2)]
    (small,) = (await get(doors, "/v2/models/plain/versions/small/stats")).json()["model_stats"]
    assert small["inference_stats"]["success"] == {"count": 2, "ns": 24_000_000}
    assert small["inference_stats"]["queue"] == {"count": 2, "ns": 4_000_000}
    assert [b["batch_size"] for b in small["batch_stats"]] == [1, 2]
    everything = (await get(doors, "/v2/models/stats")).json()["model_stats"]
    assert len(everything) == 3 + 2 + 3 + 1


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v2/models/plain/infer", 405, "POST"),
        ("GET", "/v2/repository/index", 405, "POST"),
        ("DELETE", "/v2/models/plain", 405, "GET, HEAD"),
        ("PUT", "/api/v1/admin/applications/plain/revisions", 405, "GET, HEAD, POST"),  # a route for each
        ("GET", "/nowhere", 404, None),
        ("GET", "/v2/models/nobody", 404, None),
        ("GET", "/v2/models/plain/versions/none/config", 404, None),
        ("GET", "/v2/models/nobody/stats", 404, None),
        ("POST", "/v2/models/nobody/infer", 404, None),
        ("POST", "/v2/models/plain/versions/none/infer", 404, None),
    ],
)
async def test_wrong_paths_and_methods(method, path, status, allow):
    doors = Doors(ScriptedBackend())
    async with a_client(doors) as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error", "code"}


async def test_a_bug_is_a_500_that_tells_nothing():
    def broken(request, inputs):
        raise ZeroDivisionError("secret")

    doors = Doors(ScriptedBackend(broken))
    answer = await infer(doors, X)
    assert (answer.status_code, answer.json()["code"]) == (500, "backend_error")
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in doors.log.getvalue()


async def test_the_document_lists_every_route():
    doors = Doors(ScriptedBackend())
    paths = (await get(doors, "/openapi.json")).json()["paths"]
    routes = {route.path.replace(":path}", "}") for route in doors.app.routes}
    served = routes - {"/openapi.json", "/docs"}
    assert set(paths) == served
    assert "//" not in (await get(doors, "/docs")).text.replace("<!doctype", "")


async def test_one_log_line_for_each_call_and_no_tensors_in_it():
    doors = Doors(ScriptedBackend())
    await infer(doors, {**X, "data": [1.23456, 0, 0, 0]})
    await infer(doors, {**X, "name": "y"})
    good, bad = (json.loads(line) for line in doors.log.getvalue().splitlines())
    assert list(good)[:3] == ["ts", "level", "event"]
    assert (good["request_id"], good["outcome"], good["status"]) == ("test-1", "answered", 200)
    assert (good["duration_ms"], good["queue_ms"], good["compute_ms"]) == (12.0, 2.0, 10.0)
    assert (bad["outcome"], bad["reason"], bad["status"]) == ("invalid", "invalid_tensor", 400)
    assert "1.23456" not in doors.log.getvalue()
