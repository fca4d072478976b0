"""tritonclient at either door, in the few words that checks of both speak."""

from collections.abc import Callable
from typing import Any

import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

# Relative: elsewhere this folder is a package of its own, without its parents.
from .checks import AMPLE_US, Target


class Http:
    """tritonclient.http, in the few words that both doors' checks speak."""

    name = "http"

    def __init__(self, target: Target, patience_s: float = 60.0) -> None:
        self.client = over_http.InferenceServerClient(target.http, concurrency=8, network_timeout=patience_s)
        self.target = target

    def inputs(self, rows: Any, binary: bool = True) -> list[Any]:
        tensor = over_http.InferInput(self.target.input, list(rows.shape), self.target.datatype)
        tensor.set_data_from_numpy(rows, binary_data=binary)
        return [tensor]

    def outputs(self, *names: str, top: int = 0, binary: bool = True) -> list[Any]:
        return [over_http.InferRequestedOutput(name, binary_data=binary, class_count=top) for name in names]

    def infer(self, rows: Any, binary: bool = True, **more: Any) -> Any:
        more = {"timeout": AMPLE_US, **more}
        return self.client.infer(self.target.model, self.inputs(rows, binary), **more)

    def asked(self, method: str, *arguments: Any) -> Any:
        return getattr(self.client, method)(*arguments)

    def index(self) -> list[Any]:
        return list(self.client.get_model_repository_index())

    def response(self, result: Any) -> Any:
        return result.get_response()


class Grpc(Http):
    """tritonclient.grpc, likewise."""

    name = "grpc"

    def __init__(self, target: Target, patience_s: float = 60.0) -> None:
        self.client = over_grpc.InferenceServerClient(target.grpc)
        self.target = target

    def inputs(self, rows: Any, binary: bool = True) -> list[Any]:
        tensor = over_grpc.InferInput(self.target.input, list(rows.shape), self.target.datatype)
        tensor.set_data_from_numpy(rows)
        return [tensor]

    def outputs(self, *names: str, top: int = 0, binary: bool = True) -> list[Any]:
        return [over_grpc.InferRequestedOutput(name, class_count=top) for name in names]

    def asked(self, method: str, *arguments: Any) -> Any:
        return getattr(self.client, method)(*arguments, as_json=True)

    def index(self) -> list[Any]:
        return list(self.asked("get_model_repository_index").get("models", []))

    def response(self, result: Any) -> Any:
        return result.get_response(as_json=True)


def refusal(call: Callable[[], Any], *statuses: str) -> str:
    """What the client says of a call that may be refused with one of these statuses; "" where it was answered."""
    try:
        call()
    except InferenceServerException as error:
        said = error
    else:
        return ""
    told = f"{said.status()}: {said.message()}"
    assert any(word in str(said.status()) for word in statuses), told
    return told


def refused(call: Callable[[], Any], *statuses: str) -> str:
    """The same of a call that must be refused."""
    told = refusal(call, *statuses)
    assert told, "it was answered"
    return told
