"""`explain: true`: from the parameter of a request to the parameter of its answer, through both doors."""

import json
from dataclasses import replace

import httpx
import pytest
import tritonclient.grpc as over_triton

from peekserve.domain.application import Score
from peekserve.domain.messages import Answer
from peekserve.server.calls import value_names
from peekserve.server.oip_messages import OIP
from tests.server.scripted import PLAIN, Doors, ScriptedBackend, by_first_value
from tests.server.test_doors import Context, call, every_door, x

WORDS = json.dumps(
    {"rows": [{"row": 0, "chosen": {"kind": "model", "variant": "small"}, "alternatives": []}]}
)


def with_words(request, inputs) -> Answer:
    answer = by_first_value(request, inputs)
    return replace(answer, explanation=WORDS if request.explain else "")


async def http_parameters(doors: Doors, **parameters) -> dict:
    body = {"inputs": [vars(x())], "parameters": parameters}
    transport = httpx.ASGITransport(doors.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post("/v2/models/plain/infer", content=json.dumps(body))
    assert answer.status_code == 200
    return answer.json()["parameters"]


async def grpc_answer(doors: Doors, explain: bool) -> bytes:
    request = OIP["ModelInferRequest"](model_name="plain")
    request.parameters["explain"].bool_param = explain
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([0.0] * 4)
    return await call(doors, "ModelInfer", request.SerializeToString(), Context())


async def test_the_answer_says_what_else_was_considered_to_who_asks():
    doors = Doors(ScriptedBackend(with_words))
    told = await http_parameters(doors, explain=True)
    assert json.loads(told["explanation"])["rows"][0]["chosen"]["variant"] == "small"
    for parameters in ({}, {"explain": False}):
        assert "explanation" not in await http_parameters(doors, **parameters)
    assert [s.request.explain for s in doors.backend.submitted] == [True, False, False]


async def test_over_grpc_it_is_a_string_that_other_peoples_clients_read():
    doors = Doors(ScriptedBackend(with_words))
    content = await grpc_answer(doors, explain=True)
    ours = OIP["ModelInferResponse"].FromString(content)
    assert ours.parameters["explanation"].string_param == WORDS
    theirs = over_triton.service_pb2.ModelInferResponse.FromString(content)
    assert json.loads(theirs.parameters["explanation"].string_param) == json.loads(WORDS)
    plain = OIP["ModelInferResponse"].FromString(await grpc_answer(doors, explain=False))
    assert "explanation" not in plain.parameters


@every_door
@pytest.mark.parametrize("value", ["true", 1, 0, 1.0, "yes"])
async def test_what_is_neither_true_nor_false_is_refused_by_name(door, value):
    doors = Doors(ScriptedBackend(with_words))
    told = await door(doors, "plain", "", [x()], {"explain": value})
    assert (told.word, told.sentence) == (
        "invalid_request",
        f"parameter explain is true or false, not {value!r}",
    )
    assert doors.backend.submitted == []


async def test_the_openapi_document_lists_the_parameter():
    doors = Doors(ScriptedBackend())
    transport = httpx.ASGITransport(doors.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        document = (await client.get("/openapi.json")).json()
    asked = document["components"]["schemas"]["request"]["properties"]["parameters"]["properties"]
    assert asked["explain"]["type"] == "boolean"


def test_the_metadata_names_the_weights_of_the_classes_where_they_differ():
    for weights, said in (((1.0, 1.0, 4.0), "1,1,4"), ((2.0, 2.0, 2.0), None), ((), None)):
        doors = Doors(ScriptedBackend())
        doors.backend.applications = {"plain": replace(PLAIN, class_weights=weights)}
        assert doors.descriptions.model("plain")["properties"].get("class_weights") == said


@pytest.mark.parametrize(
    ("application", "name"),
    [
        (PLAIN, "expected_accuracy"),
        (replace(PLAIN, class_weights=(2.0, 2.0, 2.0)), "expected_accuracy"),
        (replace(PLAIN, class_weights=(1.0, 1.0, 4.0)), "expected_value"),
        (replace(PLAIN, score=Score.QUADRATIC), "expected_value"),
    ],
)
async def test_nothing_weighted_is_called_an_accuracy(application, name):
    backend = ScriptedBackend()
    backend.applications = {"plain": application}
    told = await http_parameters(Doors(backend))
    assert told[name] == 0.75
    assert [key for key in told if key.startswith("expected_")] == [name]
    assert value_names(application)[0] == name
