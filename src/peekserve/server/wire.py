"""The bytes of the Open Inference Protocol over HTTP, to calls and from replies; and what each error is
called.

JSON bodies follow the protocol's inference_rest.md; binary tensors follow Triton's binary tensor data
extension: a JSON header of `Inference-Header-Content-Length` bytes, then each binary tensor's contents in the
order of the header.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import msgspec
import numpy as np

from peekserve.domain.messages import Answer
from peekserve.domain.request import Outcome, Reason
from peekserve.errors import (
    AlreadyConfirmed,
    ConstraintInfeasible,
    Forbidden,
    InvalidRequest,
    InvalidTensor,
    NoRoom,
    NotAnswered,
    NotOffered,
    NotReady,
    NotWanted,
    NoWindow,
    PeekserveError,
    StaleStream,
    TooFast,
    TooLarge,
    TooSlow,
    Unauthenticated,
    UnknownApplication,
    UnknownRequest,
    UnknownRevision,
    UnknownStream,
    UnknownVariant,
    WrongState,
)
from peekserve.server.arrays import from_bytes, from_json, strings_to_bytes
from peekserve.server.calls import DEFAULT_OUTPUTS, InferReply, Scalar, Tensor
from peekserve.server.checking import flag
from peekserve.server.classification import classified, top_of

# ---- what each error and each outcome is called ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """One event under its three names: HTTP status, gRPC code, and the stable word of error bodies."""

    http: int
    grpc: str
    word: str


OK = Status(200, "OK", "ok")
METHOD_NOT_ALLOWED = Status(405, "UNIMPLEMENTED", "method_not_allowed")
UNSUPPORTED = Status(415, "INVALID_ARGUMENT", "unsupported_media_type")
BROKEN = Status(500, "INTERNAL", "backend_error")
# 499 stands in logs and metrics only: there is nobody left to read it.
GONE = Status(499, "CANCELLED", "cancelled")

ERRORS: Mapping[type[Exception], Status] = {
    InvalidRequest: Status(400, "INVALID_ARGUMENT", "invalid_request"),
    InvalidTensor: Status(400, "INVALID_ARGUMENT", "invalid_tensor"),
    UnknownApplication: Status(404, "NOT_FOUND", "model_not_found"),
    UnknownVariant: Status(404, "NOT_FOUND", "model_not_found"),
    UnknownRevision: Status(404, "NOT_FOUND", "revision_not_found"),
    WrongState: Status(409, "FAILED_PRECONDITION", "wrong_state"),
    UnknownStream: Status(404, "NOT_FOUND", "stream_not_found"),
    StaleStream: Status(409, "FAILED_PRECONDITION", "stale"),
    NotWanted: Status(404, "NOT_FOUND", "not_wanted"),
    NoWindow: Status(409, "FAILED_PRECONDITION", "no_window"),
    TooFast: Status(429, "RESOURCE_EXHAUSTED", "rate_limited"),
    Unauthenticated: Status(401, "UNAUTHENTICATED", "unauthenticated"),
    Forbidden: Status(403, "PERMISSION_DENIED", "permission_denied"),
    TooSlow: Status(408, "DEADLINE_EXCEEDED", "too_slow"),
    TooLarge: Status(413, "RESOURCE_EXHAUSTED", "too_large"),
    UnknownRequest: Status(404, "NOT_FOUND", "request_not_found"),
    NotAnswered: Status(409, "FAILED_PRECONDITION", "not_answered"),
    AlreadyConfirmed: Status(409, "FAILED_PRECONDITION", "already_confirmed"),
    ConstraintInfeasible: Status(422, "FAILED_PRECONDITION", "constraint_infeasible"),
    NoRoom: Status(503, "UNAVAILABLE", "no_room"),
    NotReady: Status(503, "UNAVAILABLE", "model_not_ready"),
    NotOffered: Status(501, "UNIMPLEMENTED", "not_offered"),
    PeekserveError: BROKEN,
}

OUTCOMES: Mapping[Reason, Status] = {
    Reason.OK: OK,
    Reason.LATE: OK,
    Reason.DEADLINE_INFEASIBLE: Status(503, "UNAVAILABLE", "deadline_infeasible"),
    Reason.DEADLINE_EXCEEDED: Status(504, "DEADLINE_EXCEEDED", "deadline_exceeded"),
    Reason.OVERLOADED: Status(503, "RESOURCE_EXHAUSTED", "overloaded"),
    Reason.CANCELLED: GONE,
    Reason.BACKEND_ERROR: BROKEN,
    Reason.NOT_READY: Status(503, "UNAVAILABLE", "model_not_ready"),
    Reason.DRAINING: Status(503, "UNAVAILABLE", "draining"),
}


def status_of_error(error: BaseException) -> Status:
    """The status of the nearest class that the table names; a bug of ours is `backend_error`."""
    return next((ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS), BROKEN)


def status_of_answer(answer: Answer) -> Status:
    if answer.outcome in (Outcome.ANSWERED, Outcome.LATE):
        return OK
    status = OUTCOMES[answer.reason]
    return BROKEN if status is OK else status


def retry_after(seconds: float) -> int:
    """Of a Retry-After header: whole seconds, never too few."""
    return max(1, ceil(seconds))


def error_body(sentence: str, status: Status) -> bytes:
    return msgspec.json.encode({"error": sentence, "code": status.word})


# ---- in --------------------------------------------------------------------------------------------------


class InputJson(msgspec.Struct, gc=False):
    """A tensor of the request. Its data stay undecoded until its datatype is known."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Scalar] = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class OutputJson(msgspec.Struct, gc=False):
    """An output asked for."""

    name: str
    parameters: dict[str, Scalar] = {}


class InferJson(msgspec.Struct, gc=False):
    """The request object of the protocol."""

    inputs: list[InputJson]
    id: str | None = None
    parameters: dict[str, Scalar] = {}
    outputs: list[OutputJson] = []


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that the client wants, whether it wants it as raw bytes, and how many of its classes in words (0: the
    output itself)."""

    name: str
    binary: bool
    top: int = 0


@dataclass(frozen=True, slots=True)
class InferBody:
    """A decoded request body. `id` is the client's own, echoed and nothing else."""

    id: str | None
    parameters: Mapping[str, Scalar]
    tensors: tuple[Tensor, ...]
    wanted: tuple[Wanted, ...]


_DECODER = msgspec.json.Decoder(InferJson)


def read_infer(body: bytes, header_length: int | None) -> InferBody:
    """Decode a body. `header_length`: the value of Inference-Header-Content-Length, None without that header.

    Raises InvalidRequest (not the protocol's JSON, framing that does not add up) or InvalidTensor (contents).
    """
    if header_length is not None and not 0 < header_length <= len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {header_length}, and the body has {len(body)} bytes"
        )
    head = body if header_length is None else memoryview(body)[:header_length]
    try:
        parsed = _DECODER.decode(head)
    except RecursionError:
        raise InvalidRequest("the request body is JSON nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the request body is not an inference request: {error}") from None
    tail = memoryview(body)[len(body) if header_length is None else header_length :]
    tensors = []
    for item in parsed.inputs:
        size = item.parameters.get("binary_data_size")
        shape = tuple(item.shape)
        if size is None:
            if item.data is msgspec.UNSET:
                raise InvalidRequest(f"input {item.name!r} has neither data nor binary_data_size")
            data = from_json(item.name, item.datatype, shape, bytes(item.data))
        else:
            if item.data is not msgspec.UNSET:
                raise InvalidRequest(f"input {item.name!r} has both data and binary_data_size")
            if header_length is None:
                raise InvalidRequest(
                    f"input {item.name!r} has binary_data_size, and the request no "
                    "Inference-Header-Content-Length"
                )
            if type(size) is not int or size < 0:
                raise InvalidRequest(
                    f"input {item.name!r}: binary_data_size is a number of bytes, not {size!r}"
                )
            if size > len(tail):
                raise InvalidRequest(
                    f"input {item.name!r} announces {size} bytes of binary data, and the body has {len(tail)} left"
                )
            data = from_bytes(item.name, item.datatype, shape, tail[:size])
            tail = tail[size:]
        tensors.append(Tensor(item.name, item.datatype, data))
    if len(tail):
        raise InvalidRequest(f"{len(tail)} bytes of the body belong to no input")
    return InferBody(parsed.id, parsed.parameters, tuple(tensors), _wanted(parsed))


def _wanted(parsed: InferJson) -> tuple[Wanted, ...]:
    default = flag(parsed.parameters, "binary_data_output")
    if not parsed.outputs:
        return tuple(Wanted(name, default) for name in DEFAULT_OUTPUTS)
    return tuple(
        Wanted(o.name, flag(o.parameters, "binary_data", default), top_of(o.name, o.parameters))
        for o in parsed.outputs
    )


# ---- out -------------------------------------------------------------------------------------------------


def write_infer(
    reply: InferReply, wanted: tuple[Wanted, ...], client_id: str | None
) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON header where binary tensors follow it."""
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for want in wanted:
        datatype, shape, values = output(reply, want.name, want.top)
        entry: dict[str, Any] = {"name": want.name, "shape": shape, "datatype": datatype}
        if want.binary:
            is_array = isinstance(values, np.ndarray)
            blob = values.tobytes() if is_array else strings_to_bytes(values)
            entry["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            entry["data"] = values if isinstance(values, list) else values.ravel().tolist()
        outputs.append(entry)
    answer: dict[str, Any] = {"model_name": reply.application.name, "model_version": reply.version}
    if client_id is not None:
        answer["id"] = client_id
    answer["parameters"] = reply.parameters()
    answer["outputs"] = outputs
    head = msgspec.json.encode(answer)
    return (head, None) if not blobs else (b"".join((head, *blobs)), len(head))


def output(reply: InferReply, name: str, top: int = 0) -> tuple[str, list[int], Any]:
    """Datatype, shape and values of one output, or of its `top` classes: an array, or a list of texts for BYTES."""
    if top:
        return "BYTES", *classified(reply.scores, reply.application.classes, top)
    rows = len(reply.labels)
    if name == "label":
        return "INT64", [rows], reply.labels
    if name == "scores":
        return "FP32", [rows, reply.scores.shape[1]], reply.scores
    return "BYTES", [rows], reply.class_names()
