"""What the server says about itself and its applications: plain dictionaries in the protocol's shapes, for
both doors.

Model = application, version = variant. Configuration, statistics and index are Triton's extensions, in its
JSON.
"""

from collections.abc import Sequence
from typing import Any

from peekserve.domain.application import Application, Variant
from peekserve.domain.tensors import TensorSpec
from peekserve.errors import NotOffered
from peekserve.server.by_hand import ByHand, Parameters
from peekserve.server.checking import EVIDENCE
from peekserve.server.frontdesk import FrontDesk
from peekserve.server.statistics import Statistics

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "statistics", "model_repository")
PLATFORM = "peekserve"

Told = dict[str, Any]


class Descriptions:
    """Each method raises UnknownApplication or UnknownVariant for names that nothing has."""

    def __init__(self, desk: FrontDesk, statistics: Statistics, version: str) -> None:
        self._desk = desk
        self._statistics = statistics
        self._version = version
        self.by_hand: ByHand | None = None

    def server(self) -> Told:
        return {"name": "peekserve", "version": self._version, "extensions": list(EXTENSIONS)}

    def live(self) -> bool:
        return self._desk.backend.live()

    def ready(self, model: str = "", version: str = "") -> bool:
        if model:
            self._desk.find(model, version)
        return self._desk.backend.ready(model or None, version or None)

    def model(self, model: str, version: str = "") -> Told:
        application = self._desk.find(model, version)
        return {
            "name": application.name,
            "versions": [version] if version else [v.name for v in application.variants],
            "platform": PLATFORM,
            "inputs": [
                {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.shape]}
                for spec in _inputs(application, version)
            ],
            "outputs": [
                {"name": "label", "datatype": "INT64", "shape": [-1]},
                {"name": "scores", "datatype": "FP32", "shape": [-1, len(application.classes)]},
                {"name": "class", "datatype": "BYTES", "shape": [-1]},
            ],
            "properties": _properties(application),
        }

    def config(self, model: str, version: str = "") -> Told:
        application = self._desk.find(model, version)
        variants = [application.variant(version)] if version else application.variants
        optional = not version
        return {
            "name": application.name,
            "platform": PLATFORM,
            "backend": PLATFORM,
            "version_policy": {"all": {}},
            "max_batch_size": max(v.max_batch for v in variants),
            "input": [
                {
                    "name": spec.name,
                    "data_type": f"TYPE_{spec.datatype}",
                    "dims": list(spec.shape) or [1],
                    **({} if spec.shape else {"reshape": {"shape": []}}),
                    "optional": optional and any(spec.name not in v.needs for v in variants),
                }
                for spec in _inputs(application, version)
            ],
            "output": [
                {"name": "label", "data_type": "TYPE_INT64", "dims": [1], "reshape": {"shape": []}},
                {"name": "scores", "data_type": "TYPE_FP32", "dims": [len(application.classes)]},
                {"name": "class", "data_type": "TYPE_STRING", "dims": [1], "reshape": {"shape": []}},
            ],
        }

    def statistics(self, model: str = "", version: str = "") -> Told:
        """Of one variant; of an application as a whole; or, of everything, each application and then its
        variants."""
        if model:
            self._desk.find(model, version)
            return {"model_stats": [self._statistics.told(model, version or None)]}
        return {
            "model_stats": [
                self._statistics.told(name, which)
                for name, application in self._desk.backend.applications.items()
                for which in (None, *(v.name for v in application.variants))
            ]
        }

    def index(self, ready: bool = False) -> list[Told]:
        entries = []
        for name, application in self._desk.backend.applications.items():
            for variant in application.variants:
                state, reason = self._desk.backend.state(name, variant.name)
                if state == "READY" or not ready:
                    entries.append({"name": name, "version": variant.name, "state": state, "reason": reason})
        return entries

    async def control(self, word: str, model: str, parameters: Parameters) -> Told:
        """`load` or `unload` by hand; answers when it is done. Raises NotOffered where nobody can, and as ByHand."""
        if self.by_hand is None:
            raise NotOffered(
                "models are not loaded or unloaded by hand here: the scheduler loads their weights when requests need "
                "them, and unloads those used longest ago when the byte budget asks for it; the repository index says "
                "which variants can serve"
            )
        await (self.by_hand.load if word == "load" else self.by_hand.unload)(model, parameters)
        return {}


def _inputs(application: Application, version: str) -> list[TensorSpec]:
    if not version:
        return list(application.inputs)
    needs = application.variant(version).needs
    return [spec for spec in application.inputs if spec.name in needs]


def _properties(application: Application) -> dict[str, str]:
    told = {
        "classes": ",".join(application.classes),
        "on_miss": application.on_miss.value,
        "score": application.score.value,
        EVIDENCE: f"optional input FP32 or FP64 [-1, {len(application.classes)}]: counts for each class",
    }
    if len(set(application.weights)) > 1:
        told["class_weights"] = ",".join(f"{weight:g}" for weight in application.weights)
    for name, query in application.queries:
        told[f"deadline_ms.{name}"] = f"{min(query.deadline_s, application.max_deadline_s) * 1e3:.6g}"
    for variant in application.variants:
        told.update(_about(variant, application.classes))
    return told


def _about(variant: Variant, classes: Sequence[str]) -> dict[str, str]:
    told = {f"revision.{variant.name}": variant.revision, f"profile.{variant.name}": variant.profiled}
    if variant.needs:
        told[f"inputs.{variant.name}"] = ",".join(variant.needs)
    if variant.quality is not None:
        told[f"accuracy.{variant.name}"] = f"{variant.quality.accuracy:.4f}"
        if variant.quality.guessed:
            told[f"recall_guessed.{variant.name}"] = ",".join(classes[i] for i in variant.quality.guessed)
    for device, timing in variant.timing.items():
        told[f"latency_ms.{variant.name}.{device}"] = f"{timing.curve(0).seconds(1) * 1e3:.4g}"
    return told
