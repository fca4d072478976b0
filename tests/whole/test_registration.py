"""Revisions of a real application sent to a real server under live traffic: good ones take over, bad ones never do."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from peekserve.cli.launch import ServerProcess

pytestmark = pytest.mark.whole

BASE = "/api/v1/admin/applications/digits"
ENDS = ("invalid", "failed", "rejected", "ready", "active")


def call(server, method, path, body=None, kind="application/json"):
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    request = urllib.request.Request(
        f"http://{server.http}{path}", content, {"Content-Type": kind}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


class Traffic:
    """A client that asks again and again, and remembers whatever was not answered."""

    def __init__(self, server, image):
        tensor = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "data": image.ravel().tolist()}
        self.body = {"inputs": [tensor], "parameters": {"deadline_ms": 8000}}
        self.server, self.answered, self.lost, self.over = server, 0, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set():
            status, told = call(self.server, "POST", "/v2/models/digits/infer", self.body)
            if status == 200:
                self.answered += 1
            else:
                self.lost.append(told)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


@pytest.fixture
def place(repository, tmp_path):
    """The repository with a state of its own, and one application."""
    root = tmp_path / "repository"
    shutil.copytree(repository / "digits", root / "digits")
    shutil.copytree(repository / ".peekserve", root / ".peekserve")
    return root


def archive(folder, **changed):
    """The application's folder, packed, with these files of it changed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and path.name != "test.npz":
                content = changed.get(name.replace("/", "_").replace(".", "_"), path.read_bytes())
                member = tarfile.TarInfo(f"digits/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def sent(server, content, query=""):
    """Where a revision stands in the end."""
    status, told = call(server, "POST", f"{BASE}/revisions{query}", content, "application/gzip")
    assert status == 202, told
    return ended(server, told["revision"])


def ended(server, revision):
    while True:
        status, told = call(server, "GET", f"{BASE}/revisions/{revision}")
        assert status == 200
        if told["state"] in ENDS:
            return told
        time.sleep(0.05)


def deadline(server):
    return call(server, "GET", "/v2/models/digits")[1]["properties"]["deadline_ms.default"]


def test_revisions_come_and_go_under_traffic_and_none_is_lost(place, digits, tmp_path):
    folder = place / "digits"
    text = (folder / "application.yaml").read_text()
    longer = text.replace("deadline: 80ms", "deadline: 90ms")
    shifted = ", ".join(f'{i}: "{(i + 1) % 10}"' for i in range(10))
    head, _, rest = text.partition("  mlp:")
    linear, _ = head.split("labels: {")
    alone = f"{linear}labels: {{{shifted}}}\n    max_batch: 32\nvalidation{rest.partition('validation')[2]}"
    assert longer != text
    bad = {
        "no such key": ("invalid", {"application_yaml": text.replace("deadline:", "dedline:").encode()}),
        "no model": ("invalid", {"cnn_model_onnx": b"\x80\x04." + bytes(1000)}),
        # Pixels so large that there is nothing but infinity behind them.
        "no numbers": (
            "failed",
            {"application_yaml": text.replace("[1, 8, 8], scale: 0.0625", "[1, 8, 8], scale: 1e38").encode()},
        ),
        # One small model, which calls a 3 a 4.
        "wrong classes": ("rejected", {"application_yaml": alone.encode()}),
    }
    settings = {"log": "error"}
    with ServerProcess(place, settings, tmp_path / "log") as server:
        with Traffic(server, digits["image"][0].astype(float)) as traffic:
            for what, (state, changed) in bad.items():
                told = sent(server, archive(folder, **changed), "?shadow=0")
                assert told["state"] == state, (what, told)
                assert call(server, "GET", f"{BASE}/revisions")[1]["serving"] == "repository"
                assert call(server, "POST", f"{BASE}/revisions/{told['revision']}/swap")[0] == 409
            good = sent(server, archive(folder, application_yaml=longer.encode()), "?shadow=10")
            assert good["state"] == "active", good
            assert good["shadow"]["rows"] >= 10
            assert good["shadow"]["failed"] == {}
            assert deadline(server) == "90"
            assert call(server, "POST", f"{BASE}/rollback") == (
                200,
                {"application": "digits", "serving": "repository"},
            )
            assert deadline(server) == "80"
            assert call(server, "POST", f"{BASE}/revisions/{good['revision']}/swap")[1]["state"] == "active"
            before = traffic.answered
            while traffic.answered < before + 5 and not traffic.lost:
                time.sleep(0.01)
        assert traffic.lost == []
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
    with ServerProcess(place, settings, tmp_path / "log") as server:
        assert deadline(server) == "90"
        assert call(server, "GET", f"{BASE}/revisions")[1]["serving"] == good["revision"]
        assert call(server, "POST", f"{BASE}/rollback")[1]["serving"] == "repository"
        assert deadline(server) == "80"
        assert call(server, "POST", "/v2/models/digits/infer", traffic.body)[0] == 200


def test_loading_by_hand_with_files_and_without(place, digits, tmp_path):
    triton = pytest.importorskip("tritonclient.grpc")
    text = (place / "digits" / "application.yaml").read_text()
    settings = {"log": "error", "grpc": "127.0.0.1:0"}
    with ServerProcess(place, settings, tmp_path / "log") as server:
        body = Traffic(server, digits["image"][0].astype(float)).body
        with triton.InferenceServerClient(str(server.told["grpc"])) as client:
            client.unload_model("digits")
            index = call(server, "POST", "/v2/repository/index", {})[1]
            assert {(one["state"], one["reason"]) for one in index} == {("UNAVAILABLE", "unloaded by hand")}
            status, told = call(server, "POST", "/v2/models/digits/infer", body)
            assert (status, told["code"]) == (503, "model_not_ready")
            client.load_model("digits")
            assert call(server, "POST", "/v2/models/digits/infer", body)[0] == 200
            changed = text.replace("deadline: 80ms", "deadline: 95ms").encode()
            client.load_model("digits", config="{}", files={"file:application.yaml": changed})
            assert deadline(server) == "95"
            wrong = text.replace("deadline:", "dedline:").encode()
            with pytest.raises(Exception, match="dedline"):
                client.load_model("digits", config="{}", files={"file:application.yaml": wrong})
            assert deadline(server) == "95"


PAGE = Path(__file__).parents[2] / "docs" / "registration.md"


def test_the_page_s_commands_do_what_it_says(place, tmp_path):
    commands = re.findall(r"^    \$ (.+)$", PAGE.read_text(), re.M)
    prepared, typed = commands[:3], commands[3:]
    assert [command.split()[1] for command in prepared] == ["demo", "profile", "serve"]
    codes, served = [], []
    with ServerProcess(place, {"log": "error"}, tmp_path / "log") as server:
        for command in typed:
            revision = (served[0] if served else "repository") or ""
            command = command.replace("localhost:8000", server.http).replace("REVISION", revision)
            command = command.replace("peekserve", f"{sys.executable} -m peekserve.cli.main", 1)
            done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
            codes.append(done.returncode)
            now = call(server, "GET", f"{BASE}/revisions")[1]["serving"]
            served += [now] if now != "repository" and not served else []
            if "--rollback" in command:
                assert now == "repository"
            if "--swap" in command:
                assert now == revision
        assert now == served[0]
    assert codes == [0] * (len(typed) - 1) + [3], (typed, codes)
    assert "application.yaml:" in done.stdout
    assert "did you mean 'deadline'" in done.stdout
