"""A scheduler as plain data: what a configuration says, what a journal's first frame holds."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from peekserve.core.catalogue import Catalogue
from peekserve.core.planning import Planning, Rolling, Window
from peekserve.core.scheduler import Options, Scheduler
from peekserve.domain.application import Application, OnMiss
from peekserve.errors import InvalidConfiguration
from peekserve.policies import make
from peekserve.policies.base import Switches

_WINDOW = re.compile(r"window\((\d+(?:\.\d+)?)(ms|s)\)")


@dataclass(frozen=True, slots=True)
class SchedulerSpec:
    """A policy by name with its switches and options, when to plan, and the scheduler's own options.

    `planning`: "rolling" or "window(100ms)". `switches` None means the policy's own defaults. The rest is
    described at core.scheduler.Options and core.planning.
    """

    policy: str = "sneakpeek"
    switches: Switches | None = None
    policy_options: dict[str, float] = field(default_factory=dict)
    planning: str = "rolling"
    lead_s: float = 0.0
    hold: bool = True
    margin_s: float = 0.0
    patience_s: float = 0.010
    peek: bool = True
    preload: bool = True
    on_miss: OnMiss | None = None
    max_rows: int = 4096
    hang_s: float = 1.0

    def build(self, applications: Iterable[Application]) -> Scheduler:
        """The scheduler. Raises InvalidConfiguration for a policy, option or planning that does not exist."""
        options = Options(
            planning=self._planning(),
            margin_s=self.margin_s,
            patience_s=self.patience_s,
            peek=self.peek,
            preload=self.preload,
            on_miss=self.on_miss,
            max_rows=self.max_rows,
            hang_s=self.hang_s,
        )
        return Scheduler(
            make(self.policy, self.switches, **self.policy_options), Catalogue(applications), options
        )

    def _planning(self) -> Planning:
        if self.planning == "rolling":
            return Rolling(self.lead_s, self.hold)
        match = _WINDOW.fullmatch(self.planning)
        if match is None:
            raise InvalidConfiguration(
                f"planning is 'rolling' or like 'window(100ms)', not {self.planning!r}"
            )
        return Window(float(match[1]) * (1e-3 if match[2] == "ms" else 1.0))
