"""Notices when batches take longer, or less, than their profiles say (core/pace.py): a line in the log once when it
begins and once when it is over, and metrics."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from peekserve.domain.application import public
from peekserve.domain.messages import BatchDone, Command, Event, WorkerUp
from peekserve.server.telemetry import Telemetry, Which


class Paced(Protocol):
    """Knows how far off its profiles a worker is: the live driver, or a scripted twin."""

    def paces(self) -> Mapping[Which, float]:
        """The same object as before while nothing has changed."""
        ...


class Pacing:
    """An Observer."""

    def __init__(self, paced: Paced, telemetry: Telemetry, log: FilteringBoundLogger) -> None:
        telemetry.follow_pace(paced.paces)
        self._paced = paced
        self._log = log
        self._seen: Mapping[Which, float] = {}

    def event(self, event: Event, now: float) -> None:
        if not isinstance(event, BatchDone | WorkerUp):
            return
        found = self._paced.paces()
        if found is self._seen:
            return
        before, self._seen = self._seen, found
        # What a worker does to all its batches is told once.
        at_large = {one[0] for one in found if not one[1] and _turned(one, before, found)}
        for which in found:
            if _turned(which, before, found) and (not which[1] or which[0] not in at_large):
                self._tell(which, before.get(which, 1.0))

    def commands(self, commands: Sequence[Command], now: float) -> None: ...

    def _tell(self, which: Which, before: float) -> None:
        worker, key, variant = which
        ratio = self._seen[which]
        what = f"batches of {public(key)}/{variant}" if key else "all batches"
        numbers = {"worker": worker, "model": public(key), "variant": variant, "ratio": round(ratio, 3)}
        if ratio == 1.0:
            self._log.info(
                "pace",
                sentence=f"{what} keep to their profile on {worker} again",
                was=round(before, 3),
                **numbers,
            )
            return
        sentence = f"{what} take {ratio:.2g} times their profile on {worker}"
        hint = "" if not key else ": profile again if it stays so"
        self._log.warning("pace", sentence=sentence + hint, **numbers)


def _turned(which: Which, before: Mapping[Which, float], found: Mapping[Which, float]) -> bool:
    return (before.get(which, 1.0) == 1.0) != (found[which] == 1.0)
