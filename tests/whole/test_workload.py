"""The demo's load against a real server: what clients saw becomes rows, for every way of judging."""

import asyncio
import math
from dataclasses import replace

import pytest

from peekserve.domain.application import Score
from peekserve.domain.request import Outcome
from peekserve.experiments.workload import Workload
from peekserve.loadgen.arrivals import Arrival
from peekserve.loadgen.client import send
from peekserve.registry.labelled import read_labelled
from peekserve.registry.repository import read_repository

pytestmark = pytest.mark.whole


@pytest.mark.parametrize("score", list(Score))
def test_replies_become_rows(server, repository, score):
    applications = {a.name: replace(a, score=score) for a in read_repository(repository).applications}
    labelled = {n: read_labelled(repository / n / "test.npz", a) for n, a in applications.items()}
    arrivals = [Arrival(0.05 * i, name, i) for i, name in enumerate(["digits", "appliances"] * 4)]
    workload = Workload(applications, labelled, arrivals)
    rows = workload.rows(asyncio.run(send(server.http, workload.calls())))
    assert {row.outcome for row in rows} <= {Outcome.ANSWERED, Outcome.LATE}
    assert [row.application for row in rows] == [arrival.application for arrival in arrivals]
    assert all(row.variants and 0.0 <= row.utility <= 1.0 for row in rows)
    # Scores travel only where they are judged.
    assert all(math.isnan(row.quadratic) == (score is not Score.QUADRATIC) for row in rows)
    if score is not Score.QUADRATIC:
        assert {row.correct for row in rows} <= {0.0, 1.0}
