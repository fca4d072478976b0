"""Which subnets are worth offering: the front of accuracy over cost, found with few evaluations (SuperServe 5, after
Once-for-All's search: Cai et al., ICLR 2020, section 3.4).

A small predictor learns accuracy from depths, widths and cost on a sample of subnets that were really evaluated; an
evolutionary search then asks the predictor, which costs nothing, and what it finds is really evaluated, too. So every
number that leaves this module was counted on validation data, and the predictor only decides what is counted. A space
of no more subnets than may be evaluated is evaluated whole, and `Found.exhaustive` says so.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.domain.shares import wilson
from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.supernets.space import Space, Subnet

Floats = npt.NDArray[np.float64]

# How hard the ridge pulls, in shares of the mean square of a feature; leave-one-out chooses among these.
_PULLS = tuple(10.0**power for power in range(-6, 3))
_ROUNDS = 3  # of predicting, searching and evaluating
_GENERATIONS, _BROOD = 20, 100
_CHANGED = 0.2  # share of a child's depths and widths that are drawn anew


@dataclass(frozen=True, slots=True)
class Measured:
    """A subnet that was right on `right` of `of` validation rows and costs `cost` (multiply-adds of a row, or seconds:
    what the search was told to weigh)."""

    subnet: Subnet
    right: int
    of: int
    cost: float

    @property
    def accuracy(self) -> float:
        return self.right / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """95%, Wilson 1927."""
        return wilson(self.right, self.of)


@dataclass(frozen=True, slots=True)
class Found:
    """`measured`: all that were evaluated, by rising cost. `exhaustive`: whether that is the whole space. `error`: the
    predictor's leave-one-out error of accuracy (root mean square), nan where none was needed."""

    measured: tuple[Measured, ...]
    exhaustive: bool
    error: float

    @property
    def front(self) -> tuple[Measured, ...]:
        return front(self.measured)


def front(measured: Iterable[Measured]) -> tuple[Measured, ...]:
    """Those that are more often right than everything as cheap, by rising cost; of equals the first by name."""
    best: list[Measured] = []
    for one in sorted(measured, key=lambda m: (m.cost, -m.accuracy, m.subnet.name)):
        if not best or one.accuracy > best[-1].accuracy:
            best.append(one)
    return tuple(best)


class Predictor:
    """Accuracy of a subnet from its depths, widths and log cost: a ridge regression whose pull leave-one-out chooses.

    For a linear smoother with hat matrix H the error of leaving row i out is (y_i - yhat_i) / (1 - H_ii) (Allen's
    PRESS, Technometrics 1974), so no model is fitted twice.
    """

    def __init__(
        self, subnets: Sequence[Subnet], costs: Sequence[float], accuracies: Sequence[float]
    ) -> None:
        """Raises InvalidData for fewer than three subnets."""
        if len(subnets) < 3:
            raise InvalidData(f"an accuracy predictor needs three evaluated subnets, not {len(subnets)}")
        raw = _features(subnets, costs)
        self._mean = raw.mean(axis=0)
        spread = raw.std(axis=0)
        self._scale = np.where(spread > 0.0, spread, 1.0)
        x, y = (raw - self._mean) / self._scale, np.asarray(accuracies, np.float64)
        self._level = float(y.mean())
        fitted = [_ridge(x, y - self._level, pull) for pull in _PULLS]
        self.error, self._weights = min(fitted, key=lambda pair: pair[0])

    def __call__(self, subnets: Sequence[Subnet], costs: Sequence[float]) -> Floats:
        """float64 [n]."""
        x = (_features(subnets, costs) - self._mean) / self._scale
        return np.asarray(self._level + x @ self._weights)


def _features(subnets: Sequence[Subnet], costs: Sequence[float]) -> Floats:
    """[n, F]: depths, widths, their squares and products, and log cost."""
    rows = []
    for subnet, cost in zip(subnets, costs, strict=True):
        depths, widths = np.array(subnet.depths, np.float64), np.array(subnet.widths, np.float64)
        rows.append(np.concatenate([depths, widths, depths**2, widths**2, depths * widths, [np.log(cost)]]))
    return np.stack(rows)


def _ridge(x: Floats, y: Floats, pull: float) -> tuple[float, Floats]:
    """(root mean square of the errors of leaving one out, weights): min |y - x w|^2 + pull n |w|^2, x and y centred."""
    n, features = x.shape
    inverse = np.linalg.inv(x.T @ x + pull * n * np.eye(features))
    weights = inverse @ x.T @ y
    # The mean was fitted as well: it is the 1 / n.
    kept = 1.0 - (x @ inverse * x).sum(axis=1) - 1.0 / n
    left_out = (y - x @ weights) / np.maximum(kept, 1e-9)
    return float(np.sqrt(np.mean(left_out**2))), weights


def search(
    space: Space,
    judge: Callable[[Subnet], tuple[int, int]],
    cost: Callable[[Subnet], float],
    rng: np.random.Generator,
    most: int = 64,
) -> Found:
    """Evaluate at most `most` subnets and return them all; `Found.front` is what to offer.

    `judge` gives (right, of) on validation data, `cost` a positive number; each is asked once of a subnet. The largest
    and the smallest subnet are always evaluated. Same arguments and seed, same answer. Raises InvalidConfiguration for
    `most` below 8 in a space that is larger than that.
    """
    costs: dict[Subnet, float] = {}
    judged: dict[Subnet, Measured] = {}

    def cost_of(subnet: Subnet) -> float:
        if subnet not in costs:
            costs[subnet] = cost(subnet)
        return costs[subnet]

    def evaluate(subnets: Iterable[Subnet]) -> None:
        for subnet in subnets:
            if subnet not in judged:
                judged[subnet] = Measured(subnet, *judge(subnet), cost_of(subnet))

    def found(exhaustive: bool, error: float) -> Found:
        ordered = sorted(judged.values(), key=lambda m: (m.cost, m.subnet.name))
        return Found(tuple(ordered), exhaustive, error)

    if space.size <= most:
        evaluate(space.all())
        return found(True, float("nan"))
    if most < 8:
        raise InvalidConfiguration(
            f"{most} subnets are too few to search a space of {space.size} by: allow 8 or more"
        )

    evaluate([space.smallest, space.largest])
    while len(judged) < most // 2:
        evaluate([space.sample(rng)])
    predictor = _fitted(judged)
    for round_ in range(_ROUNDS):
        left = (most - len(judged)) // (_ROUNDS - round_)
        promising = _evolved(space, predictor, cost_of, [m.subnet for m in front(judged.values())], rng)
        evaluate(_spread([subnet for subnet in promising if subnet not in judged], left))
        predictor = _fitted(judged)
    return found(False, predictor.error)


def _fitted(judged: dict[Subnet, Measured]) -> Predictor:
    known = list(judged.values())
    return Predictor([m.subnet for m in known], [m.cost for m in known], [m.accuracy for m in known])


def _evolved(
    space: Space,
    predictor: Predictor,
    cost: Callable[[Subnet], float],
    parents: Sequence[Subnet],
    rng: np.random.Generator,
) -> list[Subnet]:
    """The predicted front after some generations of crossing and changing its members, by rising cost."""
    pool = list(parents)
    for _ in range(_GENERATIONS):
        brood = [_child(space, pool, rng) for _ in range(_BROOD)]
        pool = list(dict.fromkeys([*pool, *brood]))
        costs = np.array([cost(subnet) for subnet in pool])
        promise = predictor(pool, costs.tolist())
        kept, best = [], -np.inf
        for i in np.lexsort((-promise, costs)).tolist():
            if promise[i] > best:
                kept.append(pool[i])
                best = promise[i]
        pool = kept
    return pool


def _child(space: Space, pool: Sequence[Subnet], rng: np.random.Generator) -> Subnet:
    """Each depth and width from one of two parents, or drawn anew."""
    a, b = (pool[i] for i in rng.integers(0, len(pool), 2))
    new = space.sample(rng)

    def mixed(
        of_a: tuple[float, ...], of_b: tuple[float, ...], of_new: tuple[float, ...]
    ) -> tuple[float, ...]:
        draws = rng.random(len(of_a))
        chances = zip(draws.tolist(), of_a, of_b, of_new, strict=True)
        half = (1.0 + _CHANGED) / 2.0
        return tuple(z if draw < _CHANGED else x if draw < half else y for draw, x, y, z in chances)

    depths = tuple(int(depth) for depth in mixed(a.depths, b.depths, new.depths))
    own = 1 if space.uniform else space.stages
    widths = mixed(a.widths[:own], b.widths[:own], new.widths[:own])
    return Subnet(depths, widths * space.stages if space.uniform else widths)


def _spread(subnets: Sequence[Subnet], wanted: int) -> list[Subnet]:
    """So many of them at even steps, ends included."""
    if wanted <= 0 or len(subnets) <= wanted:
        return list(subnets[: max(wanted, 0)])
    steps = np.linspace(0, len(subnets) - 1, wanted).round().astype(int)
    return [subnets[i] for i in dict.fromkeys(steps.tolist())]
