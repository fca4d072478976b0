"""What can go wrong in a simulated run, as data: a plan of faults made from a seed before the run starts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker dies at `at` with all that it ran, and is up again `back_s` later."""

    worker: str
    at: float
    back_s: float = 0.2


@dataclass(frozen=True, slots=True)
class Chances:
    """Probabilities of what goes wrong with one message, batch or peek; all 0 by default.

    `slow`: a batch takes `factor` times as long. `twice`: its completion is told twice. `lost`: it is never
    told, so that its worker seems to hang. `fails`: the runtime raises. `peek_fails`: a peek brings no
    evidence.
    """

    slow: float = 0.0
    factor: float = 10.0
    twice: float = 0.0
    lost: float = 0.0
    fails: float = 0.0
    peek_fails: float = 0.0


@dataclass(frozen=True, slots=True)
class Faults:
    """Kills at fixed instants and chances for the rest."""

    kills: Sequence[Kill] = ()
    chances: Chances = Chances()

    @classmethod
    def drawn(cls, workers: Sequence[str], until: float, kills: int, rng: np.random.Generator) -> "Faults":
        """Kills at uniform instants and moderate chances for everything else."""
        at = np.sort(rng.uniform(0.0, until, kills))
        return cls(
            tuple(
                Kill(workers[int(rng.integers(len(workers)))], float(t), float(rng.uniform(0.01, 0.5)))
                for t in at
            ),
            Chances(slow=0.05, twice=0.05, lost=0.01, fails=0.02, peek_fails=0.05),
        )
