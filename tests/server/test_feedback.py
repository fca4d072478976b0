"""Feedback through the HTTP door, a scripted learner behind it."""

import asyncio
import json
from collections.abc import Sequence

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.awareness.drift import Drift
from peekserve.domain.feedback import Lesson, Verdict
from peekserve.domain.messages import Acknowledge
from peekserve.errors import TooFast
from peekserve.live.confirming import Told
from peekserve.server.feedback import BODY_BYTES, MOST_LISTED, FeedbackDesk
from peekserve.server.http_api import make_app
from tests.server.scripted import Doors, ScriptedBackend
from tests.server.test_http_api import get, post

LESSON = Lesson("plain", "small", 0, 0, 1, 0.75, (0.2, 0.3, 0.5))
BY_ID = {
    "ghost": Verdict.UNKNOWN,
    "open": Verdict.UNANSWERED,
    "known": Verdict.REPEATED,
    "odd": Verdict.INVALID,
}


class Learns:
    """Accepts every request but those whose names say otherwise."""

    def __init__(self, backend: ScriptedBackend) -> None:
        self.applications = backend.applications
        self.told: list[Told] = []
        self.full = False

    def submit(self, told: Sequence[Told]) -> asyncio.Future[list[Acknowledge]]:
        if self.full:
            raise TooFast("4 rows of feedback came and 1 more can wait; send them later")
        self.told += told
        done: asyncio.Future[list[Acknowledge]] = asyncio.get_running_loop().create_future()
        done.set_result([self.answer(one) for one in told])
        return done

    def answer(self, told: Told) -> Acknowledge:
        verdict = BY_ID.get(told.request_id, Verdict.ACCEPTED)
        if verdict is not Verdict.ACCEPTED:
            return Acknowledge(
                told.request_id, verdict, "plain", detail=f"request {told.request_id!r} is odd"
            )
        return Acknowledge(told.request_id, verdict, "plain", (LESSON,) * len(told.labels))

    def drift(self, application: str) -> Drift:
        nan = float("nan")
        if application == "plain":
            return Drift(3.5, 0.25, 0.0, 12, 0.9, 0.5, (0.25, 0.75), (0.5, 0.25, 0.25))
        classes = len(self.applications[application].classes)
        return Drift(0.0, 0.5, 0.0, 0, nan, nan, (0.0, 1.0), (1 / classes,) * classes)


class Stage(Doors):
    """The doors, with feedback."""

    def __init__(self) -> None:
        super().__init__(ScriptedBackend())
        self.learns = Learns(self.backend)
        desk = FeedbackDesk(self.learns, self.learns, self.telemetry)
        self.app = make_app(self.desk, self.accounts, self.descriptions, feedback=desk)

    async def tell(self, body: object) -> httpx.Response:
        return await post(self, "/api/v1/feedback", body)


async def test_one_label_by_name_or_by_number():
    stage = Stage()
    for label in ("high", 2):
        answer = await stage.tell({"request_id": "r1", "label": label})
        assert (answer.status_code, answer.json()) == (200, {"accepted": 1})
        assert answer.headers["content-type"] == "application/json"
    assert stage.learns.told == [Told("r1", ("high",)), Told("r1", (2,))]
    assert 'peekserve_feedback_total{model="plain",result="accepted"} 2.0' in stage.metrics()


async def test_several_rows_some_of_them_unknown():
    stage = Stage()
    answer = await stage.tell({"request_id": "r1", "labels": ["low", None, 1]})
    assert answer.json() == {"accepted": 3}
    assert stage.learns.told == [Told("r1", ("low", None, 1))]


@pytest.mark.parametrize(
    ("request_id", "status", "code"),
    [
        ("ghost", 404, "request_not_found"),
        ("open", 409, "not_answered"),
        ("known", 409, "already_confirmed"),
        ("odd", 400, "invalid_request"),
    ],
)
async def test_what_cannot_be_confirmed_is_told_with_its_word(request_id, status, code):
    stage = Stage()
    answer = await stage.tell({"request_id": request_id, "label": "low"})
    assert answer.status_code == status
    assert answer.json() == {"error": f"request {request_id!r} is odd", "code": code}
    assert f'result="{BY_ID[request_id].value}"}} 1.0' in stage.metrics()


async def test_of_many_each_is_told_what_became_of_it():
    stage = Stage()
    many = [{"request_id": name, "label": 0} for name in ("r1", "ghost", "r2", "known")]
    answer = await stage.tell({"feedback": many})
    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": 2,
        "refused": [
            {"request_id": "ghost", "error": "request 'ghost' is odd", "code": "request_not_found"},
            {"request_id": "known", "error": "request 'known' is odd", "code": "already_confirmed"},
        ],
    }
    assert (await stage.tell({"feedback": []})).json() == {"accepted": 0, "refused": []}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "is no feedback"),
        (b"[]", "is no feedback"),
        (b"\xff", "is no feedback"),
        (b'{"feedback": ' + b"[" * 5000, "nested too deeply"),
        ({}, "request_id"),
        ({"request_id": "r1"}, "either label or labels"),
        ({"request_id": "r1", "label": 1, "labels": [1]}, "either label or labels"),
        ({"request_id": "r1", "label": True}, "label"),
        ({"request_id": "r1", "label": None}, "label"),
        ({"request_id": "r1", "label": 1.5}, "label"),
        ({"request_id": "r1", "lable": 1}, "lable"),
        ({"request_id": 7, "label": 1}, "request_id"),
        ({"request_id": "r" * 129, "label": 1}, "129 characters"),
        ({"feedback": [{"request_id": "r1", "label": 1}, {"label": 2}]}, "request_id"),
        ({"feedback": {}}, "is no feedback"),
    ],
)
async def test_what_is_no_feedback_is_said_to_be_none(body, words):
    stage = Stage()
    answer = await stage.tell(body)
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_request"
    assert words in answer.json()["error"]
    assert stage.learns.told == []
    assert 'peekserve_feedback_total{model="",result="invalid"} 1.0' in stage.metrics()


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ONES = st.fixed_dictionaries(
    {},
    optional={
        "request_id": st.sampled_from(["r1", "ghost", ""]) | VALUES,
        "label": VALUES,
        "labels": st.lists(VALUES, max_size=3) | VALUES,
    },
)
BODIES = st.binary(max_size=20) | (
    VALUES | ONES | st.fixed_dictionaries({"feedback": st.lists(ONES | VALUES, max_size=3) | VALUES})
).map(lambda told: json.dumps(told).encode())


@settings(max_examples=150)
@given(BODIES)
def test_whatever_comes_is_taken_or_told_what_is_wrong_with_it(body):
    stage = Stage()
    answer = asyncio.run(stage.tell(body))
    assert answer.status_code in (200, 400, 404)
    assert set(answer.json()) in ({"accepted"}, {"accepted", "refused"}, {"error", "code"})


async def test_too_much_at_once_is_413_and_nothing_is_taken():
    stage = Stage()
    one = {"request_id": "r1", "label": 1}
    bodies = (
        b" " * (BODY_BYTES + 1),
        {"feedback": [one] * (MOST_LISTED + 1)},
        {"request_id": "r1", "labels": [0] * 4097},
    )
    for body in bodies:
        answer = await stage.tell(body)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert stage.learns.told == []


async def test_a_full_queue_is_429_and_says_when_to_come_again():
    stage = Stage()
    stage.learns.full = True
    answer = await stage.tell({"request_id": "r1", "label": 1})
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert answer.headers["retry-after"] == "1"
    assert 'peekserve_feedback_total{model="",result="too_fast"} 1.0' in stage.metrics()


async def test_another_content_type_and_another_method():
    stage = Stage()
    answer = await post(stage, "/api/v1/feedback", {}, content_type="text/csv")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert 'peekserve_feedback_total{model="",result="invalid"} 1.0' in stage.metrics()
    assert (await get(stage, "/api/v1/feedback")).status_code == 405


async def test_how_a_stream_stands():
    stage = Stage()
    told = (await get(stage, "/api/v1/drift/plain")).json()
    assert told == {
        "application": "plain",
        "score": 3.5,
        "scores": {"trust": 3.5, "votes": 0.25, "labels": 0.0},
        "confirmed": 12,
        "believed_accuracy": 0.9,
        "confirmed_accuracy": 0.5,
        "confirmed_interval": [0.25, 0.75],
        "prior": {"low": 0.5, "mid": 0.25, "high": 0.25},
    }
    everything = (await get(stage, "/api/v1/drift")).json()["applications"]
    assert [one["application"] for one in everything] == list(stage.backend.applications)
    assert everything[1]["confirmed_accuracy"] is None
    lost = await get(stage, "/api/v1/drift/nothing")
    assert (lost.status_code, lost.json()["code"]) == (404, "model_not_found")


async def test_the_metrics_ask_for_it_when_they_are_asked():
    stage = Stage()
    metrics = stage.metrics()
    assert 'peekserve_drift_score{model="plain"} 3.5' in metrics
    assert 'peekserve_believed_accuracy{model="plain"} 0.9' in metrics
    assert 'peekserve_confirmed_accuracy{model="plain"} 0.5' in metrics
    assert 'peekserve_confirmed_accuracy{model="typed"} NaN' in metrics


async def test_a_server_without_feedback_says_so():
    doors = Doors(ScriptedBackend())
    answer = await post(doors, "/api/v1/feedback", {"request_id": "r1", "label": 1})
    assert (answer.status_code, answer.json()["code"]) == (404, "request_not_found")
    assert "takes no feedback" in answer.json()["error"]
