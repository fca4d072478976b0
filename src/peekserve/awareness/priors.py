"""What is believed of the classes before any evidence: the alpha of a Dirichlet (SneakPeek, eq. 10 and
6.3.3).

The sum of alpha says how many votes the prior is worth. Jeffreys weighs C/2 of them: 3.5 for seven classes,
so that `strong` with four requests in a window hardly outweighs it.
"""

from collections.abc import Sequence
from math import fsum, isfinite

from peekserve.errors import InvalidConfiguration

Alpha = tuple[float, ...]


def uninformative(classes: int) -> Alpha:
    """Jeffreys: one half for each class, whatever the owner knows.

    >>> uninformative(3)
    (0.5, 0.5, 0.5)
    """
    if classes < 2:
        raise InvalidConfiguration(f"a prior needs two classes or more, not {classes}")
    return (0.5,) * classes


def weak(frequencies: Sequence[float]) -> Alpha:
    """The expected frequency of each class: worth one vote in all.

    Raises InvalidConfiguration unless they are positive and sum to 1 (to a millionth: people write 0.333).

    >>> weak([0.95, 0.05])
    (0.95, 0.05)
    """
    alpha = _positive(frequencies, "weak")
    total = fsum(alpha)
    if abs(total - 1.0) > 1e-6:
        raise InvalidConfiguration(
            f"the frequencies of a weak prior sum to 1; {list(alpha)} sum to {total:.6g}"
        )
    return alpha


def strong(counts: Sequence[float]) -> Alpha:
    """The expected number of requests of each class in one scheduling window.

    >>> strong([3.8, 0.2])
    (3.8, 0.2)
    """
    return _positive(counts, "strong")


def _positive(entries: Sequence[float], what: str) -> Alpha:
    alpha = tuple(float(entry) for entry in entries)
    if len(alpha) < 2:
        raise InvalidConfiguration(
            f"a {what} prior has an entry for each of two classes or more, not {len(alpha)}"
        )
    for index, entry in enumerate(alpha):
        if not (isfinite(entry) and entry > 0.0):
            # Zero would mean that no amount of evidence makes the class half as likely as its votes say.
            raise InvalidConfiguration(
                f"a {what} prior's entries are positive and finite; entry {index} is {entry}: "
                "give a class that is very rare a small number, not 0"
            )
    return alpha
