"""What is believed of a row's class, and what that makes each answer worth to its application.

Evidence becomes a belief over the classes, and a belief gives every variant an expected accuracy, the peek's own
answer a worth, and the row its likely class. How, is a choice: an object for each application, made by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.awareness.estimate import likely, worth
from peekserve.awareness.posterior import posterior_mean
from peekserve.core.catalogue import Catalogue
from peekserve.errors import InvalidConfiguration

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seen:
    """n rows of one application with C classes and V variants. `theta`: float64 [n, C], the belief. `accuracy`:
    float64 [n, V], class-weighted. `instant`: float64 [n], what the peek's own answer is worth, nan where there is
    none. `likely`: int32 [n], the class whose probability is above one half, or -1."""

    theta: Floats
    accuracy: Floats
    instant: Floats
    likely: npt.NDArray[np.int32]


class Belief(Protocol):
    """One application's."""

    def unseen(self) -> Seen:
        """One row that nothing is known of."""
        ...

    def seen(self, counts: Floats) -> Seen:
        """Rows with this evidence, float64 [n, C]. Raises InvalidTensor."""
        ...


class Dirichlet:
    """SneakPeek's (sections 4.2 and 5.3.1): votes added to the application's prior, the profile's recalls, and the
    peek judged by its own profile, never by its own belief."""

    def __init__(self, catalogue: Catalogue, application: int) -> None:
        app = catalogue.applications[application]
        self._prior = np.array(app.prior)
        self._instant = catalogue.instant[application]
        # float64 [C, V]: what eq. 9 adds up, class by class.
        self._worth = np.ascontiguousarray(worth(catalogue.recall[application], app.weights).T)
        theta = posterior_mean(self._prior, np.zeros((1, len(self._prior))))
        self._unseen = Seen(theta, self._accuracy(theta), np.full(1, np.nan), np.full(1, -1, np.int32))

    def unseen(self) -> Seen:
        return self._unseen

    def seen(self, counts: Floats) -> Seen:
        theta = posterior_mean(self._prior, counts)
        return Seen(theta, self._accuracy(theta), np.full(len(theta), self._instant), likely(theta))

    def _accuracy(self, theta: Floats) -> Floats:
        """float64 [n, V]: `expected_accuracy` to the last bit: a running sum adds class after class, whatever the
        processor."""
        return np.asarray(np.cumsum(theta[:, :, None] * self._worth, axis=1)[:, -1])


BELIEFS: Mapping[str, Callable[[Catalogue, int], Belief]] = {"dirichlet": Dirichlet}


def make(name: str, catalogue: Catalogue) -> tuple[Belief, ...]:
    """The belief of that name for each application. Raises InvalidConfiguration."""
    if name not in BELIEFS:
        raise InvalidConfiguration(f"no beliefs {name!r}; there are {', '.join(sorted(BELIEFS))}")
    return tuple(BELIEFS[name](catalogue, a) for a in range(len(catalogue.applications)))
