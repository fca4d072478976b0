"""A real model at another device's pace: experiments on the time scale of slower or faster-filling machines.

The answers are the inner runtime's own. Each load and each batch then takes as long as the variant's timing for
`device` states (a stated profile), unless the real one took longer already.
"""

from peekserve.clock import Clock, WallClock
from peekserve.domain.application import Variant
from peekserve.domain.profile import Timing
from peekserve.errors import ProfileMissing
from peekserve.runtimes.base import Inputs, Runtime, Scores
from peekserve.runtimes.waiting import WaitUntil, wait_until


class PacedRuntime:
    """Runs `inner`, then waits out variant.timing[device].

    The curve is that of the first shape bucket: a runtime is not told buckets, and stated profiles have one.
    Raises ProfileMissing when a variant states no timing for the device.
    """

    def __init__(
        self, inner: Runtime, device: str, clock: Clock | None = None, wait_until: WaitUntil = wait_until
    ) -> None:
        self._inner = inner
        self._device = device
        self._clock = clock or WallClock()
        self._wait_until = wait_until

    def load(self, variant: Variant, classes: int) -> int:
        started_at = self._clock.now()
        stated = stated_timing(variant, self._device)
        held = self._inner.load(variant, classes)
        self._wait_until(started_at + stated.load_s)
        return stated.bytes or held

    def run(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        started_at = self._clock.now()
        stated = stated_timing(variant, self._device)
        scores = self._inner.run(variant, classes, inputs)
        self._wait_until(started_at + stated.curve(0).seconds(len(scores)))
        return scores

    def prove(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        return self._inner.prove(variant, classes, inputs)

    def unload(self, weights: str) -> None:
        self._inner.unload(weights)


def stated_timing(variant: Variant, device: str) -> Timing:
    """The variant's timing on a device; ProfileMissing names what it has."""
    if device not in variant.timing:
        known = ", ".join(sorted(variant.timing)) or "none"
        raise ProfileMissing(f"variant {variant.name!r} has no timing for device {device!r}; it has {known}")
    return variant.timing[device]
