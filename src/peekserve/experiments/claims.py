"""What a paper claims, and whether it holds: read from claims.toml, judged by measured intervals."""

import operator
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from peekserve.errors import InvalidConfiguration
from peekserve.experiments.table import Floats, Interval

CLAIMS = Path(__file__).with_name("claims.toml")
FIELDS = ("id", "experiment", "paper", "claim", "holds")

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"(measured|low|high)\s*(<=|>=|<|>)\s*(-?\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim. `paper`: what the paper says and where. `claim`: the quantity that is measured for it. `holds`: when
    we say that it holds."""

    id: str
    experiment: str
    paper: str
    claim: str
    holds: str

    def judge(self, interval: Interval) -> bool:
        """Does it hold at this interval? Nothing holds at a value that is no number."""
        return all(
            _COMPARE[how](getattr(interval, what), float(number))
            for what, how, number in _conditions(self.holds, self.id)
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim, what was measured, and whether it holds. `interval` is None for what could not be measured."""

    claim: Claim
    interval: Interval
    holds: bool

    def as_json(self) -> dict[str, str | float | bool]:
        return {
            "id": self.claim.id,
            "claim": self.claim.claim,
            "paper": self.claim.paper,
            "measured": self.interval.measured,
            "low": self.interval.low,
            "high": self.interval.high,
            "holds": self.holds,
        }


def read_claims(path: Path = CLAIMS) -> tuple[Claim, ...]:
    """Every claim of the file. Raises InvalidConfiguration for one that is incomplete, told twice, or without a
    condition that can be judged."""
    claims: list[Claim] = []
    for number, entry in enumerate(tomllib.loads(path.read_text()).get("claim", ()), 1):
        wrong = set(FIELDS) ^ set(entry)
        if wrong:
            raise InvalidConfiguration(
                f"{path}: claim {number} ({entry.get('id', 'no id')}) has or lacks {', '.join(sorted(wrong))}; "
                f"a claim has {', '.join(FIELDS)}"
            )
        claim = Claim(**entry)
        _conditions(claim.holds, claim.id)
        if claim.id in {c.id for c in claims}:
            raise InvalidConfiguration(f"{path}: two claims are called {claim.id!r}")
        claims.append(claim)
    return tuple(claims)


def judge(
    experiment: str, measured: Mapping[str, Floats], claims: tuple[Claim, ...] | None = None
) -> list[Finding]:
    """A finding for each claim of this experiment, from its measured quantities (float64 [1 + draws], by claim id).

    Raises InvalidConfiguration when a claim was not measured, or something was measured that nobody claimed.
    """
    own = [c for c in (read_claims() if claims is None else claims) if c.experiment == experiment]
    odd = {c.id for c in own} ^ set(measured)
    if odd:
        raise InvalidConfiguration(
            f"{experiment}: {', '.join(sorted(odd))} claimed and not measured, or the reverse"
        )
    intervals = {c.id: Interval.of(measured[c.id]) for c in own}
    return [Finding(c, intervals[c.id], c.judge(intervals[c.id])) for c in own]


def _conditions(text: str, who: str) -> list[tuple[str, str, str]]:
    found = [_CONDITION.fullmatch(part.strip()) for part in text.split(" and ")]
    if not all(found):
        raise InvalidConfiguration(
            f"claim {who!r}: {text!r} is no condition like 'low > 0' or 'low >= 1 and high <= 2'"
        )
    return [(m[1], m[2], m[3]) for m in found if m]
