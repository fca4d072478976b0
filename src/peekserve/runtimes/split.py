"""Two runtimes in one worker: subnets in one, models of their own in the other."""

from peekserve.domain.application import Variant
from peekserve.runtimes.base import Inputs, Runtime, Scores


class SplitRuntime:
    """Hands each variant to `subnets` if it is one, else to `plain`."""

    def __init__(self, plain: Runtime, subnets: Runtime) -> None:
        self._plain = plain
        self._subnets = subnets

    def load(self, variant: Variant, classes: int) -> int:
        return self._of(variant).load(variant, classes)

    def run(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        return self._of(variant).run(variant, classes, inputs)

    def prove(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        return self._of(variant).prove(variant, classes, inputs)

    def unload(self, weights: str) -> None:
        self._plain.unload(weights)
        self._subnets.unload(weights)

    def _of(self, variant: Variant) -> Runtime:
        return self._subnets if variant.subnet else self._plain
