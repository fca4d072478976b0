"""Evidence first, data on demand, over HTTP with a scripted backend."""

from dataclasses import replace

import httpx
import pytest

from peekserve.domain.application import PeekSpec
from peekserve.domain.profile import Calibration, Quality
from peekserve.server.http_api import make_app
from peekserve.server.on_demand import OnDemand
from tests.server.scripted import PLAIN, Doors, ScriptedBackend

# The peek is right in 0.85 of all cases; the variants in 0.9, 0.8 and 0.7 of the cases of each class.
PEEK = PeekSpec(("x",), (), quality=Quality((0.85, 0.85, 0.85), (0.4, 0.3, 0.3)))
X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [2, 0, 0, 0]}
E = {"name": "evidence", "shape": [1, 3], "datatype": "FP32", "data": [9, 0, 0]}


class Phone:
    """A client, and the server that it asks."""

    def __init__(self, peek=PEEK, short_circuit=True, **limits):
        self.backend = ScriptedBackend()
        self.backend.applications = {"plain": replace(PLAIN, peek=peek)}
        self.doors = Doors(self.backend)
        self.on_demand = OnDemand(self.doors.desk, self.doors.accounts, short_circuit, **limits)
        self.app = make_app(
            self.doors.desk, self.doors.accounts, self.doors.descriptions, on_demand=self.on_demand
        )

    async def post(self, path, body):
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, json=body)

    async def evidence(self, *counts, path="/v2/models/plain/infer", **parameters):
        tensor = {"name": "evidence", "shape": [len(counts), 3], "datatype": "FP32", "data": list(counts)}
        body = {"inputs": [tensor], "parameters": {"data": "on-demand", "deadline_ms": 100, **parameters}}
        return await self.post(path, body)


async def test_evidence_that_is_enough_is_answered_without_data():
    phone = Phone()
    answer = await phone.evidence([0, 0, 9])  # surely the third class, which the variants know least
    assert answer.status_code == 200
    told = answer.json()
    assert (told["model_version"], told["outputs"][0]["data"]) == ("peek", [2])
    assert told["parameters"]["expected_accuracy"] == pytest.approx(0.85)
    assert told["outputs"][1]["data"] == pytest.approx([0.5 / 10.5, 0.5 / 10.5, 9.5 / 10.5])
    assert phone.backend.submitted == []
    assert 'outcome="ok"' in phone.doors.metrics()


async def test_evidence_is_believed_as_the_scheduler_believes():
    """Votes that are right nine times in ten are worth more than any model, and three that differ are not."""
    votes = tuple(tuple(0.9 if c == v else 0.05 for v in range(3)) for c in range(3))
    worth = Calibration(votes, 1.0, 5.0, (0.1, 0.5, 0.9), (1 / 3, 1 / 3, 1 / 3), 100, 1.0, 0.5)
    phone = Phone(replace(PEEK, calibration=worth))
    phone.backend.beliefs = "calibrated"
    told = (await phone.evidence([5, 0, 0])).json()
    assert (told["model_version"], told["outputs"][0]["data"]) == ("peek", [0])
    assert told["parameters"]["expected_accuracy"] > 0.99
    assert (await phone.evidence([1, 1, 1])).status_code == 202


async def test_evidence_that_is_not_enough_asks_for_the_data():
    phone = Phone()
    asked = await phone.evidence([9, 0, 0])  # a model is right in 0.9 of these
    assert asked.status_code == 202
    told = asked.json()
    assert (told["inputs"], told["rows"], told["time_left_us"]) == (["x"], 1, 100_000)
    phone.backend.clock.advance(0.03)
    answer = await phone.post(told["path"], {"inputs": [X]})
    assert (answer.status_code, answer.json()["model_version"]) == (200, "small")
    request = phone.backend.last.request
    assert request.counts == ((9.0, 0.0, 0.0),)
    # The deadline still begins when the evidence came.
    assert (request.arrived_at, request.due_at) == pytest.approx((100.0, 100.1))
    again = await phone.post(told["path"], {"inputs": [X]})
    assert (again.status_code, again.json()["code"]) == (404, "not_wanted")


async def test_the_outputs_asked_for_with_the_data_are_those_that_come():
    phone = Phone()
    asked = await phone.evidence([9, 0, 0])
    answer = await phone.post(asked.json()["path"], {"inputs": [X], "outputs": [{"name": "class"}]})
    assert [output["name"] for output in answer.json()["outputs"]] == ["class"]
    asked = await phone.evidence([9, 0, 0])
    answer = await phone.post(asked.json()["path"], {"inputs": [X], "outputs": [{"name": "nonsense"}]})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_more_than_can_wait_for_their_data_may_come_later():
    phone = Phone(most_held=1)
    assert (await phone.evidence([9, 0, 0])).status_code == 202
    answer = await phone.evidence([9, 0, 0])
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert answer.headers["retry-after"] == "1"


async def test_one_row_that_wants_its_data_wants_those_of_all():
    asked = await Phone().evidence([0, 0, 9], [9, 0, 0])
    assert (asked.status_code, asked.json()["rows"]) == (202, 2)


async def test_where_no_model_could_be_in_time_the_evidence_answers():
    assert (await Phone().evidence([9, 0, 0], deadline_ms=5)).status_code == 200


@pytest.mark.parametrize(
    "phone", [Phone(short_circuit=False), Phone(peek=None), Phone(replace(PEEK, quality=None))]
)
async def test_without_a_peek_that_may_answer_the_data_are_wanted(phone):
    assert (await phone.evidence([0, 0, 9])).status_code == 202


async def test_a_pinned_variant_wants_the_data():
    phone = Phone()
    asked = await phone.evidence([0, 0, 9], path="/v2/models/plain/versions/large/infer")
    answer = await phone.post(asked.json()["path"], {"inputs": [X]})
    assert answer.json()["model_version"] == "large"


async def test_data_that_do_not_come_are_an_outcome_too():
    phone = Phone()
    asked = await phone.evidence([9, 0, 0])
    phone.on_demand.stop()  # as the timer would
    assert (await phone.post(asked.json()["path"], {"inputs": [X]})).status_code == 404
    assert 'outcome="deadline_exceeded"' in phone.doors.metrics()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"inputs": [X], "parameters": {"data": "on-demand"}}, "brings one tensor"),
        ({"inputs": [], "parameters": {"data": "on-demand"}}, "brings one tensor"),
        ({"inputs": [X], "parameters": {"data": "later"}}, "'on-demand' or left out"),
        ({"inputs": [E], "parameters": {"data": "on-demand", "stream": "bed-7"}}, "or from a stream"),
    ],
)
async def test_what_cannot_be_asked(body, says):
    answer = await Phone().post("/v2/models/plain/infer", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert says in answer.json()["error"]


@pytest.mark.parametrize("counts", [([1, 2],), ([1, -2, 3],)])
async def test_evidence_that_cannot_be(counts):
    tensor = {"name": "evidence", "shape": [1, len(counts[0])], "datatype": "FP32", "data": list(counts)}
    answer = await Phone().post(
        "/v2/models/plain/infer", {"inputs": [tensor], "parameters": {"data": "on-demand"}}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_tensor")
