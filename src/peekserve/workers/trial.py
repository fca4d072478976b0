"""Does it load at all? Asked of a process that may die of the answer."""

from peekserve.domain.application import Variant
from peekserve.domain.tensors import TensorSpec
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
