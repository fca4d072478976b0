"""One model's decision as evidence (SneakPeek, section 4.2): a unit vector, y_i = 1 for the class that it says.

"This is a low-information update": with Jeffreys and 7 classes it moves the belief in that class from 1/7 to
1.5 / 4.5 = 0.33, not past one half. The model's scores are no probabilities: only their order is read.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Application, Variant
from peekserve.errors import InvalidConfiguration, InvalidTensor
from peekserve.peeking.base import Counts, Inputs, Lengths


class Runs(Protocol):
    """What a model is run by; any Runtime is one."""

    def load(self, variant: Variant, classes: int) -> int: ...

    def run(self, variant: Variant, classes: int, inputs: Inputs) -> npt.NDArray[np.float64]: ...


class Decision:
    """Evidence out of class scores: one count for the class with the highest score, of equals the first.

    >>> Decision(3).counts(np.array([[0.1, 2.0, 0.5]], np.float32)).tolist()
    [[0.0, 1.0, 0.0]]
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def counts(self, features: npt.NDArray[np.float32]) -> Counts:
        """float64 [n, C] for scores float32 [n, C]. Raises InvalidTensor for another width or a NaN."""
        if features.ndim != 2 or features.shape[1] != self.classes:
            raise InvalidTensor(f"scores of {self.classes} classes are wanted, not shape {features.shape}")
        if not np.isfinite(features).all():
            raise InvalidTensor("a peek's model answered with a NaN or an infinity")
        counts: Counts = np.eye(self.classes)[features.argmax(axis=1)]
        return counts


class ModelScores:
    """Features that are a model's class scores, through the same maps as those of a variant.

    Raises InvalidConfiguration where a length varies, and what the runtime raises for a model that it cannot load.
    """

    def __init__(self, model: Variant, application: Application, runtime: Runs) -> None:
        varying = [s.name for s in application.inputs if s.name in model.needs and -1 in s.shape]
        if varying:
            raise InvalidConfiguration(
                f"the peek of {application.name!r}: a model's decision would depend on the padding of "
                f"{', '.join(varying)}; let neighbours be the evidence of inputs whose length varies"
            )
        self._model = model
        self._classes = len(application.classes)
        self._runtime = runtime
        runtime.load(model, self._classes)

    def transform(self, inputs: Inputs, lengths: Lengths | None = None) -> npt.NDArray[np.float32]:
        """float32 [n, C]. Raises InvalidTensor for inputs that are absent, BackendError when the model fails."""
        absent = [name for name in self._model.needs if name not in inputs]
        if absent:
            raise InvalidTensor(
                f"the peek's model needs input {absent[0]!r}; there is {', '.join(inputs) or 'none'}"
            )
        return self._runtime.run(self._model, self._classes, inputs).astype(np.float32)
