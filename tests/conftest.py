"""What every test runs under: one thread per library, hypothesis without deadlines, and the two suites' marks."""

import os

# Before numpy, faiss or onnxruntime are loaded: they size their pools once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test `core` unless it says `whole`, and keep the `whole` ones on one xdist worker.

    Two servers under load beside each other on two cores would measure one another.
    """
    for item in items:
        if item.get_closest_marker("whole"):
            item.add_marker(pytest.mark.xdist_group("whole"))
        else:
            item.add_marker(pytest.mark.core)
