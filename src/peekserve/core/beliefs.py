"""What is believed of a row's class, and what that makes each answer worth to its application.

Evidence becomes a belief over the classes, and a belief gives every variant an expected accuracy, the peek's own
answer a worth, and the row its likely class. How, is a choice: an object for each application, made by name.

`dirichlet` is SneakPeek's, and goes with every policy that others have published. `calibrated` is ours
(awareness/calibrate.py), and goes with ours: its beliefs can be taken at their word, so that the peek is judged by them
too. Do both or neither: SneakPeek is right not to let a Dirichlet judge itself (section 5.3.1). An application whose
votes were never calibrated has the Dirichlet's beliefs under either name.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.awareness.agreement import agreement
from peekserve.awareness.calibrate import calibrated
from peekserve.awareness.estimate import leading, likely, normalised, worth
from peekserve.awareness.posterior import check_counts, posterior_mean
from peekserve.awareness.priors import PULL, Stream
from peekserve.awareness.recalls import Recalls
from peekserve.core.catalogue import Catalogue
from peekserve.domain.application import Application, Score
from peekserve.domain.profile import Calibration
from peekserve.errors import InvalidConfiguration

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


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
    """One application's. `judges_itself`: the peek's own answer is valued by the belief in it, and not by the peek's
    profile."""

    @property
    def judges_itself(self) -> bool: ...

    def unseen(self) -> Seen:
        """One row that nothing is known of."""
        ...

    def believe(self, counts: Floats) -> Seen:
        """What this evidence, float64 [n, C], says, and nothing is learnt from it. Raises InvalidTensor."""
        ...

    def seen(self, counts: Floats) -> Seen:
        """As `believe`, of rows that came: once for each row, in the order of events, since the next rows may be
        believed differently for it."""
        ...

    def answer(self, theta: Floats) -> Ints:
        """int32 [n]: the classes that the peek answers with under beliefs float64 [n, C]; of equals the first."""
        ...

    def confirm(
        self, label: int, theta: Floats, counts: Floats | None, variant: int | None, said: int
    ) -> None:
        """The true class of a row is known. `theta`: float64 [C], what was believed when it was decided upon.
        `counts`: float64 [C], its evidence, if it had any. `variant`: what answered it, None for the peek; `said`: the
        class that it was answered with."""
        ...


class Dirichlet:
    """SneakPeek's (sections 4.2 and 5.3.1): votes added to the application's prior, the profile's recalls, and the
    peek judged by its own profile, never by its own belief. It learns nothing."""

    judges_itself = False

    def __init__(self, catalogue: Catalogue, application: int) -> None:
        app = catalogue.applications[application]
        self._prior = np.array(app.prior)
        self._instant = catalogue.instant[application]
        # float64 [C, V]: what eq. 9 adds up, class by class.
        self._worth = np.ascontiguousarray(worth(catalogue.recall[application], app.weights).T)
        theta = posterior_mean(self._prior, np.zeros((1, len(self._prior))))
        self._unseen = Seen(theta, _summed(theta, self._worth), np.full(1, np.nan), np.full(1, -1, np.int32))

    def unseen(self) -> Seen:
        return self._unseen

    def believe(self, counts: Floats) -> Seen:
        theta = posterior_mean(self._prior, counts)
        return Seen(theta, _summed(theta, self._worth), np.full(len(theta), self._instant), likely(theta))

    def seen(self, counts: Floats) -> Seen:
        return self.believe(counts)

    def answer(self, theta: Floats) -> Ints:
        return leading(theta)

    def confirm(
        self, label: int, theta: Floats, counts: Floats | None, variant: int | None, said: int
    ) -> None:
        pass


class Calibrated:
    """Ours: votes at their measured worth, the mix of classes learnt from the stream, recalls by how far the votes
    agreed, and the peek judged by its own belief: it answers with the class of the greatest w_c theta_c, and is worth
    that much.

    Every row that evidence came for counts once for the mix, whoever brought the evidence and whatever variant the
    client pinned: they are rows of this stream. Rows that are still waiting keep the belief that they got.
    """

    judges_itself = True

    def __init__(self, catalogue: Catalogue, application: int, calibration: Calibration) -> None:
        app = catalogue.applications[application]
        self._calibration = calibration
        self._log_votes = np.log(np.array(calibration.votes))
        self._weights = catalogue.scale[application] * normalised(app.weights)
        self._classes = np.arange(len(app.classes))
        self._quadratic = app.score is Score.QUADRATIC
        self._stream = stream_prior(app, calibration)
        bins = len(calibration.edges) + 1
        overall = catalogue.recall[application] / catalogue.scale[application]
        self._recalls = Recalls(*_tables(app, overall, bins))
        # Another score's values are not recalls: right and wrong answers do not count up to them.
        self._counts_answers = app.score is Score.ACCURACY
        self._worth = self._valued()
        self._unseen: Seen | None = None

    @property
    def prior(self) -> Floats:
        """float64 [C]: how often each class is expected now."""
        return self._stream.pi.copy()

    def unseen(self) -> Seen:
        if self._unseen is None:
            theta = self.prior[None]
            self._unseen = Seen(
                theta, _summed(theta, self._worth[-1]), np.full(1, np.nan), np.full(1, -1, np.int32)
            )
        return self._unseen

    def believe(self, counts: Floats) -> Seen:
        votes = check_counts(counts, len(self._weights))
        known = self._calibration
        theta = calibrated(self._stream.pi, votes, self._log_votes, known.temperature, known.most)
        # Bin -1, of a row without votes, is the last table: the overall recalls.
        accuracy = _summed(theta, self._worth[agreement(votes, known.edges), self._classes])
        return Seen(theta, accuracy, self._own(theta), likely(theta))

    def seen(self, counts: Floats) -> Seen:
        seen = self.believe(counts)
        self._stream.learn(seen.theta)
        self._unseen = None
        return seen

    def answer(self, theta: Floats) -> Ints:
        return leading(theta * self._weights)

    def confirm(
        self, label: int, theta: Floats, counts: Floats | None, variant: int | None, said: int
    ) -> None:
        self._stream.correct(label, theta)
        if variant is not None and self._counts_answers:
            self._recalls.confirm(variant, label, said == label)
            # Nothing else has moved: to value all tables anew would cost more than all the rest of a lesson.
            self._worth[:, label, variant] = self._recalls.tables[:, variant, label] * self._weights[label]
        self._unseen = None

    def _own(self, theta: Floats) -> Floats:
        """float64 [n]: what the peek's own answer is worth, by its belief alone."""
        if self._quadratic:
            squares = np.add.reduce(theta * theta, axis=1, keepdims=True)
            return np.asarray(
                np.add.reduce(theta * self._weights * (1.0 + 2.0 * theta - squares) / 2.0, axis=1)
            )
        return np.asarray(np.maximum.reduce(theta * self._weights, axis=1))

    def _valued(self) -> Floats:
        """float64 [B + 1, C, V]: what eq. 9 adds up, by agreement; the last of a row without votes."""
        return np.ascontiguousarray((self._recalls.tables * self._weights).transpose(0, 2, 1))


def _tables(app: Application, overall: Floats, bins: int) -> tuple[Floats, Floats]:
    """(recalls whatever the votes say, float64 [V, C]; the same apart by agreement, [B, V, C]), as they were profiled.
    `overall` are the plain ones, which stand in for what was not measured, and for all where answers are valued by
    another score than accuracy."""
    pulled, tables = overall.copy(), np.repeat(overall[None], bins, axis=0)
    for v, variant in enumerate(app.variants):
        measured = variant.quality.by_agreement if variant.quality is not None else ()
        if app.score is not Score.ACCURACY or len(measured) not in (bins, bins + 1):
            continue
        tables[:, v] = measured[:bins]
        if len(measured) > bins:
            pulled[v] = measured[bins]
    return pulled, tables


def stream_prior(app: Application, calibration: Calibration) -> Stream:
    """An application's prior for calibrated beliefs. It starts with the frequencies that the owner named, or else with
    those of the validation data, and is learnt from there, unless the owner fixed it (`weak`, `strong`)."""
    start = app.expected or calibration.frequencies
    if app.prior_learns is None:
        return Stream(start)
    pull = PULL if calibration.pull is None else calibration.pull
    return Stream(start, app.prior_learns.half_life, calibration.settled, pull)


def _summed(theta: Floats, values: Floats) -> Floats:
    """float64 [n, V]: `expected_accuracy` to the last bit: a running sum adds class after class, whatever the
    processor. `values`: float64 [C, V], or [n, C, V]."""
    return np.asarray(np.cumsum(theta[:, :, None] * values, axis=1)[:, -1])


def _calibrated(catalogue: Catalogue, application: int) -> Belief:
    calibration = calibration_of(catalogue.applications[application])
    return (
        Dirichlet(catalogue, application)
        if calibration is None
        else Calibrated(catalogue, application, calibration)
    )


def calibration_of(app: Application) -> Calibration | None:
    return app.peek.calibration if app.peek is not None else None


# Of the application with this index.
BeliefMaker = Callable[[Catalogue, int], Belief]

BELIEFS: Mapping[str, BeliefMaker] = {
    "dirichlet": Dirichlet,
    "calibrated": _calibrated,
}
# What a policy is run with where nothing is named; every other one with SneakPeek's.
GOES_WITH: Mapping[str, str] = {"horizon": "calibrated"}


def named(name: str, policy: str) -> str:
    """The beliefs of that name; of an empty one, those that go with the policy.

    >>> named("", "horizon"), named("", "sneakpeek"), named("dirichlet", "horizon")
    ('calibrated', 'dirichlet', 'dirichlet')
    """
    return name or GOES_WITH.get(policy, "dirichlet")


def make(name: str | BeliefMaker, catalogue: Catalogue) -> tuple[Belief, ...]:
    """The belief of that name, or by that maker, for each application. Raises InvalidConfiguration."""
    maker = _maker(name)
    return tuple(maker(catalogue, a) for a in range(len(catalogue.applications)))


def make_one(name: str | BeliefMaker, catalogue: Catalogue, application: int) -> Belief:
    """The same for the application with this index alone."""
    return _maker(name)(catalogue, application)


def _maker(name: str | BeliefMaker) -> BeliefMaker:
    if isinstance(name, str) and name not in BELIEFS:
        raise InvalidConfiguration(f"no beliefs {name!r}; there are {', '.join(sorted(BELIEFS))}")
    return BELIEFS[name] if isinstance(name, str) else name


def uncalibrated(applications: Iterable[Application]) -> tuple[str, ...]:
    """Names of the applications whose peek was never calibrated: they have the Dirichlet's beliefs in any case."""
    return tuple(app.name for app in applications if app.peek is not None and app.peek.calibration is None)
