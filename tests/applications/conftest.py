"""The three demo applications, prepared once for all tests that read them."""

from pathlib import Path

import pytest

from peekserve.applications.prepare import prepare


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("repository")
    prepare(directory)
    return directory
