"""The bytes: framing that does not add up, JSON that is not the protocol's, and never a fault of ours."""

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peekserve.domain.request import Outcome, Reason
from peekserve.domain.tensors import DATATYPES
from peekserve.errors import InvalidRequest, InvalidTensor
from peekserve.server.arrays import from_bytes, from_json
from peekserve.server.wire import ERRORS, OUTCOMES, read_infer, status_of_error
from tests.server.scripted import Doors, ScriptedBackend
from tests.server.test_http_api import post

INFER = "/v2/models/plain/infer"


def framed(*inputs: dict, tail: bytes = b"") -> tuple[bytes, int]:
    head = json.dumps({"inputs": list(inputs)}).encode()
    return head + tail, len(head)


def an_input(size: object, shape: tuple[int, ...] = (1, 4), **rest: object) -> dict:
    return {
        "name": "x",
        "shape": list(shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": size},
        **rest,
    }


@pytest.mark.parametrize(
    ("inputs", "tail", "hint"),
    [
        ([an_input(16)], b"\0" * 15, "16 bytes of binary data, and the body has 15"),
        ([an_input(16)], b"\0" * 17, "1 bytes of the body belong to no input"),
        ([an_input(12)], b"\0" * 12, "takes 16 bytes, and 12 came"),
        ([an_input(-16)], b"\0" * 16, "number of bytes, not -16"),
        ([an_input(True)], b"\0" * 16, "number of bytes, not True"),
        ([an_input("16")], b"\0" * 16, "number of bytes, not '16'"),
        ([an_input(16, data=[0, 0, 0, 0])], b"\0" * 16, "both"),
        ([an_input(16, (1 << 40, 1 << 40))], b"\0" * 16, "no tensor has the shape"),
        ([an_input(16), an_input(16)], b"\0" * 16, "the body has 0"),
    ],
)
def test_binary_framing_adds_up_or_is_refused(inputs, tail, hint):
    body, header_length = framed(*inputs, tail=tail)
    with pytest.raises(InvalidRequest, match=hint):
        read_infer(body, header_length)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"inputs": 3}',
        b'{"inputs": [{}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32"}]}',
        b'{"inputs": [], "id": 7}',
        b'{"inputs": [], "parameters": {"a": {}}}',
        b'{"inputs": [], "parameters": {"a": [1]}}',
        b'{"inputs": [], "parameters": {"binary_data_output": 1}}',
        b'{"inputs": [], "outputs": [{"name": "label", "parameters": {"binary_data": "yes"}}]}',
        b'{"inputs": [',
        b"\xff\xfe",
        b'{"inputs": [{"name": "\xff", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        b"[" * 100_000,
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": ' + b"[" * 100_000,
        b'{"inputs": [{"name":"x","shape":[1e400],"datatype":"FP32","data":[1]}]}',
    ],
)
async def test_json_that_is_not_a_request_is_a_400(body):
    answer = await post(Doors(ScriptedBackend()), INFER, body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "code"}


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", (2,), b'["1", "2"]'),
        ("FP32", (2,), b"[true, 1]"),
        ("FP32", (2,), b"[1]"),
        ("FP32", (2,), b"[1, 2, 3]"),
        ("FP32", (2, 2), b"[[1, 2], [3]]"),
        ("FP32", (2, 2), b"[[1, 2, 3, 4]]"),
        ("FP32", (2, 2), b"[[[1, 2]], [[3, 4]]]"),
        ("FP32", (1,), b"5"),
        ("FP32", (1,), b"{}"),
        ("INT8", (1,), b"[300]"),
        ("UINT8", (1,), b"[-1]"),
        ("INT64", (1,), b"[1.5]"),
        ("INT64", (1,), b"[null]"),
        ("BOOL", (1,), b"[1]"),
        ("BYTES", (1,), b'["a"]'),
        ("FP32", (), b"[1]"),
        ("FP32", (1,) * 40, b"[1]"),
    ],
)
def test_elements_of_another_kind_are_refused(datatype, shape, data):
    with pytest.raises(InvalidTensor):
        from_json("x", datatype, shape, data)


def test_data_may_be_flat_or_nested_and_null_is_nan():
    flat = from_json("x", "FP32", (2, 2), b"[1, 2, 3, 4]")
    nested = from_json("x", "FP32", (2, 2), b" [ [1, 2],\n [3, 4] ]")
    assert flat.tolist() == nested.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert flat.dtype == np.float32
    assert np.isnan(from_json("x", "FP64", (1,), b"[null]"))


@given(
    st.sampled_from(sorted(DATATYPES)),
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_json_and_bytes_say_the_same(datatype, shape, seed):
    dtype = DATATYPES[datatype]
    data = np.random.default_rng(seed).integers(0, 2, shape).astype(dtype)
    by_bytes = from_bytes("x", datatype, tuple(shape), memoryview(data.tobytes()))
    assert np.array_equal(by_bytes, data)
    if data.size:
        for text in (data.tolist(), data.ravel().tolist()):
            by_json = from_json("x", datatype, tuple(shape), json.dumps(text).encode())
            assert by_json.dtype == dtype
            assert np.array_equal(by_json, data)


scalars = (
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)
)
inputs = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y", "evidence", ""]),
        "shape": st.lists(st.integers(-2, 5) | st.just(2**62), max_size=4) | st.just([1, 4]),
        "datatype": st.sampled_from([*DATATYPES, "BYTES", "nonsense"]),
    },
    optional={
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "other"]), scalars | st.just(16)),
        "data": st.lists(scalars, max_size=8) | scalars,
    },
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(inputs, max_size=3)},
    optional={
        "id": scalars,
        "parameters": st.dictionaries(
            st.sampled_from(["timeout", "deadline_ms", "query", "binary_data_output"]), scalars
        ),
        "outputs": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["label", "scores", "class", "none"])}), max_size=3
        ),
    },
)


@given(requests, st.binary(max_size=40), st.integers(-3, 3) | st.none())
@example({"inputs": [an_input(16)]}, b"\0" * 16, 0)
async def test_whatever_comes_in_is_never_a_fault_of_ours(request, tail, off):
    head = json.dumps(request).encode()
    headers = {} if off is None else {"inference_header_content_length": str(len(head) + off)}
    answer = await post(Doors(ScriptedBackend()), INFER, head + tail, **headers)
    assert answer.status_code in (200, 400)
    assert answer.status_code == 200 or set(answer.json()) == {"error", "code"}


@given(st.binary(max_size=200), st.none() | st.integers(0, 220))
def test_any_bytes_are_read_or_refused(body, header_length):
    with suppress(InvalidRequest):
        read_infer(body, header_length)


def test_every_outcome_and_every_error_has_a_name():
    assert set(OUTCOMES) == set(Reason)
    assert {ERRORS[kind].http for kind in ERRORS} == {
        400,
        401,
        403,
        404,
        408,
        409,
        413,
        422,
        429,
        500,
        501,
        503,
    }
    assert status_of_error(ZeroDivisionError()).http == 500
    assert len(Outcome) == 6
