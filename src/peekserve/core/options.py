"""How a scheduler behaves, apart from its policy."""

from dataclasses import dataclass, field

from peekserve.core.planning import Planning, Rolling
from peekserve.domain.application import OnMiss


@dataclass(frozen=True, slots=True)
class Options:
    """How a scheduler behaves, apart from its policy.

    `margin_s`: taken off every deadline when planning, half of it for times that were estimated too short and
    half for the way back to the client. `patience_s`: how long a row waits for its peek. `peek`: ask for peeks
    at all. `on_miss`: instead of what the applications say. `max_rows`: more unsettled rows than this are
    refused. `hang_s`: a batch that is overdue by this much, or by 20 times its own length, condemns its worker.
    `beliefs`: how evidence becomes a belief, a name in core.beliefs.
    `preload`: fill an idle machine's new worker with weights before there is work for it. `attempts`: how often
    a row may lose its worker.
    """

    planning: Planning = field(default_factory=Rolling)
    margin_s: float = 0.0
    patience_s: float = 0.010
    peek: bool = True
    beliefs: str = "dirichlet"
    preload: bool = False
    on_miss: OnMiss | None = None
    max_rows: int = 4096
    hang_s: float = 1.0
    attempts: int = 3
