"""What a journal says happened: who arrived, who got which outcome, when a worker fell, rose and served again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peekserve.domain.messages import Answer, Arrived, BatchDone, WorkerDown, WorkerUp
from peekserve.domain.request import Outcome
from peekserve.errors import JournalDamaged
from peekserve.state.journal import JournalReader, Step

DOWN, UP, SERVED = "down", "up", "served"
Told = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What came of one blow, in seconds from it: when the front knew, when a new worker was up, when it ended its first
    batch. None for what did not come before the journal's end."""

    noticed_s: float | None
    up_s: float | None
    served_s: float | None


@dataclass(slots=True)
class Ledger:
    """`outcomes`: of every request that arrived, all that it got; there should be one. `strangers`: answers to whoever
    did not arrive. `told`: of the only worker, in order. `broken`: why the last frame could not be read, if so."""

    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    strangers: int = 0
    told: list[Told] = field(default_factory=list)
    steps: int = 0
    broken: str = ""

    @property
    def without(self) -> int:
        """Requests that arrived and got no outcome."""
        return sum(not each for each in self.outcomes.values())

    @property
    def several(self) -> int:
        """Outcomes beyond the one that a request should get."""
        return sum(max(len(each) - 1, 0) for each in self.outcomes.values()) + self.strangers

    @property
    def answered(self) -> set[str]:
        good = (Outcome.ANSWERED, Outcome.LATE)
        return {name for name, each in self.outcomes.items() if any(one in good for one in each)}


def read(path: Path) -> Ledger:
    """Everything up to the end or to a broken frame. Raises JournalDamaged where not even the header can be read."""
    ledger, reader = Ledger(), JournalReader(path)
    try:
        follow(ledger, reader)
    except JournalDamaged as error:
        ledger.broken = str(error)
    finally:
        reader.close()
    return ledger


def follow(ledger: Ledger, steps: Iterable[Step]) -> None:
    """Enter these steps."""
    for step in steps:
        ledger.steps += 1
        match step.event:
            case Arrived(request):
                ledger.outcomes[request.id] = []
            case WorkerDown():
                ledger.told.append((step.now, DOWN))
            case WorkerUp():
                ledger.told.append((step.now, UP))
            case BatchDone():
                ledger.told.append((step.now, SERVED))
            case _:
                pass
        for command in step.commands:
            if isinstance(command, Answer):
                if command.request_id in ledger.outcomes:
                    ledger.outcomes[command.request_id].append(command.outcome)
                else:
                    ledger.strangers += 1


def recovery(struck_at: float, told: Sequence[Told]) -> Recovery:
    """What followed a blow at the one worker that these tell of. A blow at one that is down already, or is not up yet,
    is noticed by its coming up later.

    >>> recovery(1.0, [(0.0, UP), (1.1, DOWN), (1.6, UP), (1.9, SERVED)])
    Recovery(noticed_s=0.10000000000000009, up_s=0.6000000000000001, served_s=0.8999999999999999)
    """
    before = [what for at, what in told if at <= struck_at and what != SERVED]
    after = [(at, what) for at, what in told if at > struck_at]
    down = not before or before[-1] == DOWN
    noticed_at = struck_at if down else next((at for at, what in after if what == DOWN), None)
    up_at = next(
        (at for at, what in after if what == UP and noticed_at is not None and at > noticed_at), None
    )
    served_at = next((at for at, what in after if what == SERVED and up_at is not None and at >= up_at), None)
    return Recovery(
        *(None if at is None else at - struck_at for at in (noticed_at, up_at, served_at)),
    )
