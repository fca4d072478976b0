"""What a client saw of one request becomes a row, whoever answered it."""

import json

import numpy as np
import pytest

from peekserve.domain.request import Outcome
from peekserve.experiments.workload import Workload
from peekserve.loadgen.arrivals import Arrival
from peekserve.loadgen.client import Reply
from peekserve.registry.labelled import Labelled
from tests.test_results import APP

WORKLOAD = Workload({"app": APP}, {"app": Labelled({}, np.array([0, 2]), {})}, [Arrival(0.5, "app", 1)])


def a_reply(source: str, variant: str, label: int = 2, done_at: float = 0.9) -> Reply:
    parameters = {"source": source, "variant": variant, "expected_accuracy": 0.8}
    body = json.dumps({"outputs": [{"name": "label", "data": [label]}], "parameters": parameters})
    return Reply(0.5, done_at, 200, body.encode())


@pytest.mark.parametrize(
    ("source", "variant", "variants", "by_peek"),
    [("model", "net", ("net",), False), ("peek", "peek", ("peek",), True), ("fused", "net", ("net",), False)],
)
def test_who_answered_is_in_the_row(source, variant, variants, by_peek):
    row = WORKLOAD.row(0, a_reply(source, variant))
    assert (row.variants, row.by_peek) == (variants, by_peek)
    assert (row.correct, row.utility, row.believed) == (1.0, 1.0, 0.8)
    assert WORKLOAD.row(0, a_reply(source, variant, label=1)).utility == 0.0


def test_what_came_late_is_late_by_the_clients_clock():
    assert WORKLOAD.row(0, a_reply("fused", "net", done_at=1.6)).outcome is Outcome.LATE
    assert WORKLOAD.row(0, Reply(0.5, 0.6, 503, b"")).outcome is Outcome.REFUSED
