"""What `peekserve profile` measures of votes, and a real server that believes by it and says the same again."""

import json
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from peekserve.cli.assembly import open_store, read_profiled
from peekserve.cli.launch import ServerProcess
from peekserve.registry.settings import read_settings

pytestmark = pytest.mark.whole
JSON = {"Content-Type": "application/json"}


def test_votes_and_recalls_by_agreement_are_measured_and_read_again(repository):
    settings, _ = read_settings(repository, {})
    with open_store(repository, settings) as store:
        applications = read_profiled(repository, store, ["cpu"], print)
    for app in applications:
        known = app.peek.calibration
        assert 0.1 < known.temperature < 1.5
        assert known.loss < known.loss_before
        for variant in app.variants:
            apart = np.array(variant.quality.by_agreement)
            assert apart.shape == (len(known.edges) + 2, len(app.classes))
            # Classes that their own kind votes for are told better on the whole.
            assert apart[-2].mean() > apart[0].mean()


def test_a_server_believes_by_it_and_its_journal_replays_in_another_process(repository, digits, tmp_path):
    journal = tmp_path / "calibrated.journal"
    settings = {"log": "error", "beliefs": "calibrated", "journal": str(journal)}
    by_peek = []
    with ServerProcess(repository, settings, tmp_path / "server.log") as server:
        for image in digits["image"][:60]:
            tensor = {
                "name": "image",
                "datatype": "FP32",
                "shape": [1, *image.shape],
                "data": image.ravel().tolist(),
            }
            body = json.dumps({"inputs": [tensor], "parameters": {"deadline_ms": 1000}}).encode()
            asked = urllib.request.Request(f"http://{server.http}/v2/models/digits/infer", body, JSON)
            with urllib.request.urlopen(asked, timeout=30) as response:
                told = json.load(response)
            if told["model_version"] == "peek":
                by_peek.append(told["parameters"]["expected_accuracy"])
    # The Dirichlet values every answer of the peek alike, by its profile.
    assert len(set(by_peek)) > 1
    command = [sys.executable, "-m", "peekserve.cli.main", "replay", str(journal), "--json"]
    replayed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert replayed["same"] is True
