"""A prepared and profiled repository of real applications, and servers started on it. Made once for all."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from peekserve.applications.prepare import prepare
from peekserve.cli.assembly import lay_out, open_store, read_profiled
from peekserve.cli.launch import ServerProcess
from peekserve.experiments.trust.yard import NAME, Yard
from peekserve.registry.labelled import read_labelled
from peekserve.registry.settings import read_settings


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "repository"
    prepare(root, ["digits", "appliances"])
    command = [sys.executable, "-m", "peekserve.cli.main", "profile", str(root), "--quick"]
    subprocess.run(command, check=True, capture_output=True)
    return root


@pytest.fixture(scope="session")
def server(repository, tmp_path_factory) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with ServerProcess(repository, {"log": "error", "grpc": "127.0.0.1:0"}, log) as server:
        yield server


@pytest.fixture(scope="session")
def digits(repository):
    with np.load(repository / "digits" / "test.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="session")
def appliances(repository):
    with np.load(repository / "appliances" / "test.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def here(repository) -> Iterator[Yard]:
    """The repository of all these tests, as the experiments of trust know theirs."""
    settings, _ = read_settings(repository, {})
    layout = lay_out(settings)
    with open_store(repository, settings) as store:
        known = {app.name: app for app in read_profiled(repository, store, [layout.slots[0].device], print)}
    labelled = read_labelled(repository / NAME / "test.npz", known[NAME])
    with TemporaryDirectory() as log:
        folder = TemporaryDirectory(dir=log)
        yield Yard(folder, repository, known[NAME], labelled, layout.front)
