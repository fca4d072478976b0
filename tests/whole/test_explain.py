"""A real server says why: to other people's clients, to our own command, and the same again from its journal."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

from peekserve.cli.launch import ServerProcess

pytestmark = pytest.mark.whole


def infer(module, client, images, **parameters):
    tensor = module.InferInput("image", images.shape, "FP32")
    tensor.set_data_from_numpy(images)
    return client.infer("digits", [tensor], parameters=parameters, timeout=2_000_000)


def explanation(module, response) -> dict:
    if module is over_http:
        return json.loads(response.get_response()["parameters"]["explanation"])
    return json.loads(response.get_response().parameters["explanation"].string_param)


def test_why_is_told_to_who_asks_and_told_again_by_the_journal(repository, digits, tmp_path):
    journal, log = tmp_path / "explained.journal", tmp_path / "server.log"
    settings = {
        "log": "error",
        "grpc": "127.0.0.1:0",
        "journal": str(journal),
        "policy.short_circuit": "false",
    }
    images = digits["image"].astype(np.float32)
    with ServerProcess(repository, settings, log) as server:
        for module, address in ((over_http, server.http), (over_grpc, str(server.told["grpc"]))):
            client = module.InferenceServerClient(address)
            rows = explanation(module, infer(module, client, images[:10], explain=True))["rows"]
            assert [row["row"] for row in rows] == list(range(8))
            names = {
                c["variant"] for row in rows for c in (row["chosen"], *row["alternatives"]) if "variant" in c
            }
            assert {"linear", "committee"} <= names
            for row in rows:
                assert row["chosen"]["kind"] in ("model", "peek", "in hand")
                losses = [c["loss"] for c in row["alternatives"] if "loss" in c]
                assert losses == sorted(losses)
        with pytest.raises(over_http.InferenceServerException, match="explain is true or false, not 'yes'"):
            infer(over_http, over_http.InferenceServerClient(server.http), images[:1], explain="yes")
        data = str(repository / "digits" / "test.npz")
        command = [
            sys.executable,
            "-m",
            "peekserve.cli.main",
            "infer",
            server.http,
            "digits",
            data,
            "--explain",
        ]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "Row 0 (digits): " in shown
        assert "chosen" in shown
    command = [sys.executable, "-m", "peekserve.cli.main", "replay", str(journal), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
