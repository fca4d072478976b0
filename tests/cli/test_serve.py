"""What `serve` asks of the system."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.core

ASKS = """
import resource
from peekserve.cli.serve import allow_files
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400))
allow_files(300)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
allow_files(8192)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
allow_files(100)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_as_many_files_as_it_may_have_and_never_fewer():
    told = subprocess.run([sys.executable, "-c", ASKS], check=True, capture_output=True, text=True).stdout
    assert told.splitlines() == ["300 400", "400 400", "400 400"]
