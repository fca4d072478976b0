"""A scheduler as plain data: what a configuration says, what a journal's first frame holds."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from peekserve.core.beliefs import Belief, named
from peekserve.core.catalogue import Catalogue
from peekserve.core.options import Options
from peekserve.core.planning import Planning, Rolling, Window
from peekserve.core.scheduler import Scheduler
from peekserve.domain.application import Application, OnMiss
from peekserve.domain.gears import GearPlan
from peekserve.errors import InvalidConfiguration
from peekserve.policies import COMPLETE, PLANNED, SWITCHES, carrying_out, make
from peekserve.policies.base import Policy, Switches

_TIME = r"(\d+(?:\.\d+)?)(ms|s)"
_WINDOW = re.compile(rf"window\({_TIME}(?:, ?rebalance={_TIME})?\)")


@dataclass(frozen=True, slots=True)
class SchedulerSpec:
    """A policy by name with its switches and options, when to plan, and the scheduler's own options.

    `planning`: "rolling", "window(100ms)" or "window(100ms, rebalance=20ms)". `switches` None means the policy's own
    defaults. `beliefs`: a name in core.beliefs, or empty for those that go with the policy. `normalise`: value answers
    against the application's best variant (core.catalogue). `literal`: plan with SneakPeek's eq. 1 at its word, where a
    batch saves nothing; beside it belongs Switches(merge=False), and a world of the same `Application.literal()`.
    `escalate`: True for yes, None for what goes with the policy: `horizon` with calibrated beliefs does where
    validation data show that it helps. `plans`: gear plans by application, for a policy that carries them out; a worker
    that one of them names is given the weights that it says, before there is work for it. The rest is described at
    core.options and core.planning.
    """

    policy: str = "horizon"
    switches: Switches | None = None
    policy_options: dict[str, float] = field(default_factory=dict)
    planning: str = "rolling"
    lead_s: float = 0.0
    hold: bool = True
    margin_s: float = 0.0
    patience_s: float = 0.010
    peek: bool = True
    beliefs: str = ""
    preload: bool = True
    on_miss: OnMiss | None = None
    max_rows: int = 4096
    max_bytes: int = 256 << 20
    hang_s: float = 1.0
    remember_rows: int = 65_536
    half_life: float = 200.0
    admit: bool = False
    follow_pace: bool = False
    normalise: bool = False
    literal: bool = False
    escalate: bool | None = None
    escalate_gain: float = 0.02
    plans: Mapping[str, GearPlan] = field(default_factory=dict)

    def build(self, applications: Iterable[Application]) -> Scheduler:
        """The scheduler. Raises InvalidConfiguration for a policy, option or planning that does not exist, and for an
        application that a policy should have a gear plan for and has none."""
        return self.over(self.catalogue(applications))

    def catalogue(self, applications: Iterable[Application]) -> Catalogue:
        """The applications as this scheduler values them and believes them to cost."""
        costed = (app.literal() for app in applications) if self.literal else applications
        return Catalogue(costed, self.normalise)

    def made(self) -> Policy:
        """The policy alone."""
        if self.policy in PLANNED:
            return carrying_out(self.policy, self.plans, self.switches, **self.policy_options)
        return make(self.policy, self.switches, **self.policy_options)

    def over(
        self, catalogue: Catalogue, policy: Policy | None = None, beliefs: Sequence[Belief] | None = None
    ) -> Scheduler:
        """As `build`, over applications that are indexed already: a catalogue may be shared while nothing is registered
        with any scheduler over it, and so may a policy that was made before. `beliefs`: in place of those that are
        named."""
        if self.policy in PLANNED and policy is None:
            without = [app.name for app in catalogue.applications if app.name not in self.plans]
            if without:
                raise InvalidConfiguration(
                    f"the policy {self.policy!r} has no gear plan for {', '.join(without)}"
                )
        options = Options(
            planning=self._planning(),
            margin_s=self.margin_s,
            patience_s=self.patience_s,
            peek=self.peek,
            beliefs=named(self.beliefs, self.policy),
            preload=self.preload,
            placement=self._placement(),
            on_miss=self.on_miss,
            max_rows=self.max_rows,
            max_bytes=self.max_bytes,
            hang_s=self.hang_s,
            admit=self.admit and self._places_all(),
            follow_pace=self.follow_pace,
            escalate=self.escalates,
            escalate_anyway=self.escalate is not None,
            escalate_gain=self.escalate_gain,
            remember_rows=self.remember_rows,
            half_life=self.half_life,
        )
        return Scheduler(policy or self.made(), catalogue, options, beliefs)

    @property
    def escalates(self) -> bool:
        """Are models' answers evidence, and may a row run again? Raises InvalidConfiguration where that is asked for of
        a policy that would not weigh the answer in hand, or of windows, whose plans are carried out as made."""
        switches = SWITCHES.get(self.policy, Switches()) if self.switches is None else self.switches
        weighs = switches.aware and switches.short_circuit
        if self.escalate is None:
            goes_with = self.policy == "horizon" and named(self.beliefs, self.policy) == "calibrated"
            return goes_with and weighs and not self._planning().whole
        if self.escalate and self.policy in PLANNED:
            raise InvalidConfiguration(
                f"policy {self.policy!r} runs a row again where its gear plan says so, and does not escalate beside it"
            )
        if self.escalate and not weighs:
            raise InvalidConfiguration(
                f"policy {self.policy!r} escalates only if it is aware and may short-circuit: else it would run "
                "every row again that could gain anything"
            )
        if self.escalate and self._planning().whole:
            raise InvalidConfiguration(
                f"planning {self.planning!r} carries out whole plans, and nothing escalates in the midst of one: "
                "escalate with 'rolling', or not at all"
            )
        return self.escalate

    def _places_all(self) -> bool:
        """Has a row that stands nowhere in a plan no place at all? A worker's time that has a price is left empty on
        purpose."""
        priced = any(self.policy_options.get(name) for name in ("arrivals", "price_per_s"))
        return self.policy in COMPLETE and self.planning == "rolling" and not priced

    def _placement(self) -> Mapping[str, tuple[str, ...]]:
        """What the gear plans place, by worker; those of several applications one after the other."""
        placed: dict[str, tuple[str, ...]] = {}
        for _, plan in sorted(self.plans.items()):
            for held in plan.placement:
                placed[held.device] = tuple(dict.fromkeys((*placed.get(held.device, ()), *held.weights)))
        return placed

    def _planning(self) -> Planning:
        if self.planning == "rolling":
            return Rolling(self.lead_s, self.hold)
        match = _WINDOW.fullmatch(self.planning)
        if match is None:
            raise InvalidConfiguration(
                f"planning is 'rolling' or like 'window(100ms)' or 'window(100ms, rebalance=20ms)', not "
                f"{self.planning!r}"
            )
        length_s = _seconds(match[1], match[2])
        if match[3] is None:
            return Window(length_s)
        return Window(length_s, lead_s=self.lead_s, rebalance_s=_seconds(match[3], match[4]))


def windowed(length_s: float, rebalance_s: float = 0.0) -> str:
    """Planning by windows, as a spec says it.

    >>> windowed(0.1, 0.02), windowed(3600.0)
    ('window(100ms, rebalance=20ms)', 'window(3600000ms)')
    """
    again = f", rebalance={_milliseconds(rebalance_s)}" if rebalance_s else ""
    return f"window({_milliseconds(length_s)}{again})"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.9f}".rstrip("0").rstrip(".") + "ms"


def _seconds(number: str, unit: str) -> float:
    return float(number) * (1e-3 if unit == "ms" else 1.0)
