"""Streams against a real server: rows of images pushed one by one, windows found, looked at and asked about."""

import json
import shutil
import urllib.error
import urllib.request

import numpy as np
import pytest

from peekserve.cli.launch import ServerProcess

pytestmark = pytest.mark.whole

SECTION = """
stream:
  rate: 1000
  window: 8
  finder: sliding
  query: {every: event}
"""


@pytest.fixture(scope="module")
def streaming(repository, tmp_path_factory):
    """A server whose digits come as streams of their eight rows."""
    root = tmp_path_factory.mktemp("streams") / "repository"
    shutil.copytree(repository, root)
    with (root / "digits" / "application.yaml").open("a") as file:
        file.write(SECTION)
    with ServerProcess(root, {"log": "error"}, root / "server.log") as server:
        yield server


def call(server, method, path, body=None, **headers):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    names = {
        name.replace("_", "-"): value
        for name, value in {"content_type": "application/json", **headers}.items()
    }
    request = urllib.request.Request(f"http://{server.http}{path}", data, names, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def results_of(server, path, number):
    """Outcomes of recurring queries, once there are so many; the server's own pace decides when."""
    for _ in range(2000):
        _, told = call(server, "GET", f"{path}/results")
        if told["last"] >= number:
            return told["results"]
    raise AssertionError(f"only {told['last']} of {number} outcomes came")


def test_windows_are_found_looked_at_and_answered(streaming, digits):
    path, images = "/api/v1/streams/digits/scanner", digits["image"][:40].astype("<f4")
    rows = images.reshape(-1, 8)
    binary = {"content_type": "application/octet-stream"}
    for first in range(0, len(rows), 5):
        body = rows[first : first + 5].tobytes()
        status, _ = call(streaming, "POST", path, body, stream_first=str(first), **binary)
        assert status == 200
    results = results_of(streaming, path, 40)
    assert [result["window"] for result in sorted(results, key=lambda r: r["window"])] == list(range(1, 41))
    assert {result["outcome"] for result in results} <= {"ok", "late"}
    by_window = {result["window"]: result["label"] for result in results}
    right = np.mean([by_window[i + 1] == label for i, label in enumerate(digits["labels"][:40].tolist())])
    assert right > 0.7

    status, told = call(streaming, "GET", path)
    assert (told["windows"], told["late"], told["queries"]["open"]) == (40, 0, 0)
    assert told["newest"]["window"] == 40
    assert sum(told["newest"]["belief"]) == pytest.approx(1.0)

    body = {"inputs": [], "parameters": {"stream": "scanner"}}
    status, told = call(streaming, "POST", "/v2/models/digits/infer", body)
    assert (status, told["parameters"]["window"], told["parameters"]["window_first"]) == (200, 40, 312)

    assert call(streaming, "DELETE", path)[0] == 204
    assert call(streaming, "POST", "/v2/models/digits/infer", body)[1]["code"] == "stream_not_found"


def test_data_come_when_they_are_asked_for(streaming, digits):
    """A flat prior of evidence says nothing: the data are wanted, and the answer is that of any request."""
    evidence = {"name": "evidence", "shape": [1, 10], "datatype": "FP32", "data": [0.0] * 10}
    body = {"inputs": [evidence], "parameters": {"data": "on-demand", "deadline_ms": 5000}}
    status, wanted = call(streaming, "POST", "/v2/models/digits/infer", body)
    assert (status, wanted["inputs"]) == (202, ["image"])
    image = {
        "name": "image",
        "shape": [1, 8, 8],
        "datatype": "FP32",
        "data": digits["image"][0].ravel().tolist(),
    }
    status, told = call(streaming, "POST", wanted["path"], {"inputs": [image]})
    assert status == 200
    assert told["outputs"][0]["data"] == [int(digits["labels"][0])]
