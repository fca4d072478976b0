"""Makes a story that went wrong short: leaves out and simplifies what it can while the same rule stays broken.

The plain delta debugging of Zeller and Hildebrandt (IEEE TSE 28(2), 2002): of each list first halves are left out,
then quarters, down to single things. Between, what is left is made plainer: one row, no wishes, no margins, rounder
times. A candidate counts if it breaks the rule that the story broke, so that one bug does not turn into another on the
way; and everything begins again until a whole round brings nothing, or so many stories were lived.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.request import Request
from peekserve.errors import InvalidRequest
from peekserve.policies import SWITCHES
from peekserve.sim.faults import Kill, Mishap, Pause
from peekserve.sim.story import Change, Failure, Pace, Plant, Story, Stray, live

T = TypeVar("T", Story, SchedulerSpec, Request, Kill, Stray, Pause, Pace, Mishap, Change)

LISTS = ("requests", "mishaps", "kills", "strays", "pauses", "paces", "slows", "changes")
MOST_LIVES = 1500


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The short story, how it goes wrong, and how many were lived to find it."""

    story: Story
    failure: Failure
    lives: int


class _Search:
    def __init__(self, story: Story, failure: Failure, plant: Plant | None, most: int) -> None:
        self.story, self.failure = story, failure
        self._plant, self._most = plant, most
        self.lives = 0

    def take(self, candidate: Story) -> bool:
        """Is this one as bad? Then it is the story from now on."""
        if self.lives >= self._most or candidate == self.story or not candidate.sound:
            return False
        self.lives += 1
        failure = live(candidate, self._plant)
        if failure is None or failure.kind != self.failure.kind:
            return False
        self.story, self.failure = candidate, failure
        return True


def shrink(story: Story, failure: Failure, plant: Plant | None = None, most: int = MOST_LIVES) -> Shrunk:
    """The shortest story that can be found with `most` lives."""
    search = _Search(story, failure, plant, most)
    search.take(_over(story, failure.at))
    size = None
    while size != (before := _weight(search.story)) and search.lives < most:
        size = before
        for name in LISTS:
            _leave_out(search, name)
        _fewer_workers(search)
        for plainer in (_plainer_whole, _plainer_requests, _plainer_faults):
            _take_each(search, plainer)
    return Shrunk(search.story, search.failure, search.lives)


def _with(one: T, name: str, value: Any) -> T:
    """The same but for one field."""
    changed: dict[str, Any] = {name: value}
    return replace(one, **changed)


def _weight(story: Story) -> tuple[int, str]:
    return story.size, repr(story)


def _over(story: Story, at: float) -> Story:
    """Without what comes after it went wrong."""
    return replace(
        story,
        requests=tuple(one for one in story.requests if one.arrived_at <= at),
        strays=tuple(one for one in story.strays if one.at <= at),
        kills=tuple(one for one in story.kills if one.at <= at),
        changes=tuple(one for one in story.changes if one.at <= at),
    )


def _leave_out(search: _Search, name: str) -> None:
    piece = max(len(getattr(search.story, name)) // 2, 1)
    while True:
        at = 0
        while at < len(now := getattr(search.story, name)):
            if not search.take(_with(search.story, name, now[:at] + now[at + piece :])):
                at += piece
        if piece == 1:
            return
        piece //= 2


def _fewer_workers(search: _Search) -> None:
    for worker in search.story.workers:
        left = tuple(one for one in search.story.workers if one != worker)
        kills = tuple(one for one in search.story.kills if one.worker != worker.name)
        if left:
            search.take(replace(search.story, workers=left, kills=kills))


def _take_each(search: _Search, plainer: Callable[[Story], Iterator[Story]]) -> None:
    """Each plainer one of the story as it is by then; from the start again when one was taken, as far as it goes."""
    tried = 0
    while True:
        candidates = list(plainer(search.story))[tried:]
        if not candidates:
            return
        for candidate in candidates:
            tried += 1
            if search.take(candidate):
                break
        else:
            return


def _plainer_whole(story: Story) -> Iterator[Story]:
    for name, plain in (
        ("uneven", 0.0),
        ("confirm", 0.0),
        ("wire_s", 0.0),
        ("wake_s", 0.0),
        ("restart_s", 0.0),
    ):
        if getattr(story, name):
            yield _with(story, name, plain)
    spec = story.spec
    own = SchedulerSpec(policy=spec.policy)
    plain_ones: Sequence[tuple[str, Any]] = (
        ("escalate", None), ("planning", "rolling"), ("lead_s", 0.0), ("margin_s", 0.0), ("switches", None),
        ("preload", False), ("normalise", False), ("max_rows", own.max_rows), ("hang_s", own.hang_s),
        ("remember_rows", own.remember_rows), ("patience_s", own.patience_s), ("hold", True), ("peek", True),
        ("beliefs", "dirichlet"), ("escalate_gain", own.escalate_gain), ("follow_pace", False), ("admit", False),
        ("max_bytes", own.max_bytes),
    )  # fmt: skip
    for name, plain in plain_ones:
        if getattr(spec, name) != plain:
            yield replace(story, spec=_with(spec, name, plain))
    if spec.policy not in SWITCHES and spec.policy != "lo-edf":
        yield replace(story, spec=replace(spec, policy="lo-edf"))
    roomy = tuple(replace(one, budget_bytes=10**6) for one in story.workers)
    for workers in (roomy, tuple(replace(one, device="cpu") for one in story.workers)):
        if workers != story.workers:
            yield replace(story, workers=workers)


def _plainer_requests(story: Story) -> Iterator[Story]:
    for i, request in enumerate(story.requests):
        for changed in _plainer(request):
            yield replace(story, requests=(*story.requests[:i], changed, *story.requests[i + 1 :]))


def _plainer(request: Request) -> Iterator[Request]:
    counts = request.counts
    if request.rows > 1:
        for rows in dict.fromkeys((1, request.rows // 2, request.rows - 1)):
            yield replace(request, rows=rows, counts=counts[:rows] if counts else None)
    for name, plain in (
        ("pinned", None), ("inputs", None), ("counts", None), ("explain", False), ("bucket", 0),
        ("query", "default"), ("priority", 0), ("min_accuracy", 0.0), ("bytes", 0),
    ):  # fmt: skip
        if getattr(request, name) != plain:
            yield _with(request, name, plain)
    for digits in (2, 3):
        try:
            rounder = replace(
                request, arrived_at=round(request.arrived_at, digits), due_at=round(request.due_at, digits)
            )
        except InvalidRequest:
            continue
        if rounder != request:
            yield rounder


def _plainer_faults(story: Story) -> Iterator[Story]:
    for i, mishap in enumerate(story.mishaps):  # what it strikes may come sooner once others are left out
        for nth in dict.fromkeys((1, mishap.nth // 2, mishap.nth - 1)):
            if 1 <= nth < mishap.nth:
                sooner = replace(mishap, nth=nth)
                yield replace(story, mishaps=(*story.mishaps[:i], sooner, *story.mishaps[i + 1 :]))
    for name, times in (
        ("kills", ("at", "back_s", "unnoticed_s")), ("strays", ("at",)), ("changes", ("at",)),
        ("pauses", ("at", "seconds")), ("paces", ("factor", "drift")), ("mishaps", ("seconds",)),
    ):  # fmt: skip
        own = getattr(story, name)
        for i, one in enumerate(own):
            for field in times:
                for plain in (1.0 if name == "paces" else 0.0, round(getattr(one, field), 2)):
                    if plain != getattr(one, field):
                        yield _with(story, name, (*own[:i], _with(one, field, plain), *own[i + 1 :]))
