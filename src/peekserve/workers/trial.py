"""Does it load at all, and how long does it take? Asked of a process that may die of the answer."""

from peekserve.domain.application import Variant
from peekserve.domain.tensors import TensorSpec
from peekserve.runtimes.base import Inputs
from peekserve.workers.remote import RemoteRuntime
from peekserve.workers.slots import Slot


def trial_load(
    variant: Variant, classes: int, specs: tuple[TensorSpec, ...] = (), slot: Slot | None = None
) -> tuple[int, float]:
    """Load a variant in a fresh process: (bytes it holds, seconds it took).

    With `specs`, the application's inputs, it also runs blank batches through it, so that a model which does not
    take what the application sends, or gives another number of classes, is found here. Raises InvalidModel, also
    when the process crashes (its signal and last words are in the message).
    """
    with RemoteRuntime(slot or Slot("trial"), specs) as runtime:
        held = runtime.load(variant, classes)
        return held, runtime.load_s


class WorkerStopwatch:
    """A worker's process timed by its own clock (profiling.measure.Timed): what Loaded and BatchDone will say of the
    same work in service."""

    def __init__(self, runtime: RemoteRuntime) -> None:
        self._runtime = runtime

    def load(self, variant: Variant, classes: int) -> tuple[float, int]:
        held = self._runtime.load(variant, classes)
        return self._runtime.load_s, held

    def run(self, variant: Variant, classes: int, inputs: Inputs) -> float:
        self._runtime.run(variant, classes, inputs)
        return self._runtime.run_s

    def unload(self, weights: str) -> None:
        self._runtime.unload(weights)
