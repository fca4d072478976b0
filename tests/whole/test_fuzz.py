"""Somebody else's fuzzer at a server with real models. More cases: `python -m tests.whole.fuzz` (docs/testing.md)."""

import hashlib
import shutil

import pytest
import yaml

from peekserve.cli.launch import ServerProcess
from tests.whole.fuzz import OIP, fuzz, repaired

pytestmark = pytest.mark.whole


def test_schemathesis_finds_nothing_to_say(repository, tmp_path):
    state = tmp_path / "state"  # its own: what is made up here is for no other test's server to remember
    state.mkdir()
    for file in (repository / ".peekserve").glob("state.sqlite*"):
        shutil.copy(file, state)
    settings = {"log": "error", "grpc": "off", "state": str(state)}
    with ServerProcess(repository, settings, tmp_path / "server.log") as server:
        for run, least in zip(fuzz(server.http, examples=3), (300, 300, 20), strict=True):
            assert run.passed, run.report
            assert run.cases > least, run.report


def test_the_protocols_document_is_the_one_that_was_published():
    written = OIP.read_bytes()
    assert hashlib.sha256(written).hexdigest().startswith("719644d1cec52d1c98268ee16f3b75d6")
    paths = repaired(yaml.safe_load(written), {"digits": ["mlp", "linear"]})["paths"]
    assert {"/v2", "/v2/", "/v2/models/{MODEL_NAME}/infer"} < set(paths)
    assert not any("$" in path for path in paths)
    (name,) = paths["/v2/models/{MODEL_NAME}/infer"]["parameters"]
    assert name["schema"]["enum"] == ["digits"]
