"""Options of policies: numbers by name, checked when a policy is made."""

from collections.abc import Mapping
from difflib import get_close_matches
from math import isfinite

from peekserve.errors import InvalidConfiguration


def checked(
    known: Mapping[str, float], given: Mapping[str, float], lowest: Mapping[str, float]
) -> Mapping[str, float]:
    """`known` (the defaults) with what was `given`. `lowest`: the least value of an option, 0 where it is not named.

    Raises InvalidConfiguration for an unknown name, with the nearest one, and for a value that cannot be.

    >>> checked({"beta": 1.05}, {"beta": 1.2}, {})
    {'beta': 1.2}
    """
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)
            nearest = f"the nearest is {near[0]!r} of {', '.join(sorted(known))}" if near else "it has none"
            raise InvalidConfiguration(f"no policy option {name!r} here; {nearest}")
        least = lowest.get(name, 0.0)
        if not isfinite(value) or value < least:
            raise InvalidConfiguration(
                f"policy option {name!r} is a number of {least:g} or more, not {value}"
            )
    return {**known, **given}
