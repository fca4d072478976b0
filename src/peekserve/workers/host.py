"""A worker without its process: takes one message, does it, says what came of it."""

from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peekserve.clock import Clock
from peekserve.domain.application import Variant
from peekserve.errors import BackendError, PeekserveError
from peekserve.runtimes.base import Inputs, Runtime, Scores
from peekserve.runtimes.memory import give_back, held_bytes
from peekserve.workers import frames
from peekserve.workers.ring import RingReader
from peekserve.workers.warmup import batch_sizes, blank

# The largest batch makes nearly all the difference (memory is taken then); a slow model's smaller ones shall not
# keep the server from its first answer.
_WARM_UP_S = 0.25


class Host:
    """Keeps a runtime and what each (application, variant) means.

    Every load ends with one row in each shape bucket, which also proves that the model takes what the application
    sends and gives a score for each class; `seconds` of a load is the load with those single rows. A first load in
    this process that nothing waits for (`warm`) goes on to the batch sizes of the variant's timing, the largest
    first, so that memory is taken once, until a quarter of a second is spent. With a batch waiting that would be
    five times the load, and past most deadlines. Other variants of the same weights (further subnets of a supernet)
    run one row each before that, and take part in the rest.
    """

    def __init__(self, runtime: Runtime, ring: RingReader, clock: Clock) -> None:
        self._runtime = runtime
        self._ring = ring
        self._clock = clock
        self._known: dict[tuple[str, str], frames.Describe] = {}
        self._held: dict[tuple[str, str], int] = {}

    def handle(self, message: frames.ToWorker, started_at: float) -> frames.ToFront | None:
        """The reply, if the message asks for one; what goes wrong with a model is a reply too.

        `started_at`: when this message was taken up, for the instants of a batch.
        """
        match message:
            case frames.Describe():
                self._known[message.application, message.variant.name] = message
                return None
            case frames.LoadModel():
                what = self._known[message.application, message.variant]
                return self._load(what, message.warm, started_at)
            case frames.UnloadModel():
                self._runtime.unload(message.weights)
                return frames.ModelUnloaded(message.weights)
            case frames.RunModel():
                return self._run(message, started_at)
            case frames.Ping():
                return frames.Pong()

    def _load(self, what: frames.Describe, warm: bool, started_at: float) -> frames.ToFront:
        variant, before = what.variant, held_bytes()
        model = (variant.weights, variant.revision)
        try:
            held = self._runtime.load(variant, what.classes)
            for inputs in blank(variant, what.inputs, 1):
                self._checked(what, inputs, self._runtime.prove(variant, what.classes, inputs))
            seconds = self._clock.now() - started_at
            if warm and model not in self._held:
                self._warm_up(what)
        except (PeekserveError, MemoryError) as error:
            self._runtime.unload(variant.weights)
            give_back()  # a load that failed half way left its first half
            return frames.ModelRefused(variant.weights, _words(error, variant))
        # A load with a warm-up is the one that saw it all, and no pages that an earlier model left behind.
        self._held[model] = max(held, held_bytes() - before, self._held.get(model, 0))
        if warm:
            # What reading the file took was counted, and is not needed any more. Nothing waits for this load.
            give_back()
        return frames.ModelLoaded(variant.weights, seconds, self._held[model])

    def _warm_up(self, what: frames.Describe) -> None:
        until, variant = self._clock.now() + _WARM_UP_S, what.variant
        others = [
            one for one in self._known.values() if one.variant.weights == variant.weights and one is not what
        ]
        for one in others:
            for inputs in blank(one.variant, one.inputs, 1):
                self._checked(one, inputs, self._runtime.prove(one.variant, one.classes, inputs))
        # The largest batch of each, then the next one of each, and so on.
        turns = zip_longest(*(((one, b) for b in batch_sizes(one.variant)) for one in (what, *others)))
        for one, size in (turn for together in turns for turn in together if turn is not None):
            for inputs in blank(one.variant, one.inputs, size):
                self._runtime.prove(one.variant, one.classes, inputs)
            if self._clock.now() >= until:
                return

    def _run(self, message: frames.RunModel, started_at: float) -> frames.ToFront:
        what = self._known[message.application, message.variant]
        try:
            inputs = {tensor.name: self._array(tensor) for tensor in message.tensors}
            scores = self._checked(what, inputs, self._runtime.run(what.variant, what.classes, inputs))
        except (PeekserveError, MemoryError) as error:
            return frames.RunFailed(message.batch_id, _words(error, what.variant))
        return frames.RanModel(message.batch_id, len(scores), scores.tobytes(), started_at, self._clock.now())

    def _checked(self, what: frames.Describe, inputs: Inputs, scores: Scores) -> Scores:
        expected = (len(next(iter(inputs.values()))), what.classes)
        if scores.shape != expected:
            raise BackendError(f"variant {what.variant.name!r} gave scores {scores.shape}, not {expected}")
        return scores

    def _array(self, tensor: frames.Tensor) -> npt.NDArray[Any]:
        if tensor.offset >= 0:
            return self._ring.array(tensor.offset, tensor.shape, frames.dtype_of(tensor))
        return np.frombuffer(tensor.data, frames.dtype_of(tensor)).reshape(tensor.shape)


def _words(error: Exception, variant: Variant) -> str:
    """Of an error for the front, which may tell a client: where a model lies on this machine is not theirs to know.
    Memory that ran out says little of itself."""
    said = f"out of memory {error}".strip() if isinstance(error, MemoryError) else str(error)
    folder = str(Path(variant.model).parent.parent)
    return said.replace(f"{folder}/", "") if len(folder) > 1 else said
