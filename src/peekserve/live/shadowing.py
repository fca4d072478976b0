"""A candidate tried on live traffic before anybody gets its answers.

Copies of live requests go to it behind everything else (the lowest priority, a long deadline); nobody waits for what
it says, and nothing of it is counted as a client's. What it says is compared with what was served, and with the truth
where that is told. The verdict looks at three things: did its backend ever fail; did a copy ever come back unusable;
and on the same validation data, is its best variant worse than the best one that is served, beyond what chance
explains (Wilson's 95% intervals apart)? Disagreement alone is no fault: a better model disagrees, too.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Application, Variant
from peekserve.domain.messages import Answer, Command, Confirmed, Event
from peekserve.domain.request import SHADOW, Outcome, Reason, Request, TensorRef
from peekserve.domain.shares import wilson
from peekserve.peeking.base import Lengths

LOG = logging.getLogger(__name__)

Array = npt.NDArray[np.generic]
Inputs = Mapping[str, Array]

# Of a copy, where the application sets no longest deadline.
PATIENCE_S = 10.0
# Copies of one candidate under way: one is looked at while the next one waits, and no queue of them grows.
AT_ONCE = 2
# Copies that ended like this say nothing of the model: the box was busy, or is going down.
_BUSY = frozenset(
    (
        Reason.OVERLOADED,
        Reason.DEADLINE_INFEASIBLE,
        Reason.DEADLINE_EXCEEDED,
        Reason.CANCELLED,
        Reason.DRAINING,
    )
)


class Submits(Protocol):
    """The part of a driver that copies are handed to, on the event loop's thread."""

    @property
    def applications(self) -> Mapping[str, Application]: ...

    def submit(self, request: Request, inputs: Inputs, lengths: Lengths | None) -> asyncio.Future[Answer]: ...

    def cancel(self, request_id: str) -> None: ...

    def now(self) -> float: ...


@dataclass(slots=True)
class Seen:
    """What came of the copies, in rows: `compared` with a served answer, of which `agreed`; `by_variant`: both of each;
    `chosen`: of those copies that pinned no variant, did they agree? `failed`, by sentence; `missed`: the box was too
    busy. `believed`, `served`: the accuracy that was expected of either where none was pinned. `confirmed`: rows whose
    truth was told, and how many of them the candidate and the served one had right."""

    compared: int = 0
    agreed: int = 0
    chosen: list[bool] = field(default_factory=list)
    missed: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    by_variant: dict[str, list[int]] = field(default_factory=dict)
    believed: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    confirmed: int = 0
    right: int = 0
    served_right: int = 0

    def told(self) -> dict[str, Any]:
        agreed = sum(self.chosen)
        low, high = wilson(agreed, len(self.chosen)) if self.chosen else (0.0, 1.0)
        return {
            "rows": self.compared,
            "agreed": self.agreed,
            "chosen": {"rows": len(self.chosen), "agreed": agreed, "interval": [low, high]},
            "missed": self.missed,
            "failed": dict(self.failed),
            "by_variant": {name: {"rows": n, "agreed": k} for name, (n, k) in self.by_variant.items()},
            "expected_accuracy": _mean(self.believed),
            "expected_accuracy_served": _mean(self.served),
            "confirmed": {"rows": self.confirmed, "right": self.right, "right_served": self.served_right},
        }


class Shadow:
    """One candidate beside what is served under its name, whichever revision that is by then. `rows`: so many are
    compared, then it is done. `tell`: hears how many were.

    An observer of the driver, too, for true classes that are told meanwhile.
    """

    def __init__(
        self,
        driver: Submits,
        candidate: Application,
        rows: int,
        tell: Callable[[int], None] = lambda compared: None,
    ) -> None:
        self._driver = driver
        self._candidate = candidate
        self._rows = rows
        self._tell = tell
        self._names = [None, *(variant.name for variant in candidate.variants)]
        self._copies: dict[str, asyncio.Future[Answer]] = {}
        self._pairs: dict[str, tuple[Application, tuple[str, ...], tuple[str, ...]]] = {}
        self._number = 0
        self.seen = Seen()
        self.done = asyncio.Event()

    @property
    def application(self) -> str:
        return self._candidate.name

    def mirror(
        self, request: Request, inputs: Inputs, lengths: Lengths | None, live: asyncio.Future[Answer]
    ) -> None:
        """A request was accepted for what is served: try it here, too, unless enough are under way."""
        served = self._driver.applications.get(self._candidate.name)
        if self.done.is_set() or request.pinned or served is None or request.application != served.key:
            return
        if len(self._copies) >= AT_ONCE or unlike(self._candidate, served):
            return
        copy = self._copy(request, served)
        if copy is None:
            return
        try:
            mine = self._driver.submit(copy, inputs, lengths)
        except Exception as error:  # whose request it is a copy of has a client, who must not hear of it
            LOG.exception("a copy for %s", self._candidate.key)
            self._failed(f"a copy of a live request could not be handed to it: {error}")
            return
        self._copies[copy.id] = mine

        def ended(_: asyncio.Future[Answer]) -> None:
            if mine.done() and live.done() and self._copies.pop(copy.id, None) is not None:
                self._compare(request, copy, served, mine, live)

        mine.add_done_callback(ended)
        live.add_done_callback(ended)

    def stop(self) -> None:
        """No more copies; those under way are cancelled."""
        self.done.set()
        for name in list(self._copies):
            self._driver.cancel(name)
        self._copies.clear()

    def event(self, event: Event, now: float) -> None:
        if isinstance(event, Confirmed):
            pair = self._pairs.pop(event.request_id, None)
            if pair is None:
                return
            served, ours, others = pair
            for label, mine, other in zip(event.labels, ours, others, strict=False):
                if label is not None:
                    true = served.classes[label]
                    self.seen.confirmed += 1
                    self.seen.right += mine == true
                    self.seen.served_right += other == true

    def commands(self, commands: Sequence[Command], now: float) -> None:
        pass

    def _copy(self, request: Request, served: Application) -> Request | None:
        """Every variant has its turn, and between them whatever the scheduler would choose."""
        candidate, now = self._candidate, self._driver.now()
        pinned = self._names[self._number % len(self._names)]
        self._number += 1
        present = request.inputs
        needs = candidate.variant(pinned).needs if pinned else ()
        if present is not None and any(name not in present for name in needs):
            return None
        name = f"shadow-{candidate.edition}-{self._number:x}"
        longest = candidate.max_deadline_s if candidate.max_deadline_s < inf else PATIENCE_S
        return replace(
            request,
            id=name,
            application=candidate.key,
            arrived_at=now,
            due_at=now + longest,
            query=request.query if request.query in dict(candidate.queries) else "default",
            pinned=pinned,
            counts=request.counts if candidate.classes == served.classes else None,
            payload=TensorRef(name),
            explain=False,
            priority=SHADOW,
            min_accuracy=0.0,
        )

    def _compare(
        self,
        request: Request,
        copy: Request,
        beside: Application,
        mine: asyncio.Future[Answer],
        live: asyncio.Future[Answer],
    ) -> None:
        if mine.cancelled() or live.cancelled() or self.done.is_set():
            return
        said, served, seen = mine.result(), live.result(), self.seen
        if said.outcome not in (Outcome.ANSWERED, Outcome.LATE):
            if said.reason in _BUSY:
                seen.missed += copy.rows
            else:
                self._failed(said.detail or said.reason.value)
            return
        if any(not isfinite(score) for row in said.rows for score in row.scores):
            self._failed("its scores are not all finite numbers")
            return
        if served.outcome in (Outcome.ANSWERED, Outcome.LATE):
            names = tuple(self._candidate.classes[row.label] for row in said.rows)
            others = tuple(beside.classes[row.label] for row in served.rows)
            self._pairs[request.id] = beside, names, others
            same = [a == b for a, b in zip(names, others, strict=True)]
            seen.compared += len(same)
            seen.agreed += sum(same)
            self._tell(seen.compared)
            for row, agrees in zip(said.rows, same, strict=True):
                counts = seen.by_variant.setdefault(row.variant or "(peek)", [0, 0])
                counts[0] += 1
                counts[1] += agrees
            if copy.pinned is None:
                seen.chosen += same
                seen.believed += [r.expected_accuracy for r in said.rows if r.expected_accuracy is not None]
                seen.served += [r.expected_accuracy for r in served.rows if r.expected_accuracy is not None]
        if seen.compared >= self._rows:
            self.done.set()

    def _failed(self, why: str) -> None:
        # Enough: nobody wants to see it fail again.
        self.seen.failed[why] = self.seen.failed.get(why, 0) + 1
        self.done.set()


class Mirror:
    """Shows accepted requests to whoever shadows their application (server/frontdesk.py calls `accepted`)."""

    def __init__(self) -> None:
        self.shadowing: list[Shadow] = []

    def add(self, shadow: Shadow) -> Callable[[], None]:
        """What ends it."""
        self.shadowing.append(shadow)

        def end() -> None:
            shadow.stop()
            if shadow in self.shadowing:
                self.shadowing.remove(shadow)

        return end

    def accepted(
        self, request: Request, inputs: Inputs, lengths: Lengths | None, answer: asyncio.Future[Answer]
    ) -> None:
        for shadow in self.shadowing:
            shadow.mirror(request, inputs, lengths, answer)

    def event(self, event: Event, now: float) -> None:
        for shadow in self.shadowing:
            shadow.event(event, now)

    def commands(self, commands: Sequence[Command], now: float) -> None:
        pass


def unlike(candidate: Application, served: Application) -> str:
    """Why live requests cannot be shown to a candidate; empty where they can."""
    if candidate.inputs != served.inputs:
        return "its inputs are not those that are served now, so that live requests do not fit it"
    return ""


def worse(candidate: Application, served: Application, same_data: bool) -> str:
    """A sentence where the candidate's best variant is clearly worse than the best that is served, measured on the same
    validation data; else empty."""
    mine, theirs = best(candidate), best(served)
    if not same_data or mine is None or theirs is None:
        return ""
    ours, others = _counts(mine), _counts(theirs)
    if not ours[1] or not others[1]:
        return ""
    if wilson(*ours)[1] < wilson(*others)[0]:
        return (
            f"on the same validation data its best variant, {mine.name}, has {ours[0]} of {ours[1]} right, and "
            f"{theirs.name}, which is served, {others[0]} of {others[1]}"
        )
    return ""


def best(application: Application) -> Variant | None:
    """The variant of the highest accuracy on its validation data."""
    known = [variant for variant in application.variants if variant.quality is not None]
    return max(known, key=lambda v: v.quality.accuracy if v.quality else 0.0, default=None)


def _counts(variant: Variant) -> tuple[int, int]:
    """(right, of) on the validation data; nothing where recalls were stated."""
    confusion = variant.quality.confusion if variant.quality else ()
    return sum(row[i] for i, row in enumerate(confusion)), sum(map(sum, confusion))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
