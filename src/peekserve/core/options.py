"""How a scheduler behaves, apart from its policy."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from peekserve.core.planning import Planning, Rolling
from peekserve.domain.application import OnMiss


@dataclass(frozen=True, slots=True)
class Options:
    """How a scheduler behaves, apart from its policy.

    `margin_s`: taken off every deadline when planning, half of it for times that were estimated too short and
    half for the way back to the client. `patience_s`: how long a row waits for its peek. `peek`: ask for peeks
    at all. `on_miss`: instead of what the applications say. `max_rows`: of all requests that wait or run, `max_bytes`:
    of their inputs; beyond that somebody is turned away (core/shedding.py). `hang_s`: a batch that is overdue by this
    much, or by 20 times its own length, condemns its worker.
    `beliefs`: how evidence becomes a belief, a name in core.beliefs.
    `escalate`: models' answers are evidence, and rows that could gain as much as `escalate_gain` may be run again
    (core/escalation.py); for policies that weigh instant answers, and not where whole plans are carried out.
    `escalate_anyway`: also where nothing shows that it helps.
    `preload`: fill an idle machine's new worker with weights before there is work for it. `placement`: by worker, the
    weights that it is then filled with, in place of the best that fit. `attempts`: how often a row may lose its worker.
    `admit`: who has no place in a plan over all workers is refused at once, where its application rejects what it would
    miss (core/admission.py).
    `follow_pace`: learn how long batches really take over their profile, and plan with that (core/pace.py).
    `remember_rows`: answered rows whose true class may still be confirmed. `half_life`: of the drift scores, in rows
    (awareness/drift.py).
    """

    planning: Planning = field(default_factory=Rolling)
    margin_s: float = 0.0
    patience_s: float = 0.010
    peek: bool = True
    beliefs: str = "dirichlet"
    escalate: bool = False
    escalate_anyway: bool = True
    escalate_gain: float = 0.02
    preload: bool = False
    placement: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    on_miss: OnMiss | None = None
    max_rows: int = 4096
    max_bytes: int = 256 << 20
    hang_s: float = 1.0
    attempts: int = 3
    admit: bool = False
    follow_pace: bool = False
    remember_rows: int = 65_536
    half_life: float = 200.0
