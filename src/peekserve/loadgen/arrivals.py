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
    if not rate > 0.0 or not seconds > 0.0:
        raise ValueError(f"a stream needs a positive rate and length, not {rate}/s for {seconds} s")
    # The count is Poisson, and given the count the instants are uniform: one draw instead of a loop.
    return np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds)))


def mixed(
    instants: Instants, shares: Mapping[str, float], samples: Mapping[str, int], rng: np.random.Generator
) -> list[Arrival]:
    """Give each instant an application, by `shares`, and one of its `samples`; a sample comes again only when all
    of its application have come."""
    names = sorted(shares)
    weights = np.array([shares[name] for name in names])
    chosen = rng.choice(len(names), size=len(instants), p=weights / weights.sum())
    decks: dict[str, list[int]] = {name: [] for name in names}
    arrivals = []
    for at, choice in zip(instants.tolist(), chosen.tolist(), strict=True):
        deck = decks[names[choice]]
        if not deck:
            deck.extend(rng.permutation(samples[names[choice]]).tolist())
        arrivals.append(Arrival(at, names[choice], deck.pop()))
    return arrivals


def shares_of(names: Sequence[str]) -> dict[str, float]:
    """Every application alike."""
    return {name: 1.0 / len(names) for name in names}
