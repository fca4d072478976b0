"""tritonclient at a real server, in this process; other clients: `python -m tests.whole.outside` (docs/clients.md)."""

import shutil
import subprocess
import sys

import pytest

from peekserve.cli.launch import ServerProcess
from tests.whole.outside import environments, programs, triton
from tests.whole.outside.__main__ import markdown
from tests.whole.outside.programs import Row

pytestmark = pytest.mark.whole
# What has to be profiled first takes too long here.
CALLS = [
    (door, check)
    for door, checks in triton.CHECKS.items()
    for check in checks
    if check.__name__ != "load_with_files"
]


@pytest.fixture(scope="module")
def target(repository, tmp_path_factory):
    """A server of its own: models are unloaded here."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copytree(repository / ".peekserve", folder / "state")  # its profiles
    settings = {"log": "error", "grpc": "127.0.0.1:0", "state": str(folder / "state")}
    with ServerProcess(repository, settings, folder / "server.log") as server:
        yield programs.target_of(repository, server.http, str(server.told["grpc"]), "digits", folder)


@pytest.mark.parametrize(("door", "check"), CALLS, ids=[f"{door}: {check.__name__}" for door, check in CALLS])
def test_tritonclient(target, door, check):
    assert check(target)


@pytest.mark.parametrize("code", programs.python_of("tritonclient"))
def test_the_lines_of_the_page_run(target, code):
    code = code.replace("localhost:8000", target.http).replace("localhost:8001", target.grpc)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_program_that_this_machine_has_not_is_a_reason_to_skip():
    with pytest.raises(environments.NotHere, match="no-such-program is not on this machine"):
        environments.run(["no-such-program", "install"], "no-such-program")
    with pytest.raises(environments.NotHere, match="python: ERROR: no fault of mine"):
        environments.run([sys.executable, "-c", "raise SystemExit('ERROR: no fault of mine')"], "python")


def test_what_was_skipped_is_not_told_as_passed():
    told = markdown([Row("kserve", "SKIPPED", "kserve in an environment", None, "pip: no such thing")])
    assert "| skipped | pip: no such thing |" in told
