"""Which gear an application is in: arrivals counted over short periods, and hysteresis (CascadeServe, section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from peekserve.domain.gears import Gear, GearPlan

# A first period has a beginning before its first arrival.
_BEFORE_S = 1e-6


@dataclass(slots=True)
class Gearbox:
    """State between plans, of one application. `rate`: requests per second over the last period. `taken`: rows that
    devices took in this gear, by (variant, device)."""

    plan: GearPlan
    number: int = 0
    rate: float = 0.0
    taken: dict[tuple[str, str], int] = field(default_factory=dict)
    _since: float = -inf
    # Arrivals before this are not told apart any more. A row may be seen long after it came (its peek came first), and
    # again and again; so those of the period before are remembered, too.
    _before: float = -inf
    _seen: dict[float, int] = field(default_factory=dict)
    _count: int = 0

    @property
    def gear(self) -> Gear:
        return self.plan.gears[self.number]

    def see(self, arrived_at: Sequence[float]) -> None:
        """These rows wait. Several may have come at one instant, and some of them may have gone since. A row counts in
        the period in which it is first seen, if it came in that one or in the one before."""
        here: dict[float, int] = {}
        for at in arrived_at:
            here[at] = here.get(at, 0) + 1
        for at, many in here.items():
            more = many - self._seen.get(at, 0)
            if at > self._before and more > 0:
                self._seen[at] = many
                self._count += more

    def shift(self, now: float, queued: int, period_s: float, margin: float, alpha: float) -> None:
        """Take the gear for the rate of the last period, if it is over. `queued`: rows that wait for the first
        stage."""
        if self._since == -inf:
            self._since = min(self._seen, default=now) - _BEFORE_S
        passed_s = now - self._since
        if passed_s < period_s:
            return
        self.rate, self._count = self._count / passed_s, 0
        self._before, self._since = self._since, now
        self._seen = {at: many for at, many in self._seen.items() if at > self._before}
        wanted = self.plan.at(self.rate * margin)
        if wanted > self.number or (wanted < self.number and not alpha * queued > self.rate):
            self.number, self.taken = wanted, {}

    def behind(self, variant: str, device: str, share: float) -> float:
        """How far a device is behind its share of the rows that went to a variant."""
        total = sum(many for (name, _), many in self.taken.items() if name == variant)
        return share * (total + 1) - self.taken.get((variant, device), 0)
