"""One table of cases, through both doors: what comes in right gets in alike, what is wrong is called alike."""

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from peekserve.domain.profile import Quality
from peekserve.domain.request import Outcome, Reason
from peekserve.domain.tensors import InputMap
from peekserve.server.frontdesk import Limits
from peekserve.server.oip import SERVICE, Door
from peekserve.server.oip_messages import HEALTH_V1, OIP
from peekserve.server.wire import ERRORS, OUTCOMES
from tests.server.scripted import Doors, ScriptedBackend, by_first_value, never

NAN = float("nan")
TYPED_FIELDS = {
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT16": "int_contents",
    "BOOL": "bool_contents",
}


@dataclass(frozen=True)
class Input:
    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


def x(*values: float, name: str = "x", datatype: str = "FP32", shape: tuple[int, ...] | None = None) -> Input:
    values = values or (1.0, 0.0, 0.0, 0.0)
    return Input(name, datatype, list(shape or (len(values) // 4 or 1, 4)), list(values))


ACCEL = Input("accel", "FP32", [1, 3, 2], [1.0] * 6)
GYRO = Input("gyro", "FP32", [1, 3], [2.0, 0.0, 0.0])


@dataclass(frozen=True)
class Told:
    """What a door answered, in words that both have."""

    word: str
    sentence: str = ""
    version: str = ""
    labels: tuple[int, ...] = ()


class Hung(Exception):
    """How a gRPC call ends with an error."""


class Context:
    """A scripted gRPC call."""

    def __init__(self, remaining: float | None = None) -> None:
        self.remaining = remaining
        self.ended: tuple[grpc.StatusCode, str, dict[str, str]] | None = None

    def time_remaining(self) -> float | None:
        return self.remaining

    async def abort(
        self, code: grpc.StatusCode, sentence: str, trailing: tuple[tuple[str, str], ...]
    ) -> None:
        self.ended = (code, sentence, dict(trailing))
        raise Hung


@dataclass(frozen=True)
class Details:
    method: str
    invocation_metadata: tuple[()] = ()


async def call(doors: Doors, method: str, message: bytes, context: Context, service: str = SERVICE) -> bytes:
    for handler in Door(doors.desk, doors.accounts, doors.descriptions).handlers():
        found = handler.service(Details(f"/{service}/{method}"))
        if found is not None:
            answered: bytes = await found.unary_unary(message, context)
            return answered
    raise LookupError(method)


async def over_http(
    doors: Doors, app: str, version: str, inputs: list[Input], parameters: dict[str, Any]
) -> Told:
    path = f"/v2/models/{app}" + (f"/versions/{version}" if version else "") + "/infer"
    body = {"inputs": [vars(i) for i in inputs], "parameters": parameters}
    content = json.dumps(body).replace("NaN", "null").replace("Infinity", "1e39")
    transport = httpx.ASGITransport(doors.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post(path, content=content)
    told = answer.json()
    if answer.status_code == 200:
        return Told("ok", version=told["model_version"], labels=tuple(told["outputs"][0]["data"]))
    statuses = {s.word: s.http for s in (*ERRORS.values(), *OUTCOMES.values())}
    assert statuses[told["code"]] == answer.status_code
    return Told(told["code"], told["error"])


async def over_grpc(
    doors: Doors, app: str, version: str, inputs: list[Input], parameters: dict[str, Any]
) -> Told:
    return await _over_grpc(doors, app, version, inputs, parameters, raw=False)


async def over_grpc_raw(
    doors: Doors, app: str, version: str, inputs: list[Input], parameters: dict[str, Any]
) -> Told:
    return await _over_grpc(doors, app, version, inputs, parameters, raw=True)


async def _over_grpc(
    doors: Doors, app: str, version: str, inputs: list[Input], parameters: Any, raw: bool
) -> Told:
    request = OIP["ModelInferRequest"](model_name=app, model_version=version)
    for name, value in parameters.items():
        kind = {bool: "bool", int: "int64", float: "double", str: "string"}[type(value)]
        setattr(request.parameters[name], f"{kind}_param", value)
    dtypes = {"FP32": "f4", "FP64": "f8", "INT16": "i2", "BOOL": "?", "INT64": "i8"}
    for item in inputs:
        entry = request.inputs.add(name=item.name, datatype=item.datatype, shape=item.shape)
        if raw:
            with np.errstate(over="ignore"):
                request.raw_input_contents.append(
                    np.array(item.data, dtypes.get(item.datatype, "f4")).tobytes()
                )
        else:
            getattr(entry.contents, TYPED_FIELDS.get(item.datatype, "fp32_contents")).extend(item.data)
    context = Context()
    try:
        content = await call(doors, "ModelInfer", request.SerializeToString(), context)
    except Hung:
        code, sentence, trailing = context.ended
        statuses = {s.word: s.grpc for s in (*ERRORS.values(), *OUTCOMES.values())}
        assert statuses[trailing["peekserve-code"]] == code.name
        return Told(trailing["peekserve-code"], sentence)
    answer = OIP["ModelInferResponse"].FromString(content)
    labels = (
        np.frombuffer(answer.raw_output_contents[0], np.int64)
        if raw
        else answer.outputs[0].contents.int64_contents
    )
    return Told("ok", version=answer.model_version, labels=tuple(int(label) for label in labels))


every_door = pytest.mark.parametrize("door", [over_http, over_grpc, over_grpc_raw])


@every_door
@pytest.mark.parametrize(
    ("app", "version", "inputs", "labels"),
    [
        ("plain", "", [x(2, 0, 0, 0)], (2,)),
        ("plain", "large", [x(2, 0, 0, 0, 1, 0, 0, 0)], (2, 1)),
        ("plain", "", [x(), Input("evidence", "FP32", [1, 3], [3.0, 0.0, 2.0])], (1,)),
        ("sensed", "", [ACCEL, GYRO], (1,)),
        ("sensed", "", [ACCEL], (1,)),
        ("sensed", "spin", [GYRO], (2,)),
        ("sensed", "", [ACCEL, Input("gyro", "FP32", [1, 3], [NAN, 0.0, 0.0])], (1,)),
        (
            "typed",
            "",
            [Input("wave", "INT16", [1, 3], [1, 2, 3]), Input("mask", "BOOL", [1, 2], [True, False])],
            (1,),
        ),
    ],
)
async def test_what_fits_is_answered(door, app, version, inputs, labels):
    doors = Doors(ScriptedBackend())
    told = await door(doors, app, version, inputs, {"later": 1})
    assert (told.word, told.labels) == ("ok", labels)
    assert not version or told.version == version


@every_door
@pytest.mark.parametrize(
    ("app", "version", "inputs", "word", "hint"),
    [
        ("nobody", "", [x()], "model_not_found", "there are: plain"),
        ("plain", "huge", [x()], "model_not_found", "it has large, small"),
        ("plain", "", [], "invalid_request", "no inputs"),
        ("plain", "", [x(name="y")], "invalid_tensor", "it has x, evidence"),
        ("plain", "", [x(), x()], "invalid_tensor", "twice"),
        ("plain", "", [x(datatype="FP64")], "invalid_tensor", "datatype FP32, not FP64"),
        ("plain", "", [x(datatype="FP31")], "invalid_tensor", "known are"),
        ("plain", "", [x(shape=(4,))], "invalid_tensor", "[-1, 4]"),
        ("plain", "", [x(shape=(2, 2))], "invalid_tensor", "[-1, 4]"),
        ("plain", "", [x(shape=(2, 4))], "invalid_tensor", ""),
        ("plain", "", [x(shape=(-1, 4))], "invalid_tensor", "negative"),
        ("plain", "", [x(shape=(1 << 60, 4))], "invalid_tensor", ""),
        ("plain", "", [Input("x", "FP32", [0, 4], [])], "invalid_tensor", "0 rows"),
        ("plain", "", [Input("x", "FP32", [9, 4], [0.0] * 36)], "invalid_tensor", "1 to 8"),
        ("plain", "", [x(NAN, 0, 0, 0)], "invalid_tensor", "not finite"),
        ("plain", "", [x(float("inf"), 0, 0, 0)], "invalid_tensor", "not finite"),
        ("plain", "", [x(), Input("evidence", "FP32", [1, 2], [1.0, 1.0])], "invalid_tensor", "[-1, 3]"),
        ("plain", "", [x(), Input("evidence", "FP32", [1, 3], [1.0, -1.0, 0])], "invalid_tensor", "negative"),
        ("plain", "", [x(), Input("evidence", "FP32", [2, 3], [1.0] * 6)], "invalid_tensor", "2"),
        ("plain", "", [Input("evidence", "FP32", [1, 3], [1.0] * 3)], "invalid_request", "'x' is missing"),
        ("sensed", "fusion", [ACCEL], "invalid_request", "'gyro' is missing"),
        ("sensed", "", [Input("gyro", "FP32", [1, 3], [NAN] * 3)], "invalid_request", "NaN"),
        ("sensed", "", [Input("accel", "FP32", [1, 9, 2], [0.0] * 18)], "invalid_tensor", "length 9"),
        ("typed", "", [Input("wave", "INT16", [1, 2], [1, 2])], "invalid_request", "'mask' is missing"),
    ],
)
async def test_what_does_not_fit_is_refused_by_name(door, app, version, inputs, word, hint):
    doors = Doors(ScriptedBackend(), Limits(rows=8))
    told = await door(doors, app, version, inputs, {})
    assert told.word == word
    assert hint in told.sentence
    assert doors.backend.submitted == []
    assert 'outcome="invalid"' in doors.metrics()


@every_door
@pytest.mark.parametrize(
    ("parameters", "seconds"),
    [
        ({}, 0.2),
        ({"query": "urgent"}, 0.05),
        ({"timeout": 30_000}, 0.03),
        ({"timeout": "30000"}, 0.03),
        ({"timeout": 0}, 0.2),
        ({"timeout": 500_000}, 0.5),
        ({"deadline_ms": 12.5}, 0.0125),
        ({"deadline_ms": 40, "timeout": 30_000, "query": "urgent"}, 0.03),
        ({"timeout": 60_000_000}, 2.0),
    ],
)
async def test_the_smallest_deadline_counts(door, parameters, seconds):
    doors = Doors(ScriptedBackend())
    assert (await door(doors, "plain", "", [x()], parameters)).word == "ok"
    assert doors.backend.last.request.deadline_s == pytest.approx(seconds)


@every_door
@pytest.mark.parametrize(
    "parameters",
    [
        {"timeout": -1},
        {"timeout": "soon"},
        {"timeout": True},
        {"timeout": 1.5},
        {"deadline_ms": 0},
        {"deadline_ms": -3.0},
        {"deadline_ms": "10"},
        {"query": "unheard"},
        {"query": 3},
        {"min_accuracy": 1.01},
        {"min_accuracy": -0.1},
        {"min_accuracy": True},
        {"min_accuracy": "0.9"},
        {"priority": -1},
        {"priority": 1.5},
        {"priority": True},
        {"priority": "high"},
        {"priority": "-1"},
    ],
)
async def test_wrong_parameters_are_refused(door, parameters):
    doors = Doors(ScriptedBackend())
    assert (await door(doors, "plain", "", [x()], parameters)).word == "invalid_request"


@every_door
@pytest.mark.parametrize(
    ("parameters", "level"),
    [({}, 8), ({"priority": 0}, 8), ({"priority": 1}, 1), ({"priority": "9"}, 9), ({"priority": 2**40}, 15)],
)
async def test_a_request_goes_on_with_its_priority_its_floor_and_its_bytes(door, parameters, level):
    doors = Doors(ScriptedBackend())
    assert (await door(doors, "plain", "", [x()], parameters | {"min_accuracy": 0.25})).word == "ok"
    request = doors.backend.last.request
    assert (request.level, request.min_accuracy, request.bytes) == (level, 0.25, 16)


def unlike_variants() -> Doors:
    """`small` is right in 60 of 100, `large` in 90, `fresh` has no profile; of the two inputs `large` needs both."""
    doors = Doors(ScriptedBackend())
    plain = doors.backend.applications["plain"]
    small, large = plain.variants
    variants = (
        replace(small, quality=Quality((0.6, 0.6, 0.6), (0.4, 0.3, 0.3))),
        replace(
            large,
            quality=Quality((0.9, 0.9, 0.9), (0.4, 0.3, 0.3)),
            inputs=(InputMap("x", "x"), InputMap("more", "more")),
        ),
        replace(small, name="fresh", quality=None, revision="sha-fresh"),
    )
    more = replace(plain.inputs[0], name="more")
    doors.backend.applications = {"plain": replace(plain, variants=variants, inputs=(*plain.inputs, more))}
    return doors


@every_door
@pytest.mark.parametrize(
    ("version", "names", "floor", "hint"),
    [
        ("", "x more", 0.9, ""),
        ("", "x more", 0.91, "'large', has 0.9000"),
        ("", "x more", 1, "'large', has 0.9000"),
        ("", "x", 0.6, ""),
        ("", "x", 0.7, "'small', has 0.6000"),
        ("small", "x more", 0.7, "'small', has 0.6000"),
        ("large", "x more", 0.7, ""),
        ("fresh", "x", 0.1, "none of them has a profile"),
        ("fresh", "x", 0.0, ""),
    ],
)
async def test_a_floor_that_no_profile_reaches_is_refused_with_the_numbers(door, version, names, floor, hint):
    doors = unlike_variants()
    told = await door(
        doors, "plain", version, [x(name=name) for name in names.split()], {"min_accuracy": floor}
    )
    assert told.word == ("constraint_infeasible" if hint else "ok")
    assert hint in told.sentence
    assert len(doors.backend.submitted) == (not hint)


@every_door
@pytest.mark.parametrize("reason", [r for r in Reason if r not in (Reason.OK, Reason.LATE, Reason.CANCELLED)])
async def test_every_outcome_is_called_alike(door, reason):
    doors = Doors(ScriptedBackend(never(Outcome.REFUSED, reason)))
    told = await door(doors, "plain", "", [x()], {})
    assert told.word == reason.value
    assert told.sentence


@every_door
async def test_lengths_are_padded_to_one_bucket(door):
    doors = Doors(ScriptedBackend())
    await door(doors, "sensed", "", [Input("accel", "FP32", [2, 5, 2], [1.0] * 20)], {})
    sent = doors.backend.last
    assert (sent.request.bucket, sent.request.rows, sent.request.inputs) == (1, 2, ("accel",))
    assert sent.inputs["accel"].shape == (2, 8, 2)
    assert sent.inputs["accel"][:, 5:].sum() == 0.0
    assert sent.lengths["accel"].tolist() == [5, 5]


@every_door
async def test_padding_can_repeat_the_edge(door):
    doors = Doors(ScriptedBackend())
    wave, mask = Input("wave", "INT16", [1, 3], [1, 2, 3]), Input("mask", "BOOL", [1, 2], [True, False])
    await door(doors, "typed", "", [wave, mask], {})
    assert doors.backend.last.inputs["wave"].tolist() == [[1, 2, 3, 3]]
    assert doors.backend.last.inputs["mask"].tolist() == [[True, False]]


@every_door
async def test_a_request_that_fits_says_all_that_the_core_needs(door):
    doors = Doors(ScriptedBackend())
    evidence = Input("evidence", "FP64", [1, 3], [3.0, 0.0, 0.5])
    await door(doors, "plain", "large", [x(), evidence], {"query": "urgent"})
    request = doors.backend.last.request
    assert (request.id, request.payload.key) == ("test-1", "test-1")
    assert (request.application, request.pinned, request.query) == ("plain", "large", "urgent")
    assert (request.inputs, request.counts, request.bucket) == (None, ((3.0, 0.0, 0.5),), 0)
    assert doors.backend.last.lengths is None


# ---- what gRPC alone has -----------------------------------------------------------------------------------


async def test_the_grpc_calls_own_deadline_counts():
    doors = Doors(ScriptedBackend())
    request = OIP["ModelInferRequest"](model_name="plain")
    entry = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    entry.contents.fp32_contents.extend([0.0] * 4)
    await call(doors, "ModelInfer", request.SerializeToString(), Context(remaining=0.04))
    assert doors.backend.last.request.deadline_s == pytest.approx(0.04)
    await call(doors, "ModelInfer", request.SerializeToString(), Context(remaining=9e18))
    assert doors.backend.last.request.deadline_s == pytest.approx(0.2)


async def test_a_grpc_call_that_ends_early_is_cancelled():
    doors = Doors(ScriptedBackend(script=None))
    request = OIP["ModelInferRequest"](model_name="plain")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([0.0] * 4)
    waiting = asyncio.ensure_future(call(doors, "ModelInfer", request.SerializeToString(), Context()))
    while not doors.backend.held:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert doors.backend.cancelled == ["test-1"]
    assert 'outcome="cancelled"' in doors.metrics()


async def test_damaged_messages_and_mixed_contents_are_invalid_arguments():
    doors = Doors(ScriptedBackend())
    context = Context()
    with pytest.raises(Hung):
        await call(doors, "ModelInfer", b"\xff\xff\xff", context)
    assert context.ended[0] is grpc.StatusCode.INVALID_ARGUMENT
    request = OIP["ModelInferRequest"](model_name="plain", raw_input_contents=[b""])
    with pytest.raises(Hung):
        await call(doors, "ModelInfer", request.SerializeToString(), context)
    assert "0 inputs and 1 raw_input_contents" in context.ended[1]


async def test_a_bug_is_internal_and_tells_nothing():
    def broken(request, inputs):
        raise ZeroDivisionError("secret")

    doors = Doors(ScriptedBackend(broken))
    told = await over_grpc(doors, "plain", "", [x()], {})
    assert told.word == "backend_error"
    assert "secret" not in told.sentence


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelReady", "ModelConfig"])
async def test_questions_about_unknown_models_are_not_found(method):
    doors = Doors(ScriptedBackend())
    for name, code in (("nobody", grpc.StatusCode.NOT_FOUND), ("", grpc.StatusCode.INVALID_ARGUMENT)):
        context = Context()
        with pytest.raises(Hung):
            await call(doors, method, OIP[f"{method}Request"](name=name).SerializeToString(), context)
        assert context.ended[0] is code


async def test_the_health_service_follows_readiness():
    doors = Doors(ScriptedBackend())
    message = HEALTH_V1["HealthCheckRequest"](service="").SerializeToString()
    for up, status in ((True, 1), (False, 2)):
        doors.backend.up = up
        content = await call(doors, "Check", message, Context(), "grpc.health.v1.Health")
        assert HEALTH_V1["HealthCheckResponse"].FromString(content).status == status
    context = Context()
    other = HEALTH_V1["HealthCheckRequest"](service="other").SerializeToString()
    with pytest.raises(Hung):
        await call(doors, "Check", other, context, "grpc.health.v1.Health")
    assert context.ended[0] is grpc.StatusCode.NOT_FOUND


async def test_both_doors_show_the_same_metrics_under_their_names():
    doors = Doors(ScriptedBackend(by_first_value))
    await over_http(doors, "plain", "", [x()], {})
    await over_grpc(doors, "plain", "", [x()], {})
    for protocol in ("http", "grpc"):
        line = f'peekserve_requests_total{{model="plain",outcome="ok",protocol="{protocol}",variant="small"}} 1.0'
        assert line in doors.metrics()
