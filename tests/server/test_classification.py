"""Classes in words, at both doors and with the client of those who invented it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from peekserve.server.classification import classified
from peekserve.server.oip_messages import OIP
from tests.server.scripted import Doors, ScriptedBackend
from tests.server.test_clients import ROWS, an_input, client, serving  # noqa: F401  # fixtures
from tests.server.test_doors import Context, Hung, call
from tests.server.test_http_api import X, infer

CLASSES = ("low", "mid", "high")
SCORES = arrays.arrays(
    np.float32, st.tuples(st.integers(0, 5), st.just(3)), elements=st.floats(0.0, 1.0, width=32)
)


@given(SCORES, st.integers(1, 5))
def test_every_row_has_its_best_classes_the_best_first(scores, top):
    shape, texts = classified(scores, CLASSES, top)
    assert shape == [len(scores), min(top, 3)]
    for row, told in zip(scores, np.array(texts).reshape(shape), strict=True):
        parts = [text.split(":") for text in told]
        indices = [int(index) for _, index, _ in parts]
        assert len(set(indices)) == len(indices)
        assert [label for *_, label in parts] == [CLASSES[index] for index in indices]
        np.testing.assert_allclose([float(score) for score, *_ in parts], row[indices], atol=1e-6)
        assert row[indices].tolist() == np.sort(row)[::-1][: len(indices)].tolist()


def outputs(name: str, top: object) -> list[dict]:
    return [{"name": name, "parameters": {"classification": top}}]


async def over_http(name: str, top: object) -> list[str] | str:
    told = (await infer(Doors(ScriptedBackend()), X, outputs=outputs(name, top))).json()
    if "error" in told:
        return told["code"]
    (output,) = told["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, len(output["data"])])
    return output["data"]


async def over_grpc(name: str, top: object, raw: bool = False) -> list[str] | str:
    request = OIP["ModelInferRequest"](model_name="plain")
    entry = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    if raw:
        request.raw_input_contents.append(np.array(X["data"], np.float32).tobytes())
    else:
        entry.contents.fp32_contents.extend(X["data"])
    kind = {bool: "bool", int: "int64", float: "double", str: "string"}[type(top)]
    setattr(request.outputs.add(name=name).parameters["classification"], f"{kind}_param", top)
    context = Context()
    try:
        content = await call(Doors(ScriptedBackend()), "ModelInfer", request.SerializeToString(), context)
    except Hung:
        return context.ended[2]["peekserve-code"]
    answer = OIP["ModelInferResponse"].FromString(content)
    told = answer.raw_output_contents[0] if raw else b""
    texts = []
    while told:
        size = int.from_bytes(told[:4], "little")
        texts.append(told[4 : 4 + size].decode())
        told = told[4 + size :]
    texts += [text.decode() for text in answer.outputs[0].contents.bytes_contents]
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("BYTES", [1, len(texts)])
    return texts


async def over_grpc_raw(name: str, top: object) -> list[str] | str:
    return await over_grpc(name, top, raw=True)


every_door = pytest.mark.parametrize("door", [over_http, over_grpc, over_grpc_raw])


@every_door
async def test_both_doors_say_score_index_and_label(door):
    # X is of class 2: all that the scripted model gives goes there.
    assert await door("scores", 2) == ["1.000000:2:high", "0.000000:0:low"]
    assert len(await door("scores", 99)) == 3


@every_door
@pytest.mark.parametrize(
    ("name", "top"), [("scores", -1), ("scores", "2"), ("scores", True), ("label", 1), ("class", 1)]
)
async def test_what_is_no_number_of_classes_or_has_no_scores_is_refused(door, name, top):
    assert await door(name, top) == "invalid_request"


async def test_none_means_the_output_itself():
    told = (await infer(Doors(ScriptedBackend()), X, outputs=outputs("scores", 0))).json()
    assert told["outputs"] == [
        {"name": "scores", "datatype": "FP32", "shape": [1, 3], "data": [0.0, 0.0, 1.0]}
    ]


async def test_an_output_in_words_may_come_as_raw_bytes_beside_others():
    wanted = [{"name": "label"}, {"name": "scores", "parameters": {"classification": 1, "binary_data": True}}]
    answer = await infer(Doors(ScriptedBackend()), X, outputs=wanted)
    size = int(answer.headers["inference-header-content-length"])
    head = json.loads(answer.content[:size])
    assert head["outputs"][0]["data"] == [2]
    assert head["outputs"][1]["parameters"] == {"binary_data_size": 4 + len("1.000000:2:high")}
    assert answer.content[size + 4 :] == b"1.000000:2:high"


@pytest.mark.whole
@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_asks_by_class_count(client, binary):  # noqa: F811
    module, triton = client
    assert "classification" in told_extensions(triton.get_server_metadata())
    way = {"binary_data": binary} if "http" in module.__name__ else {}
    wanted = [module.InferRequestedOutput("scores", class_count=2, **way)]
    texts = triton.infer("plain", [an_input(module, ROWS)], outputs=wanted).as_numpy("scores")
    assert texts.shape == (3, 2)
    assert [_text(text) for text in texts[:, 0]] == ["1.000000:0:low", "1.000000:2:high", "1.000000:1:mid"]


def told_extensions(metadata):
    return list(metadata["extensions"] if isinstance(metadata, dict) else metadata.extensions)


def _text(told):
    return told.decode() if isinstance(told, bytes) else str(told)
