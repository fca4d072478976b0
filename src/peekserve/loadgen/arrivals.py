"""When requests come: instants in seconds from the start of a run, rising. Chance is an argument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Instants = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to be: when, for which application, with which of its samples."""

    at: float
    application: str
    sample: int


def poisson(rate: float, seconds: float, rng: np.random.Generator) -> Instants:
    """float64 [n]: a Poisson stream of `rate` requests per second for `seconds`.

    >>> len(poisson(100.0, 10.0, np.random.default_rng(0)))
    1012
    """
    checked(rate, seconds)
    # The count is Poisson, and given the count the instants are uniform: one draw instead of a loop.
    return np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds)))


def gamma(rate: float, cv2: float, seconds: float, rng: np.random.Generator) -> Instants:
    """float64 [n]: gaps from a gamma distribution of mean 1 / `rate` (requests per second) and squared coefficient of
    variation `cv2`, so of shape 1 / cv2 and scale cv2 / rate (SuperServe, section 6). 1 is Poisson, 0 a fixed beat,
    more comes in bunches.

    >>> gamma(2.0, 0.0, 2.0, np.random.default_rng(0)).round(3).tolist()
    [0.318, 0.818, 1.318, 1.818]
    """
    checked(rate, seconds)
    return beats(rate * seconds, cv2, rng) / rate


def beats(expected: float, cv2: float, rng: np.random.Generator) -> Instants:
    """float64 [n], from 0 to below `expected`: a stream of one a unit, as many as `expected` in the mean. Rates that
    change are made of it by stretching its time.

    The first gap is what is left of one that began before, so that the stream has no start to be seen: without that
    there would be (cv2 - 1) / 2 too many at the beginning. What is left is a uniform share of a gap that is drawn by
    its length, and a gamma drawn by its length is a gamma of one more shape.
    """
    if not 0.0 <= cv2 < np.inf:
        raise ValueError(f"gaps vary by a squared coefficient of 0 or more, not {cv2}")
    if cv2 < 1e-12:  # gaps that differ by less than their millionth; and 1 / cv2 below stays finite
        return np.arange(rng.uniform(), expected, 1.0)
    shape = 1.0 / cv2
    parts = [np.array([rng.uniform() * rng.gamma(shape + 1.0, cv2)])]
    while (reached := parts[-1][-1]) < expected:
        left = expected - reached
        gaps = rng.gamma(shape, cv2, int(left + 4.0 * np.sqrt(left * cv2)) + 16)
        parts.append(reached + np.cumsum(gaps))
    found = np.concatenate(parts)
    return found[: np.searchsorted(found, expected)]


def checked(rate: float, seconds: float) -> None:
    """Raises ValueError for a rate or a length that no stream has."""
    if not 0.0 < rate < np.inf or not 0.0 < seconds < np.inf:
        raise ValueError(f"a stream needs a positive rate and length, not {rate}/s for {seconds} s")


def mixed(
    instants: Instants,
    shares: Mapping[str, float],
    samples: Mapping[str, int],
    rng: np.random.Generator,
    applications: Sequence[str] | None = None,
    numbers: Sequence[int] | None = None,
) -> list[Arrival]:
    """Give each instant an application, by `shares`, and one of its `samples`; a sample comes again only when all
    of its application have come. Where the `applications` [n] or the `numbers` of the samples [n] are known they are
    taken; a number below 0 is not known."""
    if applications is None:
        names = sorted(shares)
        weights = np.array([shares[name] for name in names])
        chosen = rng.choice(len(names), size=len(instants), p=weights / weights.sum())
        applications = [names[choice] for choice in chosen.tolist()]
    decks: dict[str, list[int]] = {name: [] for name in samples}
    arrivals = []
    for i, (at, name) in enumerate(zip(instants.tolist(), applications, strict=True)):
        if numbers is not None and numbers[i] >= 0:
            arrivals.append(Arrival(at, name, numbers[i]))
            continue
        deck = decks[name]
        if not deck:
            deck.extend(rng.permutation(samples[name]).tolist())
        arrivals.append(Arrival(at, name, deck.pop()))
    return arrivals


def shares_of(names: Sequence[str]) -> dict[str, float]:
    """Every application alike."""
    return {name: 1.0 / len(names) for name in names}
