"""The policies side by side on one workload: each plain, aware, and aware with the peek's own answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, OnMiss
from peekserve.experiments.recalls import named
from peekserve.policies.base import Switches
from peekserve.results import Row, paired_difference, summary

PLAIN = Switches()
AWARE = Switches(aware=True)
SHORT = Switches(aware=True, short_circuit=True)


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy with its switches. Without short-circuit nobody may answer by the peek: what nothing can answer in time
    is turned away, and a policy that is not aware does not peek at all. All drop doomed work and merge batches.
    `beliefs` and `escalate`: empty and None for what goes with the policy."""

    name: str
    policy: str
    switches: Switches
    beliefs: str = ""
    escalate: bool | None = None

    @property
    def on_miss(self) -> OnMiss:
        return OnMiss.DEGRADE if self.switches.short_circuit else OnMiss.REJECT

    def spec(self, base: SchedulerSpec) -> SchedulerSpec:
        return replace(
            base,
            policy=self.policy,
            switches=self.switches,
            peek=self.switches.aware,
            on_miss=self.on_miss,
            beliefs=self.beliefs,
            escalate=self.escalate,
        )

    def settings(self) -> dict[str, str]:
        """The same, as settings of a server."""
        told = {
            "policy.name": self.policy,
            "policy.aware": str(self.switches.aware).lower(),
            "policy.short_circuit": str(self.switches.short_circuit).lower(),
            "on_miss": self.on_miss.value,
        }
        if self.beliefs:
            told["beliefs"] = self.beliefs
        if self.escalate is not None:
            told["escalate"] = "on" if self.escalate else "off"
        return told


def contenders(policies: Sequence[str]) -> list[Contender]:
    """Each policy plain, aware, and aware with short-circuit. `sneakpeek` is never plain (that is `grouped`), and its
    own name means the whole of it: aware, split by label, short-circuit. So does that of `horizon`, whose own beliefs
    `sneakpeek` has once too."""
    found = []
    for policy in policies:
        if policy == "sneakpeek":
            found += [
                Contender("sneakpeek-sc", policy, AWARE),
                Contender("sneakpeek", policy, SHORT),
                Contender("sneakpeek+calibrated", policy, SHORT, beliefs="calibrated"),
            ]
        elif policy == "horizon":
            found += [
                Contender("horizon-escalate", policy, SHORT, escalate=False),
                Contender("horizon", policy, SHORT),
            ]
        else:
            found += [
                Contender(policy, policy, PLAIN),
                Contender(f"{policy}+aware", policy, AWARE),
                Contender(f"{policy}+aware+sc", policy, SHORT),
            ]
    return found


# What is compared with what: (name, against, what the difference is of).
PAIRS = (
    ("horizon", "sneakpeek", "the whole of both"),
    ("horizon", "sneakpeek+calibrated", "search and escalation, both calibrated"),
    ("horizon", "horizon-escalate", "escalation alone"),
    ("sneakpeek+calibrated", "sneakpeek", "calibrated beliefs alone"),
    ("horizon", "lo-edf", "against the usual scheduler"),
    ("horizon", "lo-edf+aware+sc", "the usual one, aware, short-circuit"),
    ("sneakpeek", "lo-edf", "the whole of SneakPeek"),
    ("sneakpeek", "lo-edf+aware+sc", "grouping and label split, both with sc"),
    ("sneakpeek-sc", "lo-edf", "without sc, split by label"),
    ("sneakpeek-sc", "lo-edf+aware", "the same, both aware"),
    ("grouped+aware", "lo-edf", "without sc, not split by label"),
    ("sneakpeek-sc", "grouped+aware", "label split alone, without sc"),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of mean utility over the same arrivals, with its 95% interval."""

    name: str
    against: str
    what: str
    mean: float
    low: float
    high: float


def differences(rows: Mapping[str, Sequence[Row]], seed: int = 0) -> list[Difference]:
    """All of PAIRS that were run."""
    return [
        Difference(name, against, what, *paired_difference(*_common(rows[name], rows[against]), seed))
        for name, against, what in PAIRS
        if name in rows and against in rows
    ]


def _common(rows: Sequence[Row], base: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row]]:
    """The arrivals that both saw: those of the first passes."""
    n = min(len(rows), len(base))
    return rows[:n], base[:n]


def capacity(
    applications: Mapping[str, Application],
    device: str,
    shares: Mapping[str, float],
    buckets: Mapping[str, Sequence[float]],
) -> float:
    """Requests per second that the most accurate variants alone could carry on one worker: each at its best batch
    size among those that leave half the deadline for waiting. `buckets`: the share of each shape bucket."""
    cost_s = 0.0
    for name, share in shares.items():
        app = applications[name]
        best = max(app.variants, key=lambda v: v.quality.accuracy if v.quality else 0.0)
        half = app.query().deadline_s / 2
        for bucket, part in enumerate(buckets[name]):
            curve = best.timing[device].curve(bucket)
            sizes = [b for b in range(1, best.max_batch + 1) if curve.seconds(b) <= half] or [1]
            cost_s += share * part * min(curve.seconds(b) / b for b in sizes)
    return 1.0 / cost_s


def as_json(
    rows: Mapping[str, Sequence[Row]],
    simulated: Mapping[str, Sequence[Row]],
    applications: Mapping[str, Application],
) -> dict[str, dict[str, object]]:
    """One entry for each policy: what `peekserve demo --json` prints. `utility` is class-weighted, `accuracy` and
    `recalls` are not."""
    told: dict[str, dict[str, object]] = {}
    for name, policy_rows in rows.items():
        s = summary(policy_rows)
        told[name] = {
            "utility": s.utility,
            "low": s.low,
            "high": s.high,
            "accuracy": s.accuracy,
            "deadlines_met": s.deadlines_met,
            "accuracy_in_time": s.accuracy_in_time,
            "by_peek": s.by_peek,
            "requests": s.requests,
            "recalls": [one.as_json() for one in named(policy_rows, applications)],
        }
        if name in simulated:
            told[name]["simulated"] = summary(simulated[name]).utility
    return told
