"""Streams over HTTP: the door, the desk and staging, called in process, a scripted backend behind them."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from peekserve.domain.messages import Answer
from peekserve.domain.request import Outcome, Reason, Source
from peekserve.domain.streams import Recurring, Sliding, StreamSpec, TrackSpec
from peekserve.peeking.stage import Tick
from peekserve.peeking.staging import LocalStage, Staging, StagingLimits
from peekserve.peeking.streams import Stream
from peekserve.server.http_api import make_app
from peekserve.server.streams import StreamDesk
from tests.server.scripted import PLAIN, Doors, ScriptedBackend, by_first_value, never

SPEC = StreamSpec((TrackSpec("x", 100.0, 4),), Sliding(4), max_age_s=1.0, idle_s=10.0)
HEART = "/api/v1/streams/plain/heart"


class HeldPeeks:
    """A peeker that reports when it is told to; counts say which class the first value is."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.stage: LocalStage | None = None

    def submit(self, request_id, application, inputs, lengths=None):
        self.asked.append((request_id, inputs))

    def report(self, fail: bool = False) -> None:
        done, self.asked = self.asked, []
        assert self.stage is not None
        self.stage.looked([(n, None if fail else counts_of(i["x"])) for n, i in done])


def counts_of(x):
    return np.eye(3)[[int(x[0, 0])]] * 5.0


class Streams:
    """The doors of a server whose application `plain` takes streams."""

    def __init__(self, spec=SPEC, script=by_first_value, peeked=True, limits=None):
        self.backend = ScriptedBackend(script)
        self.backend.applications = {
            **self.backend.applications,
            "plain": replace(PLAIN, stream=spec),
        }
        self.doors = Doors(self.backend)
        self.peeks = HeldPeeks()
        staging = Staging(self.backend.applications, limits)
        self.stage = LocalStage(staging, self.peeks, ["plain"] if peeked else [])
        self.peeks.stage = self.stage
        self.desk = StreamDesk(self.doors.desk, self.stage, self.doors.accounts)
        self.app = make_app(self.doors.desk, self.doors.accounts, self.doors.descriptions, self.desk)

    async def ask(self, method, path, **rest) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **rest)

    async def push(self, first, samples, path=HEART) -> httpx.Response:
        return await self.ask("POST", path, json={"first": first, "samples": {"x": samples}})

    async def infer(self, **parameters) -> httpx.Response:
        body = {"inputs": [], "parameters": {"stream": "heart", **parameters}}
        return await self.ask("POST", "/v2/models/plain/infer", json=body)

    async def status(self) -> dict[str, Any]:
        return (await self.ask("GET", HEART)).json()

    def metric(self, line: str) -> bool:
        return line in self.doors.metrics()


async def test_a_chunk_is_acknowledged_with_what_it_brought():
    streams = Streams()
    answer = await streams.push(0, [1, 2, 3, 4, 5])
    assert answer.status_code == 200
    told = answer.json()
    assert (told["application"], told["stream"], told["next"], told["found"]) == ("plain", "heart", 5, 1)
    assert (told["samples"], told["late"], told["windows"]) == (5, 0, 1)


async def test_a_question_about_a_stream_uses_the_newest_window_with_its_evidence():
    streams = Streams()
    await streams.push(0, [2, 0, 0, 0])
    streams.peeks.report()
    streams.backend.clock.advance(0.03)
    answer = await streams.infer(deadline_ms=20)
    assert answer.status_code == 200
    request, inputs = streams.backend.last.request, streams.backend.last.inputs
    assert inputs["x"].tolist() == [[2, 0, 0, 0]]
    assert request.counts == ((0.0, 0.0, 5.0),)
    assert (request.rows, request.bucket, request.inputs) == (1, 0, None)
    assert request.deadline_s == pytest.approx(0.020)  # from the query, not from the data
    told = answer.json()
    assert told["outputs"][0]["data"] == [2]
    parameters = told["parameters"]
    assert (parameters["stream"], parameters["window"], parameters["window_age_us"]) == ("heart", 1, 30000)


async def test_a_window_is_used_once_its_belief_is_ready_and_not_before():
    streams = Streams()
    await streams.push(0, [1, 0, 0, 0])
    early = await streams.infer()
    assert (early.status_code, early.json()["code"]) == (409, "no_window")
    streams.peeks.report()
    await streams.push(4, [2, 0, 0, 0])
    assert (await streams.infer()).json()["outputs"][0]["data"] == [1]
    streams.peeks.report()
    assert (await streams.infer()).json()["outputs"][0]["data"] == [2]


async def test_a_peek_that_failed_leaves_the_window_without_evidence():
    streams = Streams()
    await streams.push(0, [1, 0, 0, 0])
    streams.peeks.report(fail=True)
    assert (await streams.infer()).status_code == 200
    assert streams.backend.last.request.counts is None


async def test_an_application_without_a_peek_has_windows_at_once():
    streams = Streams(peeked=False)
    await streams.push(0, [1, 0, 0, 0])
    assert (await streams.infer()).status_code == 200
    assert streams.backend.last.request.counts is None


async def test_a_pinned_variant_answers_about_a_stream_too():
    streams = Streams(peeked=False)
    await streams.push(0, [1, 0, 0, 0])
    body = {"inputs": [], "parameters": {"stream": "heart"}}
    answer = await streams.ask("POST", "/v2/models/plain/versions/large/infer", json=body)
    assert answer.json()["model_version"] == "large"


async def test_a_stale_stream_says_so():
    streams = Streams(peeked=False)
    await streams.push(0, [1, 0, 0, 0])
    streams.backend.clock.advance(1.5)
    answer = await streams.infer()
    assert (answer.status_code, answer.json()["code"]) == (409, "stale")
    assert "1.500 s ago" in answer.json()["error"]
    assert (await streams.status())["stale"] is True
    # Old samples that come late do not make it young again.
    await streams.push(0, [1, 0])
    assert (await streams.infer()).json()["code"] == "stale"
    await streams.push(4, [1])
    assert (await streams.infer()).status_code == 200


async def test_status_tells_what_became_of_the_samples_and_what_is_believed():
    streams = Streams()
    await streams.push(0, [2, 0, 0, 0, 0])
    await streams.push(2, [0, 0, 0])
    streams.peeks.report()
    status = await streams.status()
    assert (status["next"], status["samples"], status["late"], status["windows"]) == (5, 5, 3, 1)
    assert status["newest"]["window"] == 1
    assert status["newest"]["class"] == "high"
    assert status["newest"]["belief"] == pytest.approx([0.5 / 6.5, 0.5 / 6.5, 5.5 / 6.5])
    assert status["queries"] == {"asked": 0, "open": 0, "outcomes": {}, "last": None}


async def test_a_binary_chunk():
    streams = Streams(peeked=False)
    body = np.array([1, 0, 0, 0], "<f4").tobytes()
    headers = {"content-type": "application/octet-stream", "stream-first": "0"}
    answer = await streams.ask("POST", HEART, content=body, headers=headers)
    assert (answer.status_code, answer.json()["found"]) == (200, 1)
    for wrong in ({"stream-first": "-1"}, {"stream-first": "x"}, {"stream-input": "y"}):
        answer = await streams.ask("POST", HEART, content=body, headers={**headers, **wrong})
        assert answer.status_code == 400, wrong
    answer = await streams.ask("POST", HEART, content=body[:-1], headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_a_stream_can_be_closed():
    streams = Streams()
    await streams.push(0, [1, 0, 0, 0])
    assert streams.metric('peekserve_streams{model="plain"} 1.0')
    assert (await streams.ask("DELETE", HEART)).status_code == 204
    assert streams.metric('peekserve_streams{model="plain"} 0.0')
    streams.peeks.report()  # of a window that nobody wants any more
    for method in ("GET", "DELETE"):
        answer = await streams.ask(method, HEART)
        assert (answer.status_code, answer.json()["code"]) == (404, "stream_not_found")
    assert (await streams.infer()).json()["code"] == "stream_not_found"
    assert (await streams.push(0, [1])).json()["windows"] == 0  # and opened again, as new


async def test_a_window_of_a_closed_stream_is_not_one_of_its_successor():
    streams = Streams(replace(SPEC, recurring=Recurring()))
    await streams.push(0, [2, 0, 0, 0, 1, 0, 0, 0])
    await streams.ask("DELETE", HEART)
    await streams.push(0, [0, 0])
    streams.peeks.report()
    assert (await streams.infer()).json()["code"] == "no_window"
    assert (await streams.status())["queries"]["asked"] == 0


async def test_an_idle_stream_is_forgotten():
    streams = Streams()
    await streams.push(0, [1])
    streams.backend.clock.advance(9.9)
    streams.stage.submit(Tick(streams.backend.now()))
    assert (await streams.ask("GET", HEART)).status_code == 200
    streams.backend.clock.advance(0.2)
    streams.stage.submit(Tick(streams.backend.now()))
    assert (await streams.ask("GET", HEART)).status_code == 404


# ---- what is wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"first": -1, "samples": {"x": [1]}}, 400, "0 or more"),
        ({"first": 1.5, "samples": {"x": [1]}}, 400, "first"),
        ({"first": 0}, 400, "samples"),
        ({"first": 0, "samples": {}}, 400, "no samples"),
        ({"first": 0, "samples": {"x": []}}, 400, "one sample or more"),
        ({"first": 0, "samples": {"x": [[1, 2], [3, 4]]}}, 400, "1 values each"),
        ({"first": 0, "samples": {"x": [[1], [3, 4]]}}, 400, "unequal"),
        ({"first": 0, "samples": {"x": [1, None]}}, 400, "list of numbers"),
        ({"first": 0, "samples": {"x": "1"}}, 400, "list of numbers"),
        ({"first": 0, "samples": {"x": [1, 1e300]}}, 400, "not finite"),
        ({"first": 0, "samples": {"y": [1]}}, 400, "no input 'y'"),
        ({"first": 0, "samples": {"x": [0] * 501}}, 413, "limit is 500"),
        ([], 400, "not a chunk"),
    ],
)
async def test_a_chunk_that_cannot_be_is_refused_and_nothing_stored(body, status, says):
    streams = Streams()
    answer = await streams.ask("POST", HEART, json=body)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "code"}
    assert says in answer.json()["error"]
    assert (await streams.ask("GET", HEART)).status_code == 404


async def test_nan_is_no_sample():
    streams = Streams()
    body = np.array([1, np.nan, 0], "<f4").tobytes()
    headers = {"content-type": "application/octet-stream", "stream-first": "7"}
    answer = await streams.ask("POST", HEART, content=body, headers=headers)
    assert (answer.status_code, "sample 8" in answer.json()["error"]) == (400, True)
    answer = await streams.ask("POST", HEART, content=b'{"first": 0, "samples": {"x": [NaN]}}')
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/streams/nobody/heart", 404, "model_not_found"),
        ("/api/v1/streams/typed/heart", 404, "stream_not_found"),
        ("/api/v1/streams/plain/He art", 400, "invalid_request"),
    ],
)
async def test_streams_that_cannot_be(path, status, code):
    streams = Streams()
    for method in ("POST", "GET", "DELETE"):
        answer = await streams.ask(method, path, json={"first": 0, "samples": {"x": [1]}})
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_server_without_streams_says_so():
    doors = Doors(ScriptedBackend())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(doors.app), base_url="http://test") as client:
        assert (await client.get(HEART)).json()["code"] == "stream_not_found"
        body = {"inputs": [], "parameters": {"stream": "heart"}}
        assert (await client.post("/v2/models/plain/infer", json=body)).json()["code"] == "stream_not_found"


async def test_a_question_about_a_stream_brings_no_inputs():
    streams = Streams(peeked=False)
    await streams.push(0, [1, 0, 0, 0])
    x = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [2, 0, 0, 0]}
    for body in (
        {"inputs": [x], "parameters": {"stream": "heart"}},
        {"inputs": [], "parameters": {"stream": 3}},
    ):
        answer = await streams.ask("POST", "/v2/models/plain/infer", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_too_much_that_waits_turns_chunks_away():
    limits = StagingLimits(waiting_bytes=64)  # of one stream 16: one window of four floats
    streams = Streams(limits=limits)
    assert (await streams.push(0, [1, 0, 0, 0, 1, 0, 0, 0])).json()["found"] == 2
    answer = await streams.push(8, [1, 0, 0, 0])
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert answer.headers["retry-after"] == "1"
    assert (await streams.status())["next"] == 8  # nothing of it was stored
    streams.peeks.report()
    assert (await streams.push(8, [1, 0, 0, 0])).json()["found"] == 1
    assert streams.metric('peekserve_stream_chunks_total{model="plain",result="too_fast"} 1.0')


@pytest.mark.parametrize(
    "limits", [StagingLimits(streams=1), StagingLimits(ring_bytes=Stream.footprint(SPEC))]
)
async def test_only_so_many_streams_are_open(limits):
    streams = Streams(limits=limits)
    assert (await streams.push(0, [1])).status_code == 200
    other = HEART.replace("heart", "other")
    answer = await streams.push(0, [1], path=other)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    await streams.ask("DELETE", HEART)
    assert (await streams.push(0, [1], path=other)).status_code == 200


# ---- recurring queries --------------------------------------------------------------------------------------


async def test_the_server_asks_about_each_window_by_itself():
    streams = Streams(replace(SPEC, recurring=Recurring(None, "urgent")))
    await streams.push(0, [2, 0, 0, 0, 1, 0, 0, 0])
    streams.peeks.report()
    await streams.desk.settled()
    assert [s.request.deadline_s for s in streams.backend.submitted] == pytest.approx([0.05, 0.05])
    told = (await streams.ask("GET", HEART + "/results?since=0")).json()
    assert (told["last"], told["forgotten"]) == (2, 0)
    assert [(r["window"], r["label"], r["class"], r["outcome"]) for r in told["results"]] == [
        (1, 2, "high", "ok"),
        (2, 1, "mid", "ok"),
    ]
    assert (await streams.ask("GET", HEART + "/results?since=1")).json()["results"] == told["results"][1:]
    assert (await streams.status())["queries"]["outcomes"] == {"ok": 2}
    assert streams.metric('peekserve_stream_queries_total{model="plain",outcome="ok"} 2.0')
    assert 'protocol="stream"' in streams.doors.metrics()


async def test_every_recurring_query_has_one_outcome_whatever_happens():
    answers = iter(
        [
            by_first_value,
            never(Outcome.EXPIRED, Reason.DEADLINE_EXCEEDED),
            never(Outcome.REFUSED, Reason.OVERLOADED, "full"),
            lambda request, inputs: 1 / 0,
        ]
    )
    streams = Streams(
        replace(SPEC, recurring=Recurring()), script=lambda r, i: next(answers)(r, i), peeked=False
    )
    await streams.push(0, [1, 0, 0, 0] * 4)
    await streams.desk.settled()
    queries = (await streams.status())["queries"]
    assert (queries["asked"], queries["open"]) == (4, 0)
    assert queries["outcomes"] == {"ok": 1, "deadline_exceeded": 1, "overloaded": 1, "error": 1}
    results = (await streams.ask("GET", HEART + "/results")).json()["results"]
    assert [result["result"] for result in results] == [1, 2, 3, 4]
    assert results[2]["error"] == "full"


async def test_a_query_that_recurs_by_time_uses_the_newest_window():
    streams = Streams(replace(SPEC, recurring=Recurring(0.001)), peeked=False)
    await streams.push(0, [1, 0])
    while not (await streams.status())["queries"]["outcomes"].get("no_window"):
        await asyncio.sleep(0)
    await streams.push(2, [0, 0])
    while not (await streams.status())["queries"]["outcomes"].get("ok"):
        await asyncio.sleep(0)
    streams.desk.stop()
    await streams.desk.settled()
    queries = (await streams.status())["queries"]
    assert (queries["open"], sum(queries["outcomes"].values())) == (0, queries["asked"])


async def test_results_that_are_kept_no_longer_are_counted():
    streams = Streams(replace(SPEC, recurring=Recurring()), peeked=False)
    for first in range(0, 1200, 400):
        await streams.push(first, [1, 0, 0, 0] * 100)
    await streams.desk.settled()
    told = (await streams.ask("GET", HEART + "/results?since=10")).json()
    assert (told["last"], told["forgotten"], len(told["results"])) == (300, 34, 256)
    assert (await streams.ask("GET", HEART + "/results?since=-1")).status_code == 400


async def test_an_answer_of_the_peek_needs_no_model():
    def by_peek(request, inputs):
        answer = by_first_value(request, inputs)
        rows = tuple(replace(row, source=Source.PEEK, variant=None, batch_id=None) for row in answer.rows)
        return Answer(request.id, answer.outcome, answer.reason, rows)

    streams = Streams(replace(SPEC, recurring=Recurring()), script=by_peek)
    await streams.push(0, [1, 0, 0, 0])
    streams.peeks.report()
    await streams.desk.settled()
    assert (await streams.status())["queries"]["last"]["variant"] == "peek"


def test_the_log_holds_no_samples():
    async def story():
        streams = Streams(replace(SPEC, recurring=Recurring()), peeked=False)
        await streams.push(0, [1.23456, 0, 0, 0])
        await streams.desk.settled()
        return streams.doors.log.getvalue()

    log = asyncio.run(story())
    assert json.loads(log)["protocol"] == "stream"
    assert "1.23456" not in log
