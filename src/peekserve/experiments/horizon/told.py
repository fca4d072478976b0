"""A scheduler that is told the label of every row, to measure the others by: what knowing more could gain at most.

It knows each row's class, and so each variant's recall for it; and it knows whether the answer that the peek has ready
is right. It does not know what a variant will say of the very row: nobody does before running it.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from peekserve.awareness.estimate import leading, normalised, worth
from peekserve.awareness.posterior import posterior_mean
from peekserve.core.beliefs import Seen
from peekserve.core.catalogue import Catalogue
from peekserve.experiments.horizon.worlds import Entrant, Scene
from peekserve.sim.world import Recorded

Floats = npt.NDArray[np.float64]

# Stands for "this is the class" among the counts, far above any number of votes.
_TOLD = 1000.0


class Told:
    """A belief (core.beliefs.Belief) that reads the label out of counts which `labelled` made. Its `theta` is what the
    peek answers with: a peek that is wrong stays wrong, whoever knows it."""

    judges_itself = True

    def __init__(self, catalogue: Catalogue, application: int) -> None:
        app = catalogue.applications[application]
        self._prior = np.array(app.prior)
        self._weights = catalogue.scale[application] * normalised(app.weights)
        self._worth = worth(catalogue.recall[application], app.weights).T  # float64 [C, V]

    def unseen(self) -> Seen:
        theta = posterior_mean(self._prior, np.zeros((1, len(self._prior))))
        return Seen(theta, theta @ self._worth, np.full(1, np.nan), np.full(1, -1, np.int32))

    def believe(self, counts: Floats) -> Seen:
        labels = np.asarray(counts.argmax(axis=1))
        votes = np.where(counts >= _TOLD, counts - _TOLD, counts)
        said = leading(posterior_mean(self._prior, votes))
        theta = np.eye(len(self._prior))[said]
        instant = np.where(said == labels, self._weights[labels], 0.0)
        return Seen(theta, self._worth[labels], instant, labels.astype(np.int32))

    def seen(self, counts: Floats) -> Seen:
        return self.believe(counts)

    def answer(self, theta: Floats) -> npt.NDArray[np.int32]:
        return leading(theta)

    def confirm(
        self, label: int, theta: Floats, counts: Floats | None, variant: int | None, said: int
    ) -> None:
        pass


def told(scene: Scene) -> Scene:
    """The same scene with labels in the evidence."""
    recorded: Mapping[str, Recorded] = {
        name: replace(known, counts=labelled(known)) for name, known in scene.recorded.items()
    }
    return replace(scene, recorded=recorded)


def labelled(recorded: Recorded) -> Floats:
    """float64 [N, C]: the votes of each sample, and its label."""
    votes = recorded.counts
    if votes is None:
        votes = np.zeros((len(recorded.labels), int(recorded.labels.max()) + 1))
    counts: Floats = votes.copy()
    counts[np.arange(len(counts)), recorded.labels] += _TOLD
    return counts


CLAIRVOYANT = Entrant("told the labels", "horizon", None, {}, Told)
