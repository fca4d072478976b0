"""`peekserve data fetch` against a local server: what arrives whole is converted, and of the rest nothing is left."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from peekserve.errors import DataUnavailable, InvalidData, PeekserveError
from peekserve.registry.conversion import mitbih
from peekserve.registry.datasets import DATASETS, Dataset, Source
from peekserve.registry.fetching import CONVERT, download, fetch, sha256
from tests.registry.archives import mitbih_zip, speech_tar

pytestmark = pytest.mark.whole

SPEECH = DATASETS["speech_commands_test"]


class Published(BaseHTTPRequestHandler):
    """Files of `server.folder`: as they are under /, half of them under /cut/, nothing ever under /mute/."""

    def do_GET(self) -> None:
        folder: Path = self.server.folder  # type: ignore[attr-defined]
        path = folder / self.path.rsplit("/", 1)[1]
        if self.path.startswith("/mute/"):
            self.server.closing.wait(20)  # type: ignore[attr-defined]
            return
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", f"/{path.name}")
            self.end_headers()
            return
        if not path.exists():
            self.send_error(404, "Not Found")
            return
        content = path.read_bytes()
        self.send_response(200)
        if not self.path.startswith("/unannounced/"):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if "cut" in self.path.split("/") else content)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), Published)
    http.folder, http.closing = folder, threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.closing.set()  # type: ignore[attr-defined]
    http.shutdown()
    http.server_close()


@pytest.fixture(scope="module")
def words(folder: Path, server: str) -> Dataset:
    """Four clips, published with their true size and checksum."""
    checksum = speech_tar(folder / "words.tar.gz")
    size = (folder / "words.tar.gz").stat().st_size
    return replace(SPEECH, source=Source(f"{server}/words.tar.gz", size, "sha256", checksum))


def elsewhere(dataset: Dataset, **changed: object) -> Dataset:
    return replace(dataset, source=replace(dataset.source, **changed))  # type: ignore[arg-type]


def left(home: Path) -> list[str]:
    """Files, and folders with nothing in them."""
    found = home.rglob("*")
    return [str(path.relative_to(home)) for path in found if path.is_file() or not any(path.iterdir())]


def test_a_data_set_is_fetched_checked_and_converted(words: Dataset, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = fetch(words, tmp_path, lambda done, whole: seen.append((done, whole)))
    assert left(tmp_path) == ["speech_commands_test/clips.npz"]
    assert (made.size, made.sha256) == (made.path.stat().st_size, sha256(made.path))
    assert seen[-1] == (words.source.size, words.source.size)
    with np.load(made.path, allow_pickle=False) as file:
        assert file["audio_mulaw"].shape == (4, 8000)


def test_records_and_annotations_are_fetched_too(folder: Path, server: str, tmp_path: Path) -> None:
    sums = mitbih_zip(folder / "mitdb.zip")
    beats = elsewhere(DATASETS["mitbih_beats"], url=f"{server}/moved/mitdb.zip")
    made = fetch(beats, tmp_path, convert={"mitbih_beats": partial(mitbih.convert, sums=sums)})
    with np.load(made.path, allow_pickle=False) as file:
        assert set(np.unique(file["record"])) == {100, 101}
    # Against the official sums the same archive is found out.
    with pytest.raises(InvalidData, match=r"100\.hea has the sha256 \w+; it should be 60ebc904"):
        fetch(beats, tmp_path / "other")
    assert not left(tmp_path / "other")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"checksum": "0" * 64}, InvalidData, r"has the sha256 \w{64}; the published file has 0{64}"),
        ({"algorithm": "md5", "checksum": "0" * 32}, InvalidData, r"has the md5 \w{32}; .* has 0{32}"),
        ({"size": 7}, InvalidData, r"has [\d,]+ bytes; the published file has 7"),
        ({"url": "/nothing.tar.gz"}, DataUnavailable, r"nothing\.tar\.gz answers 404 Not Found"),
        ({"url": "/cut/words.tar.gz"}, DataUnavailable, r"broke off"),
        (
            {"url": "/unannounced/cut/words.tar.gz"},
            DataUnavailable,
            r"broke off after [\d,]+ of [\d,]+ bytes",
        ),
        ({"url": "/mute/words.tar.gz"}, DataUnavailable, r"said nothing for 0\.3 s"),
        ({"url": "none:/words"}, DataUnavailable, r"cannot be reached: unknown url type"),
    ],
)
def test_what_goes_wrong_is_said_and_nothing_is_left(
    words: Dataset,
    server: str,
    tmp_path: Path,
    changed: dict[str, object],
    error: type[PeekserveError],
    message: str,
) -> None:
    if str(changed.get("url", "")).startswith("/"):
        changed = changed | {"url": f"{server}{changed['url']}"}
    with pytest.raises(error, match=message):
        fetch(elsewhere(words, **changed), tmp_path, silence_s=0.3)
    assert not left(tmp_path)


def test_what_was_there_stays_when_a_new_copy_fails(words: Dataset, tmp_path: Path) -> None:
    made = fetch(words, tmp_path)
    with pytest.raises(InvalidData):
        fetch(elsewhere(words, checksum="0" * 64), tmp_path)
    assert sha256(made.path) == made.sha256


def test_a_server_that_is_down_is_named(words: Dataset, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/words.tar.gz"
    with pytest.raises(
        DataUnavailable, match=rf"127\.0\.0\.1:{port}/words\.tar\.gz cannot be reached: .*refused"
    ):
        fetch(elsewhere(words, url=url), tmp_path)
    assert not left(tmp_path)


def test_a_download_is_its_source_to_the_last_byte(words: Dataset, folder: Path, tmp_path: Path) -> None:
    download(words.source, tmp_path / "a", lambda _done, _all: None)
    assert (tmp_path / "a").read_bytes() == (folder / "words.tar.gz").read_bytes()


def test_what_has_no_conversion_says_where_it_is(tmp_path: Path) -> None:
    without = {name: convert for name, convert in CONVERT.items() if name != SPEECH.name}
    with pytest.raises(DataUnavailable, match=r"no conversion of 'speech_commands_test' .*CC BY 4\.0"):
        fetch(SPEECH, tmp_path, convert=without)


def test_an_archive_that_is_none_is_named_as_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_text("no archive")
    url = (tmp_path / "mine.zip").as_uri()
    with pytest.raises(InvalidData, match=rf"{url} is no whole zip archive"):
        fetch(elsewhere(DATASETS["mitbih_beats"], url=url, size=0), tmp_path / "data")
    assert not left(tmp_path / "data")


def peekserve(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PEEKSERVE_DATA": str(home)}
    command = [sys.executable, "-m", "peekserve.cli.main", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_the_list_says_what_is_here_and_how_to_get_the_rest(words: Dataset, tmp_path: Path) -> None:
    fetch(words, tmp_path)
    found = {
        one["name"]: one for one in json.loads(peekserve("data", "list", "--json", home=tmp_path).stdout)
    }
    assert set(found) == set(DATASETS)
    here, absent = found["speech_commands_test"], found["mitbih_beats"]
    assert here["path"] == str(tmp_path / SPEECH.file)
    assert here["path_sha256"] == sha256(tmp_path / SPEECH.file) != here["sha256"]
    assert (absent["present"], absent["path"], absent["licence"]) == (False, None, "ODC-By 1.0")
    shown = peekserve("data", "list", home=tmp_path).stdout
    assert "speech_commands_test" in shown
    assert "`peekserve data fetch NAME`" in shown


def test_the_command_refuses_what_is_not_the_published_file(words: Dataset, tmp_path: Path) -> None:
    done = peekserve("data", "fetch", "keywords", "--from", words.source.url, "--json", home=tmp_path)
    assert done.returncode == 1
    (said,) = json.loads(done.stdout)
    assert said["name"] == "speech_commands_test"
    assert "the published file has 112,563,277" in said["error"]
    assert not left(tmp_path)


def test_the_command_knows_its_data_sets(tmp_path: Path) -> None:
    done = peekserve("data", "fetch", "mitbih", home=tmp_path)
    assert done.returncode == 1
    assert "no data set 'mitbih'; there are mitbih_beats, speech_commands_test, umafall, ecg," in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_here_is_not_fetched_again(words: Dataset, tmp_path: Path) -> None:
    made = fetch(words, tmp_path)
    began = time.time()
    done = peekserve("data", "fetch", "speech_commands_test", "--json", home=tmp_path)
    assert json.loads(done.stdout) == [
        {"name": "speech_commands_test", "path": str(made.path), "fetched": False}
    ]
    assert done.returncode == 0
    assert made.path.stat().st_mtime < began
