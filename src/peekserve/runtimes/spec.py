"""A runtime as plain data, so that a worker process can be told which one to make."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peekserve.errors import InvalidConfiguration
from peekserve.runtimes.base import Runtime


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """`kind`: onnx, paced (ONNX at the pace of the slot's device), elastic (subnets in torch, in place; other models
    in ONNX) or scripted. `threads` of the framework. `seed` of a script; `answers`: the file of a script that says what
    real models said once (RecordedAnswers.write), instead of drawing."""

    kind: str = "onnx"
    threads: int = 1
    seed: int = 0
    answers: str = ""

    def make(self, device: str) -> Runtime:
        """The runtime for a slot of this device; imports its framework. InvalidConfiguration on an unknown kind."""
        if self.kind not in RUNTIMES:
            raise InvalidConfiguration(f"no runtime {self.kind!r}; there are {', '.join(sorted(RUNTIMES))}")
        return RUNTIMES[self.kind](self, device)

    def version(self, subnet: bool = False) -> str:
        """The framework and its version, as timing profiles name it; "scripted" for a script. `subnet`: of what runs
        the subnets of a supernet."""
        from importlib import metadata  # here: a worker has no use for the mail parser that this drags in

        if self.kind == "scripted":
            return "scripted"
        name = "torch" if subnet and self.kind == "elastic" else "onnxruntime"
        return f"{name} {metadata.version(name)}"


def _onnx(spec: RuntimeSpec, device: str) -> Runtime:
    from peekserve.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(spec.threads)


def _paced(spec: RuntimeSpec, device: str) -> Runtime:
    from peekserve.runtimes.paced import PacedRuntime

    return PacedRuntime(_onnx(spec, device), device)


def _elastic(spec: RuntimeSpec, device: str) -> Runtime:
    from peekserve.runtimes.elastic import ElasticRuntime
    from peekserve.runtimes.split import SplitRuntime

    return SplitRuntime(_onnx(spec, device), ElasticRuntime(device, spec.threads))


def _scripted(spec: RuntimeSpec, device: str) -> Runtime:
    from peekserve.runtimes.scripted import Answers, DrawnAnswers, RecordedAnswers, ScriptedRuntime

    said: Answers = RecordedAnswers.read(Path(spec.answers)) if spec.answers else DrawnAnswers(spec.seed)
    return ScriptedRuntime(said, device)


RUNTIMES: dict[str, Callable[[RuntimeSpec, str], Runtime]] = {
    "onnx": _onnx,
    "paced": _paced,
    "elastic": _elastic,
    "scripted": _scripted,
}
