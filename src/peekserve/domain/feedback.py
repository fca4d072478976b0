"""What becomes of a true label that came back, and what there is to learn from it."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of a confirmation. It is taken as a whole, or not at all."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"  # no such request was answered, or it is forgotten
    UNANSWERED = "unanswered"  # the request is still under way
    REPEATED = "repeated"  # one of these rows has its true class already
    INVALID = "invalid"  # not these rows, or no such class


@dataclass(frozen=True, slots=True)
class Lesson:
    """One answered row and its true class.

    `variant`: who answered, of several that were asked the first, None for the peek. `said` and `label`: indices of
    classes, as answered and as confirmed. `own`: what the variant said by itself; the answer may have been put
    together from more. `expected`: how probable it was held to be that the answer is right, from 0 to 1, None without
    a profile. `theta`: the belief before a variant was asked, one number for each class. `counts`: the evidence behind
    it, None without any.
    """

    application: str
    variant: str | None
    said: int
    own: int
    label: int
    expected: float | None
    theta: tuple[float, ...]
    counts: tuple[float, ...] | None = None
