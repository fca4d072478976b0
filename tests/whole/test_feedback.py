"""True classes told to a real server: learnt, counted, journalled, and there again after a restart."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from peekserve.cli.launch import ServerProcess

pytestmark = pytest.mark.whole


def call(server, path, body=None):
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://{server.http}{path}", content, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def answered(server, images):
    """Ask about these images together; the request's id and what was said of each."""
    tensor = {
        "name": "image",
        "shape": [len(images), 8, 8],
        "datatype": "FP32",
        "data": images.ravel().tolist(),
    }
    asked = {"inputs": [tensor], "parameters": {"deadline_ms": 5000}}
    status, told = call(server, "/v2/models/digits/infer", asked)
    assert status == 200, told
    answer = json.loads(told)
    return answer["parameters"]["request_id"], answer["outputs"][0]["data"]


def metric(server, line):
    found = [text for text in call(server, "/metrics")[1].splitlines() if text.startswith(line + " ")]
    return float(found[0].rpartition(" ")[2])


def test_infer_confirm_restart_and_replay(repository, digits, tmp_path):
    journal, state = tmp_path / "one.journal", tmp_path / "state"
    shutil.copytree(repository / ".peekserve", state)  # its profiles; what is learnt here is nobody else's
    images, labels = digits["image"][:48].astype(float), digits["labels"][:48]
    settings = {"log": "error", "journal": str(journal), "state": str(state)}
    with ServerProcess(repository, settings, tmp_path / "log") as server:
        first, said = answered(server, images[:24])
        right = sum(int(a == b) for a, b in zip(said, labels[:24], strict=True))
        names = [str(label) for label in labels[:24]]
        assert call(server, "/api/v1/feedback", {"request_id": first, "labels": names}) == (
            200,
            '{"accepted":24}',
        )
        many = [
            {"request_id": answered(server, images[i : i + 1])[0], "label": int(labels[i])}
            for i in range(24, 48)
        ]
        status, told = call(server, "/api/v1/feedback", {"feedback": [*many, many[0]]})
        assert (status, json.loads(told)["accepted"]) == (200, 24)
        assert json.loads(told)["refused"][0]["code"] == "already_confirmed"
        assert call(server, "/api/v1/feedback", {"request_id": first, "label": 1})[0] == 400
        assert call(server, "/api/v1/feedback", {"request_id": "ghost", "label": 1})[0] == 404
        assert metric(server, 'peekserve_feedback_total{model="digits",result="accepted"}') == 25
        before = json.loads(call(server, "/api/v1/drift/digits")[1])
        assert before["confirmed"] == 48
        assert right / 48 - 0.1 < before["confirmed_accuracy"] <= 1.0
        assert metric(server, 'peekserve_confirmed_accuracy{model="digits"}') == before["confirmed_accuracy"]
        assert metric(server, 'peekserve_drift_score{model="digits"}') == before["score"]
        os.kill(server.pid, signal.SIGKILL)  # nothing that was accepted may be lost
        server.wait()
    again = tmp_path / "two.journal"
    with ServerProcess(repository, {**settings, "journal": str(again)}, tmp_path / "log") as server:
        after = json.loads(call(server, "/api/v1/drift/digits")[1])
        for what in ("confirmed", "believed_accuracy", "confirmed_accuracy", "confirmed_interval"):
            assert after[what] == before[what]
        # Ids of the server before mean nothing to this one.
        assert call(server, "/api/v1/feedback", {"request_id": first, "labels": names})[0] == 404
        answered(server, images[:1])
        assert server.stop() == 0
    for written in (journal, again):
        command = [sys.executable, "-m", "peekserve.cli.main", "replay", str(written), "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
