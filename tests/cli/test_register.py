"""`peekserve register` and `peekserve revisions` against a server that answers by a script."""

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from peekserve.cli.main import app
from peekserve.cli.register import pack

TAKEN = {"application": "ecg", "revision": "abc123", "state": "uploaded"}
REVISION = {
    **TAKEN,
    "why": "it is served",
    "changed_at": 0.0,
    "problems": [],
    "profile": {"cnn": {"accuracy": 0.91, "row_s": {"cpu": 0.002}, "bytes": 1 << 20}},
    "shadow": {"rows": 10, "agreed": 9, "chosen": {"rows": 4, "agreed": 3}},
}
WRONG = {"file": "application.yaml", "line": 3, "what": "unknown key 'x'", "hint": "did you mean 'y'?"}


class Scripted(BaseHTTPRequestHandler):
    """Each answer once, in order. Keeps who asked for what, and with which key."""

    answers: list[tuple[int, object]]
    asked: list[tuple[str, str]]
    keys: list[str | None]
    body: bytes

    def answer(self) -> None:
        size = self.headers["Content-Length"]
        Scripted.body = self.rfile.read(int(size)) if size else b""
        self.asked.append((self.command, self.path))
        self.keys.append(self.headers["Authorization"])
        status, told = self.answers.pop(0)
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Scripted.answers, Scripted.asked, Scripted.keys = [], [], []
    server = HTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "ecg"
    (place / "cnn").mkdir(parents=True)
    (place / "application.yaml").write_text("application: ecg")
    (place / "cnn" / "model.onnx").write_bytes(b"model")
    (place / ".peekserve").write_text("not this")
    return place


def run(*words: object, key: str = "") -> tuple[int, str]:
    env = {"COLUMNS": "200", "PEEKSERVE_KEY": key}
    done = CliRunner().invoke(app, [str(word) for word in words], env=env)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def test_a_folder_is_packed_without_what_is_hidden(folder):
    out = io.BytesIO()
    pack(folder, out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar.getmembers()} == {
            "application.yaml": b"application: ecg",
            "cnn/model.onnx": b"model",
        }


def test_register_sends_and_says_where_to_look(address, folder):
    Scripted.answers = [(202, TAKEN)]
    code, said = run("register", address, folder, "--swap", "manual", "--shadow", 5, key="pk_1_2")
    assert (code, "abc123: uploaded" in said) == (0, True)
    path = "/api/v1/admin/applications/ecg/revisions?swap=manual&shadow=5"
    assert (Scripted.asked, Scripted.keys) == ([("POST", path)], ["Bearer pk_1_2"])
    Scripted.answers = [(202, TAKEN)]
    assert json.loads(run("register", address, folder, "--name", "other", "--json")[1]) == TAKEN
    assert Scripted.asked[1][1].startswith("/api/v1/admin/applications/other/")


@pytest.mark.parametrize(
    ("state", "code"), [("active", 0), ("ready", 0), ("rejected", 1), ("failed", 1), ("invalid", 3)]
)
def test_with_wait_the_exit_code_says_what_came_of_it(address, folder, state, code):
    under_way = {**REVISION, "state": "profiling", "progress": {"what": "cnn", "done": 1, "total": 3}}
    Scripted.answers = [
        (202, TAKEN),
        (200, under_way),
        (200, {**REVISION, "state": state, "problems": [WRONG]}),
    ]
    found, said = run("register", address, folder, "--wait")
    assert found == code
    assert f"abc123: {state}" in said
    assert "application.yaml:3: unknown key 'x'; did you mean 'y'?" in said
    assert "0.910" in said
    assert "9 of 10 rows" in said
    assert "3 of 4 where it chose itself" in said


def test_what_the_server_refuses_is_said_in_its_words(address, folder):
    Scripted.answers = [(401, {"error": "this needs a key", "code": "unauthenticated"})]
    assert run("register", address, folder) == (1, "401: this needs a key\n")
    Scripted.answers = [(200, [])]
    assert "no peekserve" in run("revisions", address, "ecg")[1]
    assert run("register", "127.0.0.1:1", folder)[0] == 1


def test_revisions_are_shown_and_changed(address):
    listed = {"application": "ecg", "serving": "abc123", "revisions": [{**REVISION, "state": "active"}]}
    Scripted.answers = [(200, listed)]
    code, said = run("revisions", address, "ecg")
    assert code == 0
    assert "abc123 is served" in said
    Scripted.answers = [(200, REVISION), (200, listed)]
    assert json.loads(run("revisions", address, "ecg", "--swap", "abc123", "--json")[1]) == listed
    Scripted.answers = [(200, {}), (200, listed)]
    assert run("revisions", address, "ecg", "--rollback")[0] == 0
    base = "/api/v1/admin/applications/ecg"
    assert Scripted.asked[1:4:2] == [("POST", f"{base}/revisions/abc123/swap"), ("POST", f"{base}/rollback")]
    Scripted.answers = [(409, {"error": "no way back", "code": "wrong_state"})]
    assert run("revisions", address, "ecg", "--rollback") == (1, "409: no way back\n")


def test_without_a_name_all_that_are_served_are_shown(address):
    stats = {"model_stats": [{"name": "ecg"}, {"name": "ecg"}, {"name": "falls"}]}
    none = {"application": "ecg", "serving": "repository", "revisions": []}
    Scripted.answers = [(200, stats), (200, none), (200, none)]
    code, said = run("revisions", address)
    assert (code, said.count("repository is served")) == (0, 2)
    Scripted.answers = [(200, stats), (200, none), (404, {"error": "gone"})]
    assert run("revisions", address, "--json")[1].splitlines()[-1] == json.dumps([none])
    assert run("revisions", address, "--rollback")[0] == 2
    assert run("revisions", address, "ecg", "--swap", "abc123", "--rollback")[0] == 2


def test_a_folder_without_an_application_is_no_application(tmp_path):
    done = CliRunner().invoke(app, ["register", "127.0.0.1:1", str(tmp_path)])
    assert "application.yaml" in str(done.exception)
