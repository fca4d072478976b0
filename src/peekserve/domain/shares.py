"""How well a share is known that was counted."""

from math import nan, sqrt

# Of a standard normal: 95% lie within so many standard deviations.
Z95 = 1.959963984540054


def wilson(hits: float, of: float) -> tuple[float, float]:
    """95% interval of a share of independent draws (Wilson 1927); nan of none. Numbers need not be whole: discounted
    ones are worth fewer draws.

    >>> tuple(round(end, 3) for end in wilson(8, 10))
    (0.49, 0.943)
    """
    if not of:
        return nan, nan
    share, square = hits / of, Z95 * Z95
    middle, scale = share + square / (2 * of), 1.0 + square / of
    half = Z95 * sqrt(max(share * (1.0 - share), 0.0) / of + square / (4 * of * of))
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)
