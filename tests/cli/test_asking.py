"""What the commands that ask a server say when something else answers, or nobody does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from peekserve.cli.main import app


class Scripted(BaseHTTPRequestHandler):
    """Answers every request with the same bytes, and keeps what it was sent."""

    status: int
    body: bytes
    sent: list[dict]

    def do_POST(self) -> None:
        self.sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    Scripted.status, Scripted.body, Scripted.sent = 200, b'{"accepted": 2}', []
    server = HTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def told(server: HTTPServer, *labels: str, scheme: str = "") -> tuple[int, str]:
    """The exit code of `peekserve feedback`, and what it printed on one line."""
    address = f"{scheme}127.0.0.1:{server.server_address[1]}"
    done = CliRunner().invoke(app, ["feedback", address, "r1", *labels], env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout.strip()


def test_each_row_has_its_class_or_a_dash(server):
    assert told(server, "walk", "-", "fall", scheme="http://") == (0, "accepted: 2")
    assert Scripted.sent == [{"request_id": "r1", "labels": ["walk", None, "fall"]}]


def test_a_refusal_is_the_servers_own_sentence(server):
    Scripted.status = 409
    Scripted.body = (
        b'{"error": "request \'r1\' has its true class already in row 100: :100:", "code": "known"}'
    )
    assert told(server, "walk") == (1, "409: request 'r1' has its true class already in row 100: :100:")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, b"<html>Bad gateway</html>"),
        (404, b"[1]"),
        (200, b"<html>Welcome</html>"),
        (200, b"[1]"),
        (200, b'{"ok": true}'),
    ],
)
def test_whoever_else_answers_is_no_peekserve(server, status, body):
    Scripted.status, Scripted.body = status, body
    code, said = told(server, "walk")
    assert code == 1
    assert "no peekserve" in said
    assert str(status) in said


def test_what_is_no_text_does_not_reach_the_terminal(server):
    Scripted.status, Scripted.body = 400, json.dumps({"error": "bad \x1b[31m\x00 row"}).encode()
    assert told(server, "walk") == (1, "400: bad ?[31m? row")


def test_another_scheme_is_said_to_be_none_of_ours(server):
    code, said = told(server, "walk", scheme="https://")
    assert code == 1
    assert "HOST:PORT" in said
    assert "https" in said
    assert Scripted.sent == []
