"""Answered requests, remembered until their true classes come or they are the oldest; and what is learnt from those.

A true class comes seconds or days after its answer. What it says about a belief or a recall depends on what was
believed, seen and said at that time, so these are kept for each row, in a ring of columns: some 80 bytes a row and
one entry a request, whatever happens. When the ring is full, the oldest request is forgotten, and a confirmation
that comes for it then is one for an unknown request.

Each row is confirmed once. A second true class for it, be it the same one, is refused: whoever sends a label twice
by mistake must not make it count twice, and whoever corrects one must know that the first was learnt already.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from peekserve.awareness.drift import Drift, Memory, Watch
from peekserve.core.beliefs import Belief
from peekserve.core.catalogue import Catalogue
from peekserve.domain.application import Application, Score
from peekserve.domain.feedback import Lesson, Verdict
from peekserve.domain.messages import Acknowledge
from peekserve.domain.request import RowAnswer, RowRef, Source
from peekserve.errors import InvariantBroken

Floats = npt.NDArray[np.float64]

EMPTY, ANSWERED, CONFIRMED = 0, 1, 2
BEGIN_ROWS = 1024  # the ring begins with this many and doubles: most schedulers are a simulation's, and short
PEEK = -1


@dataclass(frozen=True, slots=True)
class Remembered:
    """A request that may be confirmed: its application, its number of rows, and those that have been."""

    application: Application
    rows: int
    confirmed: frozenset[int]


class Feedback:
    """`beliefs`: one for each application, told of every true class. `rows`: how many are remembered; 0 for none.
    `memory`: of the drift scores."""

    def __init__(
        self,
        catalogue: Catalogue,
        beliefs: Sequence[Belief],
        rows: int = 65_536,
        memory: Memory | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._beliefs = beliefs
        self._most = rows
        self._memory = memory
        self._watches: list[Watch] = []
        self._plain: list[bool] = []
        self._variants: list[dict[str, int]] = []
        self._first: dict[str, int] = {}
        self._next = 0
        self._ids: list[str] = []  # of the request whose first row lies here
        self._lengths = np.zeros(0, np.int32)  # of that request; 0 where none begins
        self._state = np.zeros(0, np.int8)
        self._wholes = np.zeros((0, 4), np.int32)  # application, variant, said, own
        self._expected = np.zeros(0, np.float32)
        self._theta = np.zeros((0, catalogue.classes), np.float32)
        self._counts = np.zeros((0, catalogue.classes), np.float32)
        self.widen()
        self._grow(min(BEGIN_ROWS, rows))

    def widen(self) -> None:
        """The catalogue may have more applications, and those more classes."""
        for app in self._catalogue.applications[len(self._watches) :]:
            self._watches.append(Watch(len(app.classes), self._memory))
            self._plain.append(app.score is Score.ACCURACY and len(set(app.weights)) == 1)
            self._variants.append({v.name: i for i, v in enumerate(app.variants)})
        for name in ("_theta", "_counts"):
            column = getattr(self, name)
            more = max(self._catalogue.classes - column.shape[1], 0)
            setattr(self, name, np.pad(column, ((0, 0), (0, more))))

    # ---- what happens to rows ----

    def see(self, application: int, counts: Floats) -> None:
        """Evidence of rows came, float64 [n, C]."""
        self._watches[application].see(counts)

    def remember(
        self,
        of: RowRef,
        rows: int,
        application: int,
        theta: Floats,
        counts: Floats | None,
        answer: RowAnswer,
        said: npt.NDArray[np.int16],
        asked_first: int,
    ) -> None:
        """This row of a request of `rows` rows has its answer. `theta`: float64 [C], the belief before any variant was
        asked; `counts`: float64 [C], the evidence behind it. `said`: int16 [V or more], what each variant said whose
        word is not the answer but a part of it, and `asked_first` the one that was asked before the others; negative
        for the others, and where the answer is one model's own.

        Of several that were asked only the first is ever judged by the true class. It was asked because of what was
        believed before, the next ones because of what it said: their rows are the hard ones, and would be taken for
        what they are worth on all."""
        app = self._catalogue.applications[application]
        if app.peek is None:
            self._watches[application].see_class(answer.label)
        if rows > self._most:
            return
        first = self._first.get(of.request_id)
        if first is None:
            first = self._make_room(of.request_id, rows, application)
        at = (first + of.row) % len(self._state)
        variant, own = PEEK, answer.label
        if answer.variant is not None:
            variant = asked_first if asked_first >= 0 else self._variants[application][answer.variant]
            own = int(said[variant]) if said[variant] >= 0 else answer.label
        classes = len(app.classes)
        self._state[at] = ANSWERED
        self._wholes[at] = application, variant, answer.label, own
        self._expected[at] = self._probability(application, variant, theta, answer)
        self._theta[at, :classes] = theta
        self._counts[at, :classes] = np.nan if counts is None else counts

    def forget(self, request_id: str) -> None:
        """It ended without an answer, or is the oldest."""
        first = self._first.pop(request_id, None)
        if first is not None:
            self._state[self._slots(first)] = EMPTY
            self._ids[first], self._lengths[first] = "", 0

    def find(self, request_id: str) -> Remembered | None:
        """What may be confirmed under this id."""
        first = self._first.get(request_id)
        if first is None:
            return None
        application = self._catalogue.applications[int(self._wholes[first, 0])]
        confirmed = np.flatnonzero(self._state[self._slots(first)] == CONFIRMED)
        return Remembered(application, int(self._lengths[first]), frozenset(confirmed.tolist()))

    # ---- true classes ----

    def confirm(self, request_id: str, labels: Sequence[int | None], under_way: bool = False) -> Acknowledge:
        """The true classes of a request's rows, None where one is still unknown. Taken as a whole or not at all.
        `under_way`: the request has no outcome yet."""
        if under_way:
            detail = f"request {request_id!r} has no answer yet: confirm it when it has one"
            return Acknowledge(request_id, Verdict.UNANSWERED, detail=detail)
        first = self._first.get(request_id)
        slots = None if first is None else self._slots(first)
        if slots is None or (self._state[slots] == EMPTY).any():
            detail = (
                f"no answered request {request_id[:80]!r} is remembered: there was none since this server started, it "
                f"ended without an answer, or it is not among the last {self._most} rows"
            )
            return Acknowledge(request_id, Verdict.UNKNOWN, detail=detail)
        a = int(self._wholes[slots[0], 0])
        app = self._catalogue.applications[a]
        wrong = self._wrong(app, slots, labels)
        if wrong is not None:
            return Acknowledge(request_id, wrong[0], app.key, detail=f"request {request_id!r} {wrong[1]}")
        lessons = tuple(
            self._lesson(app, at, label)
            for at, label in zip(slots.tolist(), labels, strict=True)
            if label is not None
        )
        for lesson in lessons:
            self._learn(a, lesson)
        self._state[slots[[label is not None for label in labels]]] = CONFIRMED
        return Acknowledge(request_id, Verdict.ACCEPTED, app.key, lessons)

    def recall(self, lessons: Sequence[Lesson]) -> None:
        """What was learnt before, learnt again: each row is seen first and then confirmed, as it was then. Lessons of
        applications or variants that are not here any more are left out."""
        names = {app.key: a for a, app in enumerate(self._catalogue.applications)}
        for lesson in lessons:
            a = names.get(lesson.application)
            if a is None or not (lesson.variant is None or lesson.variant in self._variants[a]):
                continue
            if lesson.counts is not None:
                # A confirmation takes back what its row was believed to be when it was seen: it must have been seen.
                theta = self._beliefs[a].seen(np.array([lesson.counts])).theta[0]
                lesson = replace(lesson, theta=tuple(theta.tolist()))
            self._learn(a, lesson)

    def drift(self, application: int) -> Drift:
        """How an application's stream stands against what is believed of it."""
        return self._watches[application].drift(self._beliefs[application].unseen().theta[0])

    @property
    def rows(self) -> int:
        """Rows that are remembered."""
        return int(np.count_nonzero(self._state))

    def check(self) -> None:
        """Raises InvariantBroken."""
        begun, held = int(np.count_nonzero(self._lengths)), int(self._lengths.sum())
        if len(self._state) > self._most or begun != len(self._first):
            raise InvariantBroken(
                f"{len(self._first)} requests in a ring of {len(self._state)} rows (at most {self._most}), where "
                f"{begun} begin"
            )
        if self.rows > held:
            raise InvariantBroken(f"{self.rows} rows are remembered, of requests with {held}")

    # ---- inside ----

    def _wrong(
        self, app: Application, slots: npt.NDArray[np.int64], labels: Sequence[int | None]
    ) -> tuple[Verdict, str] | None:
        if len(labels) != len(slots):
            return Verdict.INVALID, f"has {len(slots)} rows, and {len(labels)} labels came"
        if all(label is None for label in labels):
            return Verdict.INVALID, "is confirmed with no label at all"
        for row, label in enumerate(labels):
            if label is not None and not 0 <= label < len(app.classes):
                known = ", ".join(f"{i} ({name})" for i, name in enumerate(app.classes))
                return Verdict.INVALID, f"has no class {label} in row {row}; there are {known}"
        for row, label in enumerate(labels):
            if label is not None and self._state[slots[row]] == CONFIRMED:
                return Verdict.REPEATED, f"has its true class already in row {row}"
        return None

    def _lesson(self, app: Application, at: int, label: int) -> Lesson:
        classes = len(app.classes)
        _, variant, said, own = self._wholes[at].tolist()
        counts = self._counts[at, :classes].tolist()
        expected = float(self._expected[at])
        return Lesson(
            application=app.key,
            variant=None if variant == PEEK else app.variants[variant].name,
            said=said,
            own=own,
            label=label,
            expected=None if np.isnan(expected) else expected,
            theta=tuple(self._theta[at, :classes].tolist()),
            counts=None if np.isnan(counts[0]) else tuple(counts),
        )

    def _probability(self, a: int, variant: int, theta: Floats, answer: RowAnswer) -> float:
        """How probably the answer is right; nan where nobody knows. What a scheduler expects of an answer is just that,
        in the unit of the catalogue, unless some classes count for more or another score than accuracy is wanted."""
        if answer.expected_accuracy is None:
            return float("nan")
        if self._plain[a]:
            return min(max(answer.expected_accuracy / self._catalogue.scale[a], 0.0), 1.0)
        app = self._catalogue.applications[a]
        quality = app.variants[variant].quality if variant != PEEK else app.peek.quality if app.peek else None
        own = answer.source is Source.PEEK and self._beliefs[a].judges_itself
        if own or answer.source is Source.FUSED or quality is None:
            return float(answer.scores[answer.label])
        return min(float(np.cumsum(theta * np.array(quality.recall))[-1]), 1.0)

    def _learn(self, a: int, lesson: Lesson) -> None:
        variant = None if lesson.variant is None else self._variants[a][lesson.variant]
        counts = None if lesson.counts is None else np.array(lesson.counts)
        self._beliefs[a].confirm(lesson.label, np.array(lesson.theta), counts, variant, lesson.own)
        self._watches[a].learn(lesson.label, lesson.said, lesson.expected)

    def _slots(self, first: int) -> npt.NDArray[np.int64]:
        return np.arange(first, first + int(self._lengths[first])) % len(self._state)

    def _make_room(self, request_id: str, rows: int, application: int) -> int:
        # Until the ring is as long as it may be, nothing was written over: it can still be made longer.
        while self._next + rows > len(self._state) < self._most:
            self._grow(min(2 * len(self._state), self._most))
        size = len(self._state)
        first = self._next % size
        for at in range(first, first + rows):
            if self._ids[at % size]:
                self.forget(self._ids[at % size])
        self._first[request_id], self._ids[first], self._lengths[first] = first, request_id, rows
        if rows > 1:  # rows may be answered long after each other; `find` asks for the first
            self._wholes[self._slots(first), 0] = application
        self._next = first + rows
        return first

    def _grow(self, size: int) -> None:
        for name in ("_lengths", "_state", "_wholes", "_expected", "_theta", "_counts"):
            column = getattr(self, name)
            longer = np.zeros((size, *column.shape[1:]), column.dtype)
            longer[: len(column)] = column
            setattr(self, name, longer)
        self._ids += [""] * (size - len(self._ids))
