"""Query types, from the parameter of a request to the penalty that its lateness costs."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.domain.application import QueryType
from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidRequest
from peekserve.results import row
from peekserve.server.calls import InferCall, Tensor
from peekserve.server.describe import Descriptions
from peekserve.server.frontdesk import FrontDesk
from peekserve.server.statistics import Statistics
from tests.server.scripted import PLAIN, ScriptedBackend

ASKED = replace(
    PLAIN,
    queries=(
        ("default", QueryType(0.2)),
        ("urgent", QueryType(0.05, Penalty.step(), max_deadline_s=0.1)),
        ("report", QueryType(1.0, Penalty.linear(2.0))),
    ),
)


def a_desk() -> tuple[FrontDesk, ScriptedBackend]:
    backend = ScriptedBackend()
    backend.applications = {"plain": ASKED}
    return FrontDesk(backend, boot="test"), backend


def a_call(**parameters) -> InferCall:
    x = Tensor("x", "FP32", np.ones((1, 4), np.float32))
    return InferCall("plain", None, (x,), arrived_at=100.0, parameters=parameters)


@pytest.mark.parametrize(
    ("parameters", "query", "deadline_s"),
    [
        ({}, "default", 0.2),
        ({"query": "urgent"}, "urgent", 0.05),
        ({"query": "urgent", "deadline_ms": 80}, "urgent", 0.08),
        ({"query": "urgent", "deadline_ms": 500}, "urgent", 0.1),
        ({"query": "report"}, "report", 1.0),
        ({"query": "report", "deadline_ms": 5000}, "report", 2.0),
    ],
)
async def test_a_request_is_due_as_its_query_type_says(parameters, query, deadline_s):
    desk, backend = a_desk()
    await desk.submit(a_call(**parameters))
    request = backend.last.request
    assert (request.query, request.deadline_s) == (query, pytest.approx(deadline_s))


async def test_an_answer_is_worth_what_its_query_type_says():
    desk, backend = a_desk()
    for parameters, worth in (({}, 0.0), ({"query": "report"}, 0.75)):
        reply = await desk.submit(a_call(**parameters))
        answer = reply.answer
        told = row(
            reply.request, ASKED, [1], answer.outcome, answer.reason, answer.rows, reply.request.due_at + 0.5
        )
        assert told.utility == pytest.approx(worth)
    assert len(backend.submitted) == 2


async def test_an_unknown_query_type_names_the_known_ones_and_starts_nothing():
    desk, backend = a_desk()
    with pytest.raises(InvalidRequest, match="no query type 'urgnt'; it has default, urgent, report"):
        await desk.submit(a_call(query="urgnt"))
    with pytest.raises(InvalidRequest, match="the name of a query type, not 3"):
        await desk.submit(a_call(query=3))
    assert backend.submitted == []


def test_the_metadata_names_the_query_types_the_score_and_recalls_that_are_guesses():
    desk, backend = a_desk()
    small, large = ASKED.variants
    unsure = replace(small, quality=replace(small.quality, guessed=(0, 2)))
    backend.applications = {"plain": replace(ASKED, variants=(unsure, large))}
    told = Descriptions(desk, Statistics(unix_ms=lambda: 0), "0").model("plain")["properties"]
    assert {name: ms for name, ms in told.items() if name.startswith("deadline_ms")} == {
        "deadline_ms.default": "200",
        "deadline_ms.urgent": "50",
        "deadline_ms.report": "1000",
    }
    assert told["score"] == "accuracy"
    assert told["recall_guessed.small"] == "low,high"
    assert "recall_guessed.large" not in told
