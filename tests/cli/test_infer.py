"""`peekserve infer` against a scripted server: what is sent, and how an explanation is shown."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from peekserve.cli.main import app

WORDS = {
    "rows": [
        {
            "row": 0,
            "application": "ecg",
            "chosen": {
                "kind": "model", "why": "chosen", "variant": "cnn", "worker": "cpu-0", "position": 0, "rows_beside": 2,
                "loss": 0.0, "own": 0.0, "others": 0.0, "value": 0.9, "penalty": 0.0, "utility": 0.9, "finish_s": 0.012,
            },
            "alternatives": [
                {"kind": "in hand", "why": "less accurate", "loss": 0.1, "own": -0.1, "others": 0.0, "value": 0.8},
                {"kind": "nothing", "why": "no answer", "loss": 0.9, "own": -0.9, "others": 0.0, "utility": 0.0},
            ],
        },
        {"row": 1, "chosen": {"kind": "peek", "why": "all there was"}, "alternatives": []},
    ]
}  # fmt: skip


class Scripted(BaseHTTPRequestHandler):
    """Answers every request alike and keeps what it was sent."""

    sent: list[dict]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.sent.append(asked)
        parameters = {"variant": "cnn"}
        if asked["parameters"].get("explain"):
            parameters["explanation"] = json.dumps(WORDS)
        outputs = [{"name": "class", "data": ["normal"]}, {"name": "scores", "data": [0.9, 0.1]}]
        body = json.dumps({"outputs": outputs, "parameters": parameters}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    Scripted.sent = []
    server = HTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def beats(tmp_path: Path) -> str:
    np.savez(tmp_path / "beats.npz", beat=np.zeros((2, 4), np.float32), labels=np.zeros(2, np.int64))
    return str(tmp_path / "beats.npz")


def shown(server: HTTPServer, *arguments: str, columns: int = 120) -> str:
    address = f"127.0.0.1:{server.server_address[1]}"
    done = CliRunner().invoke(app, ["infer", address, "ecg", *arguments], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_an_explanation_is_asked_for_and_shown_as_a_table(server, beats):
    text = shown(server, beats, "--explain", "--deadline-ms", "20")
    assert Scripted.sent[0]["parameters"] == {"deadline_ms": 20.0, "explain": True}
    assert "normal" in text
    assert "Row 0 (ecg): cnn" in text
    assert "cpu-0 #1 +2" in text
    assert "in hand" in text
    assert "Row 1: peek" in text
    assert "all there was" in text
    assert "explanation" not in text  # the raw text is for machines
    assert json.loads(shown(server, beats, "--explain", "--json"))["parameters"]["explanation"]


def test_who_does_not_ask_sends_and_sees_nothing_of_it(server, beats):
    assert "Row 0" not in shown(server, beats)
    assert Scripted.sent[0]["parameters"] == {}


@pytest.mark.parametrize("columns", [60, 70, 80, 96])
def test_a_narrow_terminal_loses_numbers_and_never_the_reason(server, beats, columns):
    text = shown(server, beats, "--explain", columns=columns)
    assert all(len(line) <= columns for line in text.splitlines() if line.startswith(("┃", "│")))
    assert "less accurate" in text
    assert "cpu-0 #1 +2" in text
    assert "loss" in text
    assert "…" not in text
