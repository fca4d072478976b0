"""Running one batch on one device: load, run, unload. One framework a file."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Variant

Inputs = Mapping[str, npt.NDArray[np.generic]]
Scores = npt.NDArray[np.float64]


class Runtime(Protocol):
    """Holds models by the name of their weights and runs batches through them, in one thread.

    `inputs` of `run` are application inputs, not yet the model's tensors: name -> [n, *row shape]; the variant's
    InputMaps and OutputMap say the rest. Scores are float64 [n, C] and each row sums to 1.

    Raises InvalidModel when a file cannot be loaded and BackendError when the framework fails on a batch.
    """

    def load(self, variant: Variant, classes: int) -> int:
        """Make the variant's weights resident; the bytes that they take. Every variant of the same weights (the subnets
        of a supernet that are served `together`) can be run from then on."""
        ...

    def run(self, variant: Variant, classes: int, inputs: Inputs) -> Scores: ...

    def prove(self, variant: Variant, classes: int, inputs: Inputs) -> Scores:
        """As `run`, as a part of a load: a stated load time holds it already."""
        ...

    def unload(self, weights: str) -> None: ...
