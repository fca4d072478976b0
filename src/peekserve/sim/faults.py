"""What can go wrong in a simulated run, as data: a plan of faults made from a seed before the run starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker dies at `at` with all that it ran, and is up again `back_s` later. `unnoticed_s`: until the scheduler
    hears of it; what it is given meanwhile is lost. `haunts`: what it had begun is still told when it would have ended,
    by a message that was on its way."""

    worker: str
    at: float
    back_s: float = 0.2
    unnoticed_s: float = 0.0
    haunts: bool = False


Thing = Literal["batch", "load", "peek", "alarm"]
What = Literal["slow", "fails", "lost", "twice", "late", "misshapen"]


@dataclass(frozen=True, slots=True)
class Mishap:
    """What goes wrong with one batch, load, peek or alarm: the `nth` of its kind, counted from 1.

    `slow`: takes `seconds` longer. `fails`: the runtime raises, or a peek brings no evidence. `lost`: its end is never
    told; a worker is stuck in such a load. `twice`: told again, `seconds` later. `late`: told `seconds` late, so that
    others overtake it. `misshapen`: scores of the wrong shape.
    """

    of: Thing
    nth: int
    what: What
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Pause:
    """The scheduler's process stands still: what would reach it from `at` on, alarms included, reaches it `seconds`
    later."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Slow:
    """Batches that a worker begins from `at` on, for `seconds`, take `factor` times as long: it runs hot, or somebody
    else uses its cores."""

    worker: str
    at: float
    seconds: float
    factor: float


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
    """Kills at fixed instants; mishaps of single things, pauses and slow workers, or chances for the rest. `restart_s`:
    how long a worker that is asked to restart takes to go down."""

    kills: Sequence[Kill] = ()
    chances: Chances = Chances()
    mishaps: Sequence[Mishap] = ()
    pauses: Sequence[Pause] = ()
    restart_s: float = 0.0
    slows: Sequence[Slow] = ()

    def heard_at(self, at: float) -> float:
        """When the scheduler hears of what would reach it at `at`."""
        for pause in self.pauses:
            if pause.at <= at < pause.at + pause.seconds:
                at = pause.at + pause.seconds
        return at

    def slower(self, worker: str, at: float) -> float:
        """What a batch that this worker begins at `at` takes, in shares of what it otherwise would."""
        factor = 1.0
        for slow in self.slows:
            if slow.worker == worker and slow.at <= at < slow.at + slow.seconds:
                factor *= slow.factor
        return factor

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
