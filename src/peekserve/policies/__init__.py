"""The choices: each policy is one small class with one method, plan(view). One table of names."""

from collections.abc import Mapping
from difflib import get_close_matches

from peekserve.domain.gears import GearPlan
from peekserve.errors import InvalidConfiguration
from peekserve.policies.base import Policy, PolicyMaker, Switches
from peekserve.policies.cascadeserve import DynBa, ModelSwitching, Static
from peekserve.policies.clockwork import Clockwork
from peekserve.policies.gears import Gears
from peekserve.policies.horizon import Horizon
from peekserve.policies.nexus import Nexus
from peekserve.policies.optimal import Optimal
from peekserve.policies.proteus import Proteus
from peekserve.policies.slackfit import SlackFit
from peekserve.policies.sneakpeek import Grouped, LoEdf, LoPriority, MaxAccEdf, SneakPeek
from peekserve.policies.superserve import Clipper, Infaas, MaxAcc, MaxBatch

POLICIES: Mapping[str, PolicyMaker] = {
    "maxacc-edf": MaxAccEdf,
    "lo-edf": LoEdf,
    "lo-priority": LoPriority,
    "grouped": Grouped,
    "sneakpeek": SneakPeek,
    "horizon": Horizon,
    "clockwork": Clockwork,
    "nexus": Nexus,
    "proteus": Proteus,
    "slackfit": SlackFit,
    "maxacc": MaxAcc,
    "maxbatch": MaxBatch,
    "clipper": Clipper,
    "infaas": Infaas,
    "dynba": DynBa,
    "optimal": Optimal,
}

# Those that carry out a gear plan for each application, and are nothing without.
PLANNED: Mapping[str, type[Gears]] = {"gears": Gears, "model-switching": ModelSwitching, "static": Static}

# Those that look at everything: for small windows, to measure the others by, not for serving.
YARDSTICKS = frozenset({"optimal"})

# Those whose plan is for every row that waits: who stands nowhere in it has no place.
COMPLETE = frozenset({"maxacc-edf", "lo-edf", "lo-priority", "grouped", "sneakpeek", "horizon", "optimal"})

# Those that remember between plans how much was asked for, what busy workers hold or how large a batch may be: one
# object serves one scheduler.
REMEMBERING = frozenset({"clipper", "clockwork", "dynba", "nexus", "proteus", *PLANNED})

# What a policy is by its paper; the others believe the profile and never let the peek answer.
SWITCHES: Mapping[str, Switches] = {
    "sneakpeek": Switches(aware=True, short_circuit=True),
    "horizon": Switches(aware=True, short_circuit=True),
    "optimal": Switches(aware=True, short_circuit=True),
}


def make(name: str, switches: Switches | None = None, **options: float) -> Policy:
    """The policy of that name; without `switches`, as its paper has it.

    Raises InvalidConfiguration for an unknown name or option, with the nearest one that exists, and for a policy that
    has a plan to carry out: see `carrying_out`.
    """
    switches = SWITCHES.get(name, Switches()) if switches is None else switches
    if name in PLANNED:
        return PLANNED[name](switches, None, **options)
    if name not in POLICIES:
        known = sorted({*POLICIES, *PLANNED})
        near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise InvalidConfiguration(f"no policy {name!r}; the nearest is {near!r} of {', '.join(known)}")
    return POLICIES[name](switches, **options)


def carrying_out(
    name: str, plans: Mapping[str, GearPlan], switches: Switches | None = None, **options: float
) -> Policy:
    """A policy of PLANNED with its gear plans, by application. Raises InvalidConfiguration where there is none, and for
    an unknown option."""
    return PLANNED[name](SWITCHES.get(name, Switches()) if switches is None else switches, plans, **options)


__all__ = [
    "COMPLETE",
    "PLANNED",
    "POLICIES",
    "REMEMBERING",
    "SWITCHES",
    "YARDSTICKS",
    "Policy",
    "Switches",
    "carrying_out",
    "make",
]
