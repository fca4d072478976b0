"""kserve's own clients: `python -m outside.kserve_sdk rest|grpc TARGET.json`, in an environment that has it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from .checks import AMPLE_US, Check, Target, main, same


def awaited(check: Callable[[Target], Awaitable[str]]) -> Check:
    @wraps(check)
    def run(target: Target) -> str:
        async def story() -> str:
            return await check(target)

        return asyncio.run(story())

    return run


def rest() -> InferenceRESTClient:
    return InferenceRESTClient(RESTConfig(protocol="v2"))


def request(target: Target, rows: Any, binary: bool) -> InferRequest:
    tensor = InferInput(target.input, list(rows.shape), target.datatype)
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return InferRequest(
        model_name=target.model,
        infer_inputs=[tensor],
        request_id="outside-7",
        parameters={"timeout": AMPLE_US},
        request_outputs=[RequestedOutput("scores", {"binary_data": binary}), RequestedOutput("label")],
    )


def told(target: Target, response: Any, rows: Any) -> str:
    """What an answer says, after it was looked at."""
    scores = response.get_output_by_name("scores").as_numpy()
    assert scores.shape == (len(rows), len(target.classes)), scores.shape
    assert abs(scores.sum(axis=1) - 1).max() < 1e-5, scores.sum(axis=1)
    assert response.id == "outside-7", response.id
    # This client's REST half does not read the version from an answer.
    return f"{len(rows)} rows answered" + (f" by {response.model_version}" if response.model_version else "")


@awaited
async def server_live(target: Target) -> str:
    """InferenceRESTClient.is_server_live"""
    async with rest() as client:
        assert await client.is_server_live(f"http://{target.http}") is True
    return "true"


@awaited
async def server_ready(target: Target) -> str:
    """InferenceRESTClient.is_server_ready"""
    async with rest() as client:
        assert await client.is_server_ready(f"http://{target.http}") is True
    return "true"


@awaited
async def model_ready(target: Target) -> str:
    """InferenceRESTClient.is_model_ready, of this model and of none"""
    async with rest() as client:
        assert await client.is_model_ready(f"http://{target.http}", target.model) is True
        assert await client.is_model_ready(f"http://{target.http}", "no-such-model") is False
    return "true; of an unknown model false"


@awaited
async def rest_json(target: Target) -> str:
    """InferenceRESTClient.infer with JSON tensors"""
    rows = target.rows()
    async with rest() as client:
        asked = request(target, rows, binary=False)
        response = await client.infer(f"http://{target.http}", asked, model_name=target.model)
    return told(target, response, rows)


@awaited
async def rest_binary(target: Target) -> str:
    """InferenceRESTClient.infer with binary tensors; to a pinned version both kinds are answered the same"""
    rows = target.rows()
    scores = []
    async with rest() as client:
        for binary in (True, False):
            response = await client.infer(
                f"http://{target.http}",
                request(target, rows, binary),
                model_name=f"{target.model}/versions/{target.pinned}",
            )
            seen = told(target, response, rows)
            scores.append(response.get_output_by_name("scores").as_numpy())
    same(scores[0], scores[1], "binary and JSON")
    return seen


@awaited
async def grpc_health(target: Target) -> str:
    """InferenceGRPCClient.is_server_live, is_server_ready, is_model_ready"""
    async with InferenceGRPCClient(target.grpc) as client:
        assert await client.is_server_live() is True
        assert await client.is_server_ready() is True
        assert await client.is_model_ready(target.model) is True
    return "true, true, true"


@awaited
async def grpc_infer(target: Target) -> str:
    """InferenceGRPCClient.infer, typed contents and raw ones"""
    rows = target.rows()
    async with InferenceGRPCClient(target.grpc) as client:
        for binary in (False, True):
            response = await client.infer(request(target, rows, binary), timeout=20)
            seen = told(target, response, rows)
    return seen


CHECKS: dict[str, list[Check]] = {
    "rest": [server_live, server_ready, model_ready, rest_json, rest_binary],
    "grpc": [grpc_health, grpc_infer],
}

if __name__ == "__main__":
    main(CHECKS)
